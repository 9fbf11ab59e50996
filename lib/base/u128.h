/*
 * u128.h: 128-bit values used as request ids, epochs' companions, block keys and content hashes.
 *
 * Ids are random and never taken from a client; keys and hashes are XXH3-128. All-zero means "none".
 */
#ifndef TANDEM_LIB_BASE_U128_H
#define TANDEM_LIB_BASE_U128_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct td_u128 {
    uint64_t hi;
    uint64_t lo;
};

#define TD_U128_HEX_BYTES 33 /* 32 digits and the terminating NUL */

static inline bool td_u128_equal(struct td_u128 a, struct td_u128 b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

static inline bool td_u128_is_zero(struct td_u128 a)
{
    return (a.hi | a.lo) == 0;
}

/* The low-level key of a 64-bit number, for maps that are keyed by small ids. */
static inline struct td_u128 td_u128_from_u64(uint64_t value)
{
    return (struct td_u128){.hi = 0, .lo = value};
}

/* Writes 32 lower-case hex digits and a NUL; returns out, so that it can stand in a printf list. */
const char *td_u128_hex(struct td_u128 value, char out[static TD_U128_HEX_BYTES]);

#endif
