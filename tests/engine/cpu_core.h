/*
 * cpu_core.h: an engine core over the CPU backend, driven by hand, with a transcript of every sequence:
 * its tokens, and a hash of the bits of all logits that each was drawn from.
 */
#ifndef TANDEM_TESTS_ENGINE_CPU_CORE_H
#define TANDEM_TESTS_ENGINE_CPU_CORE_H

#include "engine/core.h"
#include "tests/engine/cpu_rig.h"

#define CPU_CORE_SEQUENCES_MAX 32
#define CPU_CORE_OUTPUT_MAX    64
#define CPU_CORE_BLOCKS_MAX    64

struct transcript {
    uint32_t tokens[CPU_CORE_OUTPUT_MAX];
    struct td_u128 logits[CPU_CORE_OUTPUT_MAX];
    uint32_t count;
    uint32_t cached_tokens;
    bool finished;
};

/* A prefilled prompt: what travels. */
struct parcel {
    struct engine_block blocks[CPU_CORE_BLOCKS_MAX];
    uint32_t block_count;
    uint8_t *bytes; /* of all blocks, in order */
    float *hidden;
};

struct cpu_core_config {
    const char *model; /* a path */
    struct cpu_rig_options rig;
    struct engine_core_config core;
};

struct cpu_core {
    struct cpu_rig rig;
    struct engine_core *core;
    uint64_t now_ns;
    struct transcript transcripts[CPU_CORE_SEQUENCES_MAX]; /* by sequence id */
    struct parcel parcels[CPU_CORE_SEQUENCES_MAX];
    struct engine_block reserved[CPU_CORE_BLOCKS_MAX]; /* of the last RESERVED */
    uint32_t reserved_count;
    uint32_t reserved_cached;
    const float *drawn_from[CPU_CORE_SEQUENCES_MAX]; /* logits of this step, in order */
    uint32_t drawn_count;
    struct engine_load load;
};

/* What is asked: the draw is by temperature, so that a difference in the logits spreads. */
struct question {
    enum engine_goal goal;
    const uint32_t *tokens;
    uint32_t count;
    uint32_t max_new_tokens;
};

void cpu_core_open(struct cpu_core *core, const struct cpu_core_config *config);
void cpu_core_close(struct cpu_core *core);

void cpu_core_submit(struct cpu_core *core, uint64_t id, const struct question *question);

/* One step; false if there was nothing to compute. */
bool cpu_core_step(struct cpu_core *core);
void cpu_core_run(struct cpu_core *core);

/* Submits and runs alone; the transcript is the core's. */
const struct transcript *cpu_core_ask(struct cpu_core *core, uint64_t id,
                                      const struct question *question);

/* Computes a prompt here and releases it; the parcel is the core's. */
const struct parcel *cpu_core_prefill(struct cpu_core *core, uint64_t id, const uint32_t *tokens,
                                      uint32_t count);

/* Submits an IMPORT, puts the parcel's blocks where it wants them, lands and runs. */
const struct transcript *cpu_core_import(struct cpu_core *core, uint64_t id,
                                         const struct question *question,
                                         const struct parcel *parcel);

/* Fails the test unless both are complete, of the same length, and equal bit for bit. */
void cpu_core_assert_equal(const struct transcript *actual, const struct transcript *expected,
                           const char *what);

#endif
