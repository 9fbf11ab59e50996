/* rig.c: driving a core by hand, and checking what it says; see rig.h. */
#include "tests/engine/rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/time.h"

static const struct td_u128 tenant_root = {.hi = 0x7e4a47, .lo = 1};

/* ---- the sink ---- */

static struct rig_record *record_of(const struct rig *rig, uint64_t id)
{
    assert_in_range(id, 1, RIG_SEQUENCES_MAX - 1);
    return &rig->records[id];
}

static void on_step(struct rig *rig, const struct engine_event *event)
{
    const struct engine_balance *balance = &event->step.load.balance;

    rig->step_events++;
    rig->load = event->step.load;
    assert_int_equal(balance->total, balance->free + balance->cached + balance->running +
                                         balance->reserved + balance->landing + balance->held +
                                         balance->quarantined);
    for (uint32_t i = 0; i < event->step.count; i++) {
        const struct engine_token *token = &event->step.tokens[i];
        struct rig_record *record = record_of(rig, token->sequence);

        assert_true(record->submitted && !record->finished);
        assert_int_not_equal(record->submit.goal, ENGINE_PREFILL);
        assert_int_equal(token->index, record->output_count);
        assert_in_range(record->output_count, 0, RIG_OUTPUT_MAX - 1);
        record->output[record->output_count++] = token->token;
        assert_true((token->logprobs != NULL) == record->submit.sampling.wants_logprobs);
        if (token->logprobs != NULL) {
            record->logprobs_count++;
            record->logprobs = *token->logprobs;
        }
    }
}

static void on_reserved(struct rig_record *record, const struct engine_event *event)
{
    assert_false(record->reserved);
    assert_int_equal(record->submit.goal, ENGINE_IMPORT);
    assert_in_range(event->reserved.count, 1, RIG_BLOCKS_MAX);
    record->reserved = true;
    record->import_count = event->reserved.count;
    record->cached_blocks = event->reserved.cached_blocks;
    memcpy(record->import, event->reserved.blocks,
           event->reserved.count * sizeof record->import[0]);
}

static void on_blocks(struct rig_record *record, const struct engine_event *event)
{
    assert_int_equal(record->submit.goal, ENGINE_PREFILL);
    assert_false(record->prefilled || record->stopped);
    assert_int_equal(event->blocks.first, record->shown_count);
    assert_in_range(event->blocks.first + event->blocks.count, 1, RIG_BLOCKS_MAX);
    memcpy(record->shown + record->shown_count, event->blocks.blocks,
           event->blocks.count * sizeof record->shown[0]);
    record->shown_count += event->blocks.count;
}

static void on_prefilled(struct rig_record *record, const struct engine_event *event)
{
    assert_int_equal(record->submit.goal, ENGINE_PREFILL);
    assert_false(record->prefilled || record->stopped);
    assert_int_equal(event->prefilled.hidden_count, RIG_HIDDEN);
    assert_int_equal(event->prefilled.tail_index, record->shown_count);
    memcpy(record->hidden, event->prefilled.hidden, sizeof record->hidden);
    record->prefilled = true;
    record->tail_tokens = event->prefilled.tail.tokens;
    if (record->tail_tokens > 0)
        record->shown[record->shown_count++] = event->prefilled.tail;
}

static void on_finished(struct rig *rig, struct rig_record *record,
                        const struct engine_event *event)
{
    record->finished = true;
    record->end = event->finished;
    rig->finished_count++;
    assert_int_equal(record->end.new_tokens, record->output_count);
    assert_int_equal(record->end.prompt_tokens, record->submit.token_count);
}

static void on_cache(struct rig *rig, const struct engine_event *event)
{
    assert_true(event->cache.stored_count + event->cache.removed_count > 0);
    for (uint32_t i = 0; i < event->cache.removed_count; i++)
        assert_non_null(td_map_remove(&rig->cached, event->cache.removed[i]));
    for (uint32_t i = 0; i < event->cache.stored_count; i++)
        assert_int_equal(td_map_insert(&rig->cached, event->cache.stored[i], rig), TD_OK);
}

static void on_snapshot(struct rig *rig, const struct engine_event *event)
{
    rig->snapshots++;
    assert_int_equal(event->snapshot.count, rig->cached.count);
    for (uint32_t i = 0; i < event->snapshot.count; i++)
        assert_non_null(td_map_find(&rig->cached, event->snapshot.keys[i]));
}

static void on_sequence(struct rig *rig, const struct engine_event *event)
{
    struct rig_record *record = record_of(rig, event->sequence);

    assert_true(record->submitted);
    assert_false(record->finished); /* FINISHED is the last event */
    switch (event->kind) {
    case ENGINE_RESERVED: on_reserved(record, event); break;
    case ENGINE_BLOCKS: on_blocks(record, event); break;
    case ENGINE_PREFILLED: on_prefilled(record, event); break;
    case ENGINE_FINISHED: on_finished(rig, record, event); break;
    case ENGINE_STOPPED:
        assert_int_equal(record->submit.goal, ENGINE_PREFILL);
        assert_false(record->stopped);
        record->stopped = true;
        record->stopped_status = event->stopped.status;
        break;
    case ENGINE_STEP:
    case ENGINE_CACHE:
    case ENGINE_SNAPSHOT_TAKEN: fail_msg("an event of no sequence");
    }
}

static void emit(void *impl, struct engine_event *event)
{
    struct rig *rig = impl;

    if (event->kind == ENGINE_STEP) {
        on_step(rig, event);
        engine_core_give_tokens(rig->core, event->step.tokens); /* as a runtime does */
        event->step.tokens = NULL;
    } else if (event->kind == ENGINE_CACHE) {
        on_cache(rig, event);
    } else if (event->kind == ENGINE_SNAPSHOT_TAKEN) {
        on_snapshot(rig, event);
    } else {
        on_sequence(rig, event);
    }
    engine_event_fini(event);
}

/* ---- opening and closing ---- */

void rig_open(struct rig *rig, const struct rig_config *config)
{
    struct engine_sink sink = {.impl = rig, .emit = emit};
    struct td_error error = {0};

    *rig = (struct rig){.model = config->model, .now_ns = 1000};
    rig->kv = (struct engine_kv){
        .fd = -1,
        .block_count = config->block_count,
        .block_tokens = modelled_block_tokens(&config->model),
        .block_bytes = modelled_block_bytes(&config->model),
    };
    rig->kv.base = malloc(rig->kv.block_count * rig->kv.block_bytes);
    rig->records = calloc(RIG_SEQUENCES_MAX, sizeof *rig->records);
    assert_true(rig->kv.base != NULL && rig->records != NULL);
    memset(rig->kv.base, 0xa5, rig->kv.block_count * rig->kv.block_bytes); /* old data */
    td_map_init(&rig->cached, config->block_count);
    assert_int_equal(modelled_open(&config->model, &rig->kv, &rig->backend, &error), TD_OK);
    if (engine_core_open(&config->core, rig->backend, &rig->kv, sink, &rig->core, &error) != TD_OK)
        fail_msg("%s", error.text);
}

void rig_close(struct rig *rig)
{
    engine_core_close(rig->core);
    rig->backend->ops->close(rig->backend);
    td_map_fini(&rig->cached);
    for (uint32_t id = 0; id < RIG_SEQUENCES_MAX; id++)
        free(rig->records[id].submit.tokens);
    for (uint32_t id = 0; id < RIG_SEQUENCES_MAX; id++)
        free(rig->records[id].submit.sampling.biases);
    free(rig->records);
    free(rig->kv.base);
}

/* ---- commands ---- */

static uint32_t *copy_tokens(const uint32_t *tokens, uint32_t count)
{
    uint32_t *copy = malloc(count * sizeof *copy + 1);

    assert_non_null(copy);
    memcpy(copy, tokens, count * sizeof *copy);
    return copy;
}

void rig_bias(struct engine_submit *submit, uint32_t token, float value)
{
    struct engine_sampling *sampling = &submit->sampling;

    sampling->biases =
        realloc(sampling->biases, (sampling->bias_count + 1) * sizeof *sampling->biases);
    assert_non_null(sampling->biases);
    sampling->biases[sampling->bias_count++] = (struct engine_bias){token, value};
}

struct engine_submit rig_request(enum engine_goal goal, const uint32_t *tokens, uint32_t count,
                                 uint32_t max_new_tokens)
{
    return (struct engine_submit){
        .goal = goal,
        .tokens = copy_tokens(tokens, count),
        .token_count = count,
        .max_new_tokens = max_new_tokens,
        .root_key = tenant_root,
        .sampling = {.temperature = 0.0f, .top_p = 1.0f},
        .deadline_ns = TD_TIME_NEVER,
    };
}

void rig_submit(struct rig *rig, uint64_t id, const struct engine_submit *submit)
{
    struct rig_record *record = record_of(rig, id);
    struct engine_command command = {.kind = ENGINE_SUBMIT, .sequence = id, .submit = *submit};

    assert_false(record->submitted);
    record->submitted = true;
    record->submit = *submit;
    record->submit.tokens = copy_tokens(submit->tokens, submit->token_count);
    record->submit.sampling.biases = NULL;
    record->submit.sampling.bias_count = 0;
    for (uint32_t i = 0; i < submit->sampling.bias_count; i++)
        rig_bias(&record->submit, submit->sampling.biases[i].token,
                 submit->sampling.biases[i].value);
    engine_core_command(rig->core, &command, rig->now_ns);
    engine_core_audit(rig->core);
}

void rig_start(struct rig *rig, uint64_t id, enum engine_goal goal, uint32_t seed, uint32_t count,
               uint32_t max_new_tokens)
{
    uint32_t tokens[RIG_BLOCKS_MAX * 16];
    struct engine_submit submit;

    assert_in_range(count, 0, RIG_BLOCKS_MAX * 16);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (seed * 31 + i * 7) % rig->backend->info.vocab;
    submit = rig_request(goal, tokens, count, max_new_tokens);
    rig_submit(rig, id, &submit);
}

void rig_send(struct rig *rig, enum engine_command_kind kind, uint64_t id)
{
    struct engine_command command = {.kind = kind, .sequence = id};

    engine_core_command(rig->core, &command, rig->now_ns);
    engine_core_audit(rig->core);
}

void rig_release(struct rig *rig, uint64_t id, bool quarantine)
{
    struct engine_command command = {
        .kind = ENGINE_RELEASE, .sequence = id, .release.quarantine = quarantine};

    engine_core_command(rig->core, &command, rig->now_ns);
    engine_core_audit(rig->core);
}

/* Computes in the smallest pool that holds the prompt, in chunks, with a backend of its own. */
void rig_compute(const struct rig *rig, const uint32_t *tokens, uint32_t count, uint8_t *kv_out,
                 float hidden_out[static RIG_HIDDEN])
{
    uint32_t block_tokens = rig->kv.block_tokens;
    uint32_t blocks = (count + block_tokens - 1) / block_tokens;
    struct engine_kv kv = rig->kv;
    struct engine_backend *backend;
    uint32_t slots[RIG_BLOCKS_MAX];
    struct engine_batch_sequence sequence = {.slots = slots, .slot_count = blocks};
    struct engine_output output = {.row = 0, .want = ENGINE_WANT_HIDDEN};
    struct engine_result result;

    kv.base = kv_out;
    kv.block_count = blocks;
    memset(kv_out, 0, blocks * kv.block_bytes);
    for (uint32_t i = 0; i < blocks; i++)
        slots[i] = i;
    assert_int_equal(modelled_open(&rig->model, &kv, &backend, NULL), TD_OK);
    for (uint32_t position = 0; position < count; position++) {
        struct engine_row row = {.token = tokens[position], .position = position};
        struct engine_batch batch = {.rows = &row,
                                     .row_count = 1,
                                     .sequences = &sequence,
                                     .sequence_count = 1,
                                     .outputs = &output,
                                     .output_count = 1};

        assert_int_equal(backend->ops->run(backend, &batch, &result), TD_OK);
    }
    memcpy(hidden_out, result.outputs[0], RIG_HIDDEN * sizeof(float));
    backend->ops->close(backend);
}

void rig_land(struct rig *rig, uint64_t id)
{
    struct rig_record *record = record_of(rig, id);
    const struct engine_submit *submit = &record->submit;
    size_t block_bytes = rig->kv.block_bytes;
    uint8_t *kv = malloc(RIG_BLOCKS_MAX * block_bytes);
    struct engine_command command = {.kind = ENGINE_LANDED, .sequence = id};
    struct engine_landed *landed = &command.landed;

    assert_true(record->reserved && kv != NULL);
    landed->hidden_count = RIG_HIDDEN;
    landed->hash_count = record->import_count;
    landed->hidden = malloc(RIG_HIDDEN * sizeof *landed->hidden);
    landed->hashes = malloc(record->import_count * sizeof *landed->hashes);
    assert_true(landed->hidden != NULL && landed->hashes != NULL);
    rig_compute(rig, submit->tokens, submit->token_count, kv, landed->hidden);
    for (uint32_t i = 0; i < record->import_count; i++) {
        const uint8_t *from = kv + (record->cached_blocks + i) * block_bytes;

        memcpy(rig->kv.base + record->import[i].slot.index * block_bytes, from, block_bytes);
        landed->hashes[i] = td_hash128(from, block_bytes);
    }
    free(kv);
    engine_core_command(rig->core, &command, rig->now_ns);
    engine_core_audit(rig->core);
}

/* ---- stepping ---- */

bool rig_plan(struct rig *rig)
{
    rig->flying = engine_core_plan(rig->core, rig->now_ns);
    engine_core_audit(rig->core);
    return rig->flying != NULL;
}

void rig_apply(struct rig *rig)
{
    struct engine_result result;

    assert_non_null(rig->flying);
    assert_int_equal(rig->backend->ops->run(rig->backend, rig->flying, &result), TD_OK);
    rig->now_ns += 1000;
    engine_core_apply(rig->core, &result, rig->now_ns);
    rig->flying = NULL;
    engine_core_audit(rig->core);
}

/* The rows may have been written in part: garbage in all of their blocks' rows. */
void rig_fail(struct rig *rig, td_status_t status)
{
    assert_non_null(rig->flying);
    for (uint32_t i = 0; i < rig->flying->row_count; i++) {
        const struct engine_row *row = &rig->flying->rows[i];
        const struct engine_batch_sequence *sequence = &rig->flying->sequences[row->sequence];
        uint32_t slot = sequence->slots[row->position / rig->kv.block_tokens];

        rig->kv.base[slot * rig->kv.block_bytes +
                     row->position % rig->kv.block_tokens * sizeof(uint64_t)] ^= 0x5a;
    }
    rig->now_ns += 1000;
    engine_core_fail(rig->core, status, rig->now_ns);
    rig->flying = NULL;
    engine_core_audit(rig->core);
}

bool rig_step(struct rig *rig)
{
    if (!rig_plan(rig))
        return false;
    rig_apply(rig);
    return true;
}

void rig_run(struct rig *rig)
{
    for (uint32_t steps = 0; rig_step(rig); steps++)
        assert_in_range(steps, 0, 100000);
}

void rig_advance(struct rig *rig, uint64_t ns)
{
    rig->now_ns += ns;
    engine_core_tick(rig->core, rig->now_ns);
    engine_core_audit(rig->core);
}

/* ---- checks ---- */

struct engine_balance rig_balance(struct rig *rig)
{
    struct engine_load load;

    engine_core_load(rig->core, &load);
    return load.balance;
}

void rig_check_output(struct rig *rig, uint64_t id)
{
    struct rig_record *record = record_of(rig, id);
    struct engine_submit submit = record->submit;
    uint32_t expected[RIG_OUTPUT_MAX];
    uint32_t count;
    enum engine_finish reason;

    assert_in_range(submit.max_new_tokens, 1, RIG_OUTPUT_MAX);
    count = modelled_expected_tokens(&rig->model, &submit, expected, &reason);
    assert_in_range(record->output_count, 0, count);
    assert_memory_equal(record->output, expected, record->output_count * sizeof expected[0]);
    if (!record->finished ||
        (record->end.reason != ENGINE_FINISH_STOP && record->end.reason != ENGINE_FINISH_LENGTH))
        return;
    assert_int_equal(record->output_count, count);
    assert_int_equal(record->end.reason, reason);
}

void rig_assert_finished(struct rig *rig, uint64_t id, enum engine_finish reason,
                         td_status_t status)
{
    const struct rig_record *record = record_of(rig, id);

    assert_true(record->finished);
    assert_int_equal(record->end.reason, reason);
    assert_int_equal(record->end.status, status);
}

void rig_check_cache(struct rig *rig)
{
    uint32_t before = rig->snapshots;

    rig_send(rig, ENGINE_SNAPSHOT, 0);
    assert_int_equal(rig->snapshots, before + 1);
}

void rig_check_shown(const struct rig *rig, uint64_t id)
{
    const struct rig_record *record = record_of(rig, id);

    for (uint32_t i = 0; i < record->shown_count; i++) {
        const struct engine_block *block = &record->shown[i];
        const uint8_t *bytes = rig->kv.base + block->slot.index * rig->kv.block_bytes;
        struct td_u128 hash = td_hash128(bytes, rig->kv.block_bytes);

        assert_true(td_u128_equal(hash, block->hash));
    }
}
