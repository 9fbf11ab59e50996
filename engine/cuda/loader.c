/*
 * loader.c: see loader.h.
 *
 * A buffer is free, is being read into by one of the threads, waits for the caller's thread, which alone calls the
 * device, and is copied from; then it is free again. One lock guards these states and the cursor.
 */
#include "engine/cuda/loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "engine/cuda/plan.h"
#include "lib/base/log.h"
#include "lib/base/time.h"

#define BUFFERS_MIN    2
#define PROGRESS_EVERY (5 * TD_NS_PER_SEC)
#define MIB            ((double)(1 << 20))

/* ------------------------------------------------------------------ chunks */

bool cuda_load_next(const struct cuda_load_piece *pieces, size_t count, size_t bytes_max,
                    struct cuda_load_cursor *cursor, struct cuda_load_chunk *chunk_out)
{
    struct cuda_load_chunk chunk = {.first = cursor->piece};

    if (cursor->piece == count)
        return false;
    chunk.to = pieces[cursor->piece].to + cursor->offset;
    while (cursor->piece < count) {
        const struct cuda_load_piece *piece = &pieces[cursor->piece];
        size_t gap = (size_t)(piece->to + cursor->offset - (chunk.to + chunk.bytes));
        size_t left = piece->bytes - cursor->offset;

        if (gap >= CUDA_ALIGNMENT || gap >= bytes_max - chunk.bytes)
            break;
        chunk.bytes += gap;
        if (left > bytes_max - chunk.bytes) {
            cursor->offset += bytes_max - chunk.bytes;
            chunk.bytes = bytes_max;
            break;
        }
        chunk.bytes += left;
        *cursor = (struct cuda_load_cursor){.piece = cursor->piece + 1};
    }
    *chunk_out = chunk;
    return true;
}

void cuda_load_read(const struct cuda_load_piece *pieces, size_t count,
                    const struct cuda_load_chunk *chunk, uint8_t *buffer)
{
    size_t at = 0; /* how much of the chunk there is */

    for (size_t i = chunk->first; i < count && at < chunk->bytes; i++) {
        const struct cuda_load_piece *piece = &pieces[i];
        size_t skipped = 0; /* of the piece: what an earlier chunk has */
        size_t taken;

        if (piece->to < chunk->to) {
            skipped = (size_t)(chunk->to - piece->to);
        } else {
            size_t begin = (size_t)(piece->to - chunk->to);

            memset(buffer + at, 0, begin - at);
            at = begin;
        }
        taken = piece->bytes - skipped;
        if (taken > chunk->bytes - at)
            taken = chunk->bytes - at;
        memcpy(buffer + at, piece->from + skipped, taken);
        at += taken;
    }
}

/* ------------------------------------------------------------------ buffers */

enum buffer_state {
    BUFFER_FREE = 0,
    BUFFER_READING,
    BUFFER_READ,
    BUFFER_COPYING,
};

struct loader {
    struct cuda_device *device;
    const struct cuda_load_piece *pieces;
    size_t count;
    size_t buffer_bytes;

    pthread_mutex_t lock;
    pthread_cond_t has_free;
    pthread_cond_t has_read;
    struct {
        uint8_t *memory;
        struct cuda_load_chunk chunk;
        enum buffer_state state;
        uint64_t turn; /* when its copy was queued */
    } buffers[CUDA_LOAD_BUFFERS_MAX];
    uint32_t buffer_count;
    struct cuda_load_cursor cursor;
    bool is_stopped;

    /* The caller's thread alone. */
    pthread_t threads[CUDA_LOAD_THREADS_MAX];
    uint32_t thread_count;
    uint64_t turns;
    size_t total_bytes;
    size_t queued_bytes;
    uint64_t began_ns;
    uint64_t told_ns;
};

/* Any buffer of a state, for copying the oldest; CUDA_LOAD_BUFFERS_MAX: there is none. With the lock. */
static uint32_t find(const struct loader *loader, enum buffer_state state)
{
    uint32_t found = CUDA_LOAD_BUFFERS_MAX;

    for (uint32_t i = 0; i < loader->buffer_count; i++)
        if (loader->buffers[i].state == state &&
            (found == CUDA_LOAD_BUFFERS_MAX ||
             loader->buffers[i].turn < loader->buffers[found].turn))
            found = i;
    return found;
}

static void *read_chunks(void *argument)
{
    struct loader *loader = argument;

    pthread_mutex_lock(&loader->lock);
    while (!loader->is_stopped && loader->cursor.piece < loader->count) {
        uint32_t i = find(loader, BUFFER_FREE);

        if (i == CUDA_LOAD_BUFFERS_MAX) {
            pthread_cond_wait(&loader->has_free, &loader->lock);
            continue;
        }
        (void)cuda_load_next(loader->pieces, loader->count, loader->buffer_bytes, &loader->cursor,
                             &loader->buffers[i].chunk);
        loader->buffers[i].state = BUFFER_READING;
        pthread_mutex_unlock(&loader->lock);
        cuda_load_read(loader->pieces, loader->count, &loader->buffers[i].chunk,
                       loader->buffers[i].memory);
        pthread_mutex_lock(&loader->lock);
        loader->buffers[i].state = BUFFER_READ;
        pthread_cond_signal(&loader->has_read);
    }
    pthread_cond_broadcast(&loader->has_free); /* others wait for what will not come */
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* ------------------------------------------------------------------ copying */

static void tell_progress(struct loader *loader)
{
    uint64_t now_ns = td_now_ns();

    if (now_ns - loader->told_ns < PROGRESS_EVERY)
        return;
    loader->told_ns = now_ns;
    td_log(TD_LOG_INFO, "cuda", "loading weights mib %.0f of %.0f seconds %.0f",
           (double)loader->queued_bytes / MIB, (double)loader->total_bytes / MIB,
           (double)(now_ns - loader->began_ns) / 1e9);
}

static td_status_t name_failure(const struct loader *loader, uint32_t i, td_status_t status,
                                struct td_error *error)
{
    const struct cuda_load_piece *piece = &loader->pieces[loader->buffers[i].chunk.first];

    if (status == TD_OK)
        return TD_OK;
    if (piece->layer == CUDA_LOAD_NO_LAYER)
        td_fail_wrap(error, "weights %s", piece->name);
    else
        td_fail_wrap(error, "weights %s of layer %" PRIu32, piece->name, piece->layer);
    return status;
}

static td_status_t begin_copy(struct loader *loader, uint32_t i, struct td_error *error)
{
    struct cuda_device *device = loader->device;
    const struct cuda_load_chunk *chunk = &loader->buffers[i].chunk;

    cuda_device_upload(device, chunk->to, loader->buffers[i].memory, chunk->bytes);
    cuda_device_mark(device, i);
    loader->queued_bytes += chunk->bytes;
    tell_progress(loader);
    if (device->failure.status == TD_OK)
        return TD_OK;
    (void)td_fail(error, device->failure.status, "%s", device->failure.text);
    return name_failure(loader, i, device->failure.status, error);
}

/* Whatever can be done next; false: all is done. With the lock, which it leaves for a while. */
static bool go_on(struct loader *loader, td_status_t *status, struct td_error *error)
{
    uint32_t read = find(loader, BUFFER_READ);
    uint32_t copying = find(loader, BUFFER_COPYING);

    if (read < CUDA_LOAD_BUFFERS_MAX) {
        pthread_mutex_unlock(&loader->lock);
        *status = begin_copy(loader, read, error);
        pthread_mutex_lock(&loader->lock);
        loader->buffers[read].state = BUFFER_COPYING;
        loader->buffers[read].turn = loader->turns++;
    } else if (copying < CUDA_LOAD_BUFFERS_MAX) {
        pthread_mutex_unlock(&loader->lock);
        *status = name_failure(loader, copying,
                               cuda_device_wait_mark(loader->device, copying, error), error);
        pthread_mutex_lock(&loader->lock);
        loader->buffers[copying].state = BUFFER_FREE;
        pthread_cond_signal(&loader->has_free);
    } else if (loader->cursor.piece < loader->count ||
               find(loader, BUFFER_READING) < CUDA_LOAD_BUFFERS_MAX) {
        pthread_cond_wait(&loader->has_read, &loader->lock);
    } else {
        return false;
    }
    return true;
}

/* ------------------------------------------------------------------ all of it */

/* As many as there is memory for, at least two. */
static td_status_t take_buffers(struct loader *loader, struct td_error *error)
{
    td_status_t status = TD_OK;

    while (loader->buffer_count < CUDA_LOAD_BUFFERS_MAX && status == TD_OK) {
        void *memory = NULL;

        status = cuda_device_take_host(loader->device, loader->buffer_bytes, &memory, error);
        if (status == TD_OK)
            loader->buffers[loader->buffer_count++].memory = memory;
    }
    return loader->buffer_count >= BUFFERS_MIN ? TD_OK : status;
}

static td_status_t start_threads(struct loader *loader, struct td_error *error)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = processors < 1                       ? 1
                      : processors > CUDA_LOAD_THREADS_MAX ? CUDA_LOAD_THREADS_MAX
                                                           : (uint32_t)processors;

    while (loader->thread_count < wanted &&
           pthread_create(&loader->threads[loader->thread_count], NULL, read_chunks, loader) == 0)
        loader->thread_count++;
    if (loader->thread_count == 0)
        return td_fail(error, TD_EXHAUSTED, "no thread can be started that reads the weights");
    return TD_OK;
}

static td_status_t copy_all(struct loader *loader, struct td_error *error)
{
    td_status_t status = start_threads(loader, error);

    pthread_mutex_lock(&loader->lock);
    while (status == TD_OK && go_on(loader, &status, error))
        ;
    loader->is_stopped = true;
    pthread_cond_broadcast(&loader->has_free);
    pthread_mutex_unlock(&loader->lock);
    for (uint32_t i = 0; i < loader->thread_count; i++)
        pthread_join(loader->threads[i], NULL);
    return status;
}

static td_status_t run(struct loader *loader, struct td_error *error)
{
    td_status_t status = take_buffers(loader, error);
    double seconds;

    if (status == TD_OK)
        status = copy_all(loader, error);
    for (uint32_t i = 0; i < loader->buffer_count; i++)
        cuda_device_give_host(loader->device, loader->buffers[i].memory);
    if (status != TD_OK)
        return status;
    seconds = (double)(td_now_ns() - loader->began_ns) / 1e9;
    td_log(TD_LOG_INFO, "cuda", "weights loaded mib %.0f seconds %.2f threads %" PRIu32,
           (double)loader->queued_bytes / MIB, seconds, loader->thread_count);
    return TD_OK;
}

td_status_t cuda_load(struct cuda_device *device, const struct cuda_load_piece *pieces,
                      size_t count, size_t buffer_bytes, struct td_error *error)
{
    struct loader loader = {
        .device = device, .pieces = pieces, .count = count, .began_ns = td_now_ns()};
    td_status_t status;

    for (size_t i = 0; i < count; i++)
        loader.total_bytes += pieces[i].bytes;
    if (loader.total_bytes == 0)
        return cuda_device_wait(device, error);
    loader.told_ns = loader.began_ns;
    loader.buffer_bytes = buffer_bytes > 0 ? buffer_bytes : CUDA_LOAD_BUFFER_BYTES;
    pthread_mutex_init(&loader.lock, NULL);
    pthread_cond_init(&loader.has_free, NULL);
    pthread_cond_init(&loader.has_read, NULL);
    status = run(&loader, error);
    pthread_cond_destroy(&loader.has_read);
    pthread_cond_destroy(&loader.has_free);
    pthread_mutex_destroy(&loader.lock);
    return status == TD_OK ? cuda_device_wait(device, error) : status;
}
