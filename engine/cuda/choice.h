/*
 * choice.h: which device a person has asked for, in the words of --device and --gpu-memory-fraction, what weights it is to
 * hold, in those of --gpu-weights, whether it may use warpgroups (--gpu-warpgroups), and how kernels are launched
 * (--gpu-launches). No device is touched: that a GPU is there, and has the memory, shows when it is opened.
 */
#ifndef TANDEM_ENGINE_CUDA_CHOICE_H
#define TANDEM_ENGINE_CUDA_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/status.h"

/* What weights are held as: what --gpu-weights says. */
#define CUDA_WEIGHTS_CHOICES \
    {                        \
        "as-is", "fp8", NULL \
    }
#define CUDA_WEIGHTS_FALLBACK "as-is"

enum cuda_weights_form {
    CUDA_WEIGHTS_AS_IS, /* F32 and F16 as bf16 */
    CUDA_WEIGHTS_FP8, /* matrices of layers that are F32, F16 or BF16: rounded to FP8, with a scale for each row */
};

/* Whether products of many tokens go by warpgroups: what --gpu-warpgroups says. */
#define CUDA_WARPGROUPS_CHOICES \
    {                           \
        "auto", "off", NULL     \
    }
#define CUDA_WARPGROUPS_FALLBACK "auto"

enum cuda_warpgroups {
    CUDA_WARPGROUPS_AUTO, /* where the GPU has them and shows that they change no bit */
    CUDA_WARPGROUPS_OFF,  /* not even tried */
};

/* How kernels are launched, which changes no result: what --gpu-launches says. */
#define CUDA_LAUNCHES_CHOICES \
    {                         \
        "auto", "plain", NULL \
    }
#define CUDA_LAUNCHES_FALLBACK "auto"

enum cuda_launches {
    CUDA_LAUNCHES_AUTO,  /* early where the GPU can, and as graphs */
    CUDA_LAUNCHES_PLAIN, /* each by itself, to begin when the one before has ended */
};

struct cuda_choice {
    bool is_gpu;
    uint32_t index;  /* of the GPU */
    double fraction; /* of its memory, above 0 and at most 1 */
};

/*
 * device: "cpu", "gpu" or "gpu:N"; "cuda" is another word for gpu. fraction: a decimal number, or NULL for
 * CUDA_FRACTION_DEFAULT. TD_INVALID names the flag.
 */
td_status_t cuda_choice_parse(const char *device, const char *fraction,
                              struct cuda_choice *choice_out, struct td_error *error) TD_MUST_USE;

/* --gpu-memory-fraction alone. */
td_status_t cuda_fraction_parse(const char *text, double *fraction_out,
                                struct td_error *error) TD_MUST_USE;

#endif
