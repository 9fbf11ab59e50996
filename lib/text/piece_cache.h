/*
 * piece_cache.h: the ids of pieces that were merged lately. Internal to lib/text.
 *
 * Words repeat, and a lookup that ends in one cache line is many times cheaper than merging. Any number of
 * threads use one cache at once without waiting for each other: each entry has a sequence number, odd
 * while somebody writes it; who reads while it changes has found nothing, who would write while another
 * does leaves it. Bounded: a piece takes the place of another with the same hash. What it says never
 * differs from what merging gives.
 */
#ifndef TANDEM_LIB_TEXT_PIECE_CACHE_H
#define TANDEM_LIB_TEXT_PIECE_CACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/text/tokens.h"

#define TEXT_PIECE_BYTES_MAX 24 /* longer pieces are not kept */
#define TEXT_PIECE_IDS_MAX   7  /* nor those of more ids */

struct text_piece_entry;

struct text_piece_cache {
    struct text_piece_entry *entries;
};

td_status_t text_piece_cache_init(struct text_piece_cache *cache) TD_MUST_USE;
void text_piece_cache_fini(struct text_piece_cache *cache);

/* Appends the ids of a piece if they are known. The hash is that of the bytes, the same for both calls. */
bool text_piece_cache_find(const struct text_piece_cache *cache, uint64_t hash, const char *bytes,
                           uint32_t length, struct text_tokens *tokens);

/* Keeps them, unless they are too many or somebody else writes there. */
void text_piece_cache_put(const struct text_piece_cache *cache, uint64_t hash, const char *bytes,
                          uint32_t length, const uint32_t *ids, uint32_t count);

#endif
