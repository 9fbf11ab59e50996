/*
 * weights.h: a model's weights in a device's memory, in the types of the model file.
 *
 * Nothing is converted: kernels take blocks apart while they read. Norms and biases are floats. One allocation. A matrix
 * without data (NULL) gets random weights, made on the device: for benchmarks of models that no file is needed for.
 */
#ifndef TANDEM_ENGINE_CUDA_WEIGHTS_H
#define TANDEM_ENGINE_CUDA_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/device.h"
#include "lib/base/status.h"
#include "model/model.h"

/* As struct model_layer, with pointers into the device's memory. */
struct cuda_layer {
    const float *attention_norm;
    struct cuda_matrix q;
    struct cuda_matrix k;
    struct cuda_matrix v;
    const float *q_bias;
    const float *k_bias;
    const float *v_bias;
    const float *q_norm;
    const float *k_norm;
    struct cuda_matrix attention_output;
    const float *ffn_norm;
    struct cuda_matrix gate;
    struct cuda_matrix up;
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
td_status_t cuda_weights_bytes(const struct model *model, size_t *bytes_out,
                               struct td_error *error) TD_MUST_USE;

/* Takes memory and loads everything (loader.h), so that it is there. What fails names the tensor; then nothing is kept. */
td_status_t cuda_weights_open(const struct model *model, struct cuda_device *device,
                              struct cuda_weights *weights_out, struct td_error *error) TD_MUST_USE;
void cuda_weights_close(struct cuda_weights *weights, struct cuda_device *device);

#endif
