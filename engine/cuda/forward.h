/*
 * forward.h: one batch step as a queue of kernels.
 *
 * Owns what a step is made of, and the host's side of its inputs and results. backend.c opens, checks and closes.
 */
#ifndef TANDEM_ENGINE_CUDA_FORWARD_H
#define TANDEM_ENGINE_CUDA_FORWARD_H

#include "engine/backend.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/device.h"
#include "engine/cuda/fast.h"
#include "engine/cuda/graphs.h"
#include "engine/cuda/multiply.h"
#include "engine/cuda/plan.h"
#include "engine/cuda/sample.h"
#include "engine/cuda/weights.h"
#include "model/model.h"

struct cuda_backend {
    struct engine_backend base; /* first: see engine/backend.h */
    const struct model *model;
    struct cuda_device *device;
    struct cuda_shape shape;
    struct cuda_weights weights;
    struct cuda_fast fast; /* empty unless asked for */
    struct cuda_pool pool;
    uint32_t block_count; /* of the pool; one more is behind them, for padding */
    void *workspace_memory;
    struct cuda_workspace workspace;
    struct cuda_multiplier multiplier; /* with parts of the workspace */
    bool has_graphs;
    struct cuda_graphs graphs;
    uint64_t started_ns; /* the step at hand */

    /* Memory of the host that copies go from and to. */
    uint32_t *inputs;    /* as workspace.inputs */
    uint32_t *head_rows; /* [outputs_max]: see inputs.h */
    float *heads;        /* [outputs_max][hidden] */
    float *results;      /* [outputs_max][vocab or hidden] */
    size_t result_stride;
    const float **outputs; /* [outputs_max]: pointers handed out */
    struct cuda_draws draws;
    bool has_drawn; /* in the step at hand */
};

/*
 * Queues a step that has passed the checks, with the copies of its results to backend->outputs. The batch is not needed
 * afterwards. What fails is met by whoever waits for the device.
 */
void cuda_forward(struct cuda_backend *backend, const struct engine_batch *batch);

#endif
