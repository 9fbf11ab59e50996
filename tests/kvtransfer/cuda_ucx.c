/*
 * cuda_ucx.c: stands between the UCX transport and the real UCX, which knows no GPUs here: see cuda_ucx.h.
 *
 * The linker sends the transport's calls here (--wrap). Everything is checked that CUDA would need: a context on the thread,
 * the pool registered as what it is, the kind of the memory and the registration named with every request, one kind
 * and one piece in each. Then the request is carried out by the real UCX on the memory behind the GPU's addresses
 * (stub_driver.c), so that all that can happen to messages and peers does.
 */
#include "tests/kvtransfer/cuda_ucx.h"

#include <stdlib.h>
#include <string.h>
#include <ucp/api/ucp.h>

#include "tests/kvtransfer/gpu_pool.h"
#include "tests/support/support.h"

#define DIRECT                                                                       \
    "{proto} am_send(rndv) from cuda memory length 65536 rendezvous zero-copy read " \
    "from remote rc_mlx5/mlx5_0:1"

static struct cuda_ucx state = {
    .minor = 22, .knows_cuda = true, .can_register = true, .way = DIRECT};

struct cuda_ucx *cuda_ucx(void)
{
    return &state;
}

/* A failed check must be seen in processes that no test runs in, too. */
static void must(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "ucx was called wrongly: %s\n", what);
    abort();
}

/* The linker's names are reserved ones. */
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wreserved-identifier"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wmissing-declarations"

void __real_ucp_get_version(unsigned *major, unsigned *minor, unsigned *release);
ucs_status_t __real_ucp_config_modify(ucp_config_t *config, const char *name, const char *value);
ucs_status_t __real_ucp_context_query(ucp_context_h context, ucp_context_attr_t *attributes);
ucs_status_ptr_t __real_ucp_am_send_nbx(ucp_ep_h ep, unsigned id, const void *header,
                                        size_t header_length, const void *buffer, size_t count,
                                        const ucp_request_param_t *param);
ucs_status_ptr_t __real_ucp_am_recv_data_nbx(ucp_worker_h worker, void *data, void *buffer,
                                             size_t count, const ucp_request_param_t *param);

void __wrap_ucp_get_version(unsigned *major, unsigned *minor, unsigned *release)
{

    __real_ucp_get_version(major, minor, release);
    *minor = state.minor;
}

/* Lanes of this host in place of those asked for. */
ucs_status_t __wrap_ucp_config_modify(ucp_config_t *config, const char *name, const char *value)
{
    if (strcmp(name, "TLS") == 0) {
        must(strstr(value, "cuda") == NULL || strstr(value, "tcp") == NULL, "TCP with GPUs");
        return __real_ucp_config_modify(config, name, "sysv,posix");
    }
    if (strcmp(name, "PROTO_ENABLE") == 0 || strcmp(name, "RNDV_SCHEME") == 0)
        return UCS_OK;
    return __real_ucp_config_modify(config, name, value);
}

ucs_status_t __wrap_ucp_context_query(ucp_context_h context, ucp_context_attr_t *attributes)
{
    ucs_status_t status = __real_ucp_context_query(context, attributes);

    if (state.knows_cuda)
        attributes->memory_types |= UCS_BIT(UCS_MEMORY_TYPE_CUDA);
    return status;
}

ucs_status_t __wrap_ucp_mem_map(ucp_context_h context, const ucp_mem_map_params_t *params,
                                ucp_mem_h *handle_out)
{
    (void)context;
    must(gpu_pool_double()->has_context(), "no context of the GPU on this thread");
    must((params->field_mask & UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE) != 0 &&
             params->memory_type == UCS_MEMORY_TYPE_CUDA,
         "a pool that is registered without its kind");
    must((params->field_mask & UCP_MEM_MAP_PARAM_FIELD_PROT) != 0 &&
             (params->prot & UCP_MEM_MAP_PROT_REMOTE_WRITE) == 0,
         "a pool that others may write to");
    must(gpu_pool_double()->reach(params->address, params->length) != NULL, "not a GPU's memory");
    if (!state.can_register)
        return UCS_ERR_NO_RESOURCE;
    state.registered++;
    *handle_out = (ucp_mem_h)params->address; /* never looked into */
    return UCS_OK;
}

ucs_status_t __wrap_ucp_mem_unmap(ucp_context_h context, ucp_mem_h handle)
{
    (void)context;
    (void)handle;
    state.registered--;
    return UCS_OK;
}

/* Checks what the request says of its memory; returns what the real UCX may touch. */
static void *pass_memory(const void *buffer, size_t bytes, ucp_request_param_t *param)
{
    void *behind = bytes > 0 ? gpu_pool_double()->reach(buffer, bytes) : NULL;

    if ((param->op_attr_mask & UCP_OP_ATTR_FIELD_MEMORY_TYPE) == 0) {
        must(behind == NULL, "memory of a GPU whose kind is not named");
        return (void *)(uintptr_t)buffer;
    }
    must((param->op_attr_mask & UCP_OP_ATTR_FIELD_DATATYPE) == 0, "more than one piece");
    param->op_attr_mask &= ~(uint32_t)(UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FIELD_MEMH);
    if (param->memory_type == UCS_MEMORY_TYPE_HOST) {
        must(behind == NULL, "memory of a GPU that is said to be the host's");
        state.other_parts++;
        return (void *)(uintptr_t)buffer;
    }
    must(param->memory_type == UCS_MEMORY_TYPE_CUDA && behind != NULL, "no memory of a GPU");
    must(param->memh != NULL, "memory of a GPU without its registration");
    state.pool_parts++;
    return behind;
}

ucs_status_ptr_t __wrap_ucp_am_send_nbx(ucp_ep_h ep, unsigned id, const void *header,
                                        size_t header_length, const void *buffer, size_t count,
                                        const ucp_request_param_t *param)
{
    ucp_request_param_t passed = *param;
    const void *memory = pass_memory(buffer, count, &passed);

    return __real_ucp_am_send_nbx(ep, id, header, header_length, memory, count, &passed);
}

ucs_status_ptr_t __wrap_ucp_am_recv_data_nbx(ucp_worker_h worker, void *data, void *buffer,
                                             size_t count, const ucp_request_param_t *param)
{
    ucp_request_param_t passed = *param;
    void *memory = pass_memory(buffer, count, &passed);

    return __real_ucp_am_recv_data_nbx(worker, data, memory, count, &passed);
}

ucs_status_t __wrap_ucp_request_query(void *request, ucp_request_attr_t *attributes)
{
    (void)request;
    snprintf(attributes->debug_string, attributes->debug_string_size, "%s", state.way);
    return UCS_OK;
}

void __wrap_ucp_ep_print_info(ucp_ep_h ep, FILE *stream)
{
    (void)ep;
    fprintf(stream, "# lane[0]:  2:rc_mlx5/mlx5_0:1.0 md[1] -> md[1]/ib/sysdev[0] am\n"
                    "# lane[1]:  5:cuda_copy/cuda.0 md[3] -> md[3]/cuda_cpy/sysdev[0]\n");
}
