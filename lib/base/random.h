/*
 * random.h: randomness of two kinds.
 *
 * td_random_bytes asks the kernel: epochs, ids, MAC keys. struct td_rng is a small seeded
 * generator (xoshiro256**, Blackman and Vigna) for jitter and for the simulator: the same seed
 * gives the same sequence on every machine. Neither is used for sampling tokens, which needs a
 * counter-based generator (engine/sample.h).
 */
#ifndef TANDEM_LIB_BASE_RANDOM_H
#define TANDEM_LIB_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/u128.h"

/* Fills out with kernel randomness; aborts the process if the kernel has none to give. */
void td_random_bytes(void *out, size_t length);

/* A random non-zero 64-bit value, for epochs and seeds. */
uint64_t td_random_u64(void);

/* A random non-zero 128-bit id. */
struct td_u128 td_random_u128(void);

struct td_rng {
    uint64_t s[4];
};

/* Seeds the generator; every seed, 0 included, is a good one. */
void td_rng_init(struct td_rng *rng, uint64_t seed);

uint64_t td_rng_next(struct td_rng *rng);

/* Uniform in [0, bound); bound must not be 0. */
uint64_t td_rng_below(struct td_rng *rng, uint64_t bound);

/* Uniform in [0, 1). */
double td_rng_unit(struct td_rng *rng);

#endif
