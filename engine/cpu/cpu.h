/*
 * cpu.h: the CPU backend: runs batch steps of a model on ordinary cores.
 *
 * Activations are 32-bit floats, or (an option) rounded to 8 bits for products; weights are packed once (weights.h)
 * and taken apart on the fly. Numerics class "cpu-f32-3": all processors and thread counts give the same bits
 * (kernels.h says how). One backend is driven by one thread at a time; it has helper threads of its
 * own, which sleep between steps.
 *
 * The environment variable TANDEM_CPU (reference, avx2, avx512, vnni, bf16) forces a set of kernels.
 */
#ifndef TANDEM_ENGINE_CPU_CPU_H
#define TANDEM_ENGINE_CPU_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/cpu/kv.h"
#include "engine/cpu/weights.h"
#include "lib/base/status.h"
#include "model/model.h"

#define CPU_ROWS_DEFAULT    512
#define CPU_ROWS_MAX        ((uint32_t)1 << 14)
#define CPU_OUTPUTS_DEFAULT 64
#define CPU_OUTPUTS_MAX     ((uint32_t)1 << 12)

#define CPU_BLOCK_TOKENS_MAX 256

#define CPU_NUMERICS       "cpu-f32-3" /* the class of results, part of the content id */
#define CPU_NUMERICS_WHOLE "cpu-int8-4"

/* The class of results: what --numerics says. Workers take int8 if it says nothing. */
#define CPU_NUMERICS_CHOICES \
    {                        \
        "f32", "int8", NULL  \
    }
#define CPU_NUMERICS_FALLBACK "int8"

enum cpu_numerics {
    CPU_NUMERICS_F32 = 0,  /* CPU_NUMERICS */
    CPU_NUMERICS_INT8 = 1, /* CPU_NUMERICS_WHOLE: faster, and about as exact as other engines */
};

/* CPU_NUMERICS or CPU_NUMERICS_WHOLE: the text that goes into the content id. */
const char *cpu_numerics_class(enum cpu_numerics numerics);

/* Zero-initialised: one thread, f16, products of floats, the defaults above, no stop ids. */
struct cpu_options {
    uint32_t threads; /* the calling thread counted; 0: one */
    enum cpu_kv_dtype kv_dtype;
    enum cpu_numerics numerics;
    uint32_t rows_max;        /* rows in one batch; 0: CPU_ROWS_DEFAULT */
    uint32_t outputs_max;     /* outputs in one batch; 0: CPU_OUTPUTS_DEFAULT */
    const uint32_t *stop_ids; /* for engine_model_info: see text_model_stop_ids */
    uint32_t stop_id_count;   /* at most 32 */
    /* The model's, which must outlive the backend. NULL: the backend packs its own, in memory. */
    const struct cpu_weights *weights;
};

/*
 * cpu_block_bytes: the size of a KV block, for engine_kv_open.
 * block_tokens must be 16, 32, 64, 128 or 256; TD_INVALID otherwise.
 */
td_status_t cpu_block_bytes(const struct model *model, enum cpu_kv_dtype kv_dtype,
                            uint32_t block_tokens, size_t *block_bytes_out,
                            struct td_error *error) TD_MUST_USE;

/*
 * cpu_workspace_bytes: the memory of steps, which a backend with these options reserves: of each row its states,
 * projections and angles, of each output its logits, and scratch memory of each thread. SIZE_MAX: it overflows.
 */
size_t cpu_workspace_bytes(const struct model *model, const struct cpu_options *options);

/*
 * cpu_backend_open: a backend for a model and a pool, which must both outlive it.
 * All memory that steps need is reserved here: cpu_workspace_bytes, and what units of attention that are cut need, which
 * is touched when it is first used: 4 * (max_context / 256 + 16) * heads * (head_dim + 16) floats, so 39 MB for
 * 131,072 tokens and 32 heads of 128. TD_INVALID, TD_LIMIT, TD_UNSUPPORTED, TD_EXHAUSTED or TD_NO_MEMORY.
 * Closed by the ops of the backend.
 */
td_status_t cpu_backend_open(const struct model *model, const struct engine_kv *kv,
                             const struct cpu_options *options, struct engine_backend **backend_out,
                             struct td_error *error) TD_MUST_USE;

/* CPU_PHASES(X): X(member, name): the kinds of pieces that a step is made of, in their order. */
#define CPU_PHASES(X)                       \
    X(EMBED, "embed")                       \
    X(NORM, "norm")                         \
    X(QKV, "qkv")                           \
    X(PLACE, "place")                       \
    X(ATTENTION, "attention")               \
    X(ATTENTION_OUTPUT, "attention output") \
    X(GATE_UP, "gate and up")               \
    X(DOWN, "down")                         \
    X(INPUTS, "inputs")                     \
    X(OUTPUTS, "outputs")                   \
    X(HEAD, "head")

enum cpu_phase {
#define X(member, name) CPU_PHASE_##member,
    CPU_PHASES(X)
#undef X
        CPU_PHASE_COUNT
};

/* Where the time of steps went: as the leader's clock says, so the phases of a step add up to all of it. */
struct cpu_phases {
    uint64_t steps;
    uint64_t ns[CPU_PHASE_COUNT];
};

/* A few words for people and logs: "gate and up". */
const char *cpu_phase_name(enum cpu_phase phase);

/* Of all steps since opening or reset. For the thread that drives the backend, which must be one of cpu_backend_open. */
void cpu_backend_phases(const struct engine_backend *backend, struct cpu_phases *phases_out);
void cpu_backend_reset_phases(struct engine_backend *backend);

#endif
