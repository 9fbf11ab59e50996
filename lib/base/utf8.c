/* utf8.c: validating and encoding, see utf8.h. */
#include "lib/base/utf8.h"

#include <assert.h>
#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* The number of leading bytes, a multiple of 8, that are all ASCII: the fast way over plain text. */
static size_t ascii_run(const char *text, size_t length)
{
    size_t at = 0;

    for (; at + 8 <= length; at += 8) {
        uint64_t word;

        memcpy(&word, text + at, sizeof word);
        if ((word & HIGH_BITS) != 0)
            break;
    }
    return at;
}

size_t td_utf8_valid_prefix(const char *text, size_t length)
{
    size_t at = 0;

    while (at < length) {
        size_t bytes;

        at += ascii_run(text + at, length - at);
        if (at == length)
            break;
        bytes = td_utf8_character(text + at, length - at);
        if (bytes == 0)
            break;
        at += bytes;
    }
    return at;
}

size_t td_utf8_encode(uint32_t code_point, char out[static TD_UTF8_BYTES_MAX])
{
    assert(code_point <= 0x10ffff);
    assert(code_point < 0xd800 || code_point > 0xdfff);
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xc0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        out[0] = (char)(0xe0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}
