/* device.c: see device.h: the first failure is kept, logged once, and ends everything behind it. */
#include "engine/cuda/device.h"

#include <assert.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/time.h"

#define POLL_NS 100000 /* between two looks at a queue */

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
    if (memory != NULL && !device->is_hung)
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
    if (memory != NULL && !device->is_hung)
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
    if (has_failed(device) || grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
    if (!device->is_recording)
        note(device, device->ops->launch(device, kernel, grid, args, &device->failure));
    else if (device->unrecorded.status == TD_OK)
        (void)device->ops->launch(device, kernel, grid, args, &device->unrecorded);
}

td_status_t cuda_device_open_dense(struct cuda_device *device, void *workspace, size_t bytes,
                                   struct td_error *error)
{
    if (has_failed(device))
        return repeat_failure(device, error);
    if (device->ops->open_dense == NULL)
        return td_fail(error, TD_UNSUPPORTED, "%s has no library for the fast variant",
                       device->info.name);
    return device->ops->open_dense(device, workspace, bytes, error);
}

void cuda_device_dense(struct cuda_device *device, const struct cuda_dense *dense)
{
    if (has_failed(device) || dense->tokens == 0)
        return;
    if (!device->is_recording)
        note(device, device->ops->dense(device, dense, &device->failure));
    else if (device->unrecorded.status == TD_OK)
        (void)device->ops->dense(device, dense, &device->unrecorded);
}

void cuda_device_mark(struct cuda_device *device, uint32_t mark)
{
    assert(mark < CUDA_MARKS);
    if (!has_failed(device))
        note(device, device->ops->mark(device, mark, &device->failure));
}

td_status_t cuda_device_wait_mark(struct cuda_device *device, uint32_t mark, struct td_error *error)
{
    assert(mark < CUDA_MARKS);
    if (!has_failed(device))
        note(device, device->ops->wait_mark(device, mark, &device->failure));
    return has_failed(device) ? repeat_failure(device, error) : TD_OK;
}

/* ------------------------------------------------------------------ graphs */

td_status_t cuda_device_capture(struct cuda_device *device, struct td_error *error)
{
    td_status_t status;

    assert(!device->is_recording);
    if (has_failed(device))
        return repeat_failure(device, error);
    status = device->ops->capture(device, error);
    device->is_recording = status == TD_OK;
    device->unrecorded = (struct td_error){0};
    return status;
}

td_status_t cuda_device_capture_end(struct cuda_device *device, struct cuda_graph **graph_out,
                                    struct td_error *error)
{
    bool is_whole = device->unrecorded.status == TD_OK;
    struct td_error ignored = {0};

    assert(device->is_recording);
    device->is_recording = false;
    if (is_whole)
        return device->ops->capture_end(device, graph_out, error);
    (void)device->ops->capture_end(device, NULL, &ignored);
    return td_fail(error, device->unrecorded.status, "%s", device->unrecorded.text);
}

void cuda_device_replay(struct cuda_device *device, struct cuda_graph *graph)
{
    if (!has_failed(device))
        note(device, device->ops->replay(device, graph, &device->failure));
}

void cuda_device_drop_graph(struct cuda_device *device, struct cuda_graph *graph)
{
    if (!device->is_hung)
        device->ops->drop_graph(device, graph);
}

td_status_t cuda_device_wait(struct cuda_device *device, struct td_error *error)
{
    if (!has_failed(device))
        note(device, device->ops->wait(device, &device->failure));
    return has_failed(device) ? repeat_failure(device, error) : TD_OK;
}

/* The time is looked at first: a process that was stopped meanwhile sees what the device has done since. */
static td_status_t poll_until(struct cuda_device *device, uint64_t deadline_ns)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};

    for (;;) {
        bool is_late = td_now_ns() >= deadline_ns;
        td_status_t status = device->ops->poll(device, &device->failure);

        if (status != TD_AGAIN || is_late)
            return status;
        nanosleep(&pause, NULL);
    }
}

td_status_t cuda_device_wait_within(struct cuda_device *device, uint64_t limit_ns,
                                    struct td_error *error)
{
    td_status_t status;

    if (has_failed(device))
        return repeat_failure(device, error);
    status = poll_until(device, td_now_ns() + limit_ns);
    device->is_hung = status == TD_AGAIN;
    if (device->is_hung)
        status = td_fail(&device->failure, TD_TIMEOUT, "%.100s hangs: its work did not end in %g s",
                         device->info.name, (double)limit_ns / 1e9);
    note(device, status);
    return has_failed(device) ? repeat_failure(device, error) : TD_OK;
}

void cuda_device_close(struct cuda_device *device)
{
    if (device != NULL)
        device->ops->close(device);
}
