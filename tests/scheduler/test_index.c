/* test_index.c: the prefix index against a simple model, and its limits. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "scheduler/index.h"
#include "tests/support/support.h"

#define SMALL_BYTES ((size_t)128 << 10)
#define UNIVERSE    600 /* keys; fewer than a small index holds */
#define COLUMNS     24  /* owners that the random test juggles with */

static const struct td_u128 seed = {.hi = 0x9e3779b97f4a7c15, .lo = 0xd1b54a32d192ed03};

static struct sched_index *open_index(size_t bytes)
{
    struct sched_index *index;

    assert_int_equal(sched_index_open(bytes, seed, &index), TD_OK);
    return index;
}

static struct td_u128 key_of(uint64_t n)
{
    return (struct td_u128){.hi = n * 0x2545f4914f6cdd1d, .lo = n + 1};
}

static struct sched_keys keys_of(uint64_t *pairs, const uint64_t *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pairs[2 * i] = key_of(numbers[i]).hi;
        pairs[2 * i + 1] = key_of(numbers[i]).lo;
    }
    return (struct sched_keys){.pairs = pairs, .count = count};
}

static uint16_t claim(struct sched_index *index)
{
    uint16_t owner;

    assert_int_equal(sched_index_claim(index, &owner), TD_OK);
    return owner;
}

/* --- the model: one flag per (column in use, key) --- */

struct model {
    struct sched_index *index;
    struct td_rng rng;
    bool used[COLUMNS];
    uint16_t owner[COLUMNS];
    bool has[COLUMNS][UNIVERSE];
};

static void model_operate(struct model *model)
{
    size_t column = td_rng_below(&model->rng, COLUMNS);
    uint64_t key = td_rng_below(&model->rng, UNIVERSE);
    uint64_t die = td_rng_below(&model->rng, 1000);

    if (!model->used[column]) {
        model->used[column] = sched_index_claim(model->index, &model->owner[column]) == TD_OK;
        memset(model->has[column], 0, sizeof model->has[column]);
    } else if (die < 8) {
        sched_index_release(model->index, model->owner[column]);
        model->used[column] = false;
    } else if (die < 60) {
        sched_index_sweep(model->index, (uint32_t)td_rng_below(&model->rng, 300));
    } else if (die < 600) {
        sched_index_put(model->index, model->owner[column], key_of(key));
        model->has[column][key] = true;
    } else {
        sched_index_drop(model->index, model->owner[column], key_of(key));
        model->has[column][key] = false;
    }
}

static void model_compare(const struct model *model)
{
    for (size_t c = 0; c < COLUMNS; c++) {
        uint32_t count = 0;

        if (!model->used[c])
            continue;
        for (uint64_t k = 0; k < UNIVERSE; k++) {
            assert_int_equal(sched_index_has(model->index, model->owner[c], key_of(k)),
                             model->has[c][k]);
            count += model->has[c][k];
        }
        assert_int_equal(sched_index_count(model->index, model->owner[c]), count);
    }
}

static void model_compare_match(struct model *model)
{
    uint64_t numbers[20];
    uint64_t pairs[40];
    uint32_t depth[SCHED_OWNERS_MAX];
    size_t count = td_rng_below(&model->rng, 21);

    for (size_t i = 0; i < count; i++)
        numbers[i] = td_rng_below(&model->rng, UNIVERSE);
    sched_index_match(model->index, keys_of(pairs, numbers, count), depth);
    for (size_t c = 0; c < COLUMNS; c++) {
        uint32_t expected = 0;

        if (!model->used[c])
            continue;
        while (expected < count && model->has[c][numbers[expected]])
            expected++;
        assert_int_equal(depth[model->owner[c]], expected);
    }
}

static void random_operations_agree_with_a_simple_model(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 20; run++) {
        static struct model model;

        memset(&model, 0, sizeof model);
        model.index = open_index(SMALL_BYTES);
        assert_true(sched_index_stats(model.index).count_max > UNIVERSE);
        td_rng_init(&model.rng, run);
        for (int i = 0; i < 20000; i++) {
            model_operate(&model);
            if (i % 50 == 0)
                model_compare_match(&model);
            if (i % 2000 == 0)
                model_compare(&model);
        }
        model_compare(&model);
        assert_int_equal(sched_index_stats(model.index).evictions, 0);
        sched_index_close(model.index);
    }
}

static void after_everybody_left_and_a_sweep_the_table_is_empty(void **state)
{
    struct sched_index *index = open_index(SMALL_BYTES);
    uint16_t a = claim(index);
    uint16_t b = claim(index);

    (void)state;
    for (uint64_t k = 0; k < 200; k++) {
        sched_index_put(index, a, key_of(k));
        sched_index_put(index, b, key_of(k + 100));
    }
    assert_int_equal(sched_index_stats(index).count, 300);
    sched_index_release(index, a);
    assert_true(sched_index_needs_sweep(index));
    while (sched_index_sweep(index, 7))
        ;
    assert_int_equal(sched_index_stats(index).count, 200);
    sched_index_release(index, b);
    while (sched_index_sweep(index, 7))
        ;
    assert_int_equal(sched_index_stats(index).count, 0);
    assert_false(sched_index_needs_sweep(index));
    sched_index_close(index);
}

static void a_column_is_only_given_out_again_after_its_keys_were_swept(void **state)
{
    struct sched_index *index = open_index(SMALL_BYTES);
    uint16_t owner[SCHED_OWNERS_MAX];
    uint16_t again;

    (void)state;
    for (size_t i = 0; i < SCHED_OWNERS_MAX; i++)
        owner[i] = claim(index);
    assert_int_equal(sched_index_claim(index, &again), TD_EXHAUSTED);
    sched_index_put(index, owner[77], key_of(5));
    sched_index_release(index, owner[77]);
    assert_int_equal(sched_index_claim(index, &again), TD_EXHAUSTED);
    while (sched_index_sweep(index, 1))
        ;
    assert_int_equal(sched_index_claim(index, &again), TD_OK);
    assert_int_equal(again, owner[77]);
    assert_false(sched_index_has(index, again, key_of(5)));
    /* One that owns nothing needs no sweeping. */
    sched_index_release(index, again);
    assert_int_equal(sched_index_claim(index, &again), TD_OK);
    sched_index_close(index);
}

static void a_released_owner_matches_nothing_at_once(void **state)
{
    struct sched_index *index = open_index(SMALL_BYTES);
    uint16_t owner = claim(index);
    uint64_t numbers[2] = {1, 2};
    uint64_t pairs[4];
    uint32_t depth[SCHED_OWNERS_MAX];
    struct sched_keys keys = keys_of(pairs, numbers, 2);

    (void)state;
    sched_index_put(index, owner, key_of(1));
    sched_index_put(index, owner, key_of(2));
    sched_index_match(index, keys, depth);
    assert_int_equal(depth[owner], 2);
    sched_index_release(index, owner);
    sched_index_match(index, keys, depth);
    assert_int_equal(depth[owner], 0);
    sched_index_close(index);
}

static void a_zero_key_and_no_keys_match_nothing(void **state)
{
    struct sched_index *index = open_index(SMALL_BYTES);
    uint16_t owner = claim(index);
    uint64_t pairs[4] = {0, 0, key_of(1).hi, key_of(1).lo};
    uint32_t depth[SCHED_OWNERS_MAX];

    (void)state;
    sched_index_put(index, owner, key_of(1));
    sched_index_match(index, (struct sched_keys){.pairs = pairs, .count = 2}, depth);
    assert_int_equal(depth[owner], 0);
    sched_index_match(index, (struct sched_keys){.pairs = NULL, .count = 0}, depth);
    assert_int_equal(depth[owner], 0);
    sched_index_close(index);
}

static void memory_stays_within_the_budget_however_much_is_put(void **state)
{
    (void)state;
    for (size_t bytes = (size_t)64 << 10; bytes <= (size_t)1 << 20; bytes += 77777) {
        struct sched_index *index = open_index(bytes);
        uint16_t owner = claim(index);
        struct sched_index_stats stats = sched_index_stats(index);

        assert_true(stats.bytes <= bytes);
        assert_true(stats.bytes > bytes - 4096);
        for (uint64_t k = 0; k < 5 * (uint64_t)stats.count_max; k++) {
            sched_index_put(index, owner, key_of(k));
            stats = sched_index_stats(index);
            assert_true(stats.count <= stats.count_max);
        }
        assert_int_equal(stats.count, stats.count_max);
        assert_int_equal(stats.evictions, 4 * (uint64_t)stats.count_max);
        assert_int_equal(sched_index_count(index, owner), stats.count_max);
        sched_index_close(index);
    }
}

static void counts_stay_right_under_eviction(void **state)
{
    struct sched_index *index = open_index((size_t)64 << 10);
    uint64_t universe = sched_index_stats(index).count_max * UINT64_C(3);
    struct td_rng rng;
    uint16_t owners[4];

    (void)state;
    td_rng_init(&rng, 7);
    for (size_t i = 0; i < 4; i++)
        owners[i] = claim(index);
    for (int i = 0; i < 200000; i++) {
        uint16_t owner = owners[td_rng_below(&rng, 4)];
        struct td_u128 key = key_of(td_rng_below(&rng, universe));

        if (td_rng_below(&rng, 4) > 0)
            sched_index_put(index, owner, key);
        else
            sched_index_drop(index, owner, key);
    }
    assert_true(sched_index_stats(index).evictions > 0);
    for (size_t i = 0; i < 4; i++) {
        uint32_t count = 0;

        for (uint64_t k = 0; k < universe; k++)
            count += sched_index_has(index, owners[i], key_of(k));
        assert_int_equal(sched_index_count(index, owners[i]), count);
    }
    sched_index_close(index);
}

static void what_is_matched_outlives_what_is_not(void **state)
{
    struct sched_index *index = open_index((size_t)64 << 10);
    uint16_t owner = claim(index);
    uint32_t count_max = sched_index_stats(index).count_max;
    uint64_t numbers[10];
    uint64_t pairs[20];
    uint32_t depth[SCHED_OWNERS_MAX];
    struct sched_keys hot;

    (void)state;
    for (uint64_t i = 0; i < 10; i++) {
        numbers[i] = 1000000 + i;
        sched_index_put(index, owner, key_of(numbers[i]));
    }
    hot = keys_of(pairs, numbers, 10);
    for (uint64_t k = 0; k < 20 * (uint64_t)count_max; k++) {
        sched_index_put(index, owner, key_of(k));
        if (k % (count_max / 4) != 0)
            continue;
        sched_index_match(index, hot, depth);
        assert_int_equal(depth[owner], 10);
    }
    sched_index_close(index);
}

static uint32_t count_of(const struct sched_index *index, uint16_t owner, uint64_t from,
                         uint64_t to)
{
    uint32_t count = 0;

    for (uint64_t k = from; k < to; k++)
        count += sched_index_has(index, owner, key_of(k));
    return count;
}

static void who_has_a_share_of_a_full_table_pushes_nobody_out(void **state)
{
    struct sched_index *index = open_index((size_t)64 << 10);
    uint32_t count_max = sched_index_stats(index).count_max;
    uint16_t modest = claim(index);
    uint16_t greedy = claim(index);

    (void)state;
    for (uint64_t k = 0; k < 100; k++)
        sched_index_put(index, modest, key_of(k));
    for (uint64_t k = 1000; k < 1000 + 50 * (uint64_t)count_max; k++)
        sched_index_put(index, greedy, key_of(k));
    assert_int_equal(sched_index_stats(index).count, count_max);
    assert_int_equal(count_of(index, modest, 0, 100), 100);
    assert_int_equal(sched_index_count(index, greedy), count_max - 100);
    /* The newest of the greedy one are there: it makes room among its own. */
    assert_true(sched_index_has(index, greedy, key_of(1000 + 50 * (uint64_t)count_max - 1)));
    /* And the modest one can grow to its own share. */
    for (uint64_t k = 100; k < count_max; k++)
        sched_index_put(index, modest, key_of(k));
    assert_true(sched_index_count(index, modest) >= count_max / 3);
    sched_index_close(index);
}

static void touch_all(struct sched_index *index, uint64_t count)
{
    uint32_t depth[SCHED_OWNERS_MAX];
    uint64_t pairs[2];

    for (uint64_t k = 0; k < count; k++)
        sched_index_match(index, keys_of(pairs, &k, 1), depth);
}

static void what_others_hold_too_is_given_up_for_a_share_only_if_nobody_asks_for_it(void **state)
{
    struct sched_index *index = open_index((size_t)64 << 10);
    uint32_t count_max = sched_index_stats(index).count_max;
    uint16_t one = claim(index);
    uint16_t two = claim(index);

    (void)state;
    for (uint64_t k = 0; k < count_max; k++) {
        sched_index_put(index, one, key_of(k));
        sched_index_put(index, two, key_of(k));
    }
    sched_index_put(index, one, key_of(count_max));
    assert_true(sched_index_has(index, one, key_of(count_max)));
    assert_int_equal(sched_index_count(index, two), count_max - 1);
    touch_all(index, count_max);
    sched_index_put(index, one, key_of(count_max + 1));
    assert_false(sched_index_has(index, one, key_of(count_max + 1)));
    assert_int_equal(sched_index_stats(index).refused, 1);
    assert_int_equal(sched_index_count(index, two), count_max - 1);
    sched_index_close(index);
}

static void a_budget_too_small_for_one_key_is_refused(void **state)
{
    struct sched_index *index;

    (void)state;
    assert_int_equal(sched_index_open(0, seed, &index), TD_INVALID);
    assert_int_equal(sched_index_open(64, seed, &index), TD_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_simple_model),
        cmocka_unit_test(after_everybody_left_and_a_sweep_the_table_is_empty),
        cmocka_unit_test(a_column_is_only_given_out_again_after_its_keys_were_swept),
        cmocka_unit_test(a_released_owner_matches_nothing_at_once),
        cmocka_unit_test(a_zero_key_and_no_keys_match_nothing),
        cmocka_unit_test(memory_stays_within_the_budget_however_much_is_put),
        cmocka_unit_test(counts_stay_right_under_eviction),
        cmocka_unit_test(what_is_matched_outlives_what_is_not),
        cmocka_unit_test(who_has_a_share_of_a_full_table_pushes_nobody_out),
        cmocka_unit_test(what_others_hold_too_is_given_up_for_a_share_only_if_nobody_asks_for_it),
        cmocka_unit_test(a_budget_too_small_for_one_key_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
