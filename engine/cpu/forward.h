/*
 * forward.h: one batch step through the layers of a model.
 *
 * Owns the backend's memory layout and the sequence of pieces of work that make a step. backend.c
 * opens, checks and closes; the arithmetic is in matmul, attention, rope and the kernels.
 */
#ifndef TANDEM_ENGINE_CPU_FORWARD_H
#define TANDEM_ENGINE_CPU_FORWARD_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/cpu/attention.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/rope.h"
#include "engine/cpu/team.h"
#include "engine/cpu/tiles.h"
#include "engine/cpu/weights.h"
#include "model/model.h"

/* Strides of the arrays below, in floats. Inputs of products have the sums of their blocks behind them. */
struct cpu_strides {
    size_t hidden;    /* an input */
    size_t attention; /* heads * head_dim; an input */
    size_t kv;        /* kv_heads * head_dim */
    size_t ffn;       /* an input */
    size_t result;    /* vocab or hidden, whichever is more */
    size_t scratch;
};

struct cpu_backend {
    struct engine_backend base; /* first: see engine/backend.h */
    const struct model *model;
    const struct cpu_weights *weights;
    struct cpu_weights *own_weights; /* the same, if nobody else has them; else NULL */
    const struct cpu_kernels *kernels;
    struct cpu_team *team;
    struct cpu_rope rope;
    struct cpu_attention attention;
    float *balance; /* of keys in whole numbers: see balance.h */
    struct cpu_strides strides;
    uint32_t threads;
    bool is_whole; /* activations are rounded to whole numbers for products */

    /* One mapping, zero at first; what lies between a row's end and its sums stays zero. */
    float *memory;
    size_t memory_bytes;
    float *x;        /* [rows_max][hidden]: the residual stream */
    float *normed;   /* [rows_max or outputs_max][hidden] */
    float *q;        /* [rows_max][attention] */
    float *k;        /* [rows_max][kv] */
    float *v;        /* [rows_max][kv] */
    float *attended; /* [rows_max][attention] */
    float *gate;     /* [rows_max][ffn] */
    float *cosines;  /* [rows_max][head_dim / 2] */
    float *sines;    /* the same */
    float *results;  /* [outputs_max][result] */
    float *scratch;  /* [threads][scratch] */

    /* Bookkeeping of a step. */
    uint32_t *active; /* [rows_max]: rows that go on; all of them but in the last layer */
    uint32_t *place;  /* [rows_max]: where a row is among the active ones of the last layer */
    struct cpu_tiles *tiles;
    const float **outputs; /* [outputs_max]: pointers handed out */
    struct cpu_phases phases;
};

/* Floats of scratch memory that a thread needs for any unit. */
size_t cpu_forward_scratch_floats(const struct cpu_backend *backend);

/* Runs a step that has passed the checks of backend.c. Cannot fail. */
void cpu_forward(struct cpu_backend *backend, const struct engine_batch *batch);

#endif
