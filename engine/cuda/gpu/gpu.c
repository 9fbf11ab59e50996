/* gpu.c: see gpu.h. */
#include "engine/cuda/gpu/gpu.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/cuda/gpu/blas.h"
#include "engine/cuda/gpu/kernels.h"

#define CAPABILITY_MIN 8  /* Ampere: the oldest that PTX is made for */
#define HOPPER         9  /* whose warpgroups product_wide is for */
#define EARLY_MIN      90 /* what kernels must be compiled for, to begin early */

struct gpu {
    struct cuda_device base; /* first: see device.h */
    int index;
    cudaStream_t stream;
    bool has_stream;
    bool can_launch_early; /* the code that was loaded waits for earlier kernels: kernels/simt.h */
    struct gpu_blas *blas; /* NULL: the fast variant was not asked for */
    cudaEvent_t marks[CUDA_MARKS]; /* made when first set */
};

/* Defined nowhere: what is behind the pointer is the runtime's. */
static cudaGraphExec_t executable(struct cuda_graph *graph)
{
    return (cudaGraphExec_t)(void *)graph;
}

static const uint32_t threads_of[CUDA_KERNEL_COUNT] = {
#define X(name, member, threads) [CUDA_KERNEL_##member] = (threads),
    CUDA_OTHER_KERNELS(X)
#undef X
#define X(name, member, dim, height, slots) [CUDA_KERNEL_##member] = CUDA_ATTEND_THREADS,
        CUDA_ATTEND_KERNELS(X)
#undef X
#define Y(name, member, threads, shared) [CUDA_KERNEL_##member] = (threads),
#define X(name, member)                  CUDA_PRODUCTS(Y, name, member)
            CUDA_PACKED_TYPES(X)
#undef X
#undef Y
};

/* What an error of the runtime means here. */
static td_status_t status_of(cudaError_t code)
{
    switch (code) {
    case cudaSuccess: return TD_OK;
    case cudaErrorMemoryAllocation: return TD_NO_MEMORY;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice: return TD_NOT_FOUND;
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion: return TD_UNSUPPORTED;
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorSystemNotReady: return TD_PEER_LOST;
    default: return TD_INTERNAL;
    }
}

static td_status_t check(cudaError_t code, const char *what, struct td_error *error)
{
    td_status_t status = status_of(code);

    if (status == TD_OK)
        return TD_OK;
    (void)cudaGetLastError(); /* what is not sticky must not be met again by the next call */
    return td_fail(error, status, "%s: %s (%s)", what, cudaGetErrorString(code),
                   cudaGetErrorName(code));
}

/* Which GPU is meant is a matter of the calling thread, and threads of several may call. */
static td_status_t select_gpu(const struct cuda_device *device, struct td_error *error)
{
    return check(cudaSetDevice(((const struct gpu *)device)->index), "cudaSetDevice", error);
}

static td_status_t free_bytes(struct cuda_device *device, size_t *bytes_out, struct td_error *error)
{
    size_t total;
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    return check(cudaMemGetInfo(bytes_out, &total), "cudaMemGetInfo", error);
}

static td_status_t take(struct cuda_device *device, size_t bytes, void **memory_out,
                        struct td_error *error)
{
    char what[96];
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    snprintf(what, sizeof what, "cannot allocate %zu bytes of GPU memory", bytes);
    return check(cudaMalloc(memory_out, bytes), what, error);
}

static void give(struct cuda_device *device, void *memory)
{
    (void)device;
    (void)cudaFree(memory); /* of a failed device: nothing can be done any more */
}

static td_status_t take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                             struct td_error *error)
{
    char what[96];
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    snprintf(what, sizeof what, "cannot allocate %zu bytes of pinned host memory", bytes);
    return check(cudaMallocHost(memory_out, bytes), what, error);
}

static void give_host(struct cuda_device *device, void *memory)
{
    (void)device;
    (void)cudaFreeHost(memory);
}

static td_status_t copy(struct cuda_device *device, void *to, const void *from, size_t bytes,
                        enum cudaMemcpyKind kind, struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    return check(cudaMemcpyAsync(to, from, bytes, kind, gpu->stream), "cudaMemcpyAsync", error);
}

static td_status_t upload(struct cuda_device *device, void *to, const void *from, size_t bytes,
                          struct td_error *error)
{
    return copy(device, to, from, bytes, cudaMemcpyHostToDevice, error);
}

static td_status_t download(struct cuda_device *device, void *to, const void *from, size_t bytes,
                            struct td_error *error)
{
    return copy(device, to, from, bytes, cudaMemcpyDeviceToHost, error);
}

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    struct gpu_kernel found = gpu_kernel_of(kernel);
    void *parameter = (void *)(uintptr_t)args; /* the runtime copies it, and does not write */
    cudaLaunchAttribute early = {.id = cudaLaunchAttributeProgrammaticStreamSerialization,
                                 .val = {.programmaticStreamSerializationAllowed = 1}};
    const cudaLaunchConfig_t config = {.gridDim = {grid.x, grid.y, grid.z},
                                       .blockDim = {threads_of[kernel], 1, 1},
                                       .dynamicSmemBytes = found.shared_bytes,
                                       .stream = gpu->stream,
                                       .attrs = &early,
                                       .numAttrs =
                                           gpu->can_launch_early && device->launches_early ? 1 : 0};
    char what[64];
    cudaError_t code = cudaSetDevice(gpu->index);

    if (code == cudaSuccess)
        code = cudaLaunchKernelExC(&config, found.function, &parameter);
    if (code == cudaSuccess)
        return TD_OK;
    snprintf(what, sizeof what, "kernel %s on %u x %u x %u blocks", found.name, grid.x, grid.y,
             grid.z);
    return check(code, what, error);
}

static td_status_t open_dense(struct cuda_device *device, void *workspace, size_t bytes,
                              struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    gpu_blas_close(gpu->blas); /* of an earlier backend */
    gpu->blas = NULL;
    return gpu_blas_open(workspace, bytes, &gpu->blas, error);
}

static td_status_t dense(struct cuda_device *device, const struct cuda_dense *product,
                         struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    td_status_t status = select_gpu(device, error);

    return status == TD_OK ? gpu_blas_multiply(gpu->blas, product, gpu->stream, error) : status;
}

static td_status_t wait_for_stream(struct cuda_device *device, struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;

    return check(cudaStreamSynchronize(gpu->stream), "work on the GPU failed", error);
}

static td_status_t poll_stream(struct cuda_device *device, struct td_error *error)
{
    cudaError_t code = cudaStreamQuery(((struct gpu *)device)->stream);

    if (code != cudaErrorNotReady)
        return check(code, "work on the GPU failed", error);
    (void)cudaGetLastError(); /* no failure, but kept as if it were */
    return TD_AGAIN;
}

static td_status_t mark(struct cuda_device *device, uint32_t index, struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    td_status_t status = select_gpu(device, error);

    if (status == TD_OK && gpu->marks[index] == NULL)
        status = check(cudaEventCreateWithFlags(&gpu->marks[index], cudaEventDisableTiming),
                       "cudaEventCreate", error);
    if (status != TD_OK)
        return status;
    return check(cudaEventRecord(gpu->marks[index], gpu->stream), "cudaEventRecord", error);
}

static td_status_t wait_mark(struct cuda_device *device, uint32_t index, struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;

    if (gpu->marks[index] == NULL)
        return TD_OK;
    return check(cudaEventSynchronize(gpu->marks[index]), "work on the GPU failed", error);
}

/* ------------------------------------------------------------------ graphs */

static td_status_t capture(struct cuda_device *device, struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    return check(cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal),
                 "cudaStreamBeginCapture", error);
}

/* Its memory is taken now, where a lack of it is an answer, and not when it is first launched. */
static td_status_t instantiate(struct gpu *gpu, cudaGraph_t recorded, struct cuda_graph **graph_out,
                               struct td_error *error)
{
    cudaGraphExec_t made = NULL;
    td_status_t status =
        check(cudaGraphInstantiate(&made, recorded, 0), "cudaGraphInstantiate", error);

    if (status != TD_OK)
        return status;
    status = check(cudaGraphUpload(made, gpu->stream), "cudaGraphUpload", error);
    if (status != TD_OK) {
        (void)cudaGraphExecDestroy(made);
        return status;
    }
    *graph_out = (struct cuda_graph *)(void *)made;
    return TD_OK;
}

static td_status_t capture_end(struct cuda_device *device, struct cuda_graph **graph_out,
                               struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    cudaGraph_t recorded = NULL;
    td_status_t status =
        check(cudaStreamEndCapture(gpu->stream, &recorded), "cudaStreamEndCapture", error);

    if (status == TD_OK && graph_out != NULL)
        status = instantiate(gpu, recorded, graph_out, error);
    if (recorded != NULL)
        (void)cudaGraphDestroy(recorded);
    return status;
}

static td_status_t replay(struct cuda_device *device, struct cuda_graph *graph,
                          struct td_error *error)
{
    struct gpu *gpu = (struct gpu *)device;
    td_status_t status = select_gpu(device, error);

    if (status != TD_OK)
        return status;
    return check(cudaGraphLaunch(executable(graph), gpu->stream), "cudaGraphLaunch", error);
}

static void drop_graph(struct cuda_device *device, struct cuda_graph *graph)
{
    (void)device;
    (void)cudaGraphExecDestroy(executable(graph));
}

/* All that a GPU has which hangs is left to the end of the process: these calls may wait for it. */
static void release(struct gpu *gpu)
{
    gpu_blas_close(gpu->blas);
    for (uint32_t i = 0; i < CUDA_MARKS; i++)
        if (gpu->marks[i] != NULL)
            (void)cudaEventDestroy(gpu->marks[i]);
    if (gpu->has_stream)
        (void)cudaStreamDestroy(gpu->stream);
}

static void close_gpu(struct cuda_device *device)
{
    struct gpu *gpu = (struct gpu *)device;

    if (!device->is_hung)
        release(gpu);
    free(gpu);
}

static const struct cuda_device_ops ops = {
    .free_bytes = free_bytes,
    .take = take,
    .give = give,
    .take_host = take_host,
    .give_host = give_host,
    .upload = upload,
    .download = download,
    .launch = launch,
    .open_dense = open_dense,
    .dense = dense,
    .wait = wait_for_stream,
    .poll = poll_stream,
    .mark = mark,
    .wait_mark = wait_mark,
    .capture = capture,
    .capture_end = capture_end,
    .replay = replay,
    .drop_graph = drop_graph,
    .close = close_gpu,
};

/* ------------------------------------------------------------------ opening */

/* The runtime says "insufficient driver" also where there is none at all. */
td_status_t gpu_count(uint32_t *count_out, struct td_error *error)
{
    int driver = 0;
    int count = 0;
    cudaError_t code = cudaDriverGetVersion(&driver);

    if (code == cudaSuccess && driver == 0)
        return td_fail(error, TD_NOT_FOUND,
                       "there is no NVIDIA driver on this machine (libcuda.so.1 was not found)");
    if (code == cudaSuccess && driver < CUDART_VERSION / 1000 * 1000)
        return td_fail(error, TD_UNSUPPORTED,
                       "the NVIDIA driver serves CUDA %d.%d, this program needs %d.0: install a "
                       "newer driver",
                       driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
    if (code == cudaSuccess)
        code = cudaGetDeviceCount(&count);
    if (code == cudaSuccess)
        *count_out = (uint32_t)count;
    return check(code, "no GPU can be used", error);
}

const char *gpu_toolkit(void)
{
    static char text[16];

    snprintf(text, sizeof text, "%d.%d", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return text;
}

static td_status_t describe(struct gpu *gpu, struct td_error *error)
{
    struct cudaDeviceProp properties;
    struct cuda_device_info *info = &gpu->base.info;
    int driver = 0;
    td_status_t status =
        check(cudaGetDeviceProperties(&properties, gpu->index), "cudaGetDeviceProperties", error);

    if (status != TD_OK)
        return status;
    (void)cudaDriverGetVersion(&driver);
    snprintf(info->name, sizeof info->name, "%.100s", properties.name);
    snprintf(info->description, sizeof info->description,
             "compute capability %d.%d, %d multiprocessors, driver for CUDA %d.%d, runtime %d.%d",
             properties.major, properties.minor, properties.multiProcessorCount, driver / 1000,
             driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    info->memory_bytes = properties.totalGlobalMem;
    info->multiprocessors = (uint32_t)properties.multiProcessorCount;
    info->has_warpgroups = properties.major == HOPPER; /* 9.0 alone: no other has sm_90a's words */
    if (properties.major < CAPABILITY_MIN)
        return td_fail(error, TD_UNSUPPORTED,
                       "%.100s has compute capability %d.%d; %d.0 or higher is needed",
                       properties.name, properties.major, properties.minor, CAPABILITY_MIN);
    return TD_OK;
}

/*
 * All kernels, now: their code takes memory that must not be lacking in the middle of a step, none can be loaded while a
 * graph is recorded, and a GPU that this program holds no code for is found here. Code that was made from PTX for older
 * GPUs does not wait for earlier kernels, whatever the GPU.
 */
static td_status_t load_kernels(struct gpu *gpu, struct td_error *error)
{
    struct cudaFuncAttributes attributes;
    td_status_t status = TD_OK;

    gpu->can_launch_early = true;
    for (int kernel = 0; kernel < (int)CUDA_KERNEL_COUNT && status == TD_OK; kernel++) {
        struct gpu_kernel found = gpu_kernel_of((enum cuda_kernel)kernel);
        char what[96];

        if (found.needs_warpgroups && !gpu->base.info.has_warpgroups)
            continue; /* nor has the GPU as much shared memory */
        snprintf(what, sizeof what, "this program's kernels cannot be loaded on this GPU (%s)",
                 found.name);
        status = check(cudaFuncGetAttributes(&attributes, found.function), what, error);
        gpu->can_launch_early =
            gpu->can_launch_early && status == TD_OK && attributes.ptxVersion >= EARLY_MIN;
        if (status == TD_OK && found.shared_bytes > 0) /* more than 48 KiB must be asked for */
            status = check(cudaFuncSetAttribute(found.function,
                                                cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                (int)found.shared_bytes),
                           what, error);
    }
    return status;
}

static td_status_t prepare(struct gpu *gpu, struct td_error *error)
{
    uint32_t count;
    td_status_t status = gpu_count(&count, error);

    if (status == TD_OK)
        status = check(cudaSetDevice(gpu->index), "cudaSetDevice", error);
    if (status == TD_OK)
        status = describe(gpu, error);
    if (status == TD_OK)
        status = load_kernels(gpu, error);
    if (status != TD_OK)
        return status;
    status = check(cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking),
                   "cudaStreamCreate", error);
    gpu->has_stream = status == TD_OK;
    return status;
}

td_status_t gpu_open(uint32_t index, struct cuda_device **device_out, struct td_error *error)
{
    struct gpu *gpu;
    td_status_t status;

    if (index > INT32_MAX)
        return td_fail(error, TD_INVALID, "GPU %u is not possible", index);
    gpu = calloc(1, sizeof *gpu);
    if (gpu == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a device");
    gpu->base.ops = &ops;
    gpu->index = (int)index;
    status = prepare(gpu, error);
    if (status != TD_OK) {
        close_gpu(&gpu->base);
        td_fail_wrap(error, "GPU %u", index);
        return status;
    }
    *device_out = &gpu->base;
    return TD_OK;
}
