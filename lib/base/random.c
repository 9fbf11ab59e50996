/* random.c: kernel randomness and the seeded generator. */
#include "lib/base/random.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void td_random_bytes(void *out, size_t length)
{
    unsigned char *cursor = out;

    while (length > 0) {
        ssize_t got = getrandom(cursor, length, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* without randomness no epoch, id or key can be trusted */
        cursor += got;
        length -= (size_t)got;
    }
}

uint64_t td_random_u64(void)
{
    uint64_t value = 0;

    while (value == 0)
        td_random_bytes(&value, sizeof value);
    return value;
}

struct td_u128 td_random_u128(void)
{
    return (struct td_u128){.hi = td_random_u64(), .lo = td_random_u64()};
}

/* splitmix64 spreads any seed, also 0, over the whole state. */
static uint64_t splitmix_next(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

void td_rng_init(struct td_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        rng->s[i] = splitmix_next(&seed);
}

static uint64_t rotate_left(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

uint64_t td_rng_next(struct td_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t td_rng_below(struct td_rng *rng, uint64_t bound)
{
    uint64_t limit;
    uint64_t value;

    assert(bound > 0);
    limit = UINT64_MAX - UINT64_MAX % bound; /* rejecting the tail keeps it uniform */
    do
        value = td_rng_next(rng);
    while (value >= limit);
    return value % bound;
}

double td_rng_unit(struct td_rng *rng)
{
    return (double)(td_rng_next(rng) >> 11) * 0x1p-53;
}
