/*
 * cpu_rig.h: a model, a pool and a CPU backend for tests, and reading of the golden files.
 */
#ifndef TANDEM_TESTS_ENGINE_CPU_RIG_H
#define TANDEM_TESTS_ENGINE_CPU_RIG_H

#include "engine/backend.h"
#include "engine/cpu/cpu.h"
#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "model/model.h"
#include "tests/support/support.h"

#define CPU_RIG_BLOCK_TOKENS 16

struct cpu_rig {
    struct model *model;
    struct engine_kv kv;
    struct engine_backend *backend;
    uint32_t *slots; /* all slots of the pool, in an order that is not rising */
};

struct cpu_rig_options {
    const char *kernels; /* NULL: the fastest */
    struct cpu_options cpu;
    uint32_t blocks;       /* of the pool; 0: 64 */
    uint32_t block_tokens; /* 0: CPU_RIG_BLOCK_TOKENS */
};

/* Opens everything; fails the test if it cannot. The model moves to the rig. */
void cpu_rig_open(struct cpu_rig *rig, struct model *model, const struct cpu_rig_options *options);
void cpu_rig_open_file(struct cpu_rig *rig, const char *path,
                       const struct cpu_rig_options *options);
void cpu_rig_close(struct cpu_rig *rig);

/* Random tokens, the same for the same seed. */
void cpu_rig_tokens(uint32_t vocab, uint64_t seed, uint32_t *tokens, uint32_t count);

/* Runs a batch; fails the test if the backend does. */
struct engine_result cpu_rig_run(struct cpu_rig *rig, const struct engine_batch *batch);

/*
 * Runs positions from to end - 1 of one sequence in one batch; tokens are those of the whole
 * sequence. The KV is in the slots from first_slot on. wanted is of each of the last outputs rows;
 * results_out[i] belongs to position end - outputs + i.
 */
void cpu_rig_feed(struct cpu_rig *rig, uint32_t first_slot, const uint32_t *tokens, uint32_t from,
                  uint32_t end, enum engine_want want, uint32_t outputs, const float **results_out);

/* The natural logarithm of the sum of exponentials: log-probability = logit - this. */
double cpu_rig_log_sum(const float *logits, uint32_t count);

uint32_t cpu_rig_argmax(const float *logits, uint32_t count);

/* Parses JSON into an arena that cpu_rig_json_open has made. */
void cpu_rig_json_open(struct td_arena *arena);
const struct td_json *cpu_rig_json(struct td_arena *arena, const char *text, size_t length);

/* An array of integers (malloc). */
uint32_t *cpu_rig_integers(const struct td_json *array, uint32_t *count_out);

/* A number, however it is written. */
double cpu_rig_number(const struct td_json *value);

#endif
