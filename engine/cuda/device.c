/* device.c: see device.h: the first failure is kept, logged once, and ends everything behind it. */
#include "engine/cuda/device.h"

#include "lib/base/log.h"

static bool has_failed(const struct cuda_device *device)
{
    return device->failure.status != TD_OK;
}

static td_status_t repeat_failure(const struct cuda_device *device, struct td_error *error)
{
    return td_fail(error, device->failure.status, "%s", device->failure.text);
}

/* The result of a call of the device; its error is in device->failure already. */
static void note(struct cuda_device *device, td_status_t status)
{
    if (status != TD_OK)
        td_log(TD_LOG_ERROR, "cuda", "%s", device->failure.text);
}

td_status_t cuda_device_free_bytes(struct cuda_device *device, size_t *bytes_out,
                                   struct td_error *error)
{
    return has_failed(device) ? repeat_failure(device, error)
                              : device->ops->free_bytes(device, bytes_out, error);
}

td_status_t cuda_device_take(struct cuda_device *device, size_t bytes, void **memory_out,
                             struct td_error *error)
{
    return has_failed(device) ? repeat_failure(device, error)
                              : device->ops->take(device, bytes, memory_out, error);
}

void cuda_device_give(struct cuda_device *device, void *memory)
{
    if (memory != NULL)
        device->ops->give(device, memory);
}

td_status_t cuda_device_take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                                  struct td_error *error)
{
    return has_failed(device) ? repeat_failure(device, error)
                              : device->ops->take_host(device, bytes, memory_out, error);
}

void cuda_device_give_host(struct cuda_device *device, void *memory)
{
    if (memory != NULL)
        device->ops->give_host(device, memory);
}

void cuda_device_upload(struct cuda_device *device, void *to, const void *from, size_t bytes)
{
    if (!has_failed(device) && bytes > 0)
        note(device, device->ops->upload(device, to, from, bytes, &device->failure));
}

void cuda_device_download(struct cuda_device *device, void *to, const void *from, size_t bytes)
{
    if (!has_failed(device) && bytes > 0)
        note(device, device->ops->download(device, to, from, bytes, &device->failure));
}

void cuda_device_launch(struct cuda_device *device, enum cuda_kernel kernel, struct cuda_grid grid,
                        const void *args)
{
    if (!has_failed(device) && grid.x > 0 && grid.y > 0 && grid.z > 0)
        note(device, device->ops->launch(device, kernel, grid, args, &device->failure));
}

td_status_t cuda_device_wait(struct cuda_device *device, struct td_error *error)
{
    if (!has_failed(device))
        note(device, device->ops->wait(device, &device->failure));
    return has_failed(device) ? repeat_failure(device, error) : TD_OK;
}

void cuda_device_close(struct cuda_device *device)
{
    if (device != NULL)
        device->ops->close(device);
}
