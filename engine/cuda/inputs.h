/*
 * inputs.h: what a step is told, as one piece of 32-bit words: tokens, positions and tables of the rows, what the logits
 * are made from, and the slots of all sequences.
 *
 * Pure: from a batch to words in ordinary memory. The words are copied to the device in one piece, and kernels
 * find everything there, so a recorded step (graphs.h) is given new rows without being changed. Such a step has
 * a fixed number of rows and logits; what is missing is filled up with padding: token 0 at position 0 of a block of the
 * pool that belongs to nobody, and logits that nobody fetches.
 */
#ifndef TANDEM_ENGINE_CUDA_INPUTS_H
#define TANDEM_ENGINE_CUDA_INPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"

struct cuda_inputs {
    uint32_t rows;   /* padding included */
    uint32_t logits; /* padding included: what is picked */
    uint32_t heads;  /* given states that logits are made from: batch.heads[head_rows[i]] */
    uint32_t splits; /* of attention, of the longest row */
    size_t words;

    /* Where the arrays begin. */
    size_t tokens;
    size_t positions;
    size_t tables; /* of rows: where their slots begin within slots */
    size_t picks;  /* of logits: a row, or CUDA_PICK_HEAD and the number of a given state */
    size_t slots;
};

/* Logits that a batch wants, and whether each of its rows is of another sequence, as when all decode. */
uint32_t cuda_inputs_logits(const struct engine_batch *batch);
bool cuda_inputs_decode(const struct engine_batch *batch);

/* The splits of the longest row; 0: there are no rows. */
uint32_t cuda_inputs_splits(const struct engine_batch *batch);

/*
 * Writes a batch, which has been checked, as words for so many rows and logits, at least as many as it has.
 * spare_slot is the block of the padding. At most cuda_input_words of plan.h. head_rows_out has room for every output.
 */
void cuda_inputs_fill(const struct engine_batch *batch, uint32_t block_tokens, uint32_t spare_slot,
                      struct cuda_inputs *inputs, uint32_t *words, uint32_t *head_rows_out);

#endif
