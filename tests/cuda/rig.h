/*
 * rig.h: a model and a CUDA backend on a device for tests, and the device itself.
 *
 * Test programs are linked with interpreted.c or gpu.c, which say what the device is; so the same tests run through the
 * interpreter everywhere and on a GPU where there is one.
 */
#ifndef TANDEM_TESTS_CUDA_RIG_H
#define TANDEM_TESTS_CUDA_RIG_H

#include "engine/cuda/cuda.h"
#include "engine/cuda/device.h"
#include "tests/engine/cpu_rig.h"
#include "tests/model/gguf_build.h"

/* The device of this program; fails the test, or for a GPU that is not there skips the program, visibly. */
struct cuda_device *cuda_rig_device(void);

/* Whatever the backend, feeding it is the same: see tests/engine/cpu_rig.h. */
struct cuda_rig {
    struct cpu_rig base; /* without a CPU backend or a pool of its own */
    struct cuda_device *device;
    uint8_t *bytes; /* of a model that was made; else NULL */
};

/* A model from a file or folder, or of a shape. Both fail the test if it cannot be opened. */
struct model *cuda_rig_file(const char *path);
struct model *cuda_rig_shape(const struct model_shape *shape, uint8_t **bytes_out);

/* Fails the test if the backend cannot be opened. Device and model move to the rig; block_count 0: 64. */
void cuda_rig_open(struct cuda_rig *rig, struct cuda_device *device, struct model *model,
                   const struct cuda_options *options);
void cuda_rig_close(struct cuda_rig *rig);

#endif
