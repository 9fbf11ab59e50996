/*
 * json_scan.h: the fast way over the plain part of a JSON string, for the reader and the writer.
 */
#ifndef TANDEM_LIB_BASE_JSON_SCAN_H
#define TANDEM_LIB_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lowest flag is the first byte");

/*
 * Has a high bit in each byte that is '"', '\\', a control character or not ASCII. Subtraction may
 * borrow and flag bytes above a hit by mistake, never below it: the lowest flag is always right.
 */
static inline uint64_t td_json_special_bytes(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t quote = word ^ ones * '"';
    uint64_t backslash = word ^ ones * '\\';

    return ((quote - ones) | (backslash - ones) | (word - ones * 0x20) | word) & ones * 0x80;
}

static inline bool td_json_is_plain(char c)
{
    return c != '"' && c != '\\' && (unsigned char)c >= 0x20 && (unsigned char)c < 0x80;
}

/* The number of leading bytes that stand for themselves inside quotes: eight at a time. */
static inline size_t td_json_plain_run(const char *text, size_t length)
{
    size_t at = 0;

    for (; at + sizeof(uint64_t) <= length; at += sizeof(uint64_t)) {
        uint64_t word;
        uint64_t special;

        memcpy(&word, text + at, sizeof word);
        special = td_json_special_bytes(word);
        if (special != 0)
            return at + (size_t)__builtin_ctzll(special) / 8;
    }
    while (at < length && td_json_is_plain(text[at]))
        at++;
    return at;
}

#endif
