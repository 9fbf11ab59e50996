/* gpu_double.c: see gpu_double.h. */
#include "tests/worker/gpu_double.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "tests/support/support.h"

struct double_device {
    struct kvt_device base;
    struct kvt_cuda_config config;
};

struct kvt_mark {
    char nothing;
};

static bool devices_reach = true;
static bool pools_share = true;
static bool pools_open = true;
static pthread_mutex_t drains_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t drains_go_on = PTHREAD_COND_INITIALIZER;
static bool drains_are_held;
static struct kvt_mark passed; /* every mark: there is nothing to wait for */

void gpu_double_reach(bool reach)
{
    devices_reach = reach;
}

void gpu_double_share(bool can_share)
{
    pools_share = can_share;
}

void gpu_double_open_shared(bool can_open)
{
    pools_open = can_open;
}

void gpu_double_hold_drains(bool are_held)
{
    pthread_mutex_lock(&drains_mutex);
    drains_are_held = are_held;
    pthread_cond_broadcast(&drains_go_on);
    pthread_mutex_unlock(&drains_mutex);
}

static td_status_t queue_open(struct kvt_device *device, struct kvt_queue **queue_out,
                              struct td_error *error)
{
    struct kvt_queue *queue = calloc(1, sizeof *queue);

    (void)error;
    assert_non_null(queue);
    queue->device = device;
    queue->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(queue->descriptor >= 0);
    *queue_out = queue;
    return TD_OK;
}

static void queue_close(struct kvt_queue *queue)
{
    close(queue->descriptor);
    free(queue);
}

static td_status_t queue_copy(struct kvt_queue *queue, void *to, const void *from, size_t bytes)
{
    (void)queue;
    memcpy(to, from, bytes);
    return TD_OK;
}

static td_status_t queue_mark(struct kvt_queue *queue, struct kvt_mark **mark_out)
{
    uint64_t one = 1;

    *mark_out = &passed;
    assert_int_equal(write(queue->descriptor, &one, sizeof one), sizeof one);
    return TD_OK;
}

static td_status_t queue_poll(struct kvt_queue *queue, struct kvt_mark *mark)
{
    (void)queue;
    assert_ptr_equal(mark, &passed);
    return TD_OK;
}

static void queue_drain(struct kvt_queue *queue)
{
    (void)queue;
    pthread_mutex_lock(&drains_mutex);
    while (drains_are_held)
        pthread_cond_wait(&drains_go_on, &drains_mutex);
    pthread_mutex_unlock(&drains_mutex);
}

static td_status_t hash(struct kvt_device *device, const void *const *blocks, size_t count,
                        size_t block_bytes, struct td_u128 *hashes_out)
{
    const struct kvt_hasher *hasher = &((struct double_device *)device)->config.hasher;

    assert_non_null(hasher->hash);
    return hasher->hash(hasher->impl, blocks, count, block_bytes, hashes_out);
}

/* Where the pool is, and how large. */
static td_status_t share(struct kvt_device *device, uint8_t out[static KVT_SHARE_BYTES],
                         struct td_error *error)
{
    const struct kvt_cuda_config *config = &((struct double_device *)device)->config;

    if (!pools_share)
        return td_fail(error, TD_INTERNAL, "this GPU has no handles for its memory");
    memset(out, 0, KVT_SHARE_BYTES);
    memcpy(out, &config->pool, sizeof config->pool);
    memcpy(out + sizeof config->pool, &config->pool_bytes, sizeof config->pool_bytes);
    return TD_OK;
}

static td_status_t open_shared(struct kvt_device *device,
                               const uint8_t shared[static KVT_SHARE_BYTES], uint64_t bytes,
                               struct kvt_mapping **mapping_out, struct td_error *error)
{
    struct kvt_mapping *mapping;

    (void)device;
    if (!pools_open)
        return td_fail(error, TD_INTERNAL, "the handle is of another namespace");
    mapping = calloc(1, sizeof *mapping);
    assert_non_null(mapping);
    memcpy(&mapping->base, shared, sizeof mapping->base);
    memcpy(&mapping->bytes, shared + sizeof mapping->base, sizeof mapping->bytes);
    assert_int_equal(mapping->bytes, bytes);
    *mapping_out = mapping;
    return TD_OK;
}

static void unmap(struct kvt_device *device, struct kvt_mapping *mapping)
{
    (void)device;
    free(mapping);
}

static td_status_t pin(struct kvt_device *device, void *base, size_t bytes, struct td_error *error)
{
    (void)device;
    (void)base;
    (void)bytes;
    (void)error;
    return TD_OK;
}

static void unpin(struct kvt_device *device, void *base)
{
    (void)device;
    (void)base;
}

static void close_device(struct kvt_device *device)
{
    free(device);
}

static td_status_t enter(struct kvt_device *device, struct td_error *error)
{
    (void)device;
    (void)error;
    return TD_OK;
}

static const struct kvt_device_ops ops = {
    .enter = enter,
    .queue_open = queue_open,
    .queue_close = queue_close,
    .copy = queue_copy,
    .mark = queue_mark,
    .poll = queue_poll,
    .drain = queue_drain,
    .hash = hash,
    .share = share,
    .open = open_shared,
    .unmap = unmap,
    .pin = pin,
    .unpin = unpin,
    .close = close_device,
};

td_status_t gpu_double_open(const struct kvt_cuda_config *config, struct kvt_device **device_out,
                            struct td_error *error)
{
    struct double_device *device = calloc(1, sizeof *device);

    (void)error;
    assert_non_null(device);
    device->base.ops = &ops;
    device->base.reach = devices_reach ? (struct td_u128){.lo = 1} : td_random_u128();
    device->config = *config;
    *device_out = &device->base;
    return TD_OK;
}
