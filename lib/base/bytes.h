/*
 * bytes.h: little-endian encoding and decoding with bounds, for wire headers and file formats.
 *
 * A reader and a writer never go past their end: the first failure sets ok to false, later calls
 * do nothing (a reader returns zeros), and the caller looks at ok once. No struct is ever cast
 * onto bytes from outside.
 */
#ifndef TANDEM_LIB_BASE_BYTES_H
#define TANDEM_LIB_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/u128.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "block keys, KV content and model files are little-endian in memory");

struct td_reader {
    const uint8_t *cursor;
    const uint8_t *end;
    bool ok;
};

static inline struct td_reader td_reader_over(const void *bytes, size_t length)
{
    const uint8_t *start = bytes;

    /* no sum with NULL, not even of 0: it is undefined in C */
    return (struct td_reader){
        .cursor = start, .end = length > 0 ? start + length : start, .ok = true};
}

static inline size_t td_reader_left(const struct td_reader *reader)
{
    return (size_t)(reader->end - reader->cursor);
}

/* The next length bytes in place, or NULL (and ok = false) if there are fewer. */
static inline const uint8_t *td_read_bytes(struct td_reader *reader, size_t length)
{
    const uint8_t *bytes = reader->cursor;

    if (!reader->ok || length > td_reader_left(reader)) {
        reader->ok = false;
        return NULL;
    }
    if (length > 0)
        reader->cursor += length;
    return bytes;
}

#define TD_DEFINE_READ(name, type)                                  \
    static inline type td_read_##name(struct td_reader *reader)     \
    {                                                               \
        const uint8_t *bytes = td_read_bytes(reader, sizeof(type)); \
        type value = 0;                                             \
                                                                    \
        if (bytes != NULL)                                          \
            memcpy(&value, bytes, sizeof value);                    \
        return value;                                               \
    }
TD_DEFINE_READ(u8, uint8_t)
TD_DEFINE_READ(u16, uint16_t)
TD_DEFINE_READ(u32, uint32_t)
TD_DEFINE_READ(u64, uint64_t)
TD_DEFINE_READ(f32, float)
#undef TD_DEFINE_READ

static inline struct td_u128 td_read_u128(struct td_reader *reader)
{
    struct td_u128 value;

    value.lo = td_read_u64(reader);
    value.hi = td_read_u64(reader);
    return value;
}

struct td_writer {
    uint8_t *cursor;
    uint8_t *end;
    bool ok;
};

static inline struct td_writer td_writer_over(void *bytes, size_t length)
{
    uint8_t *start = bytes;

    return (struct td_writer){
        .cursor = start, .end = length > 0 ? start + length : start, .ok = true};
}

static inline void td_write_bytes(struct td_writer *writer, const void *bytes, size_t length)
{
    if (!writer->ok || length > (size_t)(writer->end - writer->cursor)) {
        writer->ok = false;
        return;
    }
    if (length == 0)
        return; /* bytes may be NULL */
    memcpy(writer->cursor, bytes, length);
    writer->cursor += length;
}

#define TD_DEFINE_WRITE(name, type)                                          \
    static inline void td_write_##name(struct td_writer *writer, type value) \
    {                                                                        \
        td_write_bytes(writer, &value, sizeof value);                        \
    }
TD_DEFINE_WRITE(u8, uint8_t)
TD_DEFINE_WRITE(u16, uint16_t)
TD_DEFINE_WRITE(u32, uint32_t)
TD_DEFINE_WRITE(u64, uint64_t)
#undef TD_DEFINE_WRITE

static inline void td_write_u128(struct td_writer *writer, struct td_u128 value)
{
    td_write_u64(writer, value.lo);
    td_write_u64(writer, value.hi);
}

/* *total += count * size, or false on overflow (and *total is untouched). */
static inline bool td_size_add(size_t *total, size_t count, size_t size)
{
    size_t product;
    size_t sum;

    if (__builtin_mul_overflow(count, size, &product) ||
        __builtin_add_overflow(*total, product, &sum))
        return false;
    *total = sum;
    return true;
}

#endif
