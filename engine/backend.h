/*
 * backend.h: the engine's contract with what is below it: one batch step of a model.
 *
 * A backend owns its weights and kernels, and writes KV into the pool it was opened with. Backends:
 * engine/cpu and engine/cuda (real models), engine/modelled (spends modelled time and makes checkable
 * tokens; for the simulator and for load tests).
 *
 * Batch invariance is part of the contract: the result of a row depends only on its token, its
 * position and the KV of its own sequence, bit for bit, whatever else is in the batch, however the
 * prompt was cut into chunks, with any number of threads, and whoever wrote the KV.
 *
 * Within one step no sequence reads a block that a row of another sequence writes: shared blocks are full and never
 * written again. A backend may therefore write a row's KV and attend to it in one go.
 */
#ifndef TANDEM_ENGINE_BACKEND_H
#define TANDEM_ENGINE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

/*
 * The memory of the block pool.
 *
 * Layout of one block: [kv_head][layer][k|v], so that a block is one contiguous piece with all layers, a shard
 * of heads is one run in it, and the page that a kernel reads (the tokens of one head) is contiguous. How a
 * page lies inside is the backend's business, and a part of the content id by its numerics class.
 */
struct engine_kv {
    uint8_t *base; /* with ops: memory of a device, which the host must not touch */
    int fd;        /* memfd behind base, for transports that share mappings; -1: none */
    uint32_t block_count;
    uint32_t block_tokens;
    size_t block_bytes;
    const struct engine_kv_ops *ops; /* NULL: base is memory of the host */
    void *impl;                      /* for ops */
};

/*
 * What the engine core has done with blocks of a pool that the host cannot read: hashing is up to whoever knows that
 * memory. What a transfer has landed there is in its place. Called on the thread that runs the backend; a step may be
 * running, between `begin` and `finish`, which writes to none of these blocks. A failure ends the sequences that the
 * blocks are of. A hash of zero is one that is not known: whoever sends the block makes it then, and blocks of equal
 * tokens are not compared.
 */
struct engine_kv_ops {
    /* These blocks are full, and nobody writes to them again: their content hashes. Transfers may read them from now on. */
    td_status_t (*seal)(void *impl, const uint32_t *slots, uint32_t count,
                        struct td_u128 *hashes_out);
    /* The same for the tail of a prompt, which holds so many tokens; what lies behind them travels as zeros. */
    td_status_t (*seal_tail)(void *impl, uint32_t slot, uint32_t tokens, struct td_u128 *hash_out);
};

/*
 * engine_kv_open: reserve the pool's address space and memory.
 * Pages are touched lazily. TD_NO_MEMORY or TD_LIMIT with error filled; nothing to undo then.
 */
td_status_t engine_kv_open(uint32_t block_count, uint32_t block_tokens, size_t block_bytes,
                           struct engine_kv *kv_out, struct td_error *error) TD_MUST_USE;
void engine_kv_close(struct engine_kv *kv);

/* What the engine, and the worker's identities, need to know of a model. */
struct engine_model_info {
    char name[128];
    uint32_t vocab; /* rows of the LM head; ids from here up are refused */
    uint32_t hidden;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t max_context;
    uint32_t stop_ids[32]; /* end-of-generation ids of the model */
    uint32_t stop_id_count;
    uint32_t block_tokens; /* of the KV layout this backend was opened with */
    size_t block_bytes;
    struct td_u128 weights_digest;
    struct td_u128 content_id; /* weights, RoPE, KV dtype, numerics class: see ContentIdentity */
    char rope[96];
    char kv_dtype[8];
    char numerics[32];
    /*
     * Zeroes what a block holds of the tokens from `tokens` on, so that bytes of others do not travel with a tail. May
     * be called from any thread. NULL: pages are [token in block][head_dim].
     */
    void (*clear_tail)(const struct engine_model_info *info, uint8_t *block, uint32_t tokens);
};

/* Zeroes what a block, which the host can write, holds of the tokens from `tokens` on; see clear_tail. */
void engine_kv_clear_tail(const struct engine_model_info *info, uint8_t *block, uint32_t tokens);

/*
 * One row: one token of one sequence. Rows are in the order of their sequences, so that those of one stand side by side,
 * and there in order of position.
 */
struct engine_row {
    uint32_t token;
    uint32_t position;
    uint32_t sequence; /* index into engine_batch.sequences */
};

/* The KV of one sequence: slots[i] holds positions [i * block_tokens, (i + 1) * block_tokens). */
struct engine_batch_sequence {
    const uint32_t *slots;
    uint32_t slot_count;
};

/* What is wanted of a row after the last layer. */
enum engine_want {
    ENGINE_WANT_LOGITS = 1, /* final norm and LM head: vocab floats */
    ENGINE_WANT_HIDDEN = 2, /* the state before the final norm: hidden floats */
};

struct engine_draw;
struct engine_logprobs;

struct engine_output {
    uint32_t row; /* index into rows; for a head output: index into heads */
    bool is_head; /* logits from a given hidden state instead of a row */
    enum engine_want want;
    /*
     * Of logits: how the caller would draw a token from them (engine/sample.h). A backend may do so where they lie, and
     * then need not hand them out; it must draw the very same token. What the draw points to stays as it is until the result
     * is there. NULL: the caller wants the logits themselves.
     */
    const struct engine_draw *draw;
};

#define ENGINE_NOT_DRAWN   UINT32_MAX       /* in engine_result.tokens: the logits are in outputs */
#define ENGINE_DRAW_FAILED (UINT32_MAX - 1) /* no logit is finite, or one is plus infinity */

struct engine_batch {
    const struct engine_row *rows;
    uint32_t row_count;
    const struct engine_batch_sequence *sequences;
    uint32_t sequence_count;
    const float *const *heads; /* hidden states that came from a peer; each `hidden` floats */
    uint32_t head_count;
    const struct engine_output *outputs;
    uint32_t output_count;
};

/* Results live in the backend until the next run. */
struct engine_result {
    const float *const *outputs; /* one per engine_batch.outputs, vocab or hidden floats */
    const uint32_t *tokens;      /* the same: what was drawn, see above; NULL: nothing was */
    /* The same: of tokens that were drawn, where the draw wants them. NULL: no draw that was made does. */
    const struct engine_logprobs *logprobs;
    uint64_t duration_ns; /* what the step cost (the modelled backend only pretends) */
};

struct engine_backend;

struct engine_backend_ops {
    const char *name;
    /*
     * Runs one step. TD_LIMIT or TD_INVALID: the batch itself is wrong (engine/batch_check.h; the modelled backend asserts
     * instead), nothing was touched. After another failure nothing about the KV of the batch's rows may be assumed.
     */
    td_status_t (*run)(struct engine_backend *backend, const struct engine_batch *batch,
                       struct engine_result *result_out);
    void (*close)(struct engine_backend *backend);
    /*
     * The same in two halves, for devices that compute while the caller does something else: begin takes over what it
     * needs of the batch, finish waits. Only after a begin that succeeded is there a finish, and nothing else is called
     * between them. NULL, both: there is only run.
     */
    td_status_t (*begin)(struct engine_backend *backend, const struct engine_batch *batch);
    td_status_t (*finish)(struct engine_backend *backend, struct engine_result *result_out);
    /*
     * One sentence when the backend can never compute again, and only a new process may (a GPU that has failed); NULL
     * before. The text stays as it is until close. Asked after each step, on the engine's thread. NULL: it
     * cannot happen.
     */
    const char *(*lost)(const struct engine_backend *backend);
};

/* Backends embed this as their first member. */
struct engine_backend {
    const struct engine_backend_ops *ops;
    struct engine_model_info info;
    uint32_t rows_max;    /* rows in one batch */
    uint32_t outputs_max; /* outputs in one batch */
};

#endif
