/*
 * modelled.h: a backend that computes no model: it spends modelled time, and makes tokens that prove
 * that the right KV was read.
 *
 * The KV entry of a token is a chain value: a mix of the token, its position, the values of the block
 * so far and the last value of every block before, all of them read back through the block table. So
 * KV that is missing, stale, of another prompt or in the wrong place gives other tokens. An entry is
 * written once per (kv head, layer, k|v), each with its own mask; if they disagree when read, the value
 * is poisoned. The hidden state carries the chain value with a check, and the logits follow from it.
 *
 * modelled_expected_tokens says without any KV what must come out.
 */
#ifndef TANDEM_ENGINE_MODELLED_MODELLED_H
#define TANDEM_ENGINE_MODELLED_MODELLED_H

#include "engine/backend.h"
#include "engine/engine.h"

/* A zero takes the default in brackets. */
struct modelled_config {
    uint64_t weights;        /* "the model": other weights, other tokens */
    uint32_t vocab;          /* [1,024] at most 2^20 */
    uint32_t block_tokens;   /* [16] */
    uint32_t max_context;    /* [4,096] */
    uint32_t rows_max;       /* [512] */
    uint32_t outputs_max;    /* [256] */
    uint32_t stop_ids[4];    /* ids that end a generation */
    uint32_t stop_id_count;  /* [none] */
    uint64_t step_ns;        /* time of a step, without rows */
    uint64_t prefill_row_ns; /* and of each row of a chunk */
    uint64_t decode_row_ns;  /* and of each single row of a sequence, and each head */
    bool sleeps;             /* really spend the time, for load tests; else only report it */
};

/* What a pool for this model must be made of. */
uint32_t modelled_block_tokens(const struct modelled_config *config);
size_t modelled_block_bytes(const struct modelled_config *config);

/*
 * Opens a backend over a pool, which must outlive it. Closed with backend->ops->close. TD_INVALID: a
 * size is out of range or the pool's blocks have another shape; TD_NO_MEMORY.
 */
td_status_t modelled_open(const struct modelled_config *config, const struct engine_kv *kv,
                          struct engine_backend **backend_out, struct td_error *error) TD_MUST_USE;

/*
 * The tokens that a GENERATE or IMPORT with this submit must give, stop id included, and why it ends.
 * max_new_tokens must be clamped to the context by the caller; tokens_out has room for them.
 * Returns their count. TD_NO_MEMORY for the sampler is an assertion: this is for tests.
 */
uint32_t modelled_expected_tokens(const struct modelled_config *config,
                                  const struct engine_submit *submit, uint32_t *tokens_out,
                                  enum engine_finish *finish_out);

#endif
