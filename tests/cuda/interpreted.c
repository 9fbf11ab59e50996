/* interpreted.c: test programs with this file run kernels through the interpreter. */
#include "engine/cuda/interpreted/interpreter.h"
#include "tests/cuda/rig.h"

struct cuda_device *cuda_rig_device(void)
{
    struct cuda_device *device = NULL;
    struct td_error error = {0};

    if (interpreter_open((size_t)1 << 30, &device, &error) != TD_OK)
        fail_msg("%s", error.text);
    return device;
}
