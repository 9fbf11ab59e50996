/*
 * loader.c: see loader.h.
 *
 * One thread queues; helpers and it read slices of one part after the other. What is being read is guarded by one
 * lock; who finds no slice left waits for the next part, and the caller for the slices that others still read.
 */
#include "engine/cuda/loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/time.h"

#define BUFFERS_MIN      2
#define PROGRESS_EVERY   (5 * TD_NS_PER_SEC)
#define WORTH_A_SENTENCE ((size_t)64 << 20)
#define MIB              ((double)(1 << 20))

struct loader_buffer {
    uint8_t *memory;
    size_t used;
};

struct cuda_loader {
    struct cuda_device *device;
    struct loader_buffer buffers[CUDA_LOADER_BUFFERS];
    uint32_t buffer_count;
    uint32_t current;
    size_t buffer_bytes;
    size_t slice_bytes;
    pthread_t helpers[CUDA_LOADER_HELPERS_MAX];
    uint32_t helper_count;

    /* What is being read, with the lock. */
    pthread_mutex_t lock;
    pthread_cond_t has_work;
    pthread_cond_t is_read;
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
    size_t begun; /* of bytes */
    size_t done;
    bool is_closing;

    /* For the log, or whoever wants to know. */
    struct cuda_progress progress;
    size_t total_bytes;
    size_t queued_bytes;
    uint64_t opened_ns;
    uint64_t told_ns;
};

/* ------------------------------------------------------------------ reading */

/* One slice, if there is one left; with the lock, which it leaves meanwhile. */
static bool read_slice(struct cuda_loader *loader)
{
    size_t at = loader->begun;
    size_t bytes = loader->bytes - at;

    if (bytes == 0)
        return false;
    if (bytes > loader->slice_bytes)
        bytes = loader->slice_bytes;
    loader->begun += bytes;
    pthread_mutex_unlock(&loader->lock);
    memcpy(loader->to + at, loader->from + at, bytes);
    pthread_mutex_lock(&loader->lock);
    loader->done += bytes;
    if (loader->done == loader->bytes)
        pthread_cond_signal(&loader->is_read);
    return true;
}

static void *help(void *argument)
{
    struct cuda_loader *loader = argument;

    pthread_mutex_lock(&loader->lock);
    while (!loader->is_closing)
        if (!read_slice(loader))
            pthread_cond_wait(&loader->has_work, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* All of a part. */
static void read_part(struct cuda_loader *loader, uint8_t *to, const uint8_t *from, size_t bytes)
{
    pthread_mutex_lock(&loader->lock);
    loader->to = to;
    loader->from = from;
    loader->bytes = bytes;
    loader->begun = 0;
    loader->done = 0;
    if (bytes > loader->slice_bytes)
        pthread_cond_broadcast(&loader->has_work);
    while (read_slice(loader))
        ;
    while (loader->done < loader->bytes)
        pthread_cond_wait(&loader->is_read, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
}

/* ------------------------------------------------------------------ copying */

static void tell_progress(struct cuda_loader *loader)
{
    const struct cuda_progress *progress = &loader->progress;
    uint64_t now_ns = td_now_ns();
    size_t done = loader->queued_bytes; /* packed matrices are not as large as those of files */

    if (progress->tell != NULL) {
        progress->tell(progress->ctx, "copying weights",
                       done < loader->total_bytes ? done : loader->total_bytes,
                       loader->total_bytes);
        return;
    }
    if (now_ns - loader->told_ns < PROGRESS_EVERY)
        return;
    loader->told_ns = now_ns;
    td_log(TD_LOG_INFO, "cuda", "loading weights mib %.0f of %.0f seconds %.0f", (double)done / MIB,
           (double)loader->total_bytes / MIB, (double)(now_ns - loader->opened_ns) / 1e9);
}

/* The next buffer, when what was copied from it has arrived. */
static td_status_t turn_over(struct cuda_loader *loader)
{
    cuda_device_mark(loader->device, loader->current);
    loader->current = (loader->current + 1) % loader->buffer_count;
    loader->buffers[loader->current].used = 0;
    return cuda_device_wait_mark(loader->device, loader->current, NULL);
}

void cuda_loader_copy(struct cuda_loader *loader, void *to, const void *from, size_t bytes)
{
    uint8_t *place = to;
    const uint8_t *source = from;

    while (bytes > 0 && loader->device->failure.status == TD_OK) {
        struct loader_buffer *buffer = &loader->buffers[loader->current];
        size_t part = loader->buffer_bytes - buffer->used;

        if (part == 0 && turn_over(loader) != TD_OK)
            return; /* the device keeps why */
        if (part == 0)
            continue;
        if (part > bytes)
            part = bytes;
        read_part(loader, buffer->memory + buffer->used, source, part);
        cuda_device_upload(loader->device, place, buffer->memory + buffer->used, part);
        buffer->used += part;
        place += part;
        source += part;
        bytes -= part;
        loader->queued_bytes += part;
        tell_progress(loader);
    }
}

/* ------------------------------------------------------------------ opening and closing */

/* As many as there is memory for, at least two. */
static td_status_t take_buffers(struct cuda_loader *loader, struct td_error *error)
{
    td_status_t status = TD_OK;

    while (loader->buffer_count < CUDA_LOADER_BUFFERS && status == TD_OK) {
        void *memory = NULL;

        status = cuda_device_take_host(loader->device, loader->buffer_bytes, &memory, error);
        if (status == TD_OK)
            loader->buffers[loader->buffer_count++].memory = memory;
    }
    return loader->buffer_count >= BUFFERS_MIN ? TD_OK : status;
}

static uint32_t helpers_wanted(const struct cuda_loader_options *options)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t most = options->helpers_max;

    if (most == 0)
        most = processors > 1 ? (uint32_t)processors - 1 : 0;
    else if (most == UINT32_MAX)
        most = 0;
    return most < CUDA_LOADER_HELPERS_MAX ? most : CUDA_LOADER_HELPERS_MAX;
}

/* Sizes that small models do not need are not taken. */
static size_t buffer_bytes(const struct cuda_loader_options *options)
{
    size_t bytes = options->buffer_bytes > 0 ? options->buffer_bytes : CUDA_LOADER_BUFFER_BYTES;

    if (options->total_bytes > 0 && options->total_bytes < bytes)
        bytes = options->total_bytes;
    return bytes;
}

static void stop_helpers(struct cuda_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->is_closing = true;
    pthread_cond_broadcast(&loader->has_work);
    pthread_mutex_unlock(&loader->lock);
    for (uint32_t i = 0; i < loader->helper_count; i++)
        pthread_join(loader->helpers[i], NULL);
    pthread_cond_destroy(&loader->is_read);
    pthread_cond_destroy(&loader->has_work);
    pthread_mutex_destroy(&loader->lock);
}

td_status_t cuda_loader_open(struct cuda_device *device, const struct cuda_loader_options *options,
                             struct cuda_loader **loader_out, struct td_error *error)
{
    struct cuda_loader *loader = calloc(1, sizeof *loader);
    uint32_t wanted = helpers_wanted(options);
    td_status_t status;

    if (loader == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for loading");
    loader->device = device;
    loader->buffer_bytes = buffer_bytes(options);
    loader->slice_bytes = options->slice_bytes > 0 ? options->slice_bytes : CUDA_LOADER_SLICE_BYTES;
    loader->total_bytes = options->total_bytes;
    loader->progress = options->progress;
    loader->opened_ns = loader->told_ns = td_now_ns();
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->has_work, NULL);
    pthread_cond_init(&loader->is_read, NULL);
    status = take_buffers(loader, error);
    if (status != TD_OK) {
        cuda_loader_close(loader);
        return status;
    }
    while (loader->helper_count < wanted &&
           pthread_create(&loader->helpers[loader->helper_count], NULL, help, loader) == 0)
        loader->helper_count++;
    *loader_out = loader;
    return TD_OK;
}

void cuda_loader_close(struct cuda_loader *loader)
{
    td_status_t status;

    if (loader == NULL)
        return;
    stop_helpers(loader);
    status = cuda_device_wait(loader->device, NULL); /* a failure is kept, and found by others */
    if (status == TD_OK && loader->queued_bytes >= WORTH_A_SENTENCE)
        td_log(TD_LOG_INFO, "cuda", "weights loaded mib %.0f seconds %.2f threads %" PRIu32,
               (double)loader->queued_bytes / MIB, (double)(td_now_ns() - loader->opened_ns) / 1e9,
               loader->helper_count + 1);
    for (uint32_t i = 0; i < loader->buffer_count; i++)
        cuda_device_give_host(loader->device, loader->buffers[i].memory);
    free(loader);
}
