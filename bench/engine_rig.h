/*
 * engine_rig.h: a CPU backend with a model, and the measurements that `tandem bench engine` makes on it.
 *
 * Drives the backend with batches alone: no scheduler, no sampling, no text. Every repeat measures everything once,
 * in turn, so that a slow minute of the machine touches all numbers alike; the machine's limits are measured in
 * the same turn. Token ids are arbitrary but fixed: speed does not depend on them.
 */
#ifndef TANDEM_BENCH_ENGINE_RIG_H
#define TANDEM_BENCH_ENGINE_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/limits.h"
#include "bench/stats.h"
#include "engine/backend.h"
#include "engine/cpu/cpu.h"
#include "lib/base/progress.h"
#include "model/model.h"

#define BENCH_BATCHES_MAX   16
#define BENCH_SEQUENCES_MAX 256

struct bench_engine_options {
    const char *model;
    uint32_t threads;
    uint32_t prompt;
    uint32_t gen;
    uint32_t depth;
    uint32_t repeats;
    uint32_t batches[BENCH_BATCHES_MAX]; /* sequences in each */
    uint32_t batch_count;
    enum cpu_kv_dtype kv_dtype;
    enum cpu_numerics numerics;
};

/* What is measured of one kind of step. */
struct bench_cell {
    struct bench_stats tokens_per_s;
    struct bench_stats limit_share; /* of memory reads (decoding) or multiplications (a prompt) */
    struct cpu_phases phases;       /* of all repeats */
};

struct bench_rig {
    const struct bench_engine_options *options;
    struct model *model;
    struct cpu_weights *weights;
    struct engine_kv kv;
    struct engine_backend *backend;
    const struct bench_probe *probe;
    struct cpu_team *team; /* for the limits */
    uint32_t sequences_max;
    uint32_t blocks_each; /* of one sequence */
    uint32_t *slots;      /* [sequences_max][blocks_each] */
    struct engine_row *rows;
    struct bench_stats read_gb_per_s;      /* of the packed weights */
    struct bench_stats multiply_gop_per_s; /* empty if the kernels in use are plain C */
    struct bench_cell prompt;
    struct bench_cell decode[BENCH_BATCHES_MAX];
};

/* The options must outlive the rig, which is closed by bench_rig_close even after a failure. */
td_status_t bench_rig_open(struct bench_rig *rig, const struct bench_engine_options *options,
                           struct td_error *error) TD_MUST_USE;
void bench_rig_close(struct bench_rig *rig);

/* All repeats. */
td_status_t bench_rig_measure(struct bench_rig *rig, struct td_progress *progress,
                              struct td_error *error) TD_MUST_USE;

/* Bytes of KV that one token has in all layers. */
double bench_rig_kv_bytes_per_token(const struct bench_rig *rig);

/* Bytes that a step of so many sequences reads at least, in the mean over the tokens decoded. */
double bench_rig_step_bytes(const struct bench_rig *rig, uint32_t sequences);

/*
 * Operations of the products with weights that the prompt cannot do without: in the last layer only keys and
 * values are needed of all tokens, and one token's logits.
 */
double bench_rig_prompt_operations(const struct bench_rig *rig);

#endif
