/* cpu_core.c: see cpu_core.h. */
#include "tests/engine/cpu_core.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/time.h"

/* ---- the sink ---- */

/* The tokens of a step are in the order of the outputs with logits. */
static void on_step(struct cpu_core *core, const struct engine_event *event)
{
    size_t bytes = core->rig.backend->info.vocab * sizeof(float);

    core->load = event->step.load;
    if (event->step.count == 0)
        return;
    assert_int_equal(event->step.count, core->drawn_count);
    for (uint32_t i = 0; i < event->step.count; i++) {
        const struct engine_token *token = &event->step.tokens[i];
        struct transcript *transcript = &core->transcripts[token->sequence];

        assert_int_equal(token->index, transcript->count);
        assert_in_range(token->index, 0, CPU_CORE_OUTPUT_MAX - 1);
        transcript->tokens[token->index] = token->token;
        transcript->logits[token->index] = td_hash128(core->drawn_from[i], bytes);
        transcript->count++;
    }
}

static void add_to_parcel(struct parcel *parcel, const struct engine_block *blocks, uint32_t count)
{
    assert_in_range(parcel->block_count + count, 0, CPU_CORE_BLOCKS_MAX);
    memcpy(parcel->blocks + parcel->block_count, blocks, count * sizeof *blocks);
    parcel->block_count += count;
}

/* Copies the blocks while they are held. */
static void on_prefilled(struct cpu_core *core, const struct engine_event *event)
{
    struct parcel *parcel = &core->parcels[event->sequence];
    size_t block_bytes = core->rig.kv.block_bytes;
    size_t hidden_bytes = event->prefilled.hidden_count * sizeof(float);

    if (event->prefilled.tail.tokens > 0)
        add_to_parcel(parcel, &event->prefilled.tail, 1);
    parcel->bytes = malloc(parcel->block_count * block_bytes);
    parcel->hidden = malloc(hidden_bytes);
    assert_true(parcel->bytes != NULL && parcel->hidden != NULL);
    memcpy(parcel->hidden, event->prefilled.hidden, hidden_bytes);
    for (uint32_t i = 0; i < parcel->block_count; i++)
        memcpy(parcel->bytes + i * block_bytes,
               core->rig.kv.base + parcel->blocks[i].slot.index * block_bytes, block_bytes);
}

static void on_reserved(struct cpu_core *core, const struct engine_event *event)
{
    assert_in_range(event->reserved.count, 1, CPU_CORE_BLOCKS_MAX);
    memcpy(core->reserved, event->reserved.blocks, event->reserved.count * sizeof *core->reserved);
    core->reserved_count = event->reserved.count;
    core->reserved_cached = event->reserved.cached_blocks;
}

static void on_finished(struct cpu_core *core, const struct engine_event *event)
{
    struct transcript *transcript = &core->transcripts[event->sequence];

    assert_int_equal(event->finished.status, TD_OK);
    transcript->cached_tokens = event->finished.cached_tokens;
    transcript->finished = true;
}

static void emit(void *impl, struct engine_event *event)
{
    struct cpu_core *core = impl;

    switch (event->kind) {
    case ENGINE_STEP: on_step(core, event); break;
    case ENGINE_RESERVED: on_reserved(core, event); break;
    case ENGINE_BLOCKS:
        add_to_parcel(&core->parcels[event->sequence], event->blocks.blocks, event->blocks.count);
        break;
    case ENGINE_PREFILLED: on_prefilled(core, event); break;
    case ENGINE_FINISHED: on_finished(core, event); break;
    case ENGINE_STOPPED: fail_msg("stopped: %s", td_status_text(event->stopped.status)); break;
    case ENGINE_CACHE:
    case ENGINE_SNAPSHOT_TAKEN: break;
    }
    engine_event_fini(event);
}

/* ---- driving ---- */

void cpu_core_open(struct cpu_core *core, const struct cpu_core_config *config)
{
    struct engine_sink sink = {.impl = core, .emit = emit};
    struct td_error error = {0};

    memset(core, 0, sizeof *core);
    core->now_ns = 1000;
    cpu_rig_open_file(&core->rig, config->model, &config->rig);
    if (engine_core_open(&config->core, core->rig.backend, &core->rig.kv, sink, &core->core,
                         &error) != TD_OK)
        fail_msg("%s", error.text);
}

void cpu_core_close(struct cpu_core *core)
{
    engine_core_audit(core->core);
    engine_core_close(core->core);
    cpu_rig_close(&core->rig);
    for (uint32_t id = 0; id < CPU_CORE_SEQUENCES_MAX; id++) {
        free(core->parcels[id].bytes);
        free(core->parcels[id].hidden);
    }
}

static void command(struct cpu_core *core, struct engine_command *command)
{
    engine_core_command(core->core, command, core->now_ns);
}

void cpu_core_submit(struct cpu_core *core, uint64_t id, const struct question *question)
{
    struct engine_command submit = {.kind = ENGINE_SUBMIT, .sequence = id};

    assert_in_range(id, 1, CPU_CORE_SEQUENCES_MAX - 1);
    submit.submit = (struct engine_submit){
        .goal = question->goal,
        .tokens = malloc(question->count * sizeof *question->tokens),
        .token_count = question->count,
        .max_new_tokens = question->max_new_tokens,
        .root_key = {.hi = 1, .lo = 2},
        .sampling = {.temperature = 1.0f, .top_p = 1.0f, .seed = 7},
        .ignore_model_stops = true,
        .deadline_ns = TD_TIME_NEVER,
    };
    assert_non_null(submit.submit.tokens);
    memcpy(submit.submit.tokens, question->tokens, question->count * sizeof *question->tokens);
    command(core, &submit);
}

bool cpu_core_step(struct cpu_core *core)
{
    const struct engine_batch *batch = engine_core_plan(core->core, core->now_ns);
    struct engine_result result;

    if (batch == NULL)
        return false;
    result = cpu_rig_run(&core->rig, batch);
    core->drawn_count = 0;
    for (uint32_t i = 0; i < batch->output_count; i++)
        if (batch->outputs[i].want == ENGINE_WANT_LOGITS)
            core->drawn_from[core->drawn_count++] = result.outputs[i];
    core->now_ns += 1000;
    engine_core_apply(core->core, &result, core->now_ns);
    return true;
}

void cpu_core_run(struct cpu_core *core)
{
    while (cpu_core_step(core))
        ;
}

const struct transcript *cpu_core_ask(struct cpu_core *core, uint64_t id,
                                      const struct question *question)
{
    cpu_core_submit(core, id, question);
    cpu_core_run(core);
    assert_true(core->transcripts[id].finished);
    return &core->transcripts[id];
}

const struct parcel *cpu_core_prefill(struct cpu_core *core, uint64_t id, const uint32_t *tokens,
                                      uint32_t count)
{
    struct question question = {.goal = ENGINE_PREFILL, .tokens = tokens, .count = count};
    struct engine_command release = {.kind = ENGINE_RELEASE, .sequence = id};

    cpu_core_submit(core, id, &question);
    cpu_core_run(core);
    assert_non_null(core->parcels[id].hidden);
    command(core, &release);
    assert_true(core->transcripts[id].finished);
    return &core->parcels[id];
}

const struct transcript *cpu_core_import(struct cpu_core *core, uint64_t id,
                                         const struct question *question,
                                         const struct parcel *parcel)
{
    struct engine_command asked = {.kind = ENGINE_ASKED, .sequence = id};
    struct engine_command landed = {.kind = ENGINE_LANDED, .sequence = id};
    size_t block_bytes = core->rig.kv.block_bytes;
    size_t hidden_bytes = core->rig.backend->info.hidden * sizeof(float);

    cpu_core_submit(core, id, question);
    core->reserved_count = 0;
    cpu_core_run(core);
    assert_int_equal(core->reserved_cached + core->reserved_count, parcel->block_count);
    command(core, &asked);
    landed.landed = (struct engine_landed){
        .hidden = malloc(hidden_bytes),
        .hidden_count = core->rig.backend->info.hidden,
        .hashes = calloc(core->reserved_count, sizeof(struct td_u128)),
        .hash_count = core->reserved_count,
    };
    assert_true(landed.landed.hidden != NULL && landed.landed.hashes != NULL);
    memcpy(landed.landed.hidden, parcel->hidden, hidden_bytes);
    for (uint32_t i = 0; i < core->reserved_count; i++) {
        uint32_t from = core->reserved_cached + i;

        assert_true(td_u128_equal(core->reserved[i].key, parcel->blocks[from].key));
        memcpy(core->rig.kv.base + core->reserved[i].slot.index * block_bytes,
               parcel->bytes + from * block_bytes, block_bytes);
        landed.landed.hashes[i] = parcel->blocks[from].hash;
    }
    command(core, &landed);
    cpu_core_run(core);
    assert_true(core->transcripts[id].finished);
    return &core->transcripts[id];
}

void cpu_core_assert_equal(const struct transcript *actual, const struct transcript *expected,
                           const char *what)
{
    assert_true(actual->finished && expected->finished && expected->count > 0);
    if (actual->count != expected->count)
        fail_msg("%s: %u tokens instead of %u", what, actual->count, expected->count);
    for (uint32_t i = 0; i < expected->count; i++)
        if (!td_u128_equal(actual->logits[i], expected->logits[i]) ||
            actual->tokens[i] != expected->tokens[i])
            fail_msg("%s: the logits of token %u differ (token %u, expected %u)", what, i,
                     actual->tokens[i], expected->tokens[i]);
}
