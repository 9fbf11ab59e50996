/*
 * test_runtime.c: the engine on its thread, over the modelled backend: what is said comes out whatever
 * the rings hold, in every moment of stopping, and steps allocate nothing.
 * The program is linked with --wrap for malloc and calloc, so that it can count them.
 */
#include "tests/engine/runtime_owner.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/metrics.h"
#include "lib/base/time.h"

/* ---- counting allocations ---- */

static atomic_uint allocations;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

void *__wrap_malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_calloc(count, size);
}

/* ---- tests ---- */

static void run_mixed(const struct owner_config *config, uint32_t count)
{
    struct owner *owner = owner_open(config);

    for (uint64_t id = 1; id <= count; id++)
        owner_submit_mixed(owner, id);
    owner_wait_for_finished(owner, count);
    for (uint64_t id = 1; id <= count; id++) {
        assert_int_not_equal(owner->records[id].end.reason, ENGINE_FINISH_CANCELED);
        owner_check(owner, id);
    }
    owner_close(owner);
}

static void every_request_gets_its_tokens_and_one_end(void **state)
{
    (void)state;
    run_mixed(&owner_small, 300);
}

static void full_rings_lose_nothing_and_stop_nobody(void **state)
{
    struct owner_config config = owner_small;

    (void)state;
    config.ring_capacity = 1;
    run_mixed(&config, 300);
}

static void an_owner_that_pops_late_holds_the_engine_back_but_not_for_good(void **state)
{
    struct owner_config config = owner_small;
    struct owner *owner;

    (void)state;
    config.ring_capacity = 4;
    owner = owner_open(&config);
    for (uint64_t id = 1; id <= 40; id++)
        owner_submit_mixed(owner, id);
    while (owner->finished_count < 40) { /* pump asserts how far the engine can have come */
        if (!owner_pump(owner)) {
            owner_flush(owner);
            owner_sleep(owner);
        }
    }
    owner_close(owner);
}

static void a_step_allocates_nothing_when_it_has_run_for_a_while(void **state)
{
    struct owner_config config = {
        .model = {.vocab = 61, .block_tokens = 256, .max_context = 4096},
        .block_count = 16,
        .ring_capacity =
            4, /* fewer than the arrays that the core keeps, however late the owner is */
    };
    struct owner *owner = owner_open(&config);
    struct engine_submit request = owner_request(owner, 1, ENGINE_GENERATE, 2, 250);
    const struct record *record = &owner->records[1];
    uint32_t before = 0;
    uint32_t after = 0;

    (void)state;
    owner_submit(owner, 1, &request);
    while (!record->finished) {
        while (owner_pump(owner)) {
            before = record->output_count == 30 ? atomic_load(&allocations) : before;
            after = record->output_count == 230 ? atomic_load(&allocations) : after;
        }
        if (!record->finished)
            owner_sleep(owner);
    }
    assert_int_equal(record->output_count, 250);
    assert_int_not_equal(before, 0);
    /* at most a node and an array for each event that can be on its way; 200 steps would take 400 */
    assert_in_range(after - before, 0, 2 * (owner->ring_slots + 2));
    owner_close(owner);
}

static void stop_ends_every_sequence_in_every_moment(void **state)
{
    (void)state;
    for (uint32_t moment = 0; moment < 120; moment++) {
        struct owner_config config = owner_small;
        struct owner *owner;

        config.ring_capacity = moment % 2 == 0 ? 1 : 64;
        owner = owner_open(&config);
        owner->is_silent = moment % 3 == 0;
        for (uint64_t id = 1; id <= 12; id++)
            owner_submit_mixed(owner, id);
        for (uint32_t i = 0; i < moment && owner_pump(owner); i++)
            ;
        engine_runtime_stop(owner->runtime);
        owner_wait_for_finished(owner, 12);
        owner_submit_mixed(owner, 13); /* whoever comes too late hears of it all the same */
        owner_wait_for_finished(owner, 13);
        assert_int_equal(owner->records[13].end.reason, ENGINE_FINISH_CANCELED);
        while (!engine_runtime_has_stopped(owner->runtime)) {
            owner_sleep(owner);
            while (owner_pump(owner))
                ;
        }
        for (uint64_t id = 1; id <= 13; id++)
            owner_check(owner, id);
        owner_close(owner);
    }
}

static void what_was_pushed_before_stop_has_ended_when_it_has_stopped(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 30; round++) {
        struct owner_config config = owner_small;
        struct owner *owner;

        config.ring_capacity = 1024;
        owner = owner_open(&config);
        atomic_store(&owner->gate->holds, true);
        owner_submit_mixed(owner, 1);
        owner_wait_until_entered(
            owner); /* a step runs: all that follows is pushed before its end */
        for (uint64_t id = 2; id <= 400; id++)
            owner_submit_mixed(owner, id);
        engine_runtime_stop(owner->runtime);
        owner_let_go(owner);
        while (!engine_runtime_has_stopped(owner->runtime))
            owner_sleep(owner);
        while (owner_pump(owner))
            ;
        assert_int_equal(owner->finished_count, 400);
        owner_close(owner);
    }
}

static void close_frees_everything_in_every_moment(void **state)
{
    (void)state;
    for (uint32_t moment = 0; moment < 60; moment++) {
        struct owner_config config = owner_small;
        struct owner *owner;

        config.ring_capacity = moment % 2 == 0 ? 1 : 64;
        owner = owner_open(&config);
        for (uint64_t id = 1; id <= 12; id++)
            owner_submit_mixed(owner, id);
        for (uint32_t i = 0; i < moment && owner_pump(owner); i++)
            ;
        owner_close(owner);
    }
}

static void a_deadline_passes_while_the_thread_sleeps(void **state)
{
    struct owner *owner = owner_open(&owner_small);
    struct engine_submit late;

    (void)state;
    owner->is_silent = true; /* the held blocks are not released */
    for (uint64_t id = 1; id <= 4; id++) {
        struct engine_submit holder = owner_request(owner, id, ENGINE_PREFILL, 64, 0);

        holder.tokens[0] = (uint32_t)id; /* nothing to share */
        owner_submit(owner, id, &holder);
    }
    late = owner_request(owner, 5, ENGINE_GENERATE, 40, 4);
    late.tokens[0] = 5;
    late.deadline_ns = td_now_ns() + 30 * TD_NS_PER_MS;
    owner_submit(owner, 5, &late);
    owner_wait_for_finished(owner, 1);
    assert_true(owner->records[5].finished);
    assert_int_equal(owner->records[5].end.reason, ENGINE_FINISH_FAILED);
    assert_int_equal(owner->records[5].end.status, TD_TIMEOUT);
    owner_close(owner);
}

static void the_age_of_a_step_tells_that_the_backend_hangs(void **state)
{
    struct owner *owner = owner_open(&owner_small);
    uint64_t age;

    (void)state;
    while (engine_runtime_step_age_ns(owner->runtime) != 0)
        ; /* its first turn, without work */
    atomic_store(&owner->gate->holds, true);
    owner_submit_mixed(owner, 4);
    owner_wait_until_entered(owner);
    do
        age = engine_runtime_step_age_ns(owner->runtime);
    while (age == 0); /* the clock may stand still between two looks */
    while (engine_runtime_step_age_ns(owner->runtime) <= age)
        ;
    owner_let_go(owner);
    owner_wait_for_finished(owner, 1);
    while (engine_runtime_step_age_ns(owner->runtime) != 0)
        ;
    owner_close(owner);
}

static void a_step_that_fails_ends_its_sequences_and_no_other(void **state)
{
    struct owner *owner = owner_open(&owner_small);

    (void)state;
    atomic_store(&owner->gate->failures, 1);
    owner_submit_mixed(owner, 4);
    owner_wait_for_finished(owner, 1);
    assert_int_equal(owner->records[4].end.reason, ENGINE_FINISH_FAILED);
    assert_int_equal(owner->records[4].end.status, TD_IO);
    owner_submit_mixed(owner, 5);
    owner_wait_for_finished(owner, 2);
    owner_check(owner, 5);
    owner_close(owner);
}

static void a_backend_that_is_lost_for_good_is_told_with_its_reason(void **state)
{
    struct owner *owner = owner_open(&owner_small);

    (void)state;
    atomic_store(&owner->gate->failures, 1);
    owner_submit_mixed(owner, 4);
    owner_wait_for_finished(owner, 1);
    assert_null(engine_runtime_lost(owner->runtime)); /* a step failed, that is all */
    atomic_store(&owner->gate->is_lost, true);
    atomic_store(&owner->gate->failures, 1);
    owner_submit_mixed(owner, 5);
    while (engine_runtime_lost(owner->runtime) == NULL)
        owner_flush(owner);
    assert_string_equal(engine_runtime_lost(owner->runtime), "it fell off the bus");
    while (owner_pump(owner)) /* what has failed for it was told before */
        ;
    assert_int_equal(owner->finished_count, 2);
    owner_close(owner);
}

static void a_step_in_two_halves_gives_every_request_its_tokens(void **state)
{
    struct owner_config config = owner_small;

    (void)state;
    config.is_halved = true;
    run_mixed(&config, 60);
    config.ring_capacity = 2;
    run_mixed(&config, 30);
}

static void newcomers_are_looked_at_while_a_device_computes(void **state)
{
    struct owner_config config = owner_small;
    struct engine_submit senseless;
    struct owner *owner;

    (void)state;
    config.is_halved = true;
    owner = owner_open(&config);
    atomic_store(&owner->gate->holds, true);
    atomic_store(&owner->gate->keeps, true);
    owner_submit_mixed(owner, 4);
    owner_wait_until_entered(owner);
    senseless = owner_request(owner, 5, ENGINE_GENERATE, 4, 4);
    senseless.tokens[0] = config.model.vocab;
    owner_submit(owner, 5, &senseless);
    owner_let_go(owner);
    owner_wait_for_finished(owner, 1); /* the step has not */
    assert_int_equal(owner->records[5].end.status, TD_INVALID);
    assert_false(owner->records[4].finished);
    atomic_store(&owner->gate->keeps, false);
    sem_post(&owner->gate->kept);
    owner_wait_for_finished(owner, 2);
    owner_check(owner, 4);
    owner_close(owner);
}

static void a_device_begins_the_next_step_before_anybody_hears_of_the_last(void **state)
{
    struct owner_config config = owner_small;
    struct engine_submit request;
    struct owner *owner;

    (void)state;
    config.is_halved = true;
    owner = owner_open(&config);
    atomic_store(&owner->gate->holds, true);
    request = owner_request(owner, 4, ENGINE_GENERATE, 4, 5);
    owner_submit(owner, 4, &request);
    owner_wait_until_entered(owner);
    sem_post(&owner->gate->go);
    owner_wait_until_entered(owner); /* the second begins: the first has given a token */
    while (owner_pump(owner))
        ;
    assert_int_equal(owner->records[4].output_count, 0);
    atomic_store(&owner->gate->keeps, true);
    owner_let_go(owner);
    while (owner->records[4].output_count == 0)
        if (!owner_pump(owner))
            owner_sleep(owner);
    assert_int_equal(owner->records[4].output_count, 1); /* the second runs */
    atomic_store(&owner->gate->keeps, false);
    sem_post(&owner->gate->kept);
    owner_wait_for_finished(owner, 1);
    owner_check(owner, 4);
    owner_close(owner);
}

static void steps_that_fail_are_told_even_if_none_follows(void **state)
{
    struct owner_config config = owner_small;
    struct owner *owner;

    (void)state;
    config.is_halved = true;
    owner = owner_open(&config);
    for (uint64_t id = 4; id <= 80; id += 4) {
        atomic_store(&owner->gate->failures, 1);
        owner_submit_mixed(owner, id);
        owner_wait_for_finished(owner, (uint32_t)id / 4);
        assert_int_equal(owner->records[id].end.reason, ENGINE_FINISH_FAILED);
    }
    owner_close(owner);
}

/* Of one request after the other; returns how many gaps were measured. */
static uint64_t count_gaps(bool is_halved, const uint64_t *ids, uint32_t id_count)
{
    static const struct td_metric family = {.name = "gap_seconds",
                                            .kind = TD_METRIC_HISTOGRAM,
                                            .bounds = td_metric_latency_ns,
                                            .unit = 1e9,
                                            .help = "A gap."};
    struct owner_config config = owner_small;
    struct td_metrics *metrics;
    struct td_histogram *gaps;
    struct owner *owner;
    uint64_t count = 0;

    assert_int_equal(td_metrics_new(1, NULL, NULL, &metrics), TD_OK);
    gaps = td_metrics_histogram(metrics, &family, NULL);
    config.is_halved = is_halved;
    owner = owner_open(&config);
    engine_runtime_measure_gaps(owner->runtime, gaps);
    for (uint32_t i = 0; i < id_count; i++) {
        owner_submit_mixed(owner, ids[i]);
        owner_wait_for_finished(owner, i + 1);
        owner_check(owner, ids[i]);
    }
    owner_close(owner);
    for (size_t i = 0; i <= TD_METRIC_BOUNDS_MAX; i++)
        count += gaps->counts[i];
    td_metrics_free(metrics);
    return count;
}

/* 4 has a prompt of 21 tokens, 16 at once, and wants 5; 12 has one of 3 and wants 13. */
static void gaps_between_steps_are_measured_and_not_pauses(void **state)
{
    const uint64_t ids[] = {4, 12};

    (void)state;
    assert_int_equal(count_gaps(true, ids, 2), 5 + 12);
    assert_int_equal(count_gaps(false, ids, 1), 5);
}

static void a_ring_without_slots_is_refused_by_name(void **state)
{
    struct engine_kv kv = {.fd = -1, .block_count = 8, .block_tokens = 4};
    struct modelled_config model = owner_small.model;
    struct engine_runtime_config config = {.kv = &kv, .wake = owner_on_wake};
    struct engine_runtime *runtime;
    struct td_error error = {0};

    (void)state;
    kv.block_bytes = modelled_block_bytes(&model);
    kv.base = calloc(kv.block_count, kv.block_bytes);
    config.backend = &gate_open(&model, &kv)->backend;
    assert_int_equal(engine_runtime_open(&config, &runtime, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "ring_capacity"));
    config.ring_capacity = 4;
    config.core.step_rows = 1000;
    assert_int_equal(engine_runtime_open(&config, &runtime, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "step_rows"));
    config.backend->ops->close(config.backend);
    free(kv.base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_request_gets_its_tokens_and_one_end),
        cmocka_unit_test(full_rings_lose_nothing_and_stop_nobody),
        cmocka_unit_test(an_owner_that_pops_late_holds_the_engine_back_but_not_for_good),
        cmocka_unit_test(a_step_allocates_nothing_when_it_has_run_for_a_while),
        cmocka_unit_test(stop_ends_every_sequence_in_every_moment),
        cmocka_unit_test(what_was_pushed_before_stop_has_ended_when_it_has_stopped),
        cmocka_unit_test(close_frees_everything_in_every_moment),
        cmocka_unit_test(a_deadline_passes_while_the_thread_sleeps),
        cmocka_unit_test(the_age_of_a_step_tells_that_the_backend_hangs),
        cmocka_unit_test(a_step_that_fails_ends_its_sequences_and_no_other),
        cmocka_unit_test(a_backend_that_is_lost_for_good_is_told_with_its_reason),
        cmocka_unit_test(a_step_in_two_halves_gives_every_request_its_tokens),
        cmocka_unit_test(newcomers_are_looked_at_while_a_device_computes),
        cmocka_unit_test(a_device_begins_the_next_step_before_anybody_hears_of_the_last),
        cmocka_unit_test(steps_that_fail_are_told_even_if_none_follows),
        cmocka_unit_test(gaps_between_steps_are_measured_and_not_pauses),
        cmocka_unit_test(a_ring_without_slots_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
