/*
 * pool.h: the blocks of the KV pool: who uses each of them, and the prefix cache over them.
 *
 * Every block is in exactly one state, and the counts of the states always add up:
 *
 *     total = free + cached + running + reserved + landing + held + quarantined
 *
 * A user takes a claim on a block, of one kind. A block with several claims counts as the strongest
 * (quarantined, landing, reserved, held, running). Without claims a published block is cached, and
 * any other is free. A quarantine claim is never given back.
 *
 * Publishing makes a full block findable by its key. A published block is immutable. Its identity is
 * its parent (slot and generation; the root key for a first block) and its token ids; the key alone
 * proves nothing, since XXH3 is not a MAC.
 *
 * Eviction takes the cached block that was given up longest ago. This is always a leaf: whoever claims
 * a block claims its whole chain from the root, and gives it up leaf first (engine_pool_unclaim_all),
 * so a child is always older in the list than its parent. Hence every published block can be
 * reached from its root. The ancestor check in engine_pool_alloc asserts it.
 *
 * Pure: no clock, no lock; one owner, the engine core. The memory of the pool is not touched.
 */
#ifndef TANDEM_ENGINE_POOL_H
#define TANDEM_ENGINE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

#define ENGINE_SLOT_NONE UINT32_MAX

enum engine_claim {
    ENGINE_CLAIM_RUNNING = 0, /* a sequence of the engine reads or writes it */
    ENGINE_CLAIM_HELD,        /* a peer may be reading it */
    ENGINE_CLAIM_RESERVED,    /* an import will ask for it */
    ENGINE_CLAIM_LANDING,     /* a peer may be writing it */
    ENGINE_CLAIM_QUARANTINED, /* somebody may touch it for ever */
    ENGINE_CLAIM_COUNT,
};

/* What a published block is, and what a lookup must confirm. */
struct engine_identity {
    struct td_u128 key;
    struct td_u128 root;    /* root key of the chain */
    uint32_t parent;        /* slot of the block before, or ENGINE_SLOT_NONE */
    const uint32_t *tokens; /* block_tokens ids; copied by publish */
};

struct engine_pool;

/* All bookkeeping is allocated here; NULL if there is no memory. At most 2^31 blocks. */
struct engine_pool *engine_pool_open(uint32_t block_count, uint32_t block_tokens);
void engine_pool_close(struct engine_pool *pool);

/* ---- claims ---- */

/* Blocks that an allocation can get now: free and cached. */
uint32_t engine_pool_available(const struct engine_pool *pool);

/* Takes a block, evicting the oldest cached one if none is free. ENGINE_SLOT_NONE: exhausted. */
uint32_t engine_pool_alloc(struct engine_pool *pool, enum engine_claim claim);

void engine_pool_claim(struct engine_pool *pool, uint32_t slot, enum engine_claim claim);

/* Gives up one claim. A block without claims becomes cached or free. Never for QUARANTINED. */
void engine_pool_unclaim(struct engine_pool *pool, uint32_t slot, enum engine_claim claim);

/* The same for a whole chain, last block first: the order that keeps eviction leaf first. */
void engine_pool_unclaim_all(struct engine_pool *pool, const uint32_t *slots, uint32_t count,
                             enum engine_claim claim);

/* Exchanges claims of one kind for claims of another. */
void engine_pool_move(struct engine_pool *pool, const uint32_t *slots, uint32_t count,
                      enum engine_claim from, enum engine_claim to);

/* Rises whenever a claim is given up or changes its kind: until then there is not more room than before. */
uint64_t engine_pool_returns(const struct engine_pool *pool);

/* Whether nobody claims the block. */
bool engine_pool_is_idle(const struct engine_pool *pool, uint32_t slot);

/* How many claims of one kind there are on the block. */
uint32_t engine_pool_claims(const struct engine_pool *pool, uint32_t slot, enum engine_claim claim);

/* Slot and generation, as others may remember them. */
struct engine_slot engine_pool_slot(const struct engine_pool *pool, uint32_t slot);

void engine_pool_balance(const struct engine_pool *pool, struct engine_balance *balance_out);

/* ---- prefix cache ---- */

/*
 * The leading blocks of a prompt that are in the cache, each confirmed by parent, root and token ids.
 * keys, and count * block_tokens tokens; slots_out has room for count. Claims nothing.
 */
uint32_t engine_pool_match(const struct engine_pool *pool, struct td_u128 root,
                           const struct td_u128 *keys, const uint32_t *tokens, uint32_t count,
                           uint32_t *slots_out);

/* Whether a block is published under this key: engine_pool_match may find more than before. */
bool engine_pool_has(const struct engine_pool *pool, struct td_u128 key);

/*
 * Makes a claimed, full block findable. The parent must be published.
 *   TD_OK         *canonical_out is the block to be found under this identity: slot itself, or the one
 *                 that was there before (with the same content, as far as both hashes are known)
 *   TD_STATE      the key belongs to a block of other tokens: a collision; nothing changed
 *   TD_CORRUPT    the same identity is there with other content; nothing changed
 *   TD_NO_MEMORY  nothing changed
 */
td_status_t engine_pool_publish(struct engine_pool *pool, uint32_t slot,
                                const struct engine_identity *identity,
                                uint32_t *canonical_out) TD_MUST_USE;

/* The content hash that is kept with a block until it is freed; zero: not known. */
void engine_pool_set_hash(struct engine_pool *pool, uint32_t slot, struct td_u128 hash);
struct td_u128 engine_pool_hash(const struct engine_pool *pool, uint32_t slot);

/* ---- what changed, and what is there ---- */

/* An upper bound of the keys that engine_pool_changes_take will write to each array; 0: none. */
uint32_t engine_pool_changes(const struct engine_pool *pool);

/*
 * The difference between the findable keys now and at the last call. No key is in both arrays, and a key
 * that came and went in between is in neither. Each array has room for engine_pool_changes keys.
 */
void engine_pool_changes_take(struct engine_pool *pool, struct td_u128 *stored_out,
                              uint32_t *stored_count_out, struct td_u128 *removed_out,
                              uint32_t *removed_count_out);

uint32_t engine_pool_published(const struct engine_pool *pool);

/* Writes all findable keys (engine_pool_published of them), in the order of slots. */
void engine_pool_keys(const struct engine_pool *pool, struct td_u128 *keys_out);

/* Counts everything anew and asserts that it is consistent; for tests, costs a pass over the pool. */
void engine_pool_audit(const struct engine_pool *pool);

#endif
