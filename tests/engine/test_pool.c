/* test_pool.c: claims, balance, eviction, confirmation of hits, and the cache's changes against a model. */
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

#include "engine/pool.h"
#include "lib/base/block_key.h"
#include "lib/base/random.h"

#define BLOCK_TOKENS 4

static const struct td_u128 root = {.hi = 9, .lo = 1};
static const struct td_u128 other_root = {.hi = 9, .lo = 2};

static struct engine_balance balance_of(const struct engine_pool *pool)
{
    struct engine_balance balance;

    engine_pool_audit(pool);
    engine_pool_balance(pool, &balance);
    assert_int_equal(balance.total, balance.free + balance.cached + balance.running +
                                        balance.reserved + balance.landing + balance.held +
                                        balance.quarantined);
    return balance;
}

/* Publishes slots[index] of a chain over tokens; the canonical slot, or the status as a failure. */
static uint32_t publish(struct engine_pool *pool, struct td_u128 chain_root, const uint32_t *tokens,
                        const uint32_t *slots, uint32_t index)
{
    struct td_u128 keys[16];
    uint32_t canonical = ENGINE_SLOT_NONE;
    struct engine_identity identity = {.root = chain_root};

    td_block_keys(chain_root, tokens, (index + 1) * BLOCK_TOKENS, BLOCK_TOKENS, keys);
    identity.key = keys[index];
    identity.parent = index == 0 ? ENGINE_SLOT_NONE : slots[index - 1];
    identity.tokens = tokens + index * BLOCK_TOKENS;
    assert_int_equal(engine_pool_publish(pool, slots[index], &identity, &canonical), TD_OK);
    return canonical;
}

static uint32_t match(const struct engine_pool *pool, struct td_u128 chain_root,
                      const uint32_t *tokens, uint32_t count, uint32_t *slots_out)
{
    struct td_u128 keys[16];

    td_block_keys(chain_root, tokens, count * BLOCK_TOKENS, BLOCK_TOKENS, keys);
    return engine_pool_match(pool, chain_root, keys, tokens, count, slots_out);
}

/* A chain of count published blocks, claimed as RUNNING. */
static void make_chain(struct engine_pool *pool, const uint32_t *tokens, uint32_t count,
                       uint32_t *slots)
{
    for (uint32_t i = 0; i < count; i++) {
        slots[i] = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
        assert_int_not_equal(slots[i], ENGINE_SLOT_NONE);
        assert_int_equal(publish(pool, root, tokens, slots, i), slots[i]);
    }
}

static const uint32_t some_tokens[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* ---- claims ---- */

static void a_fresh_pool_gives_out_ascending_slots_until_it_is_exhausted(void **state)
{
    struct engine_pool *pool = engine_pool_open(3, BLOCK_TOKENS);

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), i);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), ENGINE_SLOT_NONE);
    assert_int_equal(balance_of(pool).running, 3);
    engine_pool_close(pool);
}

static void the_generation_rises_whenever_a_slot_is_freed(void **state)
{
    struct engine_pool *pool = engine_pool_open(1, BLOCK_TOKENS);
    uint32_t slot;

    (void)state;
    for (uint32_t generation = 0; generation < 3; generation++) {
        slot = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
        assert_int_equal(engine_pool_slot(pool, slot).generation, generation);
        engine_pool_unclaim(pool, slot, ENGINE_CLAIM_RUNNING);
    }
    make_chain(pool, some_tokens, 1, &slot);
    engine_pool_unclaim(pool, slot, ENGINE_CLAIM_RUNNING);
    assert_int_equal(engine_pool_slot(pool, slot).generation, 3); /* cached, not freed */
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), slot);
    assert_int_equal(engine_pool_slot(pool, slot).generation, 4); /* evicted */
    engine_pool_close(pool);
}

static void a_block_counts_as_its_strongest_claim(void **state)
{
    struct engine_pool *pool = engine_pool_open(2, BLOCK_TOKENS);
    uint32_t slot = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);

    (void)state;
    engine_pool_claim(pool, slot, ENGINE_CLAIM_HELD);
    assert_int_equal(balance_of(pool).held, 1);
    engine_pool_claim(pool, slot, ENGINE_CLAIM_RESERVED);
    assert_int_equal(balance_of(pool).reserved, 1);
    engine_pool_move(pool, &slot, 1, ENGINE_CLAIM_RESERVED, ENGINE_CLAIM_LANDING);
    assert_int_equal(balance_of(pool).landing, 1);
    engine_pool_unclaim(pool, slot, ENGINE_CLAIM_LANDING);
    engine_pool_unclaim(pool, slot, ENGINE_CLAIM_HELD);
    assert_int_equal(balance_of(pool).running, 1);
    engine_pool_unclaim(pool, slot, ENGINE_CLAIM_RUNNING);
    assert_int_equal(balance_of(pool).free, 2);
    engine_pool_close(pool);
}

static void quarantine_is_for_ever(void **state)
{
    struct engine_pool *pool = engine_pool_open(2, BLOCK_TOKENS);
    uint32_t slot = engine_pool_alloc(pool, ENGINE_CLAIM_LANDING);

    (void)state;
    engine_pool_move(pool, &slot, 1, ENGINE_CLAIM_LANDING, ENGINE_CLAIM_QUARANTINED);
    assert_int_equal(balance_of(pool).quarantined, 1);
    assert_int_equal(engine_pool_available(pool), 1);
    assert_int_not_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), slot);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), ENGINE_SLOT_NONE);
    engine_pool_close(pool);
}

static void a_quarantined_source_can_still_be_hit_and_is_never_evicted(void **state)
{
    struct engine_pool *pool = engine_pool_open(2, BLOCK_TOKENS);
    uint32_t slot;
    uint32_t found;

    (void)state;
    make_chain(pool, some_tokens, 1, &slot);
    engine_pool_move(pool, &slot, 1, ENGINE_CLAIM_RUNNING, ENGINE_CLAIM_QUARANTINED);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), 1 - slot);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), ENGINE_SLOT_NONE);
    assert_int_equal(match(pool, root, some_tokens, 1, &found), 1);
    engine_pool_claim(pool, found, ENGINE_CLAIM_RUNNING); /* as any user may */
    engine_pool_unclaim(pool, found, ENGINE_CLAIM_RUNNING);
    assert_int_equal(balance_of(pool).quarantined, 1);
    engine_pool_close(pool);
}

/* ---- hits ---- */

static void a_chain_is_found_from_its_root_only(void **state)
{
    struct engine_pool *pool = engine_pool_open(8, BLOCK_TOKENS);
    uint32_t slots[3];
    uint32_t found[3];
    uint32_t changed[12];

    (void)state;
    make_chain(pool, some_tokens, 3, slots);
    assert_int_equal(match(pool, root, some_tokens, 3, found), 3);
    assert_memory_equal(found, slots, sizeof slots);
    assert_int_equal(match(pool, other_root, some_tokens, 3, found), 0); /* another tenant */
    memcpy(changed, some_tokens, sizeof changed);
    changed[5] = 99; /* in the second block */
    assert_int_equal(match(pool, root, changed, 3, found), 1);
    assert_int_equal(match(pool, root, some_tokens + BLOCK_TOKENS, 2, found), 0);
    engine_pool_close(pool);
}

/* XXH3 is not a MAC: whoever makes two blocks of one key must not get the other's KV. */
static void an_equal_key_alone_is_no_hit(void **state)
{
    struct engine_pool *pool = engine_pool_open(8, BLOCK_TOKENS);
    static const uint32_t forged[BLOCK_TOKENS] = {90, 91, 92, 93};
    struct td_u128 key = td_block_key(root, some_tokens, BLOCK_TOKENS);
    uint32_t slots[2];
    uint32_t found;
    uint32_t canonical = 77;
    struct engine_identity identity = {.key = key, .root = root, .parent = ENGINE_SLOT_NONE};

    (void)state;
    make_chain(pool, some_tokens, 1, slots);
    assert_int_equal(engine_pool_match(pool, root, &key, forged, 1, &found), 0);
    assert_int_equal(engine_pool_match(pool, other_root, &key, some_tokens, 1, &found), 0);
    slots[1] = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    identity.tokens = forged;
    assert_int_equal(engine_pool_publish(pool, slots[1], &identity, &canonical), TD_STATE);
    identity.tokens = some_tokens;
    identity.root = other_root;
    assert_int_equal(engine_pool_publish(pool, slots[1], &identity, &canonical), TD_STATE);
    identity.root = root;
    identity.parent = slots[0];
    assert_int_equal(engine_pool_publish(pool, slots[1], &identity, &canonical), TD_STATE);
    assert_int_equal(canonical, 77);
    balance_of(pool);
    engine_pool_close(pool);
}

static void the_second_of_two_equal_blocks_is_pointed_to_the_first(void **state)
{
    struct engine_pool *pool = engine_pool_open(8, BLOCK_TOKENS);
    uint32_t first;
    uint32_t second;

    (void)state;
    make_chain(pool, some_tokens, 1, &first);
    second = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    assert_int_equal(publish(pool, root, some_tokens, &second, 0), first);
    engine_pool_unclaim(pool, second, ENGINE_CLAIM_RUNNING);
    assert_int_equal(balance_of(pool).free, 7);
    engine_pool_close(pool);
}

static void equal_tokens_with_other_content_are_a_conflict(void **state)
{
    struct engine_pool *pool = engine_pool_open(8, BLOCK_TOKENS);
    struct engine_identity identity = {.root = root, .parent = ENGINE_SLOT_NONE};
    uint32_t first = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    uint32_t second = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    uint32_t canonical;

    (void)state;
    engine_pool_set_hash(pool, first, root);
    engine_pool_set_hash(pool, second, other_root);
    assert_int_equal(publish(pool, root, some_tokens, &first, 0), first);
    identity.key = td_block_key(root, some_tokens, BLOCK_TOKENS);
    identity.tokens = some_tokens;
    assert_int_equal(engine_pool_publish(pool, second, &identity, &canonical), TD_CORRUPT);
    assert_true(td_u128_equal(engine_pool_hash(pool, first), root));
    engine_pool_close(pool);
}

static void a_freed_slot_forgets_its_hash(void **state)
{
    struct engine_pool *pool = engine_pool_open(1, BLOCK_TOKENS);
    uint32_t slot = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);

    (void)state;
    engine_pool_set_hash(pool, slot, root);
    engine_pool_unclaim(pool, slot, ENGINE_CLAIM_RUNNING);
    slot = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    assert_true(td_u128_is_zero(engine_pool_hash(pool, slot)));
    engine_pool_close(pool);
}

/* ---- eviction ---- */

static void leaves_are_evicted_before_their_parents(void **state)
{
    struct engine_pool *pool = engine_pool_open(4, BLOCK_TOKENS);
    uint32_t slots[4];
    uint32_t found[4];

    (void)state;
    make_chain(pool, some_tokens, 4, slots);
    engine_pool_unclaim_all(pool, slots, 4, ENGINE_CLAIM_RUNNING);
    for (uint32_t left = 4; left-- > 0;) {
        assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), slots[left]);
        assert_int_equal(match(pool, root, some_tokens, 4, found), left);
        engine_pool_audit(pool);
    }
    engine_pool_close(pool);
}

static void the_chain_used_longest_ago_goes_first(void **state)
{
    struct engine_pool *pool = engine_pool_open(4, BLOCK_TOKENS);
    uint32_t a[2];
    uint32_t b[2];
    uint32_t found[2];

    (void)state;
    make_chain(pool, some_tokens, 2, a);
    make_chain(pool, some_tokens + 16, 2, b);
    engine_pool_unclaim_all(pool, b, 2, ENGINE_CLAIM_RUNNING);
    engine_pool_unclaim_all(pool, a, 2, ENGINE_CLAIM_RUNNING);
    assert_int_equal(match(pool, root, some_tokens + 16, 2, found), 2); /* touch b again */
    engine_pool_claim(pool, b[0], ENGINE_CLAIM_RUNNING);
    engine_pool_claim(pool, b[1], ENGINE_CLAIM_RUNNING);
    engine_pool_unclaim_all(pool, b, 2, ENGINE_CLAIM_RUNNING);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), a[1]);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), a[0]);
    assert_int_equal(match(pool, root, some_tokens + 16, 2, found), 2);
    engine_pool_close(pool);
}

static void a_parent_outlives_every_child_of_a_fork(void **state)
{
    struct engine_pool *pool = engine_pool_open(3, BLOCK_TOKENS);
    uint32_t left[2];
    uint32_t right[2];
    uint32_t fork[8];

    (void)state;
    memcpy(fork, some_tokens, sizeof fork);
    fork[6] = 60;
    make_chain(pool, some_tokens, 2, left);
    engine_pool_claim(pool, left[0], ENGINE_CLAIM_RUNNING);
    right[0] = left[0];
    right[1] = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    assert_int_equal(publish(pool, root, fork, right, 1), right[1]);
    engine_pool_unclaim_all(pool, left, 2, ENGINE_CLAIM_RUNNING);
    engine_pool_unclaim_all(pool, right, 2, ENGINE_CLAIM_RUNNING);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), left[1]);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), right[1]);
    assert_int_equal(engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING), left[0]);
    engine_pool_close(pool);
}

/* ---- random operations against a model ---- */

#define MODEL_BLOCKS  24
#define MODEL_USERS   6
#define MODEL_DEPTH   5
#define MODEL_MIRROR  512
#define MODEL_ROUNDS  3000
#define MODEL_LETTERS 3 /* few, so that chains share prefixes */

struct user {
    uint32_t tokens[MODEL_DEPTH * BLOCK_TOKENS];
    uint32_t slots[MODEL_DEPTH];
    uint32_t depth;
    enum engine_claim claim;
    bool active;
};

struct model {
    struct engine_pool *pool;
    struct td_rng rng;
    struct user users[MODEL_USERS];
    struct td_u128 mirror[MODEL_MIRROR]; /* findable keys, by the changes alone */
    uint32_t mirror_count;
};

static uint32_t below(struct model *model, uint32_t bound)
{
    return (uint32_t)td_rng_below(&model->rng, bound);
}

static void user_starts(struct model *model, struct user *user)
{
    uint32_t depth = 1 + below(model, MODEL_DEPTH);
    uint32_t hits;

    for (uint32_t i = 0; i < MODEL_DEPTH; i++)
        for (uint32_t t = 0, letter = below(model, MODEL_LETTERS); t < BLOCK_TOKENS; t++)
            user->tokens[i * BLOCK_TOKENS + t] = letter;
    hits = match(model->pool, root, user->tokens, depth, user->slots);
    for (uint32_t i = 0; i < hits; i++)
        engine_pool_claim(model->pool, user->slots[i], ENGINE_CLAIM_RUNNING);
    user->depth = hits;
    while (user->depth < depth) {
        uint32_t slot = engine_pool_alloc(model->pool, ENGINE_CLAIM_RUNNING);

        if (slot == ENGINE_SLOT_NONE)
            break;
        user->slots[user->depth] = slot;
        assert_int_equal(publish(model->pool, root, user->tokens, user->slots, user->depth), slot);
        user->depth++;
    }
    user->claim = ENGINE_CLAIM_RUNNING;
    user->active = true;
}

static void user_ends(struct model *model, struct user *user)
{
    engine_pool_unclaim_all(model->pool, user->slots, user->depth, user->claim);
    user->active = false;
}

static bool mirror_has(const struct model *model, struct td_u128 key)
{
    for (uint32_t i = 0; i < model->mirror_count; i++)
        if (td_u128_equal(model->mirror[i], key))
            return true;
    return false;
}

static void mirror_remove(struct model *model, struct td_u128 key)
{
    for (uint32_t i = 0; i < model->mirror_count; i++) {
        if (td_u128_equal(model->mirror[i], key)) {
            model->mirror[i] = model->mirror[--model->mirror_count];
            return;
        }
    }
    fail_msg("a key was removed that was not there");
}

static void follow_changes(struct model *model)
{
    struct td_u128 stored[MODEL_BLOCKS];
    struct td_u128 removed[MODEL_BLOCKS];
    uint32_t stored_count;
    uint32_t removed_count;

    assert_in_range(engine_pool_changes(model->pool), 0, MODEL_BLOCKS);
    engine_pool_changes_take(model->pool, stored, &stored_count, removed, &removed_count);
    for (uint32_t i = 0; i < stored_count;
         i++) { /* before the removals: the order must not matter */
        assert_false(mirror_has(model, stored[i]));
        model->mirror[model->mirror_count++] = stored[i];
    }
    for (uint32_t i = 0; i < removed_count; i++)
        mirror_remove(model, removed[i]);
}

static void compare(struct model *model)
{
    struct td_u128 keys[MODEL_BLOCKS];
    uint32_t count = engine_pool_published(model->pool);

    assert_int_equal(count, model->mirror_count);
    engine_pool_keys(model->pool, keys);
    for (uint32_t i = 0; i < count; i++)
        assert_true(mirror_has(model, keys[i]));
    balance_of(model->pool);
}

/* Every prefix of every chain over the alphabet is hit exactly as deep as its keys are in the mirror. */
static void probe(struct model *model)
{
    uint32_t tokens[MODEL_DEPTH * BLOCK_TOKENS];
    struct td_u128 keys[MODEL_DEPTH];
    uint32_t slots[MODEL_DEPTH];
    uint32_t expected = 0;

    for (uint32_t i = 0; i < MODEL_DEPTH; i++)
        for (uint32_t t = 0, letter = below(model, MODEL_LETTERS); t < BLOCK_TOKENS; t++)
            tokens[i * BLOCK_TOKENS + t] = letter;
    td_block_keys(root, tokens, MODEL_DEPTH * BLOCK_TOKENS, BLOCK_TOKENS, keys);
    while (expected < MODEL_DEPTH && mirror_has(model, keys[expected]))
        expected++;
    for (uint32_t i = expected; i < MODEL_DEPTH; i++)
        assert_false(mirror_has(model, keys[i])); /* nothing that cannot be walked to */
    assert_int_equal(match(model->pool, root, tokens, MODEL_DEPTH, slots), expected);
}

static void step_model(struct model *model)
{
    struct user *user = &model->users[below(model, MODEL_USERS)];

    if (!user->active) {
        user_starts(model, user);
    } else if (user->claim == ENGINE_CLAIM_RUNNING && below(model, 4) == 0) {
        engine_pool_move(model->pool, user->slots, user->depth, ENGINE_CLAIM_RUNNING,
                         ENGINE_CLAIM_HELD);
        user->claim = ENGINE_CLAIM_HELD;
    } else {
        user_ends(model, user);
    }
    engine_pool_audit(model->pool);
    if (below(model, 3) == 0) { /* changes pile up in between */
        follow_changes(model);
        compare(model);
        for (int i = 0; i < 10; i++)
            probe(model);
    }
}

static void changes_mirror_exactly_what_can_be_hit(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct model model = {.pool = engine_pool_open(MODEL_BLOCKS, BLOCK_TOKENS)};

        td_rng_init(&model.rng, seed);
        for (int round = 0; round < MODEL_ROUNDS; round++)
            step_model(&model);
        for (uint32_t i = 0; i < MODEL_USERS; i++)
            if (model.users[i].active)
                user_ends(&model, &model.users[i]);
        follow_changes(&model);
        compare(&model);
        assert_int_equal(engine_pool_available(model.pool), MODEL_BLOCKS);
        engine_pool_close(model.pool);
    }
}

static void a_key_that_moves_to_another_slot_is_no_change(void **state)
{
    struct engine_pool *pool = engine_pool_open(2, BLOCK_TOKENS);
    struct td_u128 stored[2];
    struct td_u128 removed[2];
    uint32_t stored_count;
    uint32_t removed_count;
    uint32_t slot;
    uint32_t others[2];

    (void)state;
    make_chain(pool, some_tokens, 1, &slot);
    engine_pool_changes_take(pool, stored, &stored_count, removed, &removed_count);
    assert_int_equal(stored_count, 1);
    engine_pool_unclaim(pool, slot, ENGINE_CLAIM_RUNNING);
    others[0] = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING);
    others[1] = engine_pool_alloc(pool, ENGINE_CLAIM_RUNNING); /* evicts */
    assert_int_equal(publish(pool, root, some_tokens, &others[slot == others[0]], 0),
                     others[slot == others[0]]);
    engine_pool_changes_take(pool, stored, &stored_count, removed, &removed_count);
    assert_int_equal(stored_count, 0);
    assert_int_equal(removed_count, 0);
    assert_int_equal(engine_pool_changes(pool), 0);
    engine_pool_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_pool_gives_out_ascending_slots_until_it_is_exhausted),
        cmocka_unit_test(the_generation_rises_whenever_a_slot_is_freed),
        cmocka_unit_test(a_block_counts_as_its_strongest_claim),
        cmocka_unit_test(quarantine_is_for_ever),
        cmocka_unit_test(a_quarantined_source_can_still_be_hit_and_is_never_evicted),
        cmocka_unit_test(a_chain_is_found_from_its_root_only),
        cmocka_unit_test(an_equal_key_alone_is_no_hit),
        cmocka_unit_test(the_second_of_two_equal_blocks_is_pointed_to_the_first),
        cmocka_unit_test(equal_tokens_with_other_content_are_a_conflict),
        cmocka_unit_test(a_freed_slot_forgets_its_hash),
        cmocka_unit_test(leaves_are_evicted_before_their_parents),
        cmocka_unit_test(the_chain_used_longest_ago_goes_first),
        cmocka_unit_test(a_parent_outlives_every_child_of_a_fork),
        cmocka_unit_test(changes_mirror_exactly_what_can_be_hit),
        cmocka_unit_test(a_key_that_moves_to_another_slot_is_no_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
