/*
 * test_runtime.c: the engine on its thread, over the modelled backend: what is said comes out whatever
 * the rings hold, in every moment of stopping, and steps allocate nothing.
 *
 * The owner here does what a loop does: it pops until there is nothing, pushes what it has kept, and
 * sleeps until it is woken. A wake that is missing ends a test after a minute. The program is linked with
 * --wrap for malloc and calloc, so that it can count them.
 */
#include "tests/support/support.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/modelled/modelled.h"
#include "engine/runtime.h"
#include "lib/base/metrics.h"
#include "lib/base/time.h"

#define SEQUENCES_MAX 600
#define OUTPUT_MAX    512
#define PENDING_MAX   2048
#define PATIENCE_SEC  60

static const struct td_u128 tenant_root = {.hi = 0x7e4a47, .lo = 1};

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

/* ---- a backend that can be held, made to fail, and counts ---- */

struct gate {
    struct engine_backend backend;
    struct engine_backend *inner;
    atomic_uint runs;
    atomic_uint failures; /* the next runs fail */
    atomic_bool holds;    /* each run posts entered and waits for go */
    sem_t entered;
    sem_t go;
    atomic_bool is_lost;
    atomic_bool keeps; /* finish waits for kept */
    sem_t kept;
    struct engine_result result; /* between begin and finish */
};

static td_status_t gate_run(struct engine_backend *backend, const struct engine_batch *batch,
                            struct engine_result *result_out)
{
    struct gate *gate = (struct gate *)backend;

    atomic_fetch_add(&gate->runs, 1);
    if (atomic_load(&gate->holds)) {
        sem_post(&gate->entered);
        while (sem_wait(&gate->go) != 0)
            ;
    }
    if (atomic_load(&gate->failures) > 0) {
        atomic_fetch_sub(&gate->failures, 1);
        return TD_IO;
    }
    return gate->inner->ops->run(gate->inner, batch, result_out);
}

static void gate_close(struct engine_backend *backend)
{
    struct gate *gate = (struct gate *)backend;

    gate->inner->ops->close(gate->inner);
    sem_destroy(&gate->entered);
    sem_destroy(&gate->go);
    sem_destroy(&gate->kept);
    free(gate);
}

static const char *gate_lost(const struct engine_backend *backend)
{
    return atomic_load(&((const struct gate *)backend)->is_lost) ? "it fell off the bus" : NULL;
}

static td_status_t gate_begin(struct engine_backend *backend, const struct engine_batch *batch)
{
    return gate_run(backend, batch, &((struct gate *)backend)->result);
}

static td_status_t gate_finish(struct engine_backend *backend, struct engine_result *result_out)
{
    struct gate *gate = (struct gate *)backend;

    while (atomic_load(&gate->keeps) && sem_wait(&gate->kept) != 0)
        ;
    *result_out = gate->result;
    return TD_OK;
}

static const struct engine_backend_ops gate_ops = {
    .name = "gate", .run = gate_run, .close = gate_close, .lost = gate_lost};

/* In two halves, as of a device that computes while the engine thread does something else. */
static const struct engine_backend_ops halves_ops = {
    .name = "halves", .close = gate_close, .begin = gate_begin, .finish = gate_finish};

static struct gate *gate_open(const struct modelled_config *model, const struct engine_kv *kv)
{
    struct gate *gate = calloc(1, sizeof *gate);

    assert_non_null(gate);
    assert_int_equal(modelled_open(model, kv, &gate->inner, NULL), TD_OK);
    gate->backend = *gate->inner;
    gate->backend.ops = &gate_ops;
    sem_init(&gate->entered, 0, 0);
    sem_init(&gate->go, 0, 0);
    sem_init(&gate->kept, 0, 0);
    return gate;
}

/* ---- the owner ---- */

struct record {
    bool submitted;
    bool finished;
    struct engine_submit submit; /* tokens are the record's own */
    uint32_t output[OUTPUT_MAX];
    uint32_t output_count;
    struct engine_finished end;
};

struct owner {
    struct modelled_config model;
    struct engine_kv kv;
    struct gate *gate;
    struct engine_runtime *runtime;
    size_t ring_slots;
    sem_t woken;
    struct record *records; /* by sequence id */
    uint32_t finished_count;
    uint32_t submitted_count;
    uint32_t step_events;
    uint32_t events;
    bool is_silent; /* answers no event: whatever waits for a release goes on waiting */
    struct engine_load load;
    struct engine_command pending[PENDING_MAX]; /* those for which the ring had no room */
    uint32_t pending_count;
    uint32_t pending_first;
};

static void on_wake(void *impl)
{
    struct owner *owner = impl;

    sem_post(&owner->woken);
}

struct owner_config {
    struct modelled_config model;
    uint32_t block_count;
    size_t ring_capacity;
    bool is_halved;
};

static struct owner *owner_open(const struct owner_config *config)
{
    struct owner *owner = calloc(1, sizeof *owner);
    struct engine_runtime_config runtime = {
        .ring_capacity = config->ring_capacity, .wake = on_wake, .wake_impl = owner};
    struct td_error error = {0};

    assert_non_null(owner);
    owner->model = config->model;
    owner->records = calloc(SEQUENCES_MAX, sizeof *owner->records);
    owner->kv = (struct engine_kv){.fd = -1,
                                   .block_count = config->block_count,
                                   .block_tokens = modelled_block_tokens(&config->model),
                                   .block_bytes = modelled_block_bytes(&config->model)};
    owner->kv.base = calloc(owner->kv.block_count, owner->kv.block_bytes);
    assert_true(owner->records != NULL && owner->kv.base != NULL);
    owner->ring_slots = 2;
    while (owner->ring_slots < config->ring_capacity)
        owner->ring_slots *= 2;
    owner->gate = gate_open(&config->model, &owner->kv);
    if (config->is_halved)
        owner->gate->backend.ops = &halves_ops;
    sem_init(&owner->woken, 0, 0);
    runtime.backend = &owner->gate->backend;
    runtime.kv = &owner->kv;
    if (engine_runtime_open(&runtime, &owner->runtime, &error) != TD_OK)
        fail_msg("%s", error.text);
    return owner;
}

static void owner_close(struct owner *owner)
{
    engine_runtime_close(owner->runtime);
    for (uint32_t i = owner->pending_first; i < owner->pending_count; i++)
        engine_command_fini(&owner->pending[i]);
    for (uint32_t id = 0; id < SEQUENCES_MAX; id++)
        free(owner->records[id].submit.tokens);
    sem_destroy(&owner->woken);
    free(owner->kv.base);
    free(owner->records);
    free(owner);
}

static void flush_pending(struct owner *owner)
{
    while (owner->pending_first < owner->pending_count) {
        td_status_t status =
            engine_runtime_push(owner->runtime, &owner->pending[owner->pending_first]);

        if (status == TD_LIMIT)
            return;
        assert_int_equal(status, TD_OK);
        owner->pending_first++;
    }
    owner->pending_first = 0;
    owner->pending_count = 0;
}

static void send(struct owner *owner, const struct engine_command *command)
{
    assert_in_range(owner->pending_count, 0, PENDING_MAX - 1);
    owner->pending[owner->pending_count++] = *command;
    flush_pending(owner);
}

static void send_kind(struct owner *owner, enum engine_command_kind kind, uint64_t id)
{
    struct engine_command command = {.kind = kind, .sequence = id};

    send(owner, &command);
}

/* Something that is not what was reserved, so that the engine computes it; its arrays must be freed. */
static void send_senseless_landing(struct owner *owner, uint64_t id)
{
    struct engine_command command = {.kind = ENGINE_LANDED, .sequence = id};

    command.landed.hidden = calloc(1, sizeof(float));
    command.landed.hashes = calloc(1, sizeof(struct td_u128));
    command.landed.hidden_count = 1;
    command.landed.hash_count = 1;
    send(owner, &command);
}

static void on_step(struct owner *owner, const struct engine_event *event)
{
    owner->step_events++;
    owner->load = event->step.load;
    for (uint32_t i = 0; i < event->step.count; i++) {
        const struct engine_token *token = &event->step.tokens[i];
        struct record *record = &owner->records[token->sequence];

        assert_true(record->submitted && !record->finished);
        assert_int_equal(token->index, record->output_count);
        assert_in_range(token->index, 0, OUTPUT_MAX - 1);
        record->output[record->output_count++] = token->token;
    }
}

static void on_finished(struct owner *owner, const struct engine_event *event)
{
    struct record *record = &owner->records[event->sequence];

    assert_true(record->submitted && !record->finished);
    record->finished = true;
    record->end = event->finished;
    owner->finished_count++;
}

static void answer(struct owner *owner, const struct engine_event *event)
{
    uint64_t id = event->sequence;

    if (owner->is_silent)
        return;
    if (event->kind == ENGINE_PREFILLED || event->kind == ENGINE_STOPPED)
        send_kind(owner, ENGINE_RELEASE, id);
    if (event->kind == ENGINE_RESERVED) {
        send_kind(owner, ENGINE_ASKED, id);
        if (id % 8 == 2)
            send_senseless_landing(owner, id);
        else
            send_kind(owner, ENGINE_RELEASE, id);
    }
}

/* One event; false if there is none. */
static bool pump(struct owner *owner)
{
    struct engine_event event;

    if (!engine_runtime_pop(owner->runtime, &event))
        return false;
    owner->events++;
    if (event.kind == ENGINE_STEP)
        on_step(owner, &event);
    else if (event.kind == ENGINE_FINISHED)
        on_finished(owner, &event);
    else if (event.kind != ENGINE_CACHE && event.kind != ENGINE_SNAPSHOT_TAKEN)
        answer(owner, &event);
    engine_event_fini(&event);
    /*
     * Back-pressure: each run says at least a STEP, so what ran and was not popped is in the ring, but
     * for the run that found it full, and the one that is going on.
     */
    assert_in_range(atomic_load(&owner->gate->runs), 0, owner->step_events + owner->ring_slots + 2);
    return true;
}

static void sleep_until_woken(struct owner *owner)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PATIENCE_SEC;
    while (sem_timedwait(&owner->woken, &limit) != 0)
        if (errno == ETIMEDOUT)
            fail_msg("nobody wakes the owner: %u of %u finished, %u events", owner->finished_count,
                     owner->submitted_count, owner->events);
}

static void wait_for_finished(struct owner *owner, uint32_t count)
{
    for (;;) {
        while (pump(owner))
            ;
        flush_pending(owner);
        if (owner->finished_count >= count)
            return;
        sleep_until_woken(owner);
    }
}

/* ---- requests ---- */

static uint32_t *copy_tokens(const uint32_t *tokens, uint32_t count)
{
    uint32_t *copy = malloc(count * sizeof *copy);

    assert_non_null(copy);
    memcpy(copy, tokens, count * sizeof *copy);
    return copy;
}

static void submit(struct owner *owner, uint64_t id, const struct engine_submit *request)
{
    struct engine_command command = {.kind = ENGINE_SUBMIT, .sequence = id, .submit = *request};
    struct record *record = &owner->records[id];

    record->submit = *request;
    record->submit.tokens = copy_tokens(request->tokens, request->token_count);
    record->submitted = true;
    owner->submitted_count++;
    send(owner, &command);
}

/* A prompt that shares its beginning with every third other. */
static struct engine_submit request_of(struct owner *owner, uint64_t id, enum engine_goal goal,
                                       uint32_t tokens, uint32_t max_new_tokens)
{
    struct engine_submit request = {.goal = goal,
                                    .token_count = tokens,
                                    .max_new_tokens = max_new_tokens,
                                    .root_key = tenant_root,
                                    .sampling = {.top_p = 1.0f, .seed = id},
                                    .deadline_ns = TD_TIME_NEVER};

    request.tokens = malloc(tokens * sizeof *request.tokens);
    assert_non_null(request.tokens);
    for (uint32_t i = 0; i < tokens; i++)
        request.tokens[i] = (uint32_t)(id % 3 * 131 + i * 7) % owner->gate->backend.info.vocab;
    request.tokens[tokens - 1] = (uint32_t)id % owner->gate->backend.info.vocab;
    if (id % 2 == 1)
        request.sampling.temperature = 0.8f;
    return request;
}

static void submit_mixed(struct owner *owner, uint64_t id)
{
    static const enum engine_goal goals[] = {ENGINE_GENERATE, ENGINE_GENERATE, ENGINE_IMPORT,
                                             ENGINE_PREFILL};
    struct engine_submit request =
        request_of(owner, id, goals[id % 4], 1 + (uint32_t)(id * 5 % 29), 1 + (uint32_t)(id % 17));

    submit(owner, id, &request);
}

static void check_record(struct owner *owner, uint64_t id)
{
    const struct record *record = &owner->records[id];
    struct engine_submit request = record->submit;
    uint32_t expected[OUTPUT_MAX];
    enum engine_finish reason;
    uint32_t count;

    if (record->end.reason == ENGINE_FINISH_RELEASED) {
        assert_int_equal(request.goal, ENGINE_PREFILL);
        return;
    }
    count = modelled_expected_tokens(&owner->model, &request, expected, &reason);
    assert_in_range(record->output_count, 0, count);
    assert_memory_equal(record->output, expected, record->output_count * sizeof expected[0]);
    if (record->end.reason == ENGINE_FINISH_CANCELED)
        return;
    assert_int_equal(record->end.reason, reason);
    assert_int_equal(record->output_count, count);
}

/* While the gate holds: waits until a step has begun. */
static void wait_until_entered(struct owner *owner)
{
    while (sem_wait(&owner->gate->entered) != 0)
        ;
}

static void let_go(struct owner *owner)
{
    atomic_store(&owner->gate->holds, false);
    sem_post(&owner->gate->go);
}

static const struct owner_config small = {
    .model = {.vocab = 61, .block_tokens = 4, .max_context = 64, .rows_max = 16, .outputs_max = 8},
    .block_count = 64,
    .ring_capacity = 256,
};

/* ---- tests ---- */

static void run_mixed(const struct owner_config *config, uint32_t count)
{
    struct owner *owner = owner_open(config);

    for (uint64_t id = 1; id <= count; id++)
        submit_mixed(owner, id);
    wait_for_finished(owner, count);
    for (uint64_t id = 1; id <= count; id++) {
        assert_int_not_equal(owner->records[id].end.reason, ENGINE_FINISH_CANCELED);
        check_record(owner, id);
    }
    owner_close(owner);
}

static void every_request_gets_its_tokens_and_one_end(void **state)
{
    (void)state;
    run_mixed(&small, 300);
}

static void full_rings_lose_nothing_and_stop_nobody(void **state)
{
    struct owner_config config = small;

    (void)state;
    config.ring_capacity = 1;
    run_mixed(&config, 300);
}

static void an_owner_that_pops_late_holds_the_engine_back_but_not_for_good(void **state)
{
    struct owner_config config = small;
    struct owner *owner;

    (void)state;
    config.ring_capacity = 4;
    owner = owner_open(&config);
    for (uint64_t id = 1; id <= 40; id++)
        submit_mixed(owner, id);
    while (owner->finished_count < 40) { /* pump asserts how far the engine can have come */
        if (!pump(owner)) {
            flush_pending(owner);
            sleep_until_woken(owner);
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
    struct engine_submit request = request_of(owner, 1, ENGINE_GENERATE, 2, 250);
    const struct record *record = &owner->records[1];
    uint32_t before = 0;
    uint32_t after = 0;

    (void)state;
    submit(owner, 1, &request);
    while (!record->finished) {
        while (pump(owner)) {
            before = record->output_count == 30 ? atomic_load(&allocations) : before;
            after = record->output_count == 230 ? atomic_load(&allocations) : after;
        }
        if (!record->finished)
            sleep_until_woken(owner);
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
        struct owner_config config = small;
        struct owner *owner;

        config.ring_capacity = moment % 2 == 0 ? 1 : 64;
        owner = owner_open(&config);
        owner->is_silent = moment % 3 == 0;
        for (uint64_t id = 1; id <= 12; id++)
            submit_mixed(owner, id);
        for (uint32_t i = 0; i < moment && pump(owner); i++)
            ;
        engine_runtime_stop(owner->runtime);
        wait_for_finished(owner, 12);
        submit_mixed(owner, 13); /* whoever comes too late hears of it all the same */
        wait_for_finished(owner, 13);
        assert_int_equal(owner->records[13].end.reason, ENGINE_FINISH_CANCELED);
        while (!engine_runtime_has_stopped(owner->runtime)) {
            sleep_until_woken(owner);
            while (pump(owner))
                ;
        }
        for (uint64_t id = 1; id <= 13; id++)
            check_record(owner, id);
        owner_close(owner);
    }
}

static void what_was_pushed_before_stop_has_ended_when_it_has_stopped(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 30; round++) {
        struct owner_config config = small;
        struct owner *owner;

        config.ring_capacity = 1024;
        owner = owner_open(&config);
        atomic_store(&owner->gate->holds, true);
        submit_mixed(owner, 1);
        wait_until_entered(owner); /* a step runs: all that follows is pushed before its end */
        for (uint64_t id = 2; id <= 400; id++)
            submit_mixed(owner, id);
        engine_runtime_stop(owner->runtime);
        let_go(owner);
        while (!engine_runtime_has_stopped(owner->runtime))
            sleep_until_woken(owner);
        while (pump(owner))
            ;
        assert_int_equal(owner->finished_count, 400);
        owner_close(owner);
    }
}

static void close_frees_everything_in_every_moment(void **state)
{
    (void)state;
    for (uint32_t moment = 0; moment < 60; moment++) {
        struct owner_config config = small;
        struct owner *owner;

        config.ring_capacity = moment % 2 == 0 ? 1 : 64;
        owner = owner_open(&config);
        for (uint64_t id = 1; id <= 12; id++)
            submit_mixed(owner, id);
        for (uint32_t i = 0; i < moment && pump(owner); i++)
            ;
        owner_close(owner);
    }
}

static void a_deadline_passes_while_the_thread_sleeps(void **state)
{
    struct owner *owner = owner_open(&small);
    struct engine_submit late;

    (void)state;
    owner->is_silent = true; /* the held blocks are not released */
    for (uint64_t id = 1; id <= 4; id++) {
        struct engine_submit holder = request_of(owner, id, ENGINE_PREFILL, 64, 0);

        holder.tokens[0] = (uint32_t)id; /* nothing to share */
        submit(owner, id, &holder);
    }
    late = request_of(owner, 5, ENGINE_GENERATE, 40, 4);
    late.tokens[0] = 5;
    late.deadline_ns = td_now_ns() + 30 * TD_NS_PER_MS;
    submit(owner, 5, &late);
    wait_for_finished(owner, 1);
    assert_true(owner->records[5].finished);
    assert_int_equal(owner->records[5].end.reason, ENGINE_FINISH_FAILED);
    assert_int_equal(owner->records[5].end.status, TD_TIMEOUT);
    owner_close(owner);
}

static void the_age_of_a_step_tells_that_the_backend_hangs(void **state)
{
    struct owner *owner = owner_open(&small);
    uint64_t age;

    (void)state;
    while (engine_runtime_step_age_ns(owner->runtime) != 0)
        ; /* its first turn, without work */
    atomic_store(&owner->gate->holds, true);
    submit_mixed(owner, 4);
    wait_until_entered(owner);
    do
        age = engine_runtime_step_age_ns(owner->runtime);
    while (age == 0); /* the clock may stand still between two looks */
    while (engine_runtime_step_age_ns(owner->runtime) <= age)
        ;
    let_go(owner);
    wait_for_finished(owner, 1);
    while (engine_runtime_step_age_ns(owner->runtime) != 0)
        ;
    owner_close(owner);
}

static void a_step_that_fails_ends_its_sequences_and_no_other(void **state)
{
    struct owner *owner = owner_open(&small);

    (void)state;
    atomic_store(&owner->gate->failures, 1);
    submit_mixed(owner, 4);
    wait_for_finished(owner, 1);
    assert_int_equal(owner->records[4].end.reason, ENGINE_FINISH_FAILED);
    assert_int_equal(owner->records[4].end.status, TD_IO);
    submit_mixed(owner, 5);
    wait_for_finished(owner, 2);
    check_record(owner, 5);
    owner_close(owner);
}

static void a_backend_that_is_lost_for_good_is_told_with_its_reason(void **state)
{
    struct owner *owner = owner_open(&small);

    (void)state;
    atomic_store(&owner->gate->failures, 1);
    submit_mixed(owner, 4);
    wait_for_finished(owner, 1);
    assert_null(engine_runtime_lost(owner->runtime)); /* a step failed, that is all */
    atomic_store(&owner->gate->is_lost, true);
    atomic_store(&owner->gate->failures, 1);
    submit_mixed(owner, 5);
    wait_for_finished(owner, 2); /* told before the sequences end */
    assert_string_equal(engine_runtime_lost(owner->runtime), "it fell off the bus");
    owner_close(owner);
}

static void a_step_in_two_halves_gives_every_request_its_tokens(void **state)
{
    struct owner_config config = small;

    (void)state;
    config.is_halved = true;
    run_mixed(&config, 60);
    config.ring_capacity = 2;
    run_mixed(&config, 30);
}

static void newcomers_are_looked_at_while_a_device_computes(void **state)
{
    struct owner_config config = small;
    struct engine_submit senseless;
    struct owner *owner;

    (void)state;
    config.is_halved = true;
    owner = owner_open(&config);
    atomic_store(&owner->gate->holds, true);
    atomic_store(&owner->gate->keeps, true);
    submit_mixed(owner, 4);
    wait_until_entered(owner);
    senseless = request_of(owner, 5, ENGINE_GENERATE, 4, 4);
    senseless.tokens[0] = config.model.vocab;
    submit(owner, 5, &senseless);
    let_go(owner);
    wait_for_finished(owner, 1); /* the step has not */
    assert_int_equal(owner->records[5].end.status, TD_INVALID);
    assert_false(owner->records[4].finished);
    atomic_store(&owner->gate->keeps, false);
    sem_post(&owner->gate->kept);
    wait_for_finished(owner, 2);
    check_record(owner, 4);
    owner_close(owner);
}

static void a_device_begins_the_next_step_before_anybody_hears_of_the_last(void **state)
{
    struct owner_config config = small;
    struct engine_submit request;
    struct owner *owner;

    (void)state;
    config.is_halved = true;
    owner = owner_open(&config);
    atomic_store(&owner->gate->holds, true);
    request = request_of(owner, 4, ENGINE_GENERATE, 4, 5);
    submit(owner, 4, &request);
    wait_until_entered(owner);
    sem_post(&owner->gate->go);
    wait_until_entered(owner); /* the second begins: the first has given a token */
    while (pump(owner))
        ;
    assert_int_equal(owner->records[4].output_count, 0);
    atomic_store(&owner->gate->keeps, true);
    let_go(owner);
    while (owner->records[4].output_count == 0)
        if (!pump(owner))
            sleep_until_woken(owner);
    assert_int_equal(owner->records[4].output_count, 1); /* the second runs */
    atomic_store(&owner->gate->keeps, false);
    sem_post(&owner->gate->kept);
    wait_for_finished(owner, 1);
    check_record(owner, 4);
    owner_close(owner);
}

static void steps_that_fail_are_told_even_if_none_follows(void **state)
{
    struct owner_config config = small;
    struct owner *owner;

    (void)state;
    config.is_halved = true;
    owner = owner_open(&config);
    for (uint64_t id = 4; id <= 80; id += 4) {
        atomic_store(&owner->gate->failures, 1);
        submit_mixed(owner, id);
        wait_for_finished(owner, (uint32_t)id / 4);
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
    struct owner_config config = small;
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
        submit_mixed(owner, ids[i]);
        wait_for_finished(owner, i + 1);
        check_record(owner, ids[i]);
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
    struct modelled_config model = small.model;
    struct engine_runtime_config config = {.kv = &kv, .wake = on_wake};
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
