/*
 * cuda.h: the CUDA backend: runs batch steps of a model on a device (device.h).
 *
 * Weights stay in the types of their file (F32 and F16: bf16; matrices of layers FP8 where that was asked for), activations
 * are 32-bit floats, inputs of products bf16, keys and values halves. Numerics class "cuda-bf16-4": the order of every sum is fixed by the matrix and by absolute
 * position, so batch, chunks and who wrote the KV change no bit. One backend is driven by one thread at a time.
 *
 * Steps in which every row decodes are recorded as graphs and replayed (graphs.h), which changes no bit.
 *
 * Not here: transfer of KV between devices (kvtransfer/).
 */
#ifndef TANDEM_ENGINE_CUDA_CUDA_H
#define TANDEM_ENGINE_CUDA_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/cuda/choice.h"
#include "engine/cuda/device.h"
#include "engine/cuda/loader.h"
#include "lib/base/status.h"
#include "model/model.h"

#define CUDA_NUMERICS         "cuda-bf16-4" /* the class of results, part of the content id */
#define CUDA_NUMERICS_FAST    "cuda-fast-1" /* of the fast variant, which depends on the batch */
#define CUDA_NUMERICS_FP8     "-fp8"        /* behind the class, where weights were rounded */
#define CUDA_ROWS_DEFAULT     512
#define CUDA_ROWS_MAX         ((uint32_t)1 << 14)
#define CUDA_OUTPUTS_DEFAULT  64
#define CUDA_OUTPUTS_MAX      ((uint32_t)1 << 12)
#define CUDA_FRACTION_DEFAULT 0.9

enum cuda_kv_dtype {
    CUDA_KV_F16 = 0,
    CUDA_KV_F32 = 1, /* twice the memory and traffic; for comparing with references */
};

/* Zero-initialised: the defaults above, f16, blocks of 16 tokens, as many as fit. */
struct cuda_options {
    double
        memory_fraction; /* of the device's memory, for all of this process; 0: CUDA_FRACTION_DEFAULT */
    enum cuda_kv_dtype kv_dtype;
    enum cuda_weights_form weights;  /* not with is_fast */
    uint32_t block_tokens;           /* 16 (or 0), 32, 64, 128 or 256 */
    uint32_t block_count;            /* 0: what memory is left for */
    uint32_t rows_max;               /* rows in one batch; 0: CUDA_ROWS_DEFAULT */
    uint32_t outputs_max;            /* outputs in one batch; 0: CUDA_OUTPUTS_DEFAULT */
    bool is_fast;                    /* products of many rows by cuBLASLt: see fast.h; BF16 only */
    struct cuda_progress progress;   /* of loading; tell NULL: the log hears of it */
    bool is_without_graphs;          /* every step is launched kernel by kernel */
    enum cuda_warpgroups warpgroups; /* for products of many tokens: see wide.h */
    uint64_t wide_limit_ns;          /* of their proof; 0: CUDA_WIDE_LIMIT_NS */
    bool is_without_early;    /* no kernel begins before the one before has ended: see device.h */
    const uint32_t *stop_ids; /* for engine_model_info: see text_model_stop_ids */
    uint32_t stop_id_count;   /* at most 32 */
};

/*
 * cuda_backend_open: a backend for a model on a device, which must both outlive it.
 * Plans the device's memory (plan.h), takes all of it that steps need, and copies the weights. kv_out describes the
 * pool: its base is memory of the device, which the backend owns, and there is no descriptor. TD_INVALID, TD_LIMIT,
 * TD_UNSUPPORTED or TD_NO_MEMORY, with what was planned. Closed by the ops of the backend.
 */
td_status_t cuda_backend_open(const struct model *model, struct cuda_device *device,
                              const struct cuda_options *options, struct engine_kv *kv_out,
                              struct engine_backend **backend_out,
                              struct td_error *error) TD_MUST_USE;

/* Recorded steps, since the backend was opened. */
struct cuda_graph_counts {
    uint64_t recorded;
    uint64_t replayed;
    uint64_t dropped; /* to make room for others */
    uint64_t failed;  /* to be recorded */
};

/* Of a backend that cuda_backend_open has given; on the thread that drives it. */
struct cuda_graph_counts cuda_backend_graphs(const struct engine_backend *backend);

#endif
