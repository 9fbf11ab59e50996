/* test_wire.c: chunk headers and address envelopes come back as they went, and only so. */
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/address.h"
#include "kvtransfer/wire.h"
#include "lib/base/random.h"
#include "tests/support/support.h"

static const uint8_t mac_key[TD_MAC_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

static struct kvt_header sample(uint32_t block_count, uint32_t attachment_bytes)
{
    return (struct kvt_header){.sender_epoch = 0x1122334455667788,
                               .receiver_epoch = 0x99aabbccddeeff00,
                               .transfer = {.hi = 7, .lo = 9},
                               .is_last = attachment_bytes > 0,
                               .first = 5,
                               .block_count = block_count,
                               .block_bytes = 368640,
                               .attachment_bytes = attachment_bytes,
                               .attachment_hash = {.hi = 3, .lo = 4}};
}

static void fill_entries(struct kvt_wire_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct kvt_wire_entry){.key = {.hi = i, .lo = 100 + i},
                                             .hash = {.hi = 200 + i, .lo = 300 + i}};
}

static void assert_same(const struct kvt_header *a, const struct kvt_header *b)
{
    assert_int_equal(a->sender_epoch, b->sender_epoch);
    assert_int_equal(a->receiver_epoch, b->receiver_epoch);
    assert_true(td_u128_equal(a->transfer, b->transfer));
    assert_int_equal(a->is_last, b->is_last);
    assert_int_equal(a->first, b->first);
    assert_int_equal(a->block_count, b->block_count);
    assert_int_equal(a->block_bytes, b->block_bytes);
    assert_int_equal(a->attachment_bytes, b->attachment_bytes);
    assert_true(td_u128_equal(a->attachment_hash, b->attachment_hash));
}

static void a_header_survives_the_round_trip(void **state)
{
    static const uint32_t counts[] = {0, 1, 2, 100, KVT_CHUNK_BLOCKS_MAX};
    struct kvt_wire_entry entries[KVT_CHUNK_BLOCKS_MAX];
    uint8_t bytes[KVT_HEADER_BYTES_MAX];

    (void)state;
    fill_entries(entries, KVT_CHUNK_BLOCKS_MAX);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct kvt_header header = sample(counts[i], counts[i] % 2 == 0 ? 2304 : 0);
        size_t length = kvt_header_encode(&header, entries, mac_key, bytes);
        struct kvt_header back;

        assert_int_equal(length, kvt_header_bytes(counts[i]));
        assert_int_equal(kvt_header_decode(bytes, length, &back), TD_OK);
        assert_same(&header, &back);
        for (uint32_t j = 0; j < counts[i]; j++) {
            struct kvt_wire_entry entry = kvt_header_entry(&back, j);

            assert_true(td_u128_equal(entry.key, entries[j].key));
            assert_true(td_u128_equal(entry.hash, entries[j].hash));
        }
        assert_true(kvt_header_is_authentic(bytes, length, mac_key));
    }
}

/* The test vector that pins the byte layout: whoever changes it must change the version. */
static void the_layout_is_the_documented_one(void **state)
{
    static const uint8_t start[] = {
        'T',  'K',  'V',  '1',  1,    0,    0x80, 0,    0,    0,    0,    0,    1,
        0,    0,    0,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0xff,
        0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 9,    0,    0,    0,    0,    0,    0,
        0,    7,    0,    0,    0,    0,    0,    0,    0,    5,    0,    0,    0,
        0,    0,    0,    0,    0,    0xa0, 5,    0,    0,    0,    0,    0};
    struct kvt_wire_entry entry = {.key = {.hi = 1, .lo = 2}, .hash = {.hi = 3, .lo = 4}};
    struct kvt_header header = sample(1, 0);
    uint8_t bytes[KVT_HEADER_BYTES_MAX];

    (void)state;
    assert_int_equal(kvt_header_encode(&header, &entry, mac_key, bytes), 128);
    assert_memory_equal(bytes, start, sizeof start);
}

static void every_flipped_bit_is_refused(void **state)
{
    struct kvt_wire_entry entries[3];
    struct kvt_header header = sample(3, 64);
    uint8_t bytes[KVT_HEADER_BYTES_MAX];
    size_t length;

    (void)state;
    fill_entries(entries, 3);
    length = kvt_header_encode(&header, entries, mac_key, bytes);
    for (size_t bit = 0; bit < length * 8; bit++) {
        struct kvt_header back;

        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        if (kvt_header_decode(bytes, length, &back) == TD_OK)
            assert_false(kvt_header_is_authentic(bytes, length, mac_key));
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void every_other_length_is_refused(void **state)
{
    struct kvt_wire_entry entries[3];
    struct kvt_header header = sample(3, 64);
    uint8_t bytes[KVT_HEADER_BYTES_MAX] = {0};
    size_t length;

    (void)state;
    fill_entries(entries, 3);
    length = kvt_header_encode(&header, entries, mac_key, bytes);
    for (size_t other = 0; other <= KVT_HEADER_BYTES_MAX; other++) {
        uint8_t *exact = malloc(other + 1); /* so that a sanitizer sees a byte too far */
        struct kvt_header back;

        memcpy(exact, bytes, other);
        if (other != length)
            assert_int_not_equal(kvt_header_decode(exact, other, &back), TD_OK);
        free(exact);
    }
}

static void another_key_makes_another_mac(void **state)
{
    struct kvt_wire_entry entry = {.key = {.hi = 1, .lo = 2}};
    struct kvt_header header = sample(1, 0);
    uint8_t other_key[TD_MAC_KEY_BYTES];
    uint8_t bytes[KVT_HEADER_BYTES_MAX];
    size_t length = kvt_header_encode(&header, &entry, mac_key, bytes);

    (void)state;
    for (size_t i = 0; i < sizeof other_key; i++) {
        memcpy(other_key, mac_key, sizeof other_key);
        other_key[i] ^= 0x80;
        assert_false(kvt_header_is_authentic(bytes, length, other_key));
    }
    assert_false(kvt_header_is_authentic(bytes, KVT_WIRE_MAC_BYTES - 1, mac_key));
}

/* Structure that no honest sender makes, under a MAC that is right. */
static void an_authentic_header_must_still_make_sense(void **state)
{
    struct kvt_wire_entry entry = {.key = {.hi = 1, .lo = 2}};
    struct kvt_header header = sample(1, 0);
    struct kvt_header back;
    uint8_t bytes[KVT_HEADER_BYTES_MAX];
    size_t length;
    uint64_t payload;

    (void)state;
    header.first = UINT32_MAX;
    length = kvt_header_encode(&header, &entry, mac_key, bytes);
    assert_int_equal(kvt_header_decode(bytes, length, &back), TD_INVALID);

    header = sample(1, 10);
    header.is_last = false;
    length = kvt_header_encode(&header, &entry, mac_key, bytes);
    assert_int_equal(kvt_header_decode(bytes, length, &back), TD_INVALID);

    header = sample(1, 0);
    header.block_bytes = UINT64_MAX;
    length = kvt_header_encode(&header, &entry, mac_key, bytes);
    assert_int_equal(kvt_header_decode(bytes, length, &back), TD_OK);
    assert_true(kvt_header_payload(&back, &payload));
    back.block_count = 2;
    assert_false(kvt_header_payload(&back, &payload));
}

static void an_address_survives_the_round_trip(void **state)
{
    uint8_t body[KVT_ADDRESS_BODY_MAX + 1];
    uint8_t bytes[KVT_ADDRESS_BYTES_MAX];
    static const size_t sizes[] = {0, 1, 100, KVT_ADDRESS_BODY_MAX};

    (void)state;
    td_random_bytes(body, sizeof body);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint8_t *back;
        size_t back_bytes;
        size_t length;

        assert_int_equal(kvt_address_wrap("ucx", body, sizes[i], bytes, sizeof bytes, &length),
                         TD_OK);
        assert_int_equal(kvt_address_unwrap("ucx", bytes, length, &back, &back_bytes), TD_OK);
        assert_int_equal(back_bytes, sizes[i]);
        assert_memory_equal(back, body, back_bytes);
        assert_int_equal(kvt_address_unwrap("map", bytes, length, &back, &back_bytes),
                         TD_UNSUPPORTED);
    }
}

static void an_address_that_does_not_fit_is_refused(void **state)
{
    uint8_t body[KVT_ADDRESS_BODY_MAX + 1] = {0};
    uint8_t bytes[KVT_ADDRESS_BYTES_MAX];
    size_t length;

    (void)state;
    assert_int_equal(kvt_address_wrap("ucx", body, sizeof body, bytes, sizeof bytes, &length),
                     TD_LIMIT);
    assert_int_equal(kvt_address_wrap("ucx", body, 100, bytes, 131, &length), TD_LIMIT);
    assert_int_equal(kvt_address_wrap("ucx", body, 100, bytes, 132, &length), TD_OK);
}

static void every_damaged_address_is_refused(void **state)
{
    uint8_t body[40];
    uint8_t bytes[KVT_ADDRESS_BYTES_MAX];
    const uint8_t *back;
    size_t back_bytes;
    size_t length;

    (void)state;
    td_random_bytes(body, sizeof body);
    assert_int_equal(kvt_address_wrap("ucx", body, sizeof body, bytes, sizeof bytes, &length),
                     TD_OK);
    for (size_t bit = 0; bit < length * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_not_equal(kvt_address_unwrap("ucx", bytes, length, &back, &back_bytes), TD_OK);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t other = 0; other < length; other++)
        assert_int_not_equal(kvt_address_unwrap("ucx", bytes, other, &back, &back_bytes), TD_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_survives_the_round_trip),
        cmocka_unit_test(the_layout_is_the_documented_one),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(another_key_makes_another_mac),
        cmocka_unit_test(an_authentic_header_must_still_make_sense),
        cmocka_unit_test(an_address_survives_the_round_trip),
        cmocka_unit_test(an_address_that_does_not_fit_is_refused),
        cmocka_unit_test(every_damaged_address_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
