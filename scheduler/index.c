/*
 * index.c: a hash table with chains through a slab of entries, see index.h.
 *
 * Entries never move: the clock hand (Corbato, 1968) and the sweep walk the slab in the order in which
 * it was filled. Open addressing was tried and rejected: a hand that evicts place by place leaves an empty
 * region behind and a crowded one ahead, where probes run for thousands of places.
 */
#include "scheduler/index.h"

#include <assert.h>
#include <stdlib.h>

#define OWNER_WORDS    (SCHED_OWNERS_MAX / 64)
#define SECOND_CHANCES 64 /* touched entries passed over by one eviction: no insertion walks far */
#define OWN_STEPS      64 /* entries looked at for one of the owner's own */
#define BUCKETS_AHEAD  16 /* keys; the walk of a match hides two cache misses per key, */
#define ENTRIES_AHEAD  8  /* the bucket's and then the entry's */
#define NONE           0  /* as a reference: references are slab positions from 1 */

__extension__ typedef unsigned __int128 wide;

struct owners {
    uint64_t words[OWNER_WORDS];
};

struct entry {
    struct td_u128 key;   /* zero: the entry is free */
    struct owners owners; /* columns; may hold dirty ones until swept */
    uint32_t next;        /* in the chain, or in the list of free entries */
    uint32_t touched;     /* matched since the clock hand passed */
};

struct sched_index {
    struct entry *entries; /* [count_max + 1]; entry 0 is never used */
    uint32_t *buckets;     /* [count_max]; chains of entries */
    struct td_u128 seed;
    uint32_t count;
    uint32_t count_max;
    uint32_t used;      /* entries that were ever taken: those above are untouched memory */
    uint32_t free;      /* list of entries given back */
    uint32_t hand;      /* the clock's */
    uint32_t own_hand;  /* of those who have their share */
    uint32_t sweep;     /* entries up to it are swept in the present round */
    struct owners live; /* columns in use */
    uint32_t live_count;
    struct owners dirty;    /* given back, some bits may still be set */
    struct owners sweeping; /* the dirty ones that the present round clears */
    uint32_t counts[SCHED_OWNERS_MAX];
    uint64_t evictions;
    uint64_t refused;
    size_t bytes;
};

static void owners_add(struct owners *set, uint16_t owner)
{
    set->words[owner / 64] |= UINT64_C(1) << owner % 64;
}

static void owners_remove(struct owners *set, uint16_t owner)
{
    set->words[owner / 64] &= ~(UINT64_C(1) << owner % 64);
}

static bool owners_has(const struct owners *set, uint16_t owner)
{
    return set->words[owner / 64] >> owner % 64 & 1;
}

static bool owners_empty(struct owners set)
{
    uint64_t all = 0;

    for (int w = 0; w < OWNER_WORDS; w++)
        all |= set.words[w];
    return all == 0;
}

static struct owners owners_and(struct owners a, struct owners b)
{
    for (int w = 0; w < OWNER_WORDS; w++)
        a.words[w] &= b.words[w];
    return a;
}

static struct owners owners_without(struct owners a, struct owners b)
{
    for (int w = 0; w < OWNER_WORDS; w++)
        a.words[w] &= ~b.words[w];
    return a;
}

/* The first member at or after *cursor, which then stands behind it; false at the end. */
static bool owners_next(const struct owners *set, uint32_t *cursor, uint16_t *owner_out)
{
    while (*cursor < SCHED_OWNERS_MAX) {
        uint64_t rest = set->words[*cursor / 64] >> *cursor % 64;

        if (rest != 0) {
            *cursor += (uint32_t)__builtin_ctzll(rest);
            *owner_out = (uint16_t)(*cursor)++;
            return true;
        }
        *cursor = (*cursor / 64 + 1) * 64;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------- */

td_status_t sched_index_open(size_t bytes_max, struct td_u128 seed, struct sched_index **index_out)
{
    size_t fixed = sizeof(struct sched_index) + sizeof(struct entry);
    size_t each = sizeof(struct entry) + sizeof(uint32_t);
    size_t count_max = bytes_max > fixed ? (bytes_max - fixed) / each : 0;
    struct sched_index *index;

    if (count_max == 0 || count_max >= UINT32_MAX)
        return TD_INVALID;
    index = calloc(1, sizeof *index);
    if (index == NULL)
        return TD_NO_MEMORY;
    index->entries = calloc(count_max + 1, sizeof *index->entries);
    index->buckets = calloc(count_max, sizeof *index->buckets);
    if (index->entries == NULL || index->buckets == NULL) {
        sched_index_close(index);
        return TD_NO_MEMORY;
    }
    index->seed = seed;
    index->count_max = (uint32_t)count_max;
    index->bytes = fixed + count_max * each;
    *index_out = index;
    return TD_OK;
}

void sched_index_close(struct sched_index *index)
{
    if (index == NULL)
        return;
    free(index->entries);
    free(index->buckets);
    free(index);
}

/*
 * The chain of a key. Keys come from peers: the secret factors keep somebody who can choose keys from
 * choosing chains.
 */
static uint32_t *bucket_of(const struct sched_index *index, struct td_u128 key)
{
    wide product = (wide)(key.lo ^ index->seed.lo) * (key.hi ^ index->seed.hi);
    uint64_t mixed = (uint64_t)product ^ (uint64_t)(product >> 64);

    return &index->buckets[(mixed >> 32) * index->count_max >> 32];
}

/* The entry of key, or NULL. */
static struct entry *find(const struct sched_index *index, struct td_u128 key)
{
    uint32_t at = *bucket_of(index, key);

    while (at != NONE && !td_u128_equal(index->entries[at].key, key))
        at = index->entries[at].next;
    return at != NONE ? &index->entries[at] : NULL;
}

/* Takes an entry out of its chain and puts it on the free list. */
static void entry_free(struct sched_index *index, struct entry *entry)
{
    uint32_t at = (uint32_t)(entry - index->entries);
    uint32_t *link = bucket_of(index, entry->key);

    while (*link != at)
        link = &index->entries[*link].next;
    *link = entry->next;
    *entry = (struct entry){.next = index->free};
    index->free = at;
    index->count--;
}

static bool is_owned(const struct sched_index *index, const struct entry *entry)
{
    return !owners_empty(owners_and(entry->owners, index->live));
}

static struct entry *hand_next(struct sched_index *index, uint32_t *hand)
{
    *hand = *hand < index->count_max ? *hand + 1 : 1;
    return &index->entries[*hand];
}

/* The entry to give up, when all are taken. */
static struct entry *clock_victim(struct sched_index *index)
{
    for (uint32_t chances = SECOND_CHANCES;; chances--) {
        struct entry *entry = hand_next(index, &index->hand);

        if (chances == 0 || entry->touched == 0 || !is_owned(index, entry))
            return entry;
        entry->touched = 0;
    }
}

static bool has_its_share(const struct sched_index *index, uint16_t owner)
{
    return index->live_count > 1 && index->counts[owner] >= index->count_max / index->live_count;
}

/* An entry of this owner that nobody asked for lately; NULL: none nearby. Others' do not age by it. */
static struct entry *own_victim(struct sched_index *index, uint16_t owner)
{
    for (uint32_t steps = OWN_STEPS; steps > 0; steps--) {
        struct entry *entry = hand_next(index, &index->own_hand);
        struct owners others = owners_and(entry->owners, index->live);
        bool is_sole;

        owners_remove(&others, owner);
        is_sole = owners_empty(others);
        if (!is_sole && !owners_has(&entry->owners, owner))
            continue;
        if (entry->touched == 0)
            return entry;
        if (is_sole)
            entry->touched = 0;
    }
    return NULL;
}

static void evict(struct sched_index *index, struct entry *victim)
{
    struct owners losing = owners_and(victim->owners, index->live);
    uint32_t cursor = 0;
    uint16_t owner;

    while (owners_next(&losing, &cursor, &owner))
        index->counts[owner]--;
    entry_free(index, victim);
    index->evictions++;
}

/* Makes room for one more key of this owner; false: it may have none. */
static bool make_room(struct sched_index *index, uint16_t owner)
{
    struct entry *victim;

    if (index->count < index->count_max)
        return true;
    victim = has_its_share(index, owner) ? own_victim(index, owner) : clock_victim(index);
    if (victim == NULL) {
        index->refused++;
        return false;
    }
    evict(index, victim);
    return true;
}

/* An entry for a key that has none. There is room. */
static struct entry *entry_new(struct sched_index *index, struct td_u128 key)
{
    uint32_t *bucket = bucket_of(index, key);
    struct entry *entry;
    uint32_t at;

    if (index->free != NONE) {
        at = index->free;
        index->free = index->entries[at].next;
    } else {
        at = ++index->used;
    }
    entry = &index->entries[at];
    *entry = (struct entry){.key = key, .next = *bucket};
    *bucket = at;
    index->count++;
    return entry;
}

/* ------------------------------------------------------------------------------------------- */

td_status_t sched_index_claim(struct sched_index *index, uint16_t *owner_out)
{
    for (uint16_t owner = 0; owner < SCHED_OWNERS_MAX; owner++) {
        if (owners_has(&index->live, owner) || owners_has(&index->dirty, owner))
            continue;
        owners_add(&index->live, owner);
        index->live_count++;
        index->counts[owner] = 0;
        *owner_out = owner;
        return TD_OK;
    }
    return TD_EXHAUSTED;
}

void sched_index_release(struct sched_index *index, uint16_t owner)
{
    assert(owners_has(&index->live, owner));
    owners_remove(&index->live, owner);
    index->live_count--;
    if (index->counts[owner] > 0)
        owners_add(&index->dirty, owner);
    index->counts[owner] = 0;
}

void sched_index_put(struct sched_index *index, uint16_t owner, struct td_u128 key)
{
    struct entry *entry = find(index, key);

    assert(owners_has(&index->live, owner));
    assert(!td_u128_is_zero(key));
    if (entry == NULL) {
        if (!make_room(index, owner))
            return;
        entry = entry_new(index, key);
    }
    if (!owners_has(&entry->owners, owner)) {
        owners_add(&entry->owners, owner);
        index->counts[owner]++;
    }
}

void sched_index_drop(struct sched_index *index, uint16_t owner, struct td_u128 key)
{
    struct entry *entry = find(index, key);

    assert(owners_has(&index->live, owner));
    if (entry == NULL || !owners_has(&entry->owners, owner))
        return;
    owners_remove(&entry->owners, owner);
    index->counts[owner]--;
    if (!is_owned(index, entry))
        entry_free(index, entry);
}

bool sched_index_has(const struct sched_index *index, uint16_t owner, struct td_u128 key)
{
    const struct entry *entry = find(index, key);

    return entry != NULL && owners_has(&index->live, owner) && owners_has(&entry->owners, owner);
}

uint32_t sched_index_count(const struct sched_index *index, uint16_t owner)
{
    assert(owner < SCHED_OWNERS_MAX);
    return index->counts[owner];
}

static void set_depth(const struct owners *set, uint32_t depth, uint32_t *depth_out)
{
    uint32_t cursor = 0;
    uint16_t owner;

    while (owners_next(set, &cursor, &owner))
        depth_out[owner] = depth;
}

/* Asks for the memory of keys further on in a match, in two stages. */
static void prefetch(const struct sched_index *index, struct sched_keys keys, size_t at)
{
    if (at + BUCKETS_AHEAD < keys.count)
        __builtin_prefetch(bucket_of(index, sched_keys_at(keys, at + BUCKETS_AHEAD)));
    if (at + ENTRIES_AHEAD < keys.count) {
        uint32_t first = *bucket_of(index, sched_keys_at(keys, at + ENTRIES_AHEAD));

        __builtin_prefetch(&index->entries[first]);
    }
}

void sched_index_match(struct sched_index *index, struct sched_keys keys,
                       uint32_t depth_out[static SCHED_OWNERS_MAX])
{
    struct owners alive = index->live;
    uint32_t depth = 0;

    assert(keys.count < UINT32_MAX);
    for (uint32_t owner = 0; owner < SCHED_OWNERS_MAX; owner++)
        depth_out[owner] = 0;
    for (; depth < keys.count; depth++) {
        struct entry *entry;
        struct owners left;

        prefetch(index, keys, depth);
        entry = find(index, sched_keys_at(keys, depth));
        left = entry != NULL ? owners_without(alive, entry->owners) : alive;
        set_depth(&left, depth, depth_out);
        alive = owners_without(alive, left);
        if (owners_empty(alive))
            return;
        entry->touched = 1;
    }
    set_depth(&alive, depth, depth_out);
}

bool sched_index_sweep(struct sched_index *index, uint32_t entries)
{
    if (owners_empty(index->sweeping)) {
        if (owners_empty(index->dirty))
            return false;
        index->sweeping = index->dirty;
        index->sweep = 0;
    }
    for (; entries > 0 && index->sweep < index->used; entries--) {
        struct entry *entry = &index->entries[++index->sweep];

        if (td_u128_is_zero(entry->key))
            continue;
        entry->owners = owners_without(entry->owners, index->sweeping);
        if (!is_owned(index, entry))
            entry_free(index, entry);
    }
    if (index->sweep == index->used) {
        index->dirty = owners_without(index->dirty, index->sweeping);
        index->sweeping = (struct owners){0};
    }
    return sched_index_needs_sweep(index);
}

bool sched_index_needs_sweep(const struct sched_index *index)
{
    return !owners_empty(index->dirty);
}

struct sched_index_stats sched_index_stats(const struct sched_index *index)
{
    return (struct sched_index_stats){
        .bytes = index->bytes,
        .count = index->count,
        .count_max = index->count_max,
        .evictions = index->evictions,
        .refused = index->refused,
    };
}
