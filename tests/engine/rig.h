/*
 * rig.h: an engine core over the modelled backend and plain memory, driven by hand, with a record of
 * everything it said.
 *
 * The sink checks on its own what must hold for every run: nothing after FINISHED, output indexes in
 * order, blocks shown in order, the keys of CACHE events consistent with each other, the balance. Every
 * call ends with the core's audit.
 */
#ifndef TANDEM_TESTS_ENGINE_RIG_H
#define TANDEM_TESTS_ENGINE_RIG_H

#include "tests/support/support.h"

#include "engine/core.h"
#include "engine/modelled/modelled.h"
#include "lib/base/map.h"

#define RIG_SEQUENCES_MAX 4096
#define RIG_OUTPUT_MAX    128
#define RIG_BLOCKS_MAX    64
#define RIG_HIDDEN        8

/* What was said of one sequence. */
struct rig_record {
    bool submitted;
    struct engine_submit submit; /* tokens are the record's own */
    uint32_t output[RIG_OUTPUT_MAX];
    uint32_t output_count;
    uint32_t logprobs_count;         /* outputs that came with them */
    struct engine_logprobs logprobs; /* of the newest of these */
    bool reserved;
    struct engine_block import[RIG_BLOCKS_MAX];
    uint32_t import_count;
    uint32_t cached_blocks;
    struct engine_block shown[RIG_BLOCKS_MAX]; /* BLOCKS, and the tail at the end */
    uint32_t shown_count;
    bool prefilled;
    uint32_t tail_tokens;
    float hidden[RIG_HIDDEN];
    bool stopped;
    td_status_t stopped_status;
    bool finished;
    struct engine_finished end;
};

struct rig_config {
    struct modelled_config model;
    struct engine_core_config core;
    uint32_t block_count;
};

struct rig {
    struct modelled_config model;
    struct engine_kv kv;
    struct engine_backend *backend;
    struct engine_core *core;
    const struct engine_batch *flying;
    uint64_t now_ns;
    struct rig_record *records; /* by sequence id */
    uint32_t finished_count;
    uint32_t step_events;
    struct engine_load load; /* of the last STEP */
    struct td_map cached;    /* findable keys, by the CACHE events */
    uint32_t snapshots;
};

void rig_open(struct rig *rig, const struct rig_config *config);
void rig_close(struct rig *rig);

/* A submit with sensible values: greedy, no deadline, one tenant. tokens are copied. */
struct engine_submit rig_request(enum engine_goal goal, const uint32_t *tokens, uint32_t count,
                                 uint32_t max_new_tokens);
/* Adds a bias; its memory moves with the request, like the tokens. */
void rig_bias(struct engine_submit *submit, uint32_t token, float value);
void rig_submit(struct rig *rig, uint64_t id, const struct engine_submit *submit);

/* The same in one call, with a prompt of `count` tokens that follow from `seed`. */
void rig_start(struct rig *rig, uint64_t id, enum engine_goal goal, uint32_t seed, uint32_t count,
               uint32_t max_new_tokens);

void rig_send(struct rig *rig, enum engine_command_kind kind, uint64_t id);
void rig_release(struct rig *rig, uint64_t id, bool quarantine);

/* Puts the right KV into the reserved blocks, as a transfer would, and sends LANDED. */
void rig_land(struct rig *rig, uint64_t id);

/* Writes the right KV of a prompt (whole blocks, tail zeroed) and the last hidden state. */
void rig_compute(const struct rig *rig, const uint32_t *tokens, uint32_t count, uint8_t *kv_out,
                 float hidden_out[static RIG_HIDDEN]);

/* Plans; true if a batch flies now. */
bool rig_plan(struct rig *rig);
/* Runs the flying batch and applies the result. */
void rig_apply(struct rig *rig);
void rig_fail(struct rig *rig, td_status_t status);
/* Both; false if there was nothing to compute. */
bool rig_step(struct rig *rig);
/* Steps until there is nothing to compute. */
void rig_run(struct rig *rig);
/* Moves the clock and ticks. */
void rig_advance(struct rig *rig, uint64_t ns);

struct engine_balance rig_balance(struct rig *rig);

/* Asserts that what a sequence has said so far is what the oracle says, all of it if it is over. */
void rig_check_output(struct rig *rig, uint64_t id);
void rig_assert_finished(struct rig *rig, uint64_t id, enum engine_finish reason,
                         td_status_t status);

/* Asserts that a snapshot gives exactly the keys that the CACHE events add up to. */
void rig_check_cache(struct rig *rig);

/* Asserts that the blocks shown to a peer still hold what they held, in the same generation. */
void rig_check_shown(const struct rig *rig, uint64_t id);

#endif
