/* hash.c: XXH3 through the library, SipHash-2-4-128 by hand (checked against its reference vectors). */
#include "lib/base/hash.h"

#include <string.h>

#define XXH_STATIC_LINKING_ONLY /* the streaming state on the stack */
#include <xxhash.h>

#define CHAIN_SMALL_BYTES 256 /* a block of 16 token ids takes 64 */

static struct td_u128 from_xxh(XXH128_hash_t hash)
{
    return (struct td_u128){.hi = hash.high64, .lo = hash.low64};
}

struct td_u128 td_hash128(const void *bytes, size_t length)
{
    return from_xxh(XXH3_128bits(bytes, length));
}

struct td_u128 td_hash128_chain(struct td_u128 parent, const void *bytes, size_t length)
{
    XXH3_state_t state;

    if (length <= CHAIN_SMALL_BYTES) { /* one shot is twice as fast as streaming here */
        uint8_t joined[sizeof parent + CHAIN_SMALL_BYTES];

        memcpy(joined, &parent, sizeof parent);
        if (length > 0)
            memcpy(joined + sizeof parent, bytes, length);
        return td_hash128(joined, sizeof parent + length);
    }
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, &parent, sizeof parent);
    XXH3_128bits_update(&state, bytes, length);
    return from_xxh(XXH3_128bits_digest(&state));
}

static uint64_t rotl(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static void sip_round(uint64_t v[static 4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static uint64_t load_le64(const uint8_t *bytes, size_t length)
{
    uint64_t value = 0;

    for (size_t i = 0; i < length; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static void sip_absorb(uint64_t v[static 4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

static uint64_t sip_squeeze(uint64_t v[static 4])
{
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

struct td_u128 td_siphash128(const uint8_t key[static TD_MAC_KEY_BYTES], const void *bytes,
                             size_t length)
{
    const uint8_t *cursor = bytes;
    uint64_t k0 = load_le64(key, 8);
    uint64_t k1 = load_le64(key + 8, 8);
    uint64_t v[4] = {UINT64_C(0x736f6d6570736575) ^ k0, UINT64_C(0x646f72616e646f6d) ^ k1 ^ 0xee,
                     UINT64_C(0x6c7967656e657261) ^ k0, UINT64_C(0x7465646279746573) ^ k1};
    size_t left = length;
    struct td_u128 mac;

    for (; left >= 8; left -= 8, cursor += 8)
        sip_absorb(v, load_le64(cursor, 8));
    sip_absorb(v, load_le64(cursor, left) | (uint64_t)length << 56);
    v[2] ^= 0xee;
    mac.lo = sip_squeeze(v);
    v[1] ^= 0xdd;
    mac.hi = sip_squeeze(v);
    return mac;
}

bool td_mac_equal(struct td_u128 a, struct td_u128 b)
{
    uint64_t difference = (a.hi ^ b.hi) | (a.lo ^ b.lo);

    return difference == 0;
}

uint64_t td_u128_mix(struct td_u128 value)
{
    uint64_t z = value.lo ^ rotl(value.hi, 29);

    z = (z ^ z >> 33) * UINT64_C(0xff51afd7ed558ccd);
    z = (z ^ z >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return z ^ z >> 33;
}
