/* runtime_owner.c: see runtime_owner.h. */
#include "tests/engine/runtime_owner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/time.h"

#define PATIENCE_SEC 60

static const struct td_u128 tenant_root = {.hi = 0x7e4a47, .lo = 1};

/* ---- a backend that can be held, made to fail, and counts ---- */

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

struct gate *gate_open(const struct modelled_config *model, const struct engine_kv *kv)
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

void owner_on_wake(void *impl)
{
    struct owner *owner = impl;

    sem_post(&owner->woken);
}

struct owner *owner_open(const struct owner_config *config)
{
    struct owner *owner = calloc(1, sizeof *owner);
    struct engine_runtime_config runtime = {
        .ring_capacity = config->ring_capacity, .wake = owner_on_wake, .wake_impl = owner};
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

void owner_close(struct owner *owner)
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

void owner_flush(struct owner *owner)
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

void owner_send(struct owner *owner, const struct engine_command *command)
{
    assert_in_range(owner->pending_count, 0, PENDING_MAX - 1);
    owner->pending[owner->pending_count++] = *command;
    owner_flush(owner);
}

void owner_send_kind(struct owner *owner, enum engine_command_kind kind, uint64_t id)
{
    struct engine_command command = {.kind = kind, .sequence = id};

    owner_send(owner, &command);
}

/* Something that is not what was reserved, so that the engine computes it; its arrays must be freed. */
static void send_senseless_landing(struct owner *owner, uint64_t id)
{
    struct engine_command command = {.kind = ENGINE_LANDED, .sequence = id};

    command.landed.hidden = calloc(1, sizeof(float));
    command.landed.hashes = calloc(1, sizeof(struct td_u128));
    command.landed.hidden_count = 1;
    command.landed.hash_count = 1;
    owner_send(owner, &command);
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
        owner_send_kind(owner, ENGINE_RELEASE, id);
    if (event->kind == ENGINE_RESERVED) {
        owner_send_kind(owner, ENGINE_ASKED, id);
        if (id % 8 == 2)
            send_senseless_landing(owner, id);
        else
            owner_send_kind(owner, ENGINE_RELEASE, id);
    }
}

/* One event; false if there is none. */
bool owner_pump(struct owner *owner)
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

void owner_sleep(struct owner *owner)
{
    struct timespec limit;

    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += PATIENCE_SEC;
    while (sem_timedwait(&owner->woken, &limit) != 0)
        if (errno == ETIMEDOUT)
            fail_msg("nobody wakes the owner: %u of %u finished, %u events", owner->finished_count,
                     owner->submitted_count, owner->events);
}

void owner_wait_for_finished(struct owner *owner, uint32_t count)
{
    for (;;) {
        while (owner_pump(owner))
            ;
        owner_flush(owner);
        if (owner->finished_count >= count)
            return;
        owner_sleep(owner);
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

void owner_submit(struct owner *owner, uint64_t id, const struct engine_submit *request)
{
    struct engine_command command = {.kind = ENGINE_SUBMIT, .sequence = id, .submit = *request};
    struct record *record = &owner->records[id];

    record->submit = *request;
    record->submit.tokens = copy_tokens(request->tokens, request->token_count);
    record->submitted = true;
    owner->submitted_count++;
    owner_send(owner, &command);
}

/* A prompt that shares its beginning with every third other. */
struct engine_submit owner_request(struct owner *owner, uint64_t id, enum engine_goal goal,
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

void owner_submit_mixed(struct owner *owner, uint64_t id)
{
    static const enum engine_goal goals[] = {ENGINE_GENERATE, ENGINE_GENERATE, ENGINE_IMPORT,
                                             ENGINE_PREFILL};
    struct engine_submit request = owner_request(
        owner, id, goals[id % 4], 1 + (uint32_t)(id * 5 % 29), 1 + (uint32_t)(id % 17));

    owner_submit(owner, id, &request);
}

void owner_check(struct owner *owner, uint64_t id)
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
void owner_wait_until_entered(struct owner *owner)
{
    while (sem_wait(&owner->gate->entered) != 0)
        ;
}

void owner_let_go(struct owner *owner)
{
    atomic_store(&owner->gate->holds, false);
    sem_post(&owner->gate->go);
}

const struct owner_config owner_small = {
    .model = {.vocab = 61, .block_tokens = 4, .max_context = 64, .rows_max = 16, .outputs_max = 8},
    .block_count = 64,
    .ring_capacity = 256,
};
