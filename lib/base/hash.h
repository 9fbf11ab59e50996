/*
 * hash.h: XXH3-128 for block keys and content, SipHash-2-4 with 128-bit output for headers.
 *
 * XXH3 detects accidents and keeps tenants apart through a salt, but it is not a MAC: whoever can
 * choose content can find collisions. Where a header must prove that it came from the holder of a
 * key, td_siphash128 is used (Aumasson and Bernstein, 2012; the 128-bit variant).
 */
#ifndef TANDEM_LIB_BASE_HASH_H
#define TANDEM_LIB_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/u128.h"

#define TD_MAC_KEY_BYTES 16

/* XXH3-128 of the bytes. */
struct td_u128 td_hash128(const void *bytes, size_t length);

/* XXH3-128 of a 128-bit prefix followed by the bytes, in one pass: chains of block keys. */
struct td_u128 td_hash128_chain(struct td_u128 parent, const void *bytes, size_t length);

/* SipHash-2-4-128 of the bytes under key. */
struct td_u128 td_siphash128(const uint8_t key[static TD_MAC_KEY_BYTES], const void *bytes,
                             size_t length);

/* Compares two MACs in constant time. */
bool td_mac_equal(struct td_u128 a, struct td_u128 b);

/* A 64-bit mix of a 128-bit value, for hash tables. */
uint64_t td_u128_mix(struct td_u128 value);

#endif
