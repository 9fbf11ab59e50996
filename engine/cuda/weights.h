/*
 * weights.h: a model's weights in a device's memory.
 *
 * Matrices are packed (pack.h), F32 and F16 rounded to bf16, or all three to FP8; norms and biases are floats. What products have in common
 * becomes one matrix: queries, keys and values where their types are the same, gate and up too. One allocation.
 */
#ifndef TANDEM_ENGINE_CUDA_WEIGHTS_H
#define TANDEM_ENGINE_CUDA_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/choice.h"
#include "engine/cuda/device.h"
#include "engine/cuda/loader.h"
#include "lib/base/status.h"
#include "model/model.h"

/* Some of queries, keys and values. */
struct cuda_projection {
    struct cuda_matrix matrix;
    const float *bias; /* NULL: none */
};

/* As struct model_layer, with pointers into the device's memory. */
struct cuda_layer {
    const float *attention_norm;
    struct cuda_projection qkv[3]; /* one below the other */
    uint32_t qkv_count;
    const float *q_norm;
    const float *k_norm;
    struct cuda_matrix attention_output;
    const float *ffn_norm;
    struct cuda_matrix gate; /* paired: with up in it */
    struct cuda_matrix up;   /* else */
    struct cuda_matrix down;
};

struct cuda_weights {
    uint8_t *memory;
    size_t bytes;
    struct cuda_matrix embedding;
    struct cuda_matrix output; /* the embedding itself where they are tied */
    const float *output_norm;
    struct cuda_layer *layer; /* [layers] */
};

/* TD_UNSUPPORTED names a shape that the kernels do not take; TD_LIMIT if the size overflows. */
td_status_t cuda_weights_bytes(const struct model *model, enum cuda_weights_form form,
                               size_t *bytes_out, struct td_error *error) TD_MUST_USE;

/*
 * Takes memory and loads everything (loader.h), so that it is there. What fails names the tensor that was on its way when
 * that was met: copies and kernels run behind what queues them. Then nothing is kept.
 */
td_status_t cuda_weights_open(const struct model *model, enum cuda_weights_form form,
                              struct cuda_device *device, struct cuda_progress progress,
                              struct cuda_weights *weights_out, struct td_error *error) TD_MUST_USE;
void cuda_weights_close(struct cuda_weights *weights, struct cuda_device *device);

#endif
