/* gpu.c: test programs with this file run on the first GPU; without one they are skipped. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/cuda/gpu/gpu.h"
#include "tests/cuda/rig.h"

#define SKIPPED 77 /* for ctest */

struct cuda_device *cuda_rig_device(void)
{
    struct cuda_device *device = NULL;
    struct td_error error = {0};
    td_status_t status = gpu_open(0, &device, &error);

    if (status == TD_NOT_FOUND) {
        printf("[  SKIPPED ] %s\n", error.text);
        exit(SKIPPED);
    }
    if (status != TD_OK)
        fail_msg("%s", error.text);
    return device;
}
