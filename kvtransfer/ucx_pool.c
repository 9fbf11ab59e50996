/*
 * ucx_pool.c: the memory of a GPU as UCX is told of it.
 *
 * The pool is registered once, and its kind is named with every request: nothing is guessed from addresses. Rendezvous is by
 * reading: the receiver's card or copy engine reads the sender's pool, which is registered for that and not for writing by others.
 */
#include "kvtransfer/ucx_private.h"

ucs_status_t ucx_pool_options(ucp_config_t *options)
{
    /* The last two only for messages; no TCP, so that it cannot be fallen back to. */
    ucs_status_t status = ucp_config_modify(options, "TLS", "rc,dc,cuda_ipc,cuda_copy,sysv,posix");

    if (status == UCS_OK)
        status = ucp_config_modify(options, "PROTO_ENABLE", "y");
    if (status == UCS_OK)
        status = ucp_config_modify(options, "RNDV_SCHEME", "get_zcopy");
    return status;
}

td_status_t ucx_pool_register(struct ucx_transport *transport, struct td_error *error)
{
    ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
    ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_PROT | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
        .address = transport->pool.base,
        .length = transport->pool.bytes,
        .prot = UCP_MEM_MAP_PROT_LOCAL_READ | UCP_MEM_MAP_PROT_LOCAL_WRITE |
                UCP_MEM_MAP_PROT_REMOTE_READ,
        .memory_type = UCS_MEMORY_TYPE_CUDA};
    ucs_status_t status = ucp_context_query(transport->context, &attributes);

    if (status == UCS_OK && (attributes.memory_types & UCS_BIT(UCS_MEMORY_TYPE_CUDA)) == 0)
        return td_fail(error, TD_UNSUPPORTED, "ucx %s was built without CUDA",
                       ucp_get_version_string());
    if (status == UCS_OK)
        status = ucp_mem_map(transport->context, &params, &transport->registered);
    if (status != UCS_OK)
        return td_fail(error, TD_UNSUPPORTED, "ucx %s cannot register %zu bytes of the GPU: %s",
                       ucp_get_version_string(), transport->pool.bytes, ucs_status_string(status));
    return TD_OK;
}

void ucx_pool_describe(const struct ucx_transport *transport, const void *base,
                       ucp_request_param_t *param)
{
    bool is_pool = kvt_memory_contains(&transport->pool, base, 1);

    param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param->memory_type = is_pool ? UCS_MEMORY_TYPE_CUDA : UCS_MEMORY_TYPE_HOST;
    if (is_pool) {
        param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
        param->memh = transport->registered;
    }
}
