/*
 * sample.h: drawing tokens on the device: what kernels/sample.h is told of each output of a batch.
 *
 * An output with a draw (engine/backend.h) gets its token there, and its logits stay where they are. Biases and penalties
 * travel as a list of tokens for each draw; there is room for so many in a step (cuda_changes_max of plan.h). A draw whose
 * list does not fit is left to the core, which is given the logits and counts it.
 */
#ifndef TANDEM_ENGINE_CUDA_SAMPLE_H
#define TANDEM_ENGINE_CUDA_SAMPLE_H

#include <stdbool.h>

#include "engine/backend.h"
#include "engine/cuda/device.h"
#include "engine/cuda/kernels/args.h"
#include "engine/cuda/plan.h"

/* The draws of a step, in memory of the host that copies go from. */
struct cuda_draws {
    struct cuda_draw *each;           /* [outputs_max] */
    struct cuda_change *changes;      /* [cuda_changes_max] */
    uint32_t *masks;                  /* [outputs_max][cuda_mask_words] */
    struct engine_logprobs *logprobs; /* [outputs_max] where results come to */
    uint32_t *tokens;                 /* the same */
    uint32_t outputs;
    uint32_t logits; /* rows of them */
    uint32_t asked;  /* draws, those left to the core included */
    uint32_t with_logprobs;
    uint32_t mask_count;
    size_t change_count;
    bool has_left; /* one to the core, ever; the first is logged */
};

/* Takes the arrays from the device. What was taken until a failure cuda_draws_close gives back. */
td_status_t cuda_draws_open(struct cuda_draws *draws, struct cuda_device *device,
                            const struct cuda_shape *shape, struct td_error *error) TD_MUST_USE;
void cuda_draws_close(struct cuda_draws *draws, struct cuda_device *device);

/* Says what is drawn for the outputs of a batch; false if nobody asks for a draw. */
bool cuda_draws_fill(struct cuda_draws *draws, const struct cuda_shape *shape,
                     const struct engine_batch *batch);

/*
 * Queues drawing from the rows of logits in the workspace, and the copies of tokens, one for each output, and of
 * log-probabilities to draws.
 */
void cuda_draws_queue(const struct cuda_draws *draws, struct cuda_device *device,
                      const struct cuda_shape *shape, const struct cuda_workspace *work);

#endif
