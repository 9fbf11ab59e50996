/* pool.c: claims, eviction and the prefix index over the blocks of the KV pool, see pool.h. */
#include "engine/pool.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/list.h"
#include "lib/base/map.h"

#define POOL_BLOCKS_MAX (UINT32_C(1) << 31)

/* The columns of the balance: one per kind of claim, and two for blocks without any. */
enum column {
    COLUMN_CACHED = ENGINE_CLAIM_COUNT,
    COLUMN_FREE,
    COLUMN_COUNT,
};

struct block {
    struct td_u128 key;  /* published: what it is found by */
    struct td_u128 root; /* published: root key of its chain */
    struct td_u128 hash; /* of the content; zero: not known */
    struct td_u128 announced_key;
    struct td_list lru; /* linked while cached */
    uint32_t claims[ENGINE_CLAIM_COUNT];
    uint32_t generation;
    uint32_t parent; /* published: slot of the block before, or ENGINE_SLOT_NONE */
    uint32_t parent_generation;
    uint32_t children; /* published blocks whose parent this is */
    bool published;
    bool announced; /* announced_key was in the last picture that changes_take made */
    bool dirty;     /* listed in changed */
    bool moved;     /* its key was announced for another slot; only inside changes_take */
};

struct engine_pool {
    struct block *blocks;
    uint32_t *tokens;  /* [block_count][block_tokens], of published blocks */
    uint32_t *free;    /* stack of free slots */
    uint32_t *changed; /* slots whose key came or went since the last changes_take */
    uint32_t changed_count;
    uint32_t block_count;
    uint32_t block_tokens;
    uint32_t counts[COLUMN_COUNT];
    uint64_t returns;
    struct td_list cached; /* oldest first */
    struct td_map index;   /* key -> struct block */
};

static uint32_t slot_of(const struct engine_pool *pool, const struct block *block)
{
    return (uint32_t)(block - pool->blocks);
}

static struct block *block_at(const struct engine_pool *pool, uint32_t slot)
{
    assert(slot < pool->block_count);
    return &pool->blocks[slot];
}

static uint32_t *tokens_of(const struct engine_pool *pool, uint32_t slot)
{
    return pool->tokens + (size_t)slot * pool->block_tokens;
}

/* ---- opening and closing ---- */

struct engine_pool *engine_pool_open(uint32_t block_count, uint32_t block_tokens)
{
    struct engine_pool *pool = calloc(1, sizeof *pool);

    assert(block_count > 0 && block_count <= POOL_BLOCKS_MAX && block_tokens > 0);
    if (pool == NULL)
        return NULL;
    pool->block_count = block_count;
    pool->block_tokens = block_tokens;
    td_list_init(&pool->cached);
    td_map_init(&pool->index, block_count);
    pool->blocks = calloc(block_count, sizeof *pool->blocks);
    pool->tokens = calloc(block_count, sizeof *pool->tokens * block_tokens);
    pool->free = calloc(block_count, sizeof *pool->free);
    pool->changed = calloc(block_count, sizeof *pool->changed);
    if (pool->blocks == NULL || pool->tokens == NULL || pool->free == NULL ||
        pool->changed == NULL) {
        engine_pool_close(pool);
        return NULL;
    }
    for (uint32_t i = 0; i < block_count; i++) {
        td_list_init(&pool->blocks[i].lru);
        pool->free[i] = block_count - 1 - i; /* a fresh pool gives out slots in ascending runs */
    }
    pool->counts[COLUMN_FREE] = block_count;
    return pool;
}

void engine_pool_close(struct engine_pool *pool)
{
    if (pool == NULL)
        return;
    td_map_fini(&pool->index);
    free(pool->changed);
    free(pool->free);
    free(pool->tokens);
    free(pool->blocks);
    free(pool);
}

/* ---- states ---- */

static enum column column_of(const struct block *block)
{
    static const enum engine_claim strongest_first[] = {
        ENGINE_CLAIM_QUARANTINED, ENGINE_CLAIM_LANDING, ENGINE_CLAIM_RESERVED,
        ENGINE_CLAIM_HELD,        ENGINE_CLAIM_RUNNING,
    };

    for (size_t i = 0; i < sizeof strongest_first / sizeof strongest_first[0]; i++)
        if (block->claims[strongest_first[i]] > 0)
            return (enum column)strongest_first[i];
    return block->published ? COLUMN_CACHED : COLUMN_FREE;
}

static bool is_idle(const struct block *block)
{
    return column_of(block) >= COLUMN_CACHED;
}

static void recount(struct engine_pool *pool, const struct block *block, enum column before)
{
    pool->counts[before]--;
    pool->counts[column_of(block)]++;
}

static void mark_changed(struct engine_pool *pool, struct block *block)
{
    if (block->dirty)
        return;
    block->dirty = true;
    pool->changed[pool->changed_count++] = slot_of(pool, block);
}

/* Nobody will find the block any more. It has no children: eviction is leaf first. */
static void unpublish(struct engine_pool *pool, struct block *block)
{
    assert(block->published && block->children == 0);
    if (block->parent != ENGINE_SLOT_NONE) {
        struct block *parent = block_at(pool, block->parent);

        assert(parent->published && parent->generation == block->parent_generation);
        parent->children--;
    }
    td_map_remove(&pool->index, block->key);
    block->published = false;
    mark_changed(pool, block);
}

static void forget_content(struct block *block)
{
    block->hash = (struct td_u128){0};
    block->generation++;
}

uint32_t engine_pool_available(const struct engine_pool *pool)
{
    return pool->counts[COLUMN_FREE] + pool->counts[COLUMN_CACHED];
}

static void evict_oldest(struct engine_pool *pool)
{
    struct td_list *oldest = td_list_first(&pool->cached);
    struct block *block = td_container_of(oldest, struct block, lru);
    enum column before = column_of(block);

    td_list_remove(&block->lru);
    unpublish(pool, block);
    forget_content(block);
    recount(pool, block, before);
    pool->free[pool->counts[COLUMN_FREE] - 1] = slot_of(pool, block);
}

uint32_t engine_pool_alloc(struct engine_pool *pool, enum engine_claim claim)
{
    uint32_t slot;

    if (engine_pool_available(pool) == 0)
        return ENGINE_SLOT_NONE;
    if (pool->counts[COLUMN_FREE] == 0)
        evict_oldest(pool);
    slot = pool->free[pool->counts[COLUMN_FREE] - 1];
    engine_pool_claim(pool, slot, claim);
    return slot;
}

void engine_pool_claim(struct engine_pool *pool, uint32_t slot, enum engine_claim claim)
{
    struct block *block = block_at(pool, slot);
    enum column before = column_of(block);

    assert(claim < ENGINE_CLAIM_COUNT);
    /* a free block is claimed by alloc alone: it is the top of the stack */
    assert(before != COLUMN_FREE || pool->free[pool->counts[COLUMN_FREE] - 1] == slot);
    td_list_remove(&block->lru);
    block->claims[claim]++;
    recount(pool, block, before);
}

void engine_pool_unclaim(struct engine_pool *pool, uint32_t slot, enum engine_claim claim)
{
    struct block *block = block_at(pool, slot);
    enum column before = column_of(block);

    assert(claim < ENGINE_CLAIM_QUARANTINED && block->claims[claim] > 0);
    pool->returns++;
    block->claims[claim]--;
    recount(pool, block, before);
    if (!is_idle(block))
        return;
    if (block->published) {
        td_list_push_back(&pool->cached, &block->lru);
        return;
    }
    forget_content(block);
    pool->free[pool->counts[COLUMN_FREE] - 1] = slot;
}

void engine_pool_unclaim_all(struct engine_pool *pool, const uint32_t *slots, uint32_t count,
                             enum engine_claim claim)
{
    while (count > 0)
        engine_pool_unclaim(pool, slots[--count], claim);
}

void engine_pool_move(struct engine_pool *pool, const uint32_t *slots, uint32_t count,
                      enum engine_claim from, enum engine_claim to)
{
    assert(from < ENGINE_CLAIM_QUARANTINED && to < ENGINE_CLAIM_COUNT);
    pool->returns++;
    for (uint32_t i = 0; i < count; i++) {
        struct block *block = block_at(pool, slots[i]);
        enum column before = column_of(block);

        assert(block->claims[from] > 0);
        block->claims[from]--;
        block->claims[to]++;
        recount(pool, block, before);
    }
}

uint64_t engine_pool_returns(const struct engine_pool *pool)
{
    return pool->returns;
}

bool engine_pool_is_idle(const struct engine_pool *pool, uint32_t slot)
{
    return is_idle(block_at(pool, slot));
}

uint32_t engine_pool_claims(const struct engine_pool *pool, uint32_t slot, enum engine_claim claim)
{
    return block_at(pool, slot)->claims[claim];
}

struct engine_slot engine_pool_slot(const struct engine_pool *pool, uint32_t slot)
{
    return (struct engine_slot){.index = slot, .generation = block_at(pool, slot)->generation};
}

void engine_pool_balance(const struct engine_pool *pool, struct engine_balance *balance_out)
{
    const uint32_t *counts = pool->counts;

    *balance_out = (struct engine_balance){
        .total = pool->block_count,
        .free = counts[COLUMN_FREE],
        .cached = counts[COLUMN_CACHED],
        .running = counts[ENGINE_CLAIM_RUNNING],
        .reserved = counts[ENGINE_CLAIM_RESERVED],
        .landing = counts[ENGINE_CLAIM_LANDING],
        .held = counts[ENGINE_CLAIM_HELD],
        .quarantined = counts[ENGINE_CLAIM_QUARANTINED],
    };
}

/* ---- prefix cache ---- */

/* Whether the published block is the one that the identity describes, beyond the key. */
static bool confirms(const struct engine_pool *pool, const struct block *block,
                     const struct engine_identity *identity)
{
    if (block->parent != identity->parent || !td_u128_equal(block->root, identity->root))
        return false;
    if (block->parent != ENGINE_SLOT_NONE &&
        block_at(pool, block->parent)->generation != block->parent_generation)
        return false;
    return memcmp(tokens_of(pool, slot_of(pool, block)), identity->tokens,
                  pool->block_tokens * sizeof *identity->tokens) == 0;
}

uint32_t engine_pool_match(const struct engine_pool *pool, struct td_u128 root,
                           const struct td_u128 *keys, const uint32_t *tokens, uint32_t count,
                           uint32_t *slots_out)
{
    struct engine_identity identity = {.root = root, .parent = ENGINE_SLOT_NONE};

    for (uint32_t i = 0; i < count; i++) {
        const struct block *block = td_map_find(&pool->index, keys[i]);

        identity.tokens = tokens + (size_t)i * pool->block_tokens;
        if (block == NULL || !confirms(pool, block, &identity))
            return i;
        identity.parent = slot_of(pool, block);
        slots_out[i] = identity.parent;
    }
    return count;
}

bool engine_pool_has(const struct engine_pool *pool, struct td_u128 key)
{
    return td_map_find(&pool->index, key) != NULL;
}

/* What to do when the key is there already. */
static td_status_t meet(const struct engine_pool *pool, const struct block *own,
                        const struct block *present, const struct engine_identity *identity)
{
    if (!confirms(pool, present, identity))
        return TD_STATE;
    if (!td_u128_is_zero(own->hash) && !td_u128_is_zero(present->hash) &&
        !td_u128_equal(own->hash, present->hash))
        return TD_CORRUPT;
    return TD_OK;
}

static void enter(struct engine_pool *pool, struct block *block,
                  const struct engine_identity *identity)
{
    block->key = identity->key;
    block->root = identity->root;
    block->parent = identity->parent;
    block->parent_generation = 0;
    if (identity->parent != ENGINE_SLOT_NONE) {
        struct block *parent = block_at(pool, identity->parent);

        block->parent_generation = parent->generation;
        parent->children++;
    }
    memcpy(tokens_of(pool, slot_of(pool, block)), identity->tokens,
           pool->block_tokens * sizeof *identity->tokens);
    block->published = true;
    mark_changed(pool, block);
}

td_status_t engine_pool_publish(struct engine_pool *pool, uint32_t slot,
                                const struct engine_identity *identity, uint32_t *canonical_out)
{
    struct block *block = block_at(pool, slot);
    const struct block *present = td_map_find(&pool->index, identity->key);
    td_status_t status;

    assert(!block->published && !is_idle(block));
    assert(identity->parent == ENGINE_SLOT_NONE || block_at(pool, identity->parent)->published);
    if (present != NULL) {
        status = meet(pool, block, present, identity);
        if (status == TD_OK)
            *canonical_out = slot_of(pool, present);
        return status;
    }
    status = td_map_insert(&pool->index, identity->key, block);
    if (status != TD_OK)
        return status;
    enter(pool, block, identity);
    *canonical_out = slot;
    return TD_OK;
}

void engine_pool_set_hash(struct engine_pool *pool, uint32_t slot, struct td_u128 hash)
{
    struct block *block = block_at(pool, slot);

    assert(!block->published && !is_idle(block));
    block->hash = hash;
}

struct td_u128 engine_pool_hash(const struct engine_pool *pool, uint32_t slot)
{
    return block_at(pool, slot)->hash;
}

/* ---- what changed, and what is there ---- */

uint32_t engine_pool_changes(const struct engine_pool *pool)
{
    return pool->changed_count;
}

/* Keys that were announced for a slot which no longer has them. A key may live on in another slot. */
static uint32_t take_removed(struct engine_pool *pool, struct td_u128 *removed_out)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pool->changed_count; i++) {
        struct block *block = &pool->blocks[pool->changed[i]];
        struct block *holder;

        if (!block->announced)
            continue;
        if (block->published && td_u128_equal(block->key, block->announced_key))
            continue;
        block->announced = false;
        holder = td_map_find(&pool->index, block->announced_key);
        if (holder != NULL)
            holder->moved = true;
        else
            removed_out[count++] = block->announced_key;
    }
    return count;
}

static uint32_t take_stored(struct engine_pool *pool, struct td_u128 *stored_out)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pool->changed_count; i++) {
        struct block *block = &pool->blocks[pool->changed[i]];

        block->dirty = false;
        if (!block->published || block->announced)
            continue;
        if (!block->moved)
            stored_out[count++] = block->key;
        block->moved = false;
        block->announced = true;
        block->announced_key = block->key;
    }
    return count;
}

void engine_pool_changes_take(struct engine_pool *pool, struct td_u128 *stored_out,
                              uint32_t *stored_count_out, struct td_u128 *removed_out,
                              uint32_t *removed_count_out)
{
    *removed_count_out = take_removed(pool, removed_out);
    *stored_count_out = take_stored(pool, stored_out);
    pool->changed_count = 0;
}

uint32_t engine_pool_published(const struct engine_pool *pool)
{
    return (uint32_t)pool->index.count;
}

void engine_pool_keys(const struct engine_pool *pool, struct td_u128 *keys_out)
{
    for (uint32_t slot = 0; slot < pool->block_count; slot++)
        if (pool->blocks[slot].published)
            *keys_out++ = pool->blocks[slot].key;
}

/* ---- audit ---- */

static uint32_t audit_block(const struct engine_pool *pool, const struct block *block,
                            uint32_t *children)
{
    const struct block *parent;

    assert(td_list_empty(&block->lru) == (column_of(block) != COLUMN_CACHED));
    if (!block->published)
        return 0;
    assert(td_map_find(&pool->index, block->key) == block);
    if (block->parent == ENGINE_SLOT_NONE)
        return 1;
    parent = block_at(pool, block->parent);
    assert(parent->published && parent->generation == block->parent_generation);
    assert(is_idle(block) || !is_idle(parent)); /* who claims a block claims its whole chain */
    children[block->parent]++;
    return 1;
}

void engine_pool_audit(const struct engine_pool *pool)
{
    uint32_t counts[COLUMN_COUNT] = {0};
    uint32_t published = 0;
    uint32_t *children = calloc(pool->block_count, sizeof *children);

    assert(children != NULL);
    for (uint32_t slot = 0; slot < pool->block_count; slot++) {
        counts[column_of(&pool->blocks[slot])]++;
        published += audit_block(pool, &pool->blocks[slot], children);
    }
    for (uint32_t slot = 0; slot < pool->block_count; slot++)
        assert(children[slot] == pool->blocks[slot].children);
    for (uint32_t i = 0; i < pool->counts[COLUMN_FREE]; i++)
        assert(column_of(&pool->blocks[pool->free[i]]) == COLUMN_FREE);
    for (uint32_t column = 0; column < COLUMN_COUNT; column++)
        assert(counts[column] == pool->counts[column]);
    assert(published == pool->index.count);
    free(children);
}
