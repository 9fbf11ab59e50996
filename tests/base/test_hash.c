/* test_hash.c: hashes against reference values, 128-bit values, generators. */
#include "lib/base/hash.h"
#include "lib/base/random.h"
#include "lib/base/u128.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void siphash_equals_the_reference_vectors(void **state)
{
    uint8_t key[TD_MAC_KEY_BYTES];
    uint8_t bytes[64];
    uint8_t expected[16];
    size_t length;
    char *file = test_read_file(test_data_path("base/siphash128.txt"), &length);
    char *save = NULL;
    size_t count = 0;

    (void)state;
    for (uint8_t i = 0; i < 64; i++)
        bytes[i] = i;
    memcpy(key, bytes, sizeof key);
    for (char *line = strtok_r(file, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        struct td_u128 mac;

        if (line[0] == '#')
            continue;
        for (size_t i = 0; i < 16; i++)
            assert_int_equal(sscanf(line + 2 * i, "%2hhx", &expected[i]), 1);
        mac = td_siphash128(key, bytes, count++);
        assert_memory_equal(&mac.lo, expected, 8);
        assert_memory_equal(&mac.hi, expected + 8, 8);
    }
    assert_int_equal(count, 64);
    free(file);
}

/* From the xxHash specification's test of XXH3_128bits with an empty input and seed 0. */
static void xxh3_of_nothing_is_the_known_value(void **state)
{
    char hex[TD_U128_HEX_BYTES];

    (void)state;
    assert_string_equal(td_u128_hex(td_hash128(NULL, 0), hex), "99aa06d3014798d86001c324468d497f");
}

static void a_chained_hash_is_the_hash_of_parent_and_bytes(void **state)
{
    struct td_u128 parent = {.hi = 7, .lo = 9};
    uint8_t joined[sizeof parent + 600];

    (void)state;
    memcpy(joined, &parent, sizeof parent);
    for (size_t i = 0; i < 600; i++)
        joined[sizeof parent + i] = (uint8_t)(i * 31);
    for (size_t length = 0; length <= 600; length++) /* both sides of the one-shot limit */
        assert_true(td_u128_equal(td_hash128_chain(parent, joined + sizeof parent, length),
                                  td_hash128(joined, sizeof parent + length)));
}

static void equal_macs_are_equal_and_one_bit_matters(void **state)
{
    struct td_u128 a = {.hi = 5, .lo = 6};

    (void)state;
    assert_true(td_mac_equal(a, a));
    for (int bit = 0; bit < 64; bit++) {
        assert_false(td_mac_equal(a, (struct td_u128){a.hi ^ UINT64_C(1) << bit, a.lo}));
        assert_false(td_mac_equal(a, (struct td_u128){a.hi, a.lo ^ UINT64_C(1) << bit}));
    }
}

static void hex_is_written_in_full(void **state)
{
    char hex[TD_U128_HEX_BYTES];
    struct td_u128 value = {.hi = UINT64_C(0x0123456789abcdef), .lo = UINT64_C(0x00ffeeddccbbaa99)};

    (void)state;
    assert_string_equal(td_u128_hex(value, hex), "0123456789abcdef00ffeeddccbbaa99");
}

static void a_seed_gives_the_same_numbers_everywhere(void **state)
{
    struct td_rng a;
    struct td_rng b;

    (void)state;
    td_rng_init(&a, 42);
    td_rng_init(&b, 42);
    for (int i = 0; i < 1000; i++)
        assert_true(td_rng_next(&a) == td_rng_next(&b));
    td_rng_init(&a, 0);
    /* xoshiro256** after splitmix64 of seed 0, from the authors' reference code */
    assert_true(td_rng_next(&a) == UINT64_C(0x99ec5f36cb75f2b4));
    assert_true(td_rng_next(&a) == UINT64_C(0xbf6e1f784956452a));
}

static void draws_below_a_bound_are_even(void **state)
{
    size_t counts[7] = {0};
    struct td_rng rng;
    double sum = 0;

    (void)state;
    td_rng_init(&rng, 3);
    for (int i = 0; i < 70000; i++) {
        uint64_t draw = td_rng_below(&rng, 7);
        double unit = td_rng_unit(&rng);

        assert_true(draw < 7);
        assert_true(unit >= 0 && unit < 1);
        counts[draw]++;
        sum += unit;
    }
    for (size_t i = 0; i < 7; i++)
        assert_true(counts[i] > 9600 && counts[i] < 10400); /* four standard deviations */
    assert_true(sum > 34600 && sum < 35400);
    assert_int_equal(td_rng_below(&rng, 1), 0);
    assert_true(td_rng_below(&rng, UINT64_MAX) < UINT64_MAX);
}

static void kernel_randomness_differs_and_is_never_zero(void **state)
{
    struct td_u128 a = td_random_u128();
    struct td_u128 b = td_random_u128();

    (void)state;
    assert_false(td_u128_is_zero(a));
    assert_false(td_u128_equal(a, b));
    assert_true(td_random_u64() != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_equals_the_reference_vectors),
        cmocka_unit_test(xxh3_of_nothing_is_the_known_value),
        cmocka_unit_test(a_chained_hash_is_the_hash_of_parent_and_bytes),
        cmocka_unit_test(equal_macs_are_equal_and_one_bit_matters),
        cmocka_unit_test(hex_is_written_in_full),
        cmocka_unit_test(a_seed_gives_the_same_numbers_everywhere),
        cmocka_unit_test(draws_below_a_bound_are_even),
        cmocka_unit_test(kernel_randomness_differs_and_is_never_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
