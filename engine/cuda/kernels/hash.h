/*
 * hash.h: blocks of KV in hand-over: their content hash, and clearing what lies behind the tokens of a tail.
 *
 * The hash is that of lib/base/hash.h, XXH3-128 of Yann Collet's specification, for lengths above 240 that are a multiple
 * of eight. Within 1,024 bytes it is made of sums, in any order; from one such stretch to the next there is a chain of
 * a few operations. So all warps add up stretches, and eight threads go along the chain behind them.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_HASH_H
#define TANDEM_ENGINE_CUDA_KERNELS_HASH_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/simt.h"

#define HASH_THREADS       256
#define HASH_LANES         8    /* sums that run side by side */
#define HASH_STRIPE        64   /* bytes: a word for each of them */
#define HASH_STRETCH       1024 /* bytes from link to link of the chain */
#define HASH_STRIPES       (HASH_STRETCH / HASH_STRIPE)
#define HASH_TILE          32 /* stretches that are added up between barriers */
#define HASH_TILE_WARPS    (HASH_THREADS / SIMT_WARP)
#define HASH_SCRAMBLE_WORD 16  /* where in the secret the key of a link is */
#define HASH_LAST_BYTE     121 /* ... of the last stripe */
#define HASH_LOW_BYTE      11  /* ... of the low half of the result */
#define HASH_HIGH_BYTE     117

#define HASH_PRIME32_1 0x9e3779b1u
#define HASH_PRIME32_2 0x85ebca77u
#define HASH_PRIME32_3 0xc2b2ae3du
#define HASH_PRIME64_1 0x9e3779b185ebca87u
#define HASH_PRIME64_2 0xc2b2ae3d27d4eb4fu
#define HASH_PRIME64_3 0x165667b19e3779f9u
#define HASH_PRIME64_4 0x85ebca77c2b2ae63u
#define HASH_PRIME64_5 0x27d4eb2f165667c5u
#define HASH_AVALANCHE 0x165667919e3779f9u

/* A word of the secret from any byte on. */
SIMT_INLINE uint64_t hash_secret(const uint64_t *secret, uint32_t byte)
{
    uint32_t shift = byte % 8 * 8;

    if (shift == 0)
        return secret[byte / 8];
    return secret[byte / 8] >> shift | secret[byte / 8 + 1] << (64 - shift);
}

SIMT_INLINE uint64_t hash_product(uint64_t keyed)
{
    return (keyed & 0xffffffffu) * (keyed >> 32);
}

/* The two halves of a 128-bit product, one xor the other. */
SIMT_INLINE uint64_t hash_fold(uint64_t a, uint64_t b)
{
    uint64_t low = (a & 0xffffffffu) * (b & 0xffffffffu);
    uint64_t cross = (a >> 32) * (b & 0xffffffffu) + (low >> 32);
    uint64_t other = (a & 0xffffffffu) * (b >> 32) + (cross & 0xffffffffu);
    uint64_t high = (a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32);

    return high ^ (other << 32 | (low & 0xffffffffu));
}

SIMT_INLINE uint64_t hash_begin(uint32_t lane)
{
    switch (lane) {
    case 0: return HASH_PRIME32_3;
    case 1: return HASH_PRIME64_1;
    case 2: return HASH_PRIME64_2;
    case 3: return HASH_PRIME64_3;
    case 4: return HASH_PRIME64_4;
    case 5: return HASH_PRIME32_2;
    case 6: return HASH_PRIME64_5;
    default: return HASH_PRIME32_1;
    }
}

SIMT_INLINE uint64_t hash_link(uint64_t sum, uint64_t key)
{
    return (sum ^ sum >> 47 ^ key) * HASH_PRIME32_1;
}

SIMT_INLINE uint64_t hash_merge(const uint64_t *sums, const uint64_t *secret, uint32_t byte,
                                uint64_t begin)
{
    uint64_t result = begin;

    for (uint32_t i = 0; i < HASH_LANES; i += 2)
        result += hash_fold(sums[i] ^ hash_secret(secret, byte + 8 * i),
                            sums[i + 1] ^ hash_secret(secret, byte + 8 * i + 8));
    result ^= result >> 37;
    result *= HASH_AVALANCHE;
    return result ^ result >> 32;
}

/* What a thread adds up of a stretch: every fourth stripe, of one word each, with its key and without. */
SIMT_INLINE void hash_stretch(const uint64_t *words, const uint64_t *secret, uint64_t *keyed_out,
                              uint64_t *plain_out)
{
    uint32_t lane = simt_lane() % HASH_LANES;
    uint64_t keyed = 0;
    uint64_t plain = 0;

    SIMT_UNROLL
    for (uint32_t i = 0; i < HASH_STRIPES / 4; i++) {
        uint32_t stripe = i * 4 + simt_lane() / HASH_LANES;
        uint64_t word = words[stripe * HASH_LANES + lane];

        keyed += hash_product(word ^ secret[stripe + lane]);
        plain += word;
    }
    *keyed_out = keyed;
    *plain_out = plain;
}

/* A word goes to its own sum with its key, and to the neighbour's without. */
SIMT_INLINE uint64_t hash_stripe(const uint64_t *words, uint32_t lane, uint64_t key)
{
    return hash_product(words[lane] ^ key) + words[lane ^ 1];
}

/* What is behind the last link: whole stripes, and the last 64 bytes once more, which may overlap them. */
SIMT_INLINE uint64_t hash_rest(const uint64_t *words, uint64_t bytes, const uint64_t *secret,
                               uint32_t lane)
{
    uint64_t linked = (bytes - 1) / HASH_STRETCH;
    uint32_t stripes = (uint32_t)((bytes - 1 - linked * HASH_STRETCH) / HASH_STRIPE);
    const uint64_t *rest = words + linked * (HASH_STRETCH / 8);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < stripes; i++)
        sum += hash_stripe(rest + i * HASH_LANES, lane, secret[i + lane]);
    return sum + hash_stripe(words + bytes / 8 - HASH_LANES, lane,
                             hash_secret(secret, HASH_LAST_BYTE + 8 * lane));
}

SIMT_KERNEL(hash, HASH_THREADS, struct cuda_hash_args)
{
    SIMT_SHARED uint64_t secret[CUDA_HASH_SECRET];
    SIMT_SHARED uint64_t keyed[HASH_TILE][SIMT_WARP];
    SIMT_SHARED uint64_t plain[HASH_TILE][SIMT_WARP];
    SIMT_SHARED uint64_t sums[HASH_TILE][HASH_LANES];
    SIMT_SHARED uint64_t ends[HASH_LANES];
    const uint64_t *words = (const uint64_t *)(uintptr_t)args.blocks[simt_block_x()];
    uint64_t stretches = (args.bytes - 1) / HASH_STRETCH;
    uint32_t thread = simt_thread();
    uint32_t lane = thread % HASH_LANES;
    uint64_t chain = hash_begin(lane);

    if (thread < CUDA_HASH_SECRET)
        secret[thread] = args.secret[thread];
    simt_barrier();
    for (uint64_t tile = 0; tile < stretches; tile += HASH_TILE) {
        uint32_t count = stretches - tile < HASH_TILE ? (uint32_t)(stretches - tile) : HASH_TILE;

        for (uint32_t i = simt_warp(); i < count; i += HASH_TILE_WARPS)
            hash_stretch(words + (tile + i) * (HASH_STRETCH / 8), secret, &keyed[i][simt_lane()],
                         &plain[i][simt_lane()]);
        simt_barrier(); /* also: the chain has read the sums of the tile before */
        if (thread / HASH_LANES < count) {
            uint32_t i = thread / HASH_LANES;
            uint64_t sum = 0;

            for (uint32_t part = 0; part < SIMT_WARP; part += HASH_LANES)
                sum += keyed[i][part + lane] + plain[i][part + (lane ^ 1)];
            sums[i][lane] = sum;
        }
        simt_barrier();
        if (thread < HASH_LANES)
            for (uint32_t i = 0; i < count; i++)
                chain = hash_link(chain + sums[i][lane], secret[HASH_SCRAMBLE_WORD + lane]);
    }
    if (thread < HASH_LANES)
        ends[lane] = chain + hash_rest(words, args.bytes, secret, lane);
    simt_barrier();
    if (thread == 0)
        args.out[2 * simt_block_x()] =
            hash_merge(ends, secret, HASH_LOW_BYTE, args.bytes * HASH_PRIME64_1);
    if (thread == SIMT_WARP)
        args.out[2 * simt_block_x() + 1] =
            hash_merge(ends, secret, HASH_HIGH_BYTE, ~(args.bytes * HASH_PRIME64_2));
}

#define CLEAR_THREADS 128

SIMT_KERNEL(clear, CLEAR_THREADS, struct cuda_clear_args)
{
    uint16_t *page = (uint16_t *)(void *)(args.block + (size_t)simt_block_x() * args.page_bytes);

    for (uint32_t i = args.used_bytes / 2 + simt_thread(); i < args.page_bytes / 2;
         i += CLEAR_THREADS)
        page[i] = 0;
}

#endif
