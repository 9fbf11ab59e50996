/*
 * utf8.h: what is a UTF-8 character and what is not (RFC 3629: no overlong form, no surrogate,
 * nothing above U+10FFFF). Classes of characters are lib/text's business.
 */
#ifndef TANDEM_LIB_BASE_UTF8_H
#define TANDEM_LIB_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TD_UTF8_BYTES_MAX 4

/* What stands for bytes that are no character: U+FFFD. */
#define TD_UTF8_REPLACEMENT "\xef\xbf\xbd"

static inline bool td_utf8_is_tail(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

static inline bool td_utf8_in_range(char c, unsigned low, unsigned high)
{
    return (unsigned char)c >= low && (unsigned char)c <= high;
}

/*
 * Bytes of the character at the start of text (1 to 4), or 0 if it is cut off or malformed.
 * RFC 3629, section 4: only the second byte has a range that depends on the first.
 */
static inline size_t td_utf8_character(const char *text, size_t length)
{
    unsigned first = length > 0 ? (unsigned char)text[0] : 0x80;

    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4 || length < 2)
        return 0;
    if (first < 0xe0)
        return td_utf8_is_tail(text[1]) ? 2 : 0;
    if (first < 0xf0) {
        unsigned low = first == 0xe0 ? 0xa0 : 0x80;
        unsigned high = first == 0xed ? 0x9f : 0xbf; /* U+D800 to U+DFFF are surrogates */

        return length >= 3 && td_utf8_in_range(text[1], low, high) && td_utf8_is_tail(text[2]) ? 3
                                                                                               : 0;
    }
    if (length < 4 ||
        !td_utf8_in_range(text[1], first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf))
        return 0;
    return td_utf8_is_tail(text[2]) && td_utf8_is_tail(text[3]) ? 4 : 0;
}

/* The index of the first byte that does not belong to a well-formed character; length if none. */
size_t td_utf8_valid_prefix(const char *text, size_t length);

/* Writes code_point (no surrogate, at most U+10FFFF) to out and returns its bytes, 1 to 4. */
size_t td_utf8_encode(uint32_t code_point, char out[static TD_UTF8_BYTES_MAX]);

#endif
