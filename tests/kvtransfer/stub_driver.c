/* stub_driver.c: a double of NVIDIA's driver library, see stub_driver.h. */
#include "tests/kvtransfer/stub_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvtransfer/driver.h"

#define EXPORTED __attribute__((visibility("default")))

#define GPUS            2
#define ALLOCATIONS_MAX 64
#define FAILURES_MAX    8
#define INVALID_VALUE   1
#define INVALID_CONTEXT 201
#define ILLEGAL_ADDRESS 700
#define HANDLE_MAGIC    0x5457494e

struct allocation {
    uint8_t *address; /* what the caller gets: no access */
    uint8_t *memory;  /* what lies behind */
    size_t bytes;
    int fd;
    int gpu;
    int opened; /* times that a peer's handle was opened; 0: our own */
};

struct handle {
    int magic;
    int process;
    int fd;
    int gpu;
    size_t bytes;
};
_Static_assert(sizeof(struct handle) <= DRIVER_HANDLE_BYTES, "a handle fits");

struct failure {
    char symbol[64];
    int result;
    int after;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct allocation allocations[ALLOCATIONS_MAX];
    struct failure failures[FAILURES_MAX];
    int sticky;
    int gpu; /* of the next allocation */
    bool are_apart;
    bool is_held;
    bool are_closes_held;
    size_t waiting_closes;
    size_t copied_bytes;
    size_t open_handles;
    char contexts[GPUS];
} driver = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static _Thread_local void *current_context;

static void lock(void)
{
    pthread_mutex_lock(&driver.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&driver.lock);
}

/* Errors that stay for the life of the process. */
static bool is_sticky(int result)
{
    return result >= 700 && result < 800;
}

/* What a call must return before it does anything: a failure that was asked for, or one that stays. */
static int begin_locked(const char *symbol, bool needs_context)
{
    const char *broken = getenv("STUB_DRIVER_BREAKS");

    if (broken != NULL && strcmp(broken, symbol) == 0)
        return INVALID_VALUE;
    if (driver.sticky != 0)
        return driver.sticky;
    for (size_t i = 0; i < FAILURES_MAX; i++) {
        struct failure *failure = &driver.failures[i];
        int result = failure->result;

        if (result == 0 || strcmp(failure->symbol, symbol) != 0 || failure->after-- > 0)
            continue;
        failure->result = 0;
        if (is_sticky(result))
            driver.sticky = result;
        return result;
    }
    return needs_context && current_context == NULL ? INVALID_CONTEXT : DRIVER_SUCCESS;
}

static int begin(const char *symbol, bool needs_context)
{
    int result;

    lock();
    result = begin_locked(symbol, needs_context);
    unlock();
    return result;
}

#define BEGIN(needs_context)                         \
    do {                                             \
        int failed = begin(__func__, needs_context); \
                                                     \
        if (failed != DRIVER_SUCCESS)                \
            return failed;                           \
    } while (0)

/* ------------------------------------------------------------------------------------- for tests */

EXPORTED void stub_driver_break_call(const char *symbol, int result, int after);
EXPORTED void *stub_driver_reach(const void *address, size_t bytes);
EXPORTED bool stub_driver_has_context(void);
EXPORTED void stub_driver_hold(bool is_held);
EXPORTED void stub_driver_hold_closes(bool are_held);
EXPORTED size_t stub_driver_waiting_closes(void);
EXPORTED void stub_driver_heal(void);
EXPORTED size_t stub_driver_copied_bytes(void);
EXPORTED size_t stub_driver_open_handles(void);
EXPORTED void stub_driver_use_gpu(int ordinal, bool can_access_others);

void stub_driver_break_call(const char *symbol, int result, int after)
{
    lock();
    for (size_t i = 0; i < FAILURES_MAX; i++) {
        struct failure *failure = &driver.failures[i];

        if (failure->result != 0)
            continue;
        snprintf(failure->symbol, sizeof failure->symbol, "%s", symbol);
        failure->result = result;
        failure->after = after;
        break;
    }
    unlock();
}

void stub_driver_hold(bool is_held)
{
    lock();
    driver.is_held = is_held;
    pthread_cond_broadcast(&driver.changed);
    unlock();
}

void stub_driver_hold_closes(bool are_held)
{
    lock();
    driver.are_closes_held = are_held;
    pthread_cond_broadcast(&driver.changed);
    unlock();
}

size_t stub_driver_waiting_closes(void)
{
    size_t count;

    lock();
    count = driver.waiting_closes;
    unlock();
    return count;
}

void stub_driver_heal(void)
{
    lock();
    driver.sticky = 0;
    unlock();
}

size_t stub_driver_copied_bytes(void)
{
    size_t bytes;

    lock();
    bytes = driver.copied_bytes;
    unlock();
    return bytes;
}

size_t stub_driver_open_handles(void)
{
    size_t count;

    lock();
    count = driver.open_handles;
    unlock();
    return count;
}

void stub_driver_use_gpu(int ordinal, bool can_access_others)
{
    lock();
    driver.gpu = ordinal;
    driver.are_apart = !can_access_others;
    unlock();
}

/* -------------------------------------------------------------------------------- GPUs, contexts */

EXPORTED int cuInit(unsigned flags);
EXPORTED int cuDriverGetVersion(int *version_out);
EXPORTED int cuGetErrorName(int result, const char **name_out);
EXPORTED int cuGetErrorString(int result, const char **text_out);
EXPORTED int cuDeviceGetCount(int *count_out);
EXPORTED int cuDeviceGet(int *device_out, int ordinal);
EXPORTED int cuDeviceGetUuid_v2(struct driver_uuid *uuid_out, int device);
EXPORTED int cuDeviceCanAccessPeer(int *can_out, int device, int peer);
EXPORTED int cuDevicePrimaryCtxRetain(void **context_out, int device);
EXPORTED int cuDevicePrimaryCtxRelease_v2(int device);
EXPORTED int cuCtxSetCurrent(void *context);

int cuInit(unsigned flags)
{
    BEGIN(false);
    return flags == 0 ? DRIVER_SUCCESS : INVALID_VALUE;
}

int cuDriverGetVersion(int *version_out)
{
    BEGIN(false);
    *version_out = 13000;
    return DRIVER_SUCCESS;
}

int cuGetErrorName(int result, const char **name_out)
{
    (void)result;
    *name_out = "CUDA_ERROR_OF_THE_DOUBLE";
    return DRIVER_SUCCESS;
}

int cuGetErrorString(int result, const char **text_out)
{
    (void)result;
    *text_out = "it was asked for";
    return DRIVER_SUCCESS;
}

int cuDeviceGetCount(int *count_out)
{
    BEGIN(false);
    *count_out = GPUS;
    return DRIVER_SUCCESS;
}

int cuDeviceGet(int *device_out, int ordinal)
{
    BEGIN(false);
    if (ordinal < 0 || ordinal >= GPUS)
        return INVALID_VALUE;
    *device_out = ordinal;
    return DRIVER_SUCCESS;
}

int cuDeviceGetUuid_v2(struct driver_uuid *uuid_out, int device)
{
    BEGIN(false);
    memset(uuid_out->bytes, 0xa0 + device, sizeof uuid_out->bytes);
    return DRIVER_SUCCESS;
}

int cuDeviceCanAccessPeer(int *can_out, int device, int peer)
{
    BEGIN(false);
    lock();
    *can_out = device != peer && !driver.are_apart;
    unlock();
    return DRIVER_SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context_out, int device)
{
    BEGIN(false);
    *context_out = &driver.contexts[device];
    return DRIVER_SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device)
{
    BEGIN(false);
    return device < GPUS ? DRIVER_SUCCESS : INVALID_VALUE;
}

int cuCtxSetCurrent(void *context)
{
    BEGIN(false);
    current_context = context;
    return DRIVER_SUCCESS;
}

/* --------------------------------------------------------------------------------------- memory */

EXPORTED int cuMemAlloc_v2(uint64_t *address_out, size_t bytes);
EXPORTED int cuMemFree_v2(uint64_t address);
EXPORTED int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes);
EXPORTED int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes);
EXPORTED int cuPointerGetAttribute(void *value_out, int attribute, uint64_t pointer);
EXPORTED int cuMemGetAddressRange_v2(uint64_t *base_out, size_t *bytes_out, uint64_t pointer);
EXPORTED int cuMemHostRegister_v2(void *base, size_t bytes, unsigned flags);
EXPORTED int cuMemHostUnregister(void *base);

static struct allocation *find_locked(uint64_t address)
{
    for (size_t i = 0; i < ALLOCATIONS_MAX; i++) {
        struct allocation *allocation = &driver.allocations[i];

        if (allocation->address != NULL && address >= (uint64_t)(uintptr_t)allocation->address &&
            address - (uint64_t)(uintptr_t)allocation->address < allocation->bytes)
            return allocation;
    }
    return NULL;
}

/* The memory behind an address of a GPU or of the host; NULL: outside of an allocation. */
static uint8_t *behind(uint64_t address, size_t bytes)
{
    uint8_t *memory = (uint8_t *)(uintptr_t)address;
    struct allocation *allocation;
    size_t at;

    lock();
    allocation = find_locked(address);
    if (allocation != NULL) {
        at = (size_t)(address - (uint64_t)(uintptr_t)allocation->address);
        memory = bytes <= allocation->bytes - at ? allocation->memory + at : NULL;
    }
    unlock();
    return memory;
}

void *stub_driver_reach(const void *address, size_t bytes)
{
    uint8_t *memory = behind((uint64_t)(uintptr_t)address, bytes);

    return memory != address ? memory : NULL;
}

bool stub_driver_has_context(void)
{
    return current_context != NULL;
}

static bool add_locked(const struct allocation *added)
{
    for (size_t i = 0; i < ALLOCATIONS_MAX; i++) {
        if (driver.allocations[i].address != NULL)
            continue;
        driver.allocations[i] = *added;
        return true;
    }
    return false;
}

static bool map_memory(struct allocation *allocation)
{
    void *memory =
        mmap(NULL, allocation->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, allocation->fd, 0);
    void *address = mmap(NULL, allocation->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    allocation->memory = memory;
    allocation->address = address;
    return memory != MAP_FAILED && address != MAP_FAILED;
}

static void unmap_memory(struct allocation *allocation)
{
    munmap(allocation->memory, allocation->bytes);
    munmap(allocation->address, allocation->bytes);
    close(allocation->fd);
    *allocation = (struct allocation){0};
}

int cuMemAlloc_v2(uint64_t *address_out, size_t bytes)
{
    struct allocation allocation = {.bytes = bytes};
    bool is_added;

    BEGIN(true);
    allocation.fd = memfd_create("stub-gpu", MFD_CLOEXEC);
    if (allocation.fd < 0 || ftruncate(allocation.fd, (off_t)bytes) != 0 ||
        !map_memory(&allocation))
        return DRIVER_OUT_OF_MEMORY;
    lock();
    allocation.gpu = driver.gpu;
    is_added = add_locked(&allocation);
    unlock();
    *address_out = (uint64_t)(uintptr_t)allocation.address;
    return is_added ? DRIVER_SUCCESS : DRIVER_OUT_OF_MEMORY;
}

/* Whoever opens a handle holds a lock on what is behind it, which ends with the handle or the process. */
static bool is_open_elsewhere(const struct allocation *allocation)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fcntl(allocation->fd, F_OFD_GETLK, &whole) != 0 || whole.l_type != F_UNLCK;
}

/* With the driver it is undefined to free what peers have open; here it fails. */
int cuMemFree_v2(uint64_t address)
{
    struct allocation *allocation;
    int result = INVALID_VALUE;

    lock();
    allocation = find_locked(address);
    if (allocation != NULL && !is_open_elsewhere(allocation)) {
        unmap_memory(allocation);
        result = DRIVER_SUCCESS;
    }
    unlock();
    return result;
}

static int copy_now(uint64_t to, uint64_t from, size_t bytes)
{
    uint8_t *target = behind(to, bytes);
    uint8_t *source = behind(from, bytes);

    if (target == NULL || source == NULL)
        return ILLEGAL_ADDRESS;
    memcpy(target, source, bytes);
    return DRIVER_SUCCESS;
}

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes)
{
    return copy_now(to, (uint64_t)(uintptr_t)from, bytes);
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes)
{
    return copy_now((uint64_t)(uintptr_t)to, from, bytes);
}

int cuPointerGetAttribute(void *value_out, int attribute, uint64_t pointer)
{
    struct allocation *allocation;

    BEGIN(false);
    lock();
    allocation = find_locked(pointer);
    if (allocation != NULL)
        memcpy(value_out, &allocation->gpu, sizeof allocation->gpu);
    unlock();
    return allocation != NULL && attribute == DRIVER_POINTER_DEVICE_ORDINAL ? DRIVER_SUCCESS
                                                                            : INVALID_VALUE;
}

int cuMemGetAddressRange_v2(uint64_t *base_out, size_t *bytes_out, uint64_t pointer)
{
    struct allocation *allocation;

    BEGIN(true);
    lock();
    allocation = find_locked(pointer);
    if (allocation != NULL) {
        *base_out = (uint64_t)(uintptr_t)allocation->address;
        *bytes_out = allocation->bytes;
    }
    unlock();
    return allocation != NULL ? DRIVER_SUCCESS : INVALID_VALUE;
}

int cuMemHostRegister_v2(void *base, size_t bytes, unsigned flags)
{
    (void)flags;
    BEGIN(true);
    return base != NULL && bytes > 0 ? DRIVER_SUCCESS : INVALID_VALUE;
}

int cuMemHostUnregister(void *base)
{
    BEGIN(true);
    return base != NULL ? DRIVER_SUCCESS : INVALID_VALUE;
}

/* --------------------------------------------------------------------------------------- handles */

EXPORTED int cuIpcGetMemHandle(struct driver_handle *handle_out, uint64_t base);
EXPORTED int cuIpcOpenMemHandle_v2(uint64_t *base_out, struct driver_handle opaque, unsigned flags);
EXPORTED int cuIpcCloseMemHandle(uint64_t base);

int cuIpcGetMemHandle(struct driver_handle *handle_out, uint64_t base)
{
    struct handle handle = {.magic = HANDLE_MAGIC, .process = getpid()};
    struct allocation *allocation;

    BEGIN(true);
    lock();
    allocation = find_locked(base);
    if (allocation != NULL) {
        handle.fd = allocation->fd;
        handle.gpu = allocation->gpu;
        handle.bytes = allocation->bytes;
    }
    unlock();
    memset(handle_out, 0, sizeof *handle_out);
    memcpy(handle_out, &handle, sizeof handle);
    return allocation != NULL ? DRIVER_SUCCESS : INVALID_VALUE;
}

int cuIpcOpenMemHandle_v2(uint64_t *base_out, struct driver_handle opaque, unsigned flags)
{
    struct handle handle;
    struct allocation allocation = {.opened = 1};
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    char path[64];
    bool is_added;

    BEGIN(true);
    memcpy(&handle, &opaque, sizeof handle);
    if (handle.magic != HANDLE_MAGIC || flags != DRIVER_IPC_LAZY_PEER_ACCESS)
        return INVALID_VALUE;
    if (handle.process == getpid())
        return INVALID_CONTEXT; /* as the driver says */
    snprintf(path, sizeof path, "/proc/%d/fd/%d", handle.process, handle.fd);
    allocation.fd = open(path, O_RDWR | O_CLOEXEC);
    allocation.bytes = handle.bytes;
    allocation.gpu = handle.gpu;
    if (allocation.fd < 0 || fcntl(allocation.fd, F_OFD_SETLK, &whole) != 0 ||
        !map_memory(&allocation))
        return INVALID_VALUE;
    lock();
    is_added = add_locked(&allocation);
    driver.open_handles++;
    unlock();
    *base_out = (uint64_t)(uintptr_t)allocation.address;
    return is_added ? DRIVER_SUCCESS : DRIVER_OUT_OF_MEMORY;
}

int cuIpcCloseMemHandle(uint64_t base)
{
    struct allocation *allocation;

    lock();
    driver.waiting_closes++;
    while (driver.are_closes_held)
        pthread_cond_wait(&driver.changed, &driver.lock);
    driver.waiting_closes--;
    allocation = find_locked(base);
    if (allocation != NULL && allocation->opened > 0) {
        unmap_memory(allocation);
        driver.open_handles--;
    }
    unlock();
    return allocation != NULL ? DRIVER_SUCCESS : INVALID_VALUE;
}

/* --------------------------------------------------------------------------------------- streams */

struct work {
    struct work *next;
    uint64_t to;
    uint64_t from;
    size_t bytes;
    struct event *event;
    void (*function)(void *);
    void *argument;
};

struct stream {
    pthread_t thread;
    struct work *first;
    struct work **last;
    bool is_busy;
    bool is_over;
};

struct event {
    unsigned recorded; /* times */
    unsigned passed;
    bool is_destroyed; /* and freed when the last of its records has been passed */
};

EXPORTED int cuStreamCreate(void **stream_out, unsigned flags);
EXPORTED int cuStreamDestroy_v2(void *stream);
EXPORTED int cuStreamSynchronize(void *stream);
EXPORTED int cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes, void *stream);
EXPORTED int cuLaunchHostFunc(void *stream, void (*function)(void *), void *argument);
EXPORTED int cuEventCreate(void **event_out, unsigned flags);
EXPORTED int cuEventDestroy_v2(void *event);
EXPORTED int cuEventRecord(void *event, void *stream);
EXPORTED int cuEventQuery(void *event);

static void free_if_done_locked(struct event *event)
{
    if (event->is_destroyed && event->passed == event->recorded)
        free(event);
}

/* Without the lock, as a GPU works. After an error that stays nothing runs, not even functions of the host. */
static void carry_out(const struct work *work)
{
    int result = begin("copy engine", false);

    if (result == DRIVER_SUCCESS && work->bytes > 0)
        result = copy_now(work->to, work->from, work->bytes);
    lock();
    if (is_sticky(result))
        driver.sticky = result;
    driver.copied_bytes += work->bytes;
    if (work->event != NULL) {
        work->event->passed++;
        free_if_done_locked(work->event);
    }
    pthread_cond_broadcast(&driver.changed);
    unlock();
    if (result == DRIVER_SUCCESS && work->function != NULL)
        work->function(work->argument);
}

static void *run_stream(void *argument)
{
    struct stream *stream = argument;
    struct work *work;

    lock();
    for (;;) {
        while ((stream->first == NULL || driver.is_held) && !stream->is_over)
            pthread_cond_wait(&driver.changed, &driver.lock);
        work = stream->first;
        if (work == NULL)
            break;
        stream->first = work->next;
        if (stream->first == NULL)
            stream->last = &stream->first;
        stream->is_busy = true;
        unlock();
        carry_out(work);
        free(work);
        lock();
        stream->is_busy = false;
        pthread_cond_broadcast(&driver.changed);
    }
    unlock();
    return NULL;
}

int cuStreamCreate(void **stream_out, unsigned flags)
{
    struct stream *stream;

    BEGIN(true);
    stream = calloc(1, sizeof *stream);
    if (stream == NULL || flags != DRIVER_STREAM_NON_BLOCKING)
        return INVALID_VALUE;
    stream->last = &stream->first;
    if (pthread_create(&stream->thread, NULL, run_stream, stream) != 0)
        return DRIVER_OUT_OF_MEMORY;
    *stream_out = stream;
    return DRIVER_SUCCESS;
}

int cuStreamDestroy_v2(void *opaque)
{
    struct stream *stream = opaque;

    lock();
    stream->is_over = true;
    pthread_cond_broadcast(&driver.changed);
    unlock();
    pthread_join(stream->thread, NULL);
    free(stream);
    return DRIVER_SUCCESS;
}

int cuStreamSynchronize(void *opaque)
{
    struct stream *stream = opaque;
    int sticky;

    BEGIN(true);
    lock();
    while (stream->first != NULL || stream->is_busy)
        pthread_cond_wait(&driver.changed, &driver.lock);
    sticky = driver.sticky;
    unlock();
    return sticky;
}

static int add_work(void *opaque, const struct work *added)
{
    struct stream *stream = opaque;
    struct work *work = malloc(sizeof *work);

    if (work == NULL)
        return DRIVER_OUT_OF_MEMORY;
    *work = *added;
    lock();
    if (work->event != NULL)
        work->event->recorded++;
    *stream->last = work;
    stream->last = &work->next;
    pthread_cond_broadcast(&driver.changed);
    unlock();
    return DRIVER_SUCCESS;
}

int cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    BEGIN(true);
    return add_work(stream, &(struct work){.to = to, .from = from, .bytes = bytes});
}

int cuLaunchHostFunc(void *stream, void (*function)(void *), void *argument)
{
    BEGIN(true);
    return add_work(stream, &(struct work){.function = function, .argument = argument});
}

int cuEventCreate(void **event_out, unsigned flags)
{
    struct event *event;

    BEGIN(true);
    event = calloc(1, sizeof *event);
    if (event == NULL || flags != DRIVER_EVENT_DISABLE_TIMING)
        return INVALID_VALUE;
    *event_out = event;
    return DRIVER_SUCCESS;
}

/* Also of an event that was recorded and is not passed yet, as the driver allows. */
int cuEventDestroy_v2(void *opaque)
{
    struct event *event = opaque;

    lock();
    event->is_destroyed = true;
    free_if_done_locked(event);
    unlock();
    return DRIVER_SUCCESS;
}

int cuEventRecord(void *event, void *stream)
{
    BEGIN(true);
    return add_work(stream, &(struct work){.event = event});
}

int cuEventQuery(void *opaque)
{
    const struct event *event = opaque;
    bool is_passed;

    BEGIN(true);
    lock();
    is_passed = event->passed == event->recorded;
    unlock();
    return is_passed ? DRIVER_SUCCESS : DRIVER_NOT_READY;
}
