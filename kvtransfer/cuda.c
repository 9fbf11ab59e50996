/* cuda.c: see cuda.h. */
#include "kvtransfer/cuda.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kvtransfer/cuda_private.h"
#include "lib/base/list.h"
#include "lib/base/log.h"

#define BOUNCE_BYTES \
    ((size_t)4 << 20) /* of blocks hashed on the host at a time, unless one is larger */

struct kvt_mark {
    struct td_list in_queue; /* while it waits to be used again */
    void *event;
};

struct cuda_queue {
    struct kvt_queue base; /* first: see memory.h */
    void *stream;
    struct td_list spare;         /* struct kvt_mark */
    struct cuda_queue *next_ruin; /* see queue_close */
};

static struct cuda_memory *memory_of(const struct kvt_queue *queue)
{
    return (struct cuda_memory *)queue->device;
}

td_status_t cuda_enter(const struct cuda_memory *memory, struct td_error *error)
{
    return driver_check(memory->driver, memory->driver->context_set(memory->context),
                        "cuCtxSetCurrent", error);
}

/* Of calls whose callers have no error to fill: said here, once for each. */
static td_status_t check(const struct cuda_memory *memory, int result, const char *what)
{
    struct td_error error = {0};
    td_status_t status = driver_check(memory->driver, result, what, &error);

    if (status != TD_OK)
        td_log(TD_LOG_ERROR, "kvtransfer", "%s", error.text);
    return status;
}

/* --------------------------------------------------------------------------------------- queues */

/* On a thread of the driver's; the only thing that may be done there is to say so. */
static void on_passed(void *argument)
{
    const struct cuda_queue *queue = argument;
    uint64_t one = 1;

    while (write(queue->base.descriptor, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static td_status_t queue_open(struct kvt_device *device, struct kvt_queue **queue_out,
                              struct td_error *error)
{
    struct cuda_memory *memory = (struct cuda_memory *)device;
    struct cuda_queue *queue;
    td_status_t status = cuda_enter(memory, error);

    if (status != TD_OK)
        return status;
    queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a queue of copies");
    queue->base.device = device;
    td_list_init(&queue->spare);
    queue->base.descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->base.descriptor < 0)
        status = td_fail(error, TD_IO, "eventfd: %s", strerror(errno));
    else
        status =
            driver_check(memory->driver,
                         memory->driver->stream_create(&queue->stream, DRIVER_STREAM_NON_BLOCKING),
                         "cuStreamCreate", error);
    if (status != TD_OK) {
        if (queue->base.descriptor >= 0)
            close(queue->base.descriptor);
        free(queue);
        return status;
    }
    *queue_out = &queue->base;
    return TD_OK;
}

/* Not TD_OK: the GPU has failed, so that nothing of it runs any more. */
static td_status_t queue_wait(struct cuda_queue *queue)
{
    const struct cuda_memory *memory = memory_of(&queue->base);
    td_status_t status = cuda_enter(memory, NULL);

    return status != TD_OK
               ? status
               : driver_check(memory->driver, memory->driver->stream_wait(queue->stream),
                              "cuStreamSynchronize", NULL);
}

static void queue_drain(struct kvt_queue *base)
{
    (void)queue_wait((struct cuda_queue *)base);
}

static td_status_t queue_stream(struct kvt_queue *base, void **stream_out)
{
    td_status_t status = cuda_enter(memory_of(base), NULL);

    if (status == TD_OK)
        *stream_out = ((struct cuda_queue *)base)->stream;
    return status;
}

static void mark_free(const struct cuda_memory *memory, struct kvt_mark *mark)
{
    (void)memory->driver->event_destroy(mark->event);
    free(mark);
}

/*
 * Where a GPU has failed nobody can wait for the driver's thread, which may be in on_passed at this moment: such a queue
 * is kept until the process ends.
 */
static void queue_close(struct kvt_queue *base)
{
    static _Atomic(struct cuda_queue *) ruins;
    struct cuda_memory *memory = memory_of(base);
    struct cuda_queue *queue = (struct cuda_queue *)base;
    td_status_t status = queue_wait(queue);

    td_list_for_each(node, &queue->spare)
    {
        td_list_remove(node);
        mark_free(memory, td_container_of(node, struct kvt_mark, in_queue));
    }
    (void)memory->driver->stream_destroy(queue->stream);
    if (status != TD_OK) {
        queue->next_ruin = atomic_exchange(&ruins, queue);
        return;
    }
    close(base->descriptor);
    free(queue);
}

static td_status_t queue_copy(struct kvt_queue *base, void *to, const void *from, size_t bytes)
{
    struct cuda_memory *memory = memory_of(base);
    struct cuda_queue *queue = (struct cuda_queue *)base;
    td_status_t status = cuda_enter(memory, NULL);

    if (status != TD_OK)
        return status;
    return check(memory,
                 memory->driver->copy(cuda_address(to), cuda_address(from), bytes, queue->stream),
                 "a copy of KV blocks cannot be queued");
}

static struct kvt_mark *mark_take(struct cuda_queue *queue)
{
    const struct cuda_memory *memory = memory_of(&queue->base);
    struct td_list *node = td_list_first(&queue->spare);
    struct kvt_mark *mark;

    if (node != NULL) {
        td_list_remove(node);
        return td_container_of(node, struct kvt_mark, in_queue);
    }
    mark = calloc(1, sizeof *mark);
    if (mark == NULL)
        return NULL;
    td_list_init(&mark->in_queue);
    if (memory->driver->event_create(&mark->event, DRIVER_EVENT_DISABLE_TIMING) == DRIVER_SUCCESS)
        return mark;
    free(mark);
    return NULL;
}

static td_status_t queue_mark(struct kvt_queue *base, struct kvt_mark **mark_out)
{
    struct cuda_memory *memory = memory_of(base);
    struct cuda_queue *queue = (struct cuda_queue *)base;
    struct kvt_mark *mark;
    td_status_t status = cuda_enter(memory, NULL);

    if (status != TD_OK)
        return status;
    mark = mark_take(queue);
    if (mark == NULL)
        return TD_NO_MEMORY;
    status =
        check(memory, memory->driver->event_record(mark->event, queue->stream), "cuEventRecord");
    if (status == TD_OK)
        status = check(memory, memory->driver->call_host(queue->stream, on_passed, queue),
                       "cuLaunchHostFunc");
    if (status != TD_OK) {
        mark_free(memory, mark);
        return status;
    }
    memory->base.mark_count++;
    *mark_out = mark;
    return TD_OK;
}

static td_status_t queue_poll(struct kvt_queue *base, struct kvt_mark *mark)
{
    struct cuda_memory *memory = memory_of(base);
    struct cuda_queue *queue = (struct cuda_queue *)base;
    td_status_t status = cuda_enter(memory, NULL);
    int result;

    if (status == TD_OK) {
        result = memory->driver->event_query(mark->event);
        if (result == DRIVER_NOT_READY)
            return TD_AGAIN;
        status = check(memory, result, "copies of KV blocks failed");
    }
    memory->base.mark_count--;
    td_list_push_back(&queue->spare, &mark->in_queue);
    return status;
}

/* --------------------------------------------------------------------------------------- hashes */

static td_status_t pin(struct kvt_device *device, void *base, size_t bytes, struct td_error *error)
{
    struct cuda_memory *memory = (struct cuda_memory *)device;
    td_status_t status = cuda_enter(memory, error);

    if (status != TD_OK)
        return status;
    return driver_check(memory->driver, memory->driver->host_register(base, bytes, 0),
                        "cuMemHostRegister", error);
}

static void unpin(struct kvt_device *device, void *base)
{
    struct cuda_memory *memory = (struct cuda_memory *)device;

    if (cuda_enter(memory, NULL) == TD_OK)
        (void)memory->driver->host_unregister(base);
}

static void bounce_close(struct cuda_memory *memory)
{
    if (memory->hashing != NULL)
        queue_close(memory->hashing);
    if (memory->is_pinned)
        unpin(&memory->base, memory->bounce);
    free(memory->bounce);
    memory->hashing = NULL;
    memory->bounce = NULL;
    memory->is_pinned = false;
}

/* Room for at least one block. */
static td_status_t bounce_open(struct cuda_memory *memory, size_t block_bytes)
{
    size_t wanted = block_bytes > BOUNCE_BYTES ? block_bytes : BOUNCE_BYTES;
    struct td_error error = {0};
    td_status_t status;

    if (memory->bounce_bytes >= wanted)
        return TD_OK;
    bounce_close(memory);
    memory->bounce_bytes = 0;
    memory->bounce = malloc(wanted);
    if (memory->bounce == NULL)
        return TD_NO_MEMORY;
    memory->is_pinned = pin(&memory->base, memory->bounce, wanted, &error) == TD_OK;
    if (!memory->is_pinned)
        td_log(TD_LOG_WARN, "kvtransfer", "blocks are hashed through pageable memory, slowly: %s",
               error.text);
    status = queue_open(&memory->base, &memory->hashing, &error);
    if (status != TD_OK) {
        td_log(TD_LOG_ERROR, "kvtransfer", "memory to hash blocks in: %s", error.text);
        bounce_close(memory);
        return status;
    }
    memory->bounce_bytes = wanted;
    return TD_OK;
}

static td_status_t hash_some(struct cuda_memory *memory, const void *const *blocks, size_t count,
                             size_t block_bytes, struct td_u128 *hashes_out)
{
    struct cuda_queue *queue = (struct cuda_queue *)memory->hashing;
    td_status_t status = TD_OK;

    for (size_t i = 0; i < count && status == TD_OK; i++)
        status =
            queue_copy(memory->hashing, memory->bounce + i * block_bytes, blocks[i], block_bytes);
    if (status == TD_OK)
        status =
            check(memory, memory->driver->stream_wait(queue->stream), "copies of KV blocks failed");
    if (status != TD_OK) {
        queue_drain(memory->hashing);
        return status;
    }
    for (size_t i = 0; i < count; i++)
        hashes_out[i] = td_hash128(memory->bounce + i * block_bytes, block_bytes);
    return TD_OK;
}

static td_status_t hash(struct kvt_device *device, const void *const *blocks, size_t count,
                        size_t block_bytes, struct td_u128 *hashes_out)
{
    struct cuda_memory *memory = (struct cuda_memory *)device;
    const struct kvt_hasher *hasher = &memory->config.hasher;
    td_status_t status;
    size_t fit;

    if (hasher->hash != NULL)
        return hasher->hash(hasher->impl, blocks, count, block_bytes, hashes_out);
    status = bounce_open(memory, block_bytes);
    if (status != TD_OK)
        return status;
    fit = memory->bounce_bytes / block_bytes;
    for (size_t i = 0; i < count && status == TD_OK; i += fit)
        status = hash_some(memory, blocks + i, count - i < fit ? count - i : fit, block_bytes,
                           hashes_out + i);
    return status;
}

/* ------------------------------------------------------------------------------- open and close */

static void cuda_close(struct kvt_device *device)
{
    struct cuda_memory *memory = (struct cuda_memory *)device;

    bounce_close(memory);
    (void)memory->driver->context_release(memory->device);
    free(memory);
}

static td_status_t enter(struct kvt_device *device, struct td_error *error)
{
    return cuda_enter((struct cuda_memory *)device, error);
}

static const struct kvt_device_ops ops = {
    .enter = enter,
    .queue_open = queue_open,
    .queue_close = queue_close,
    .copy = queue_copy,
    .mark = queue_mark,
    .poll = queue_poll,
    .drain = queue_drain,
    .stream = queue_stream,
    .hash = hash,
    .share = cuda_share,
    .open = cuda_map,
    .unmap = cuda_unmap,
    .pin = pin,
    .unpin = unpin,
    .close = cuda_close,
};

/* The GPU is the one that the pool lies in. */
static td_status_t find_gpu(struct cuda_memory *memory, struct td_error *error)
{
    const struct driver *driver = memory->driver;

    if (driver->pointer_attribute(&memory->ordinal, DRIVER_POINTER_DEVICE_ORDINAL,
                                  cuda_address(memory->config.pool)) != DRIVER_SUCCESS)
        return td_fail(error, TD_INVALID, "the pool is not memory of a GPU of this process");
    return driver_check(driver, driver->device_get(&memory->device, memory->ordinal), "cuDeviceGet",
                        error);
}

/* Handles are for whole allocations: the pool must be one, from its beginning. */
static td_status_t check_pool(struct cuda_memory *memory, struct td_error *error)
{
    unsigned long long base = 0;
    size_t bytes = 0;
    td_status_t status = driver_check(
        memory->driver,
        memory->driver->address_range(&base, &bytes, cuda_address(memory->config.pool)),
        "cuMemGetAddressRange", error);

    if (status != TD_OK)
        return status;
    if (base != cuda_address(memory->config.pool) || bytes < memory->config.pool_bytes)
        return td_fail(error, TD_INVALID,
                       "the pool is not the beginning of one allocation of %zu bytes",
                       memory->config.pool_bytes);
    return TD_OK;
}

static td_status_t prepare(struct cuda_memory *memory, struct td_error *error)
{
    td_status_t status = cuda_enter(memory, error);

    if (status == TD_OK)
        status = check_pool(memory, error);
    if (status == TD_OK)
        status = cuda_reach(memory, &memory->base.reach, error);
    return status;
}

td_status_t kvt_cuda_open(const struct kvt_cuda_config *config, struct kvt_device **device_out,
                          struct td_error *error)
{
    struct cuda_memory *memory = calloc(1, sizeof *memory);
    td_status_t status;

    if (memory == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a device");
    memory->base.ops = &ops;
    memory->base.hashes_on_host = config->hasher.hash == NULL;
    memory->config = *config;
    status = driver_load(config->library, &memory->driver, error);
    if (status == TD_OK)
        status = find_gpu(memory, error);
    if (status == TD_OK)
        status = driver_check(memory->driver,
                              memory->driver->context_retain(&memory->context, memory->device),
                              "cuDevicePrimaryCtxRetain", error);
    if (status != TD_OK) {
        free(memory);
        return status;
    }
    status = prepare(memory, error);
    if (status != TD_OK) {
        cuda_close(&memory->base);
        return status;
    }
    snprintf(memory->base.library, sizeof memory->base.library, "cuda %d.%d",
             memory->driver->version / 1000, memory->driver->version % 1000 / 10);
    *device_out = &memory->base;
    return TD_OK;
}
