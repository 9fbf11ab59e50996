/* gpu_pool.c: see gpu_pool.h. */
#include "tests/kvtransfer/gpu_pool.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static struct {
    void *object;
    struct gpu_pool_double own;
    int (*alloc)(uint64_t *address_out, size_t bytes);
    int (*release)(uint64_t address);
    int (*write)(uint64_t to, const void *from, size_t bytes);
    int (*read)(void *to, uint64_t from, size_t bytes);
    int (*retain)(void **context_out, int device);
    int (*set)(void *context);
} stub;

static void find(const char *symbol, void *function_out)
{
    void *found = dlsym(stub.object, symbol);

    assert_non_null(found);
    memcpy(function_out, &found, sizeof found);
}

static void load(void)
{
    if (stub.object != NULL)
        return;
    stub.object = dlopen(STUB_DRIVER_PATH, RTLD_NOW | RTLD_LOCAL);
    if (stub.object == NULL)
        fail_msg("%s", dlerror());
#define X(name, result, parameters) find("stub_driver_" #name, &stub.own.name);
    STUB_DRIVER_FUNCTIONS(X)
#undef X
    find("cuMemAlloc_v2", &stub.alloc);
    find("cuMemFree_v2", &stub.release);
    find("cuMemcpyHtoD_v2", &stub.write);
    find("cuMemcpyDtoH_v2", &stub.read);
    find("cuDevicePrimaryCtxRetain", &stub.retain);
    find("cuCtxSetCurrent", &stub.set);
}

const struct gpu_pool_double *gpu_pool_double(void)
{
    load();
    return &stub.own;
}

void *gpu_pool_take(size_t bytes)
{
    uint64_t address = 0;
    void *context = NULL;

    load();
    assert_int_equal(stub.retain(&context, 0), 0);
    assert_int_equal(stub.set(context), 0);
    assert_int_equal(stub.alloc(&address, bytes), 0);
    assert_int_equal(stub.set(NULL), 0); /* nobody may lean on the context of another */
    return (void *)(uintptr_t)address;
}

void gpu_pool_give(void *memory)
{
    assert_int_equal(stub.release((uint64_t)(uintptr_t)memory), 0);
}

void gpu_pool_write(void *to, const void *from, size_t bytes)
{
    assert_int_equal(stub.write((uint64_t)(uintptr_t)to, from, bytes), 0);
}

void gpu_pool_read(void *to, const void *from, size_t bytes)
{
    assert_int_equal(stub.read(to, (uint64_t)(uintptr_t)from, bytes), 0);
}

void gpu_pool_open(size_t bytes, struct kvt_memory *memory_out)
{
    struct kvt_cuda_config config = {
        .library = STUB_DRIVER_PATH, .pool = gpu_pool_take(bytes), .pool_bytes = bytes};
    struct td_error error = {0};

    *memory_out = (struct kvt_memory){.base = config.pool, .bytes = bytes, .fd = -1};
    if (kvt_cuda_open(&config, &memory_out->device, &error) != TD_OK)
        fail_msg("%s", error.text);
}

void gpu_pool_close(struct kvt_memory *memory)
{
    kvt_device_close(memory->device);
    gpu_pool_give(memory->base);
}
