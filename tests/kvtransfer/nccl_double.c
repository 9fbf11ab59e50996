/* nccl_double.c: see nccl_double.h. */
#include "tests/kvtransfer/nccl_double.h"

#include <dlfcn.h>
#include <string.h>

#include "tests/support/support.h"

static struct {
    void *object;
    struct nccl_double own;
} stub;

static void find(const char *symbol, void *function_out)
{
    void *found = dlsym(stub.object, symbol);

    assert_non_null(found);
    memcpy(function_out, &found, sizeof found);
}

const struct nccl_double *nccl_double(void)
{
    if (stub.object != NULL)
        return &stub.own;
    stub.object = dlopen(STUB_NCCL_PATH, RTLD_NOW | RTLD_LOCAL);
    if (stub.object == NULL)
        fail_msg("%s", dlerror());
#define X(name, result, parameters) find("stub_nccl_" #name, &stub.own.name);
    STUB_NCCL_FUNCTIONS(X)
#undef X
    return &stub.own;
}

const char *nccl_double_path(void)
{
    return STUB_NCCL_PATH;
}
