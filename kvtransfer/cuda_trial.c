/* cuda_trial.c: see cuda_trial.h. */
#include "kvtransfer/cuda_trial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvtransfer/cuda.h"
#include "kvtransfer/driver.h"

/* What the two processes tell each other. */
struct trial {
    uint8_t share[KVT_SHARE_BYTES];
    struct td_u128 hash;
    td_status_t status; /* of the reader */
    struct td_error error;
};

/* Memory of the first GPU, with what it is copied by. */
struct side {
    const struct driver *driver;
    int gpu;
    unsigned long long memory;
    struct kvt_device *device;
    struct kvt_queue *queue;
};

static td_status_t side_open(struct side *side, const char *library, struct td_error *error)
{
    struct kvt_cuda_config config = {.library = library, .pool_bytes = KVT_CUDA_TRIAL_BYTES};
    void *context;
    td_status_t status = driver_load(library, &side->driver, error);

    if (status != TD_OK)
        return status;
    status =
        driver_check(side->driver, side->driver->device_get(&side->gpu, 0), "cuDeviceGet", error);
    if (status == TD_OK)
        status = driver_check(side->driver, side->driver->context_retain(&context, side->gpu),
                              "cuDevicePrimaryCtxRetain", error);
    if (status != TD_OK)
        return status;
    status =
        driver_check(side->driver, side->driver->context_set(context), "cuCtxSetCurrent", error);
    if (status == TD_OK)
        status =
            driver_check(side->driver, side->driver->alloc(&side->memory, KVT_CUDA_TRIAL_BYTES),
                         "cuMemAlloc", error);
    config.pool = (void *)(uintptr_t)side->memory; /* never dereferenced */
    if (status == TD_OK)
        status = kvt_cuda_open(&config, &side->device, error);
    if (status == TD_OK)
        status = side->device->ops->queue_open(side->device, &side->queue, error);
    return status;
}

static void side_close(struct side *side)
{
    if (side->queue != NULL)
        side->device->ops->queue_close(side->queue);
    kvt_device_close(side->device);
    if (side->memory != 0)
        (void)side->driver->release(side->memory);
}

/* Copies into our memory, waits, and says what is there then. */
static td_status_t take(struct side *side, const void *from, struct td_u128 *hash_out,
                        struct td_error *error)
{
    const struct kvt_device_ops *ops = side->device->ops;
    void *pool = (void *)(uintptr_t)side->memory;
    const void *block = pool;
    struct kvt_mark *mark;
    td_status_t status = ops->copy(side->queue, pool, from, KVT_CUDA_TRIAL_BYTES);

    if (status == TD_OK)
        status = ops->mark(side->queue, &mark);
    if (status == TD_OK) {
        ops->drain(side->queue);
        status = ops->poll(side->queue, mark);
    }
    if (status == TD_OK)
        status = ops->hash(side->device, &block, 1, KVT_CUDA_TRIAL_BYTES, hash_out);
    return status == TD_OK ? TD_OK : td_fail(error, status, "a copy on the GPU failed");
}

static td_status_t share(struct side *side, struct trial *trial, struct td_error *error)
{
    uint8_t *bytes = malloc(KVT_CUDA_TRIAL_BYTES);
    td_status_t status;

    if (bytes == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the trial");
    for (size_t i = 0; i < KVT_CUDA_TRIAL_BYTES; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
    status = take(side, bytes, &trial->hash, error);
    if (status == TD_OK && !td_u128_equal(trial->hash, td_hash128(bytes, KVT_CUDA_TRIAL_BYTES)))
        status = td_fail(error, TD_CORRUPT, "what was copied to the GPU is not what is there");
    free(bytes);
    return status == TD_OK ? side->device->ops->share(side->device, trial->share, error) : status;
}

static td_status_t read_share(struct side *side, const struct trial *trial, struct td_error *error)
{
    const struct kvt_device_ops *ops = side->device->ops;
    struct kvt_mapping *mapping;
    struct td_u128 hash;
    td_status_t status =
        ops->open(side->device, trial->share, KVT_CUDA_TRIAL_BYTES, &mapping, error);

    if (status != TD_OK)
        return status;
    status = take(side, mapping->base, &hash, error);
    if (status == TD_OK && !td_u128_equal(hash, trial->hash))
        status = td_fail(error, TD_CORRUPT, "what was read is not what the other process wrote");
    ops->unmap(side->device, mapping);
    return status;
}

/* The process that opens; a byte says that there is something to open, the end that there is not. */
static void reader_main(struct trial *trial, int from_sharer, const char *library)
{
    struct side side = {0};
    char byte;

    if (read(from_sharer, &byte, 1) == 1) {
        trial->status = side_open(&side, library, &trial->error);
        if (trial->status == TD_OK)
            trial->status = read_share(&side, trial, &trial->error);
        side_close(&side);
    }
    _exit(0);
}

static td_status_t sharer_main(struct trial *trial, pid_t reader, int to_reader,
                               const char *library, struct td_error *error)
{
    struct side side = {0};
    td_status_t status = side_open(&side, library, error);

    if (status == TD_OK)
        status = share(&side, trial, error);
    if (status == TD_OK && write(to_reader, "", 1) != 1)
        status = td_fail(error, TD_IO, "the other process: %s", strerror(errno));
    close(to_reader);
    while (waitpid(reader, NULL, 0) < 0 && errno == EINTR) /* the memory lives until it was read */
        ;
    side_close(&side);
    if (status == TD_OK && trial->status != TD_OK)
        status = td_fail(error, trial->status, "%s", trial->error.text);
    return status;
}

td_status_t kvt_cuda_try_ipc(const char *library, struct td_error *error)
{
    struct trial *trial =
        mmap(NULL, sizeof *trial, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int pipe_fds[2];
    td_status_t status;
    pid_t reader;

    if (trial == MAP_FAILED)
        return td_fail(error, TD_NO_MEMORY, "no memory for the trial");
    trial->status = TD_PEER_LOST; /* unless it says otherwise */
    (void)td_fail(&trial->error, TD_PEER_LOST, "the process that opens the memory ended early");
    if (pipe(pipe_fds) != 0) {
        munmap(trial, sizeof *trial);
        return td_fail(error, TD_IO, "pipe: %s", strerror(errno));
    }
    reader = fork();
    if (reader == 0) {
        close(pipe_fds[1]);
        reader_main(trial, pipe_fds[0], library);
    }
    close(pipe_fds[0]);
    if (reader < 0) {
        status = td_fail(error, TD_EXHAUSTED, "fork: %s", strerror(errno));
        close(pipe_fds[1]);
    } else {
        status = sharer_main(trial, reader, pipe_fds[1], library, error);
    }
    munmap(trial, sizeof *trial);
    return status;
}
