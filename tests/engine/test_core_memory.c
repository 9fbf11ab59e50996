/*
 * test_core_memory.c: the core without memory: each allocation of a history fails once, and then all of
 * them for a while. A request may be refused or fail for it; nothing is lost, leaked or wrong.
 *
 * The program is linked with --wrap for the allocator and for the calls into the core, so that only
 * what the core itself allocates can fail.
 */
#include "tests/engine/rig.h"

#include <stdlib.h>

#include "lib/base/map.h"

#define SEQUENCES 9

/* ---- failing allocations ---- */

static bool is_in_core;
static uint64_t allocation_count; /* of the core, in this history */
static uint64_t first_failure;    /* those from here */
static uint64_t failure_count;    /* so many */

static bool fails(void)
{
    uint64_t number;

    if (!is_in_core)
        return false;
    number = allocation_count++;
    return number >= first_failure && number - first_failure < failure_count;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void __real_engine_core_command(struct engine_core *core, struct engine_command *command,
                                uint64_t now_ns);
void __wrap_engine_core_command(struct engine_core *core, struct engine_command *command,
                                uint64_t now_ns);
const struct engine_batch *__real_engine_core_plan(struct engine_core *core, uint64_t now_ns);
const struct engine_batch *__wrap_engine_core_plan(struct engine_core *core, uint64_t now_ns);
void __real_engine_core_apply(struct engine_core *core, const struct engine_result *result,
                              uint64_t now_ns);
void __wrap_engine_core_apply(struct engine_core *core, const struct engine_result *result,
                              uint64_t now_ns);

void __wrap_engine_core_command(struct engine_core *core, struct engine_command *command,
                                uint64_t now_ns)
{
    is_in_core = true;
    __real_engine_core_command(core, command, now_ns);
    is_in_core = false;
}

const struct engine_batch *__wrap_engine_core_plan(struct engine_core *core, uint64_t now_ns)
{
    const struct engine_batch *batch;

    is_in_core = true;
    batch = __real_engine_core_plan(core, now_ns);
    is_in_core = false;
    return batch;
}

void __wrap_engine_core_apply(struct engine_core *core, const struct engine_result *result,
                              uint64_t now_ns)
{
    is_in_core = true;
    __real_engine_core_apply(core, result, now_ns);
    is_in_core = false;
}

/* The rig's own map of keys is written from within the sink: that may not fail. */
static const struct td_map *rig_map;

td_status_t __real_td_map_insert(struct td_map *map, struct td_u128 key, void *value);
td_status_t __wrap_td_map_insert(struct td_map *map, struct td_u128 key, void *value);

td_status_t __wrap_td_map_insert(struct td_map *map, struct td_u128 key, void *value)
{
    bool was_in_core = is_in_core;
    td_status_t status;

    is_in_core = was_in_core && map != rig_map;
    status = __real_td_map_insert(map, key, value);
    is_in_core = was_in_core;
    return status;
}

/* ---- a history ---- */

static const struct rig_config config = {
    .model = {.vocab = 61, .block_tokens = 4, .max_context = 64, .rows_max = 16, .outputs_max = 4},
    .block_count = 20,
};

/* What a worker would answer to what was said. */
static void answer(struct rig *rig, bool *answered)
{
    for (uint64_t id = 1; id <= SEQUENCES; id++) {
        struct rig_record *record = &rig->records[id];

        if (answered[id] || record->finished)
            continue;
        if (record->reserved) {
            answered[id] = true;
            rig_send(rig, ENGINE_ASKED, id);
            rig_land(rig, id);
        } else if (record->prefilled || record->stopped) {
            answered[id] = true;
            rig_release(rig, id, false);
        }
    }
}

static void check_end(struct rig *rig, uint64_t id)
{
    const struct rig_record *record = &rig->records[id];

    assert_true(record->finished);
    rig_check_output(rig, id);
    if (record->end.reason == ENGINE_FINISH_FAILED || record->end.reason == ENGINE_FINISH_REFUSED) {
        assert_int_equal(record->end.status, TD_NO_MEMORY);
        assert_int_not_equal(failure_count, 0);
    }
}

static void run_history(struct rig *rig)
{
    bool answered[SEQUENCES + 1] = {false};

    for (uint64_t id = 1; id <= SEQUENCES; id++) {
        static const enum engine_goal goals[] = {ENGINE_GENERATE, ENGINE_IMPORT, ENGINE_PREFILL};

        rig_start(rig, id, goals[id % 3], (uint32_t)(id / 3), 11 + (uint32_t)(id % 3),
                  id % 3 == 2 ? 1 : 9);
        if (id % 2 == 0)
            rig_step(rig);
        answer(rig, answered);
    }
    rig_send(rig, ENGINE_SNAPSHOT, 0);
    for (uint32_t steps = 0; rig_step(rig); steps++) {
        assert_in_range(steps, 0, 1000);
        answer(rig, answered);
    }
}

/* Returns how often the core allocated. */
static uint64_t check_history(uint64_t first, uint64_t count)
{
    struct rig rig;
    struct engine_balance balance;
    uint64_t allocations;

    rig_open(&rig, &config);
    rig_map = &rig.cached;
    allocation_count = 0;
    first_failure = first;
    failure_count = count;
    run_history(&rig);
    allocations = allocation_count;
    for (uint64_t id = 1; id <= SEQUENCES; id++)
        check_end(&rig, id);
    failure_count = 0;
    rig_start(&rig, SEQUENCES + 1, ENGINE_GENERATE, 99, 9, 5); /* memory is back, and all is well */
    rig_run(&rig);
    check_end(&rig, SEQUENCES + 1);
    assert_true(rig.snapshots >= 1); /* what there was no memory for has been made up for */
    rig_check_cache(&rig);
    balance = rig_balance(&rig);
    assert_int_equal(balance.free + balance.cached, balance.total);
    rig_close(&rig);
    return allocations;
}

static void every_allocation_may_fail_once(void **state)
{
    uint64_t allocations = check_history(0, 0);

    (void)state;
    assert_true(allocations > 40);
    for (uint64_t number = 0; number < allocations; number++)
        check_history(number, 1);
}

static void memory_may_be_gone_for_a_while(void **state)
{
    uint64_t allocations = check_history(0, 0);

    (void)state;
    for (uint64_t number = 0; number < allocations; number += 3) {
        check_history(number, 2);
        check_history(number, 7);
        check_history(number, UINT64_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail_once),
        cmocka_unit_test(memory_may_be_gone_for_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
