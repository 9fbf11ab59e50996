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
#include "engine/cuda/plan.h"
#include "engine/cuda/weights.h"
#include "model/model.h"

struct cuda_backend {
    struct engine_backend base; /* first: see engine/backend.h */
    const struct model *model;
    struct cuda_device *device;
    struct cuda_shape shape;
    struct cuda_weights weights;
    struct cuda_pool pool;
    uint32_t block_count;
    void *workspace_memory;
    struct cuda_workspace workspace;

    /* Memory of the host that copies go from and to. */
    uint32_t *inputs; /* as workspace.inputs */
    float *heads;     /* [outputs_max][hidden] */
    float *results;   /* [outputs_max][vocab or hidden] */
    size_t result_stride;
    const float **outputs; /* [outputs_max]: pointers handed out */
};

/* Runs a step that has passed the checks of backend.c; the device's failures are its result. */
td_status_t cuda_forward(struct cuda_backend *backend, const struct engine_batch *batch,
                         struct td_error *error) TD_MUST_USE;

#endif
