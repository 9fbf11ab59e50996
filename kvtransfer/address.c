/* address.c: wrapping and checking of transport addresses, see address.h. */
#include "kvtransfer/address.h"

#include <assert.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/hash.h"

#define ADDRESS_MAGIC        UINT32_C(0x31414b54) /* "TKA1" */
#define ADDRESS_VERSION      1
#define ADDRESS_PREFIX_BYTES 16 /* what the digest covers besides the body */

static struct td_u128 digest_of(const uint8_t *prefix, const uint8_t *body, size_t body_bytes)
{
    return td_hash128_chain(td_hash128(prefix, ADDRESS_PREFIX_BYTES), body, body_bytes);
}

td_status_t kvt_address_wrap(const char *name, const uint8_t *body, size_t body_bytes, uint8_t *out,
                             size_t capacity, size_t *length_out)
{
    struct td_writer writer = td_writer_over(out, capacity);
    char padded[KVT_ADDRESS_NAME_BYTES] = {0};

    assert(strlen(name) < sizeof padded);
    if (body_bytes > KVT_ADDRESS_BODY_MAX || capacity < KVT_ADDRESS_ENVELOPE_BYTES + body_bytes)
        return TD_LIMIT;
    memcpy(padded, name, strlen(name));
    td_write_u32(&writer, ADDRESS_MAGIC);
    td_write_u16(&writer, ADDRESS_VERSION);
    td_write_u16(&writer, (uint16_t)body_bytes);
    td_write_bytes(&writer, padded, sizeof padded);
    td_write_u128(&writer, digest_of(out, body, body_bytes));
    td_write_bytes(&writer, body, body_bytes);
    assert(writer.ok);
    *length_out = KVT_ADDRESS_ENVELOPE_BYTES + body_bytes;
    return TD_OK;
}

td_status_t kvt_address_unwrap(const char *name, const uint8_t *bytes, size_t length,
                               const uint8_t **body_out, size_t *body_bytes_out)
{
    struct td_reader reader = td_reader_over(bytes, length);
    char padded[KVT_ADDRESS_NAME_BYTES] = {0};
    uint32_t magic = td_read_u32(&reader);
    uint16_t version = td_read_u16(&reader);
    uint16_t body_bytes = td_read_u16(&reader);
    const uint8_t *packed = td_read_bytes(&reader, sizeof padded);
    struct td_u128 digest = td_read_u128(&reader);

    if (!reader.ok || magic != ADDRESS_MAGIC)
        return TD_INVALID;
    memcpy(padded, name, strnlen(name, sizeof padded - 1));
    if (version != ADDRESS_VERSION || memcmp(packed, padded, sizeof padded) != 0)
        return TD_UNSUPPORTED;
    if (body_bytes > KVT_ADDRESS_BODY_MAX || body_bytes != td_reader_left(&reader))
        return TD_INVALID;
    if (!td_u128_equal(digest, digest_of(bytes, reader.cursor, body_bytes)))
        return TD_CORRUPT;
    *body_out = reader.cursor;
    *body_bytes_out = body_bytes;
    return TD_OK;
}
