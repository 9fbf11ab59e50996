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
