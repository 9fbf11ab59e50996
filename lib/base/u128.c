/* u128.c: hex form of 128-bit values. */
#include "lib/base/u128.h"

const char *td_u128_hex(struct td_u128 value, char out[static TD_U128_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < 16; i++) {
        out[i] = digits[value.hi >> (60 - 4 * i) & 15];
        out[16 + i] = digits[value.lo >> (60 - 4 * i) & 15];
    }
    out[32] = '\0';
    return out;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool td_u128_parse(const char *text, size_t length, struct td_u128 *value_out)
{
    uint64_t half[2] = {0, 0};

    if (length != 32)
        return false;
    for (size_t i = 0; i < 32; i++) {
        int digit = hex_digit(text[i]);

        if (digit < 0)
            return false;
        half[i / 16] = half[i / 16] << 4 | (uint64_t)digit;
    }
    *value_out = (struct td_u128){.hi = half[0], .lo = half[1]};
    return true;
}
