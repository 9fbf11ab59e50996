/*
 * piece_cache.c: see piece_cache.h.
 *
 * The order of memory (C11): a writer makes the sequence odd, then stores the words with release, then
 * makes it even with release. A reader loads the sequence and the words with acquire, then the sequence
 * again: had it seen a word of a newer write, it would now see that writer's odd number or a later one.
 */
#include "lib/text/piece_cache.h"

#include <stdlib.h>
#include <string.h>

#define ENTRIES    8192 /* half a megabyte: what a core's own cache holds */
#define WORDS      7    /* the key; length and count; seven ids */
#define LINE_BYTES 64

struct text_piece_entry {
    _Atomic uint64_t sequence;
    _Atomic uint64_t words[WORDS];
};

_Static_assert(sizeof(struct text_piece_entry) == LINE_BYTES, "one cache line");

/* What the words mean. */
struct piece {
    char key[TEXT_PIECE_BYTES_MAX]; /* zeros behind the piece */
    uint16_t length;                /* 0: the entry is empty */
    uint16_t count;
    uint32_t ids[TEXT_PIECE_IDS_MAX];
};

_Static_assert(sizeof(struct piece) == WORDS * sizeof(uint64_t), "as many words as an entry has");

td_status_t text_piece_cache_init(struct text_piece_cache *cache)
{
    cache->entries = aligned_alloc(LINE_BYTES, ENTRIES * sizeof *cache->entries);
    if (cache->entries == NULL)
        return TD_NO_MEMORY;
    memset(cache->entries, 0, ENTRIES * sizeof *cache->entries);
    return TD_OK;
}

void text_piece_cache_fini(struct text_piece_cache *cache)
{
    free(cache->entries);
    cache->entries = NULL;
}

/* The tables of tokens use the low bits of the same hash. */
static struct text_piece_entry *entry_of(const struct text_piece_cache *cache, uint64_t hash)
{
    return &cache->entries[(hash >> 40) % ENTRIES];
}

bool text_piece_cache_find(const struct text_piece_cache *cache, uint64_t hash, const char *bytes,
                           uint32_t length, struct text_tokens *tokens)
{
    struct text_piece_entry *entry = entry_of(cache, hash);
    uint64_t words[WORDS];
    struct piece piece;
    uint64_t sequence;

    if (length > TEXT_PIECE_BYTES_MAX)
        return false;
    sequence = atomic_load_explicit(&entry->sequence, memory_order_acquire);
    for (size_t i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&entry->words[i], memory_order_acquire);
    if (sequence % 2 != 0 ||
        atomic_load_explicit(&entry->sequence, memory_order_relaxed) != sequence)
        return false;
    memcpy(&piece, words, sizeof piece);
    if (piece.length != length || memcmp(piece.key, bytes, length) != 0)
        return false;
    for (uint32_t i = 0; i < piece.count; i++)
        text_tokens_push(tokens, piece.ids[i]);
    return true;
}

void text_piece_cache_put(const struct text_piece_cache *cache, uint64_t hash, const char *bytes,
                          uint32_t length, const uint32_t *ids, uint32_t count)
{
    struct text_piece_entry *entry = entry_of(cache, hash);
    struct piece piece = {.length = (uint16_t)length, .count = (uint16_t)count};
    uint64_t words[WORDS];
    uint64_t sequence;

    if (length > TEXT_PIECE_BYTES_MAX || count > TEXT_PIECE_IDS_MAX)
        return;
    memcpy(piece.key, bytes, length);
    memcpy(piece.ids, ids, count * sizeof *ids);
    memcpy(words, &piece, sizeof words);
    sequence = atomic_load_explicit(&entry->sequence, memory_order_relaxed);
    if (sequence % 2 != 0 ||
        !atomic_compare_exchange_strong_explicit(&entry->sequence, &sequence, sequence + 1,
                                                 memory_order_acquire, memory_order_relaxed))
        return;
    for (size_t i = 0; i < WORDS; i++)
        atomic_store_explicit(&entry->words[i], words[i], memory_order_release);
    atomic_store_explicit(&entry->sequence, sequence + 2, memory_order_release);
}
