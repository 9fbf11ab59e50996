/*
 * step.h: a batch step while it runs, and the pieces of work that it is made of. For forward.c and the files beside
 * it that have a part of a layer each: projections.c and feed_forward.c.
 *
 * A piece is a list of units that the team shares; between two pieces all threads have finished the first. What
 * is so little work that sharing it costs more than it saves, the leader does alone.
 */
#ifndef TANDEM_ENGINE_CPU_STEP_H
#define TANDEM_ENGINE_CPU_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/cpu/forward.h"
#include "engine/cpu/matmul.h"

struct step {
    struct cpu_backend *backend;
    const struct engine_batch *batch;
    const struct model_layer *layer;
    const struct cpu_layer *weights;
    uint32_t layer_index;
    uint32_t
        rows; /* of the batch, and after the selection in the last layer, of those that go on */
    bool attention_turns;  /* units of attention turn their queries: see step_turn */
    bool attention_places; /* and write their K and V: see step_place */
    uint32_t logits_count;
    uint64_t since_ns; /* when the phase before this one ended */
    /* What the units of the present piece need to know. */
    uint32_t unit_rows; /* of the batch */
    struct cpu_cut cut; /* of gate and up */
    const float *norm_weight;
    unsigned parts; /* what is made of an input: see matmul.h */
    struct cpu_products products;
};

/* Does the units of a piece, and tells the time of the phase that it ends. */
void step_run(struct step *step, cpu_unit_fn unit_fn, uint32_t units, enum cpu_phase phase);

/* The same for units of step.unit_rows rows of the batch each, chosen here: rows are `floats` floats of work. */
void step_run_rows(struct step *step, cpu_unit_fn unit_fn, size_t floats, enum cpu_phase phase);

/* The rows of a unit of step_run_rows are first to end - 1. */
struct step_rows {
    uint32_t first;
    uint32_t end;
};
struct step_rows step_rows(const struct step *step, uint32_t unit);

/* Does all products of the list, and empties it. */
void step_run_products(struct step *step, enum cpu_phase phase);

/* out = x / root mean square * weight. x and out may be the same. */
void step_norm(const struct cpu_backend *backend, const float *x, const float *weight,
               uint32_t count, float *out);

/* The normed states of all rows, with these parts, as inputs of products: backend.normed. */
void step_run_norm(struct step *step, const float *weight, unsigned parts);

/* Scratch memory of a thread. */
float *step_scratch(const struct step *step, uint32_t thread);

/* ---- projections.c ---- */

/* Queries, keys and values of all rows; turned and in their places, where attention does not do that (see the tiles). */
void step_run_projections(struct step *step);

/* Turns a row's queries of a KV head by its position. */
void step_turn(const struct step *step, uint32_t row, uint32_t kv_head);

/* Turns a row's key of a KV head by its position, and writes it and its value to the pool. */
void step_place(const struct step *step, uint32_t row, uint32_t kv_head);

/* ---- feed_forward.c ---- */

void step_run_feed_forward(struct step *step);

/* The scratch memory that a thread needs for that. */
size_t step_feed_forward_scratch_floats(void);

#endif
