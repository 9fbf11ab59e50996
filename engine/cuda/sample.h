/*
 * sample.h: drawing tokens on the device: what kernels/sample.h is told of each output of a batch.
 *
 * An output with a draw (engine/backend.h) gets its token there, and its logits stay where they are.
 */
#ifndef TANDEM_ENGINE_CUDA_SAMPLE_H
#define TANDEM_ENGINE_CUDA_SAMPLE_H

#include <stdbool.h>

#include "engine/backend.h"
#include "engine/cuda/device.h"
#include "engine/cuda/kernels/args.h"
#include "engine/cuda/plan.h"

/* Whether the backend draws for an output. */
bool cuda_sample_wanted(const struct engine_output *output);

/* Fills a draw for each output; false if none is wanted, and then nothing needs to be drawn. */
bool cuda_sample_fill(const struct engine_batch *batch, struct cuda_draw *draws);

/*
 * Queues the kernels that draw: rows of logits are in the workspace, so are the draws, one for each output; tokens are left
 * there as well.
 */
void cuda_sample_queue(struct cuda_device *device, const struct cuda_shape *shape,
                       const struct cuda_workspace *work, uint32_t rows, uint32_t outputs);

#endif
