/* absent.c: gpu.h in programs that were built without a CUDA toolkit. */
#include "engine/cuda/gpu/gpu.h"

const char *gpu_toolkit(void)
{
    return NULL;
}

td_status_t gpu_count(uint32_t *count_out, struct td_error *error)
{
    (void)count_out;
    return td_fail(error, TD_UNSUPPORTED, "this program was built without CUDA");
}

td_status_t gpu_open(uint32_t index, struct cuda_device **device_out, struct td_error *error)
{
    (void)device_out;
    return td_fail(error, TD_UNSUPPORTED,
                   "GPU %u: this program was built without CUDA: build it where there is a "
                   "toolkit (scripts/setup --cuda installs one without root, then scripts/build), "
                   "or compute on the CPU",
                   index);
}
