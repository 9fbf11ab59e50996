/*
 * cuda_share.c: pools of peers on this host, opened by CUDA's IPC handles; see cuda_private.h.
 *
 * A share is: magic u32, process u128, base u64, bytes u64, uuid of the GPU, handle, zeros. CUDA refuses to open a
 * handle in the process that made it, so a pool of this very process is taken by its address.
 *
 * A mapping keeps the memory alive, also when its owner is killed while copies run: they read what is there, and the
 * core's hashes decide.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/cuda_private.h"
#include "lib/base/bytes.h"
#include "lib/base/random.h"

#define SHARE_MAGIC UINT32_C(0x31534354) /* "TCS1" */
#define GPUS_MAX    64

struct share {
    struct td_u128 process;
    uint64_t base;
    uint64_t bytes;
    struct driver_uuid gpu;
    struct driver_handle handle;
};

struct cuda_mapping {
    struct kvt_mapping base; /* first: see memory.h */
    bool is_own;             /* of this process: nothing to close */
};

static struct td_u128 process_token;

static void draw_token(void)
{
    process_token = td_random_u128();
}

/* What no other process has: numbers of processes are not unique among containers. */
static struct td_u128 own_process(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, draw_token);
    return process_token;
}

/* ---------------------------------------------------------------------------------------- sharing */

td_status_t cuda_share(struct kvt_device *base, uint8_t out[static KVT_SHARE_BYTES],
                       struct td_error *error)
{
    struct cuda_memory *memory = (struct cuda_memory *)base;
    const struct driver *driver = memory->driver;
    struct td_writer writer = td_writer_over(out, KVT_SHARE_BYTES);
    struct driver_uuid gpu;
    struct driver_handle handle;
    td_status_t status = cuda_enter(memory, error);

    if (status == TD_OK)
        status = driver_check(driver, driver->device_uuid(&gpu, memory->device), "cuDeviceGetUuid",
                              error);
    if (status == TD_OK)
        status =
            driver_check(driver, driver->handle_get(&handle, cuda_address(memory->config.pool)),
                         "cuIpcGetMemHandle of the pool", error);
    if (status != TD_OK)
        return status;
    memset(out, 0, KVT_SHARE_BYTES);
    td_write_u32(&writer, SHARE_MAGIC);
    td_write_u128(&writer, own_process());
    td_write_u64(&writer, cuda_address(memory->config.pool));
    td_write_u64(&writer, memory->config.pool_bytes);
    td_write_bytes(&writer, gpu.bytes, sizeof gpu.bytes);
    td_write_bytes(&writer, handle.bytes, sizeof handle.bytes);
    return TD_OK;
}

static bool read_share(const uint8_t bytes[static KVT_SHARE_BYTES], struct share *share_out)
{
    struct td_reader reader = td_reader_over(bytes, KVT_SHARE_BYTES);

    if (td_read_u32(&reader) != SHARE_MAGIC)
        return false;
    share_out->process = td_read_u128(&reader);
    share_out->base = td_read_u64(&reader);
    share_out->bytes = td_read_u64(&reader);
    memcpy(share_out->gpu.bytes, td_read_bytes(&reader, DRIVER_UUID_BYTES), DRIVER_UUID_BYTES);
    memcpy(share_out->handle.bytes, td_read_bytes(&reader, DRIVER_HANDLE_BYTES),
           DRIVER_HANDLE_BYTES);
    return true;
}

/* ---------------------------------------------------------------------------------------- opening */

/* Whether copies from that GPU reach ours: it must be visible here, and be ours or accessible. */
static td_status_t check_gpu(const struct cuda_memory *memory, const struct driver_uuid *wanted,
                             struct td_error *error)
{
    const struct driver *driver = memory->driver;
    int count = 0;
    td_status_t status =
        driver_check(driver, driver->device_count(&count), "cuDeviceGetCount", error);

    if (status != TD_OK)
        return status;
    for (int i = 0; i < count; i++) {
        struct driver_uuid gpu;
        int device;
        int can = 0;

        if (driver->device_get(&device, i) != DRIVER_SUCCESS ||
            driver->device_uuid(&gpu, device) != DRIVER_SUCCESS ||
            memcmp(gpu.bytes, wanted->bytes, sizeof gpu.bytes) != 0)
            continue;
        if (device == memory->device ||
            (driver->device_can_access(&can, memory->device, device) == DRIVER_SUCCESS && can != 0))
            return TD_OK;
        return td_fail(error, TD_UNSUPPORTED,
                       "the peer's pool is on GPU %d, which GPU %d cannot read directly", i,
                       memory->ordinal);
    }
    return td_fail(error, TD_UNSUPPORTED,
                   "the peer's pool is on a GPU that is not visible to this process "
                   "(CUDA_VISIBLE_DEVICES)");
}

static td_status_t open_handle(const struct cuda_memory *memory, const struct share *share,
                               uint64_t bytes, struct cuda_mapping *mapping, struct td_error *error)
{
    const struct driver *driver = memory->driver;
    unsigned long long base = 0;
    unsigned long long start = 0;
    size_t length = 0;
    td_status_t status =
        driver_check(driver, driver->handle_open(&base, share->handle, DRIVER_IPC_LAZY_PEER_ACCESS),
                     "cuIpcOpenMemHandle of the peer's pool", error);

    if (status != TD_OK)
        return status;
    if (driver->address_range(&start, &length, base) != DRIVER_SUCCESS || length < bytes ||
        base - start > length - bytes) {
        (void)driver->handle_close(base);
        return td_fail(error, TD_INVALID, "the peer's allocation is smaller than its pool");
    }
    mapping->base.base = (uint8_t *)(uintptr_t)base; /* never dereferenced */
    return TD_OK;
}

/* A pool of this very process: what is said of it may still have come from outside. */
static td_status_t take_own(const struct cuda_memory *memory, const struct share *share,
                            uint64_t bytes, struct cuda_mapping *mapping, struct td_error *error)
{
    unsigned long long start = 0;
    size_t length = 0;

    if (memory->driver->address_range(&start, &length, share->base) != DRIVER_SUCCESS ||
        length < bytes || share->base < start || share->base - start > length - bytes)
        return td_fail(error, TD_INVALID, "the pool is not within one allocation of this process");
    mapping->base.base = (uint8_t *)(uintptr_t)share->base; /* never dereferenced */
    return TD_OK;
}

td_status_t cuda_map(struct kvt_device *base, const uint8_t bytes_of[static KVT_SHARE_BYTES],
                     uint64_t bytes, struct kvt_mapping **mapping_out, struct td_error *error)
{
    struct cuda_memory *memory = (struct cuda_memory *)base;
    struct cuda_mapping *mapping;
    struct share share;
    td_status_t status = cuda_enter(memory, error);

    if (status != TD_OK)
        return status;
    if (!read_share(bytes_of, &share) || bytes == 0 || bytes != share.bytes || bytes > SIZE_MAX / 2)
        return td_fail(error, TD_INVALID, "the peer does not say where its pool is");
    mapping = calloc(1, sizeof *mapping);
    if (mapping == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a mapping");
    mapping->base.bytes = (size_t)bytes;
    mapping->is_own = td_u128_equal(share.process, own_process());
    if (mapping->is_own) {
        status = take_own(memory, &share, bytes, mapping, error);
    } else {
        status = check_gpu(memory, &share.gpu, error);
        if (status == TD_OK)
            status = open_handle(memory, &share, bytes, mapping, error);
    }
    if (status != TD_OK) {
        free(mapping);
        return status;
    }
    *mapping_out = &mapping->base;
    return TD_OK;
}

void cuda_unmap(struct kvt_device *base, struct kvt_mapping *mapping)
{
    struct cuda_memory *memory = (struct cuda_memory *)base;

    (void)cuda_enter(memory, NULL); /* a GPU that has failed is asked all the same */
    if (!((struct cuda_mapping *)mapping)->is_own)
        (void)memory->driver->handle_close(cuda_address(mapping->base));
    free(mapping);
}

/* ------------------------------------------------------------------------------------------ reach */

static int compare_uuids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct driver_uuid));
}

static bool reach_each_other(const struct driver *driver, int a, int b)
{
    int there = 0;
    int back = 0;

    return driver->device_can_access(&there, a, b) == DRIVER_SUCCESS && there != 0 &&
           driver->device_can_access(&back, b, a) == DRIVER_SUCCESS && back != 0;
}

td_status_t cuda_reach(const struct cuda_memory *memory, struct td_u128 *reach_out,
                       struct td_error *error)
{
    const struct driver *driver = memory->driver;
    struct driver_uuid gpus[GPUS_MAX];
    size_t gpu_count = 0;
    int count = 0;
    td_status_t status =
        driver_check(driver, driver->device_count(&count), "cuDeviceGetCount", error);

    for (int i = 0; i < count && i < GPUS_MAX && status == TD_OK; i++) {
        int device;

        status = driver_check(driver, driver->device_get(&device, i), "cuDeviceGet", error);
        if (status != TD_OK ||
            (device != memory->device && !reach_each_other(driver, device, memory->device)))
            continue;
        status = driver_check(driver, driver->device_uuid(&gpus[gpu_count++], device),
                              "cuDeviceGetUuid", error);
    }
    if (status != TD_OK)
        return status;
    qsort(gpus, gpu_count, sizeof gpus[0], compare_uuids);
    *reach_out = td_hash128(gpus, gpu_count * sizeof gpus[0]);
    return TD_OK;
}
