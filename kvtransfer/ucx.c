/* ucx.c: opening, driving and closing the UCX transport, see ucx.h. */
#include "kvtransfer/ucx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/address.h"
#include "kvtransfer/host.h"
#include "kvtransfer/ucx_private.h"
#include "lib/base/bytes.h"
#include "lib/base/log.h"
#include "lib/base/random.h"

#define UCX_PROGRESS_ROUNDS 64 /* of UCX per call of ours: commands and deadlines get their turn */
#define UCX_CLOSE_ROUNDS    100000

struct kvt_ucx_config kvt_ucx_config_default(void)
{
    return (struct kvt_ucx_config){
        .shm = true, .tcp = true, .interface = "lo", .keepalive_ms = 2000};
}

/* -------------------------------------------------------------------------------------- progress */

static bool ucx_progress(struct kvt_transport *base)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    bool worked = false;

    for (int i = 0; i < UCX_PROGRESS_ROUNDS; i++) {
        bool any = ucp_worker_progress(transport->worker) != 0;

        worked = worked || any;
        if (!any)
            break;
    }
    worked = ucx_direct_start(transport) || worked;
    worked = ucx_report_operations(transport) || worked;
    worked = ucx_make_endpoints(transport) || worked;
    worked = ucx_report_endpoints(transport) || worked;
    worked = ucx_close_endpoints(transport) || worked;
    return worked;
}

static int ucx_descriptor(struct kvt_transport *base)
{
    return td_container_of(base, struct ucx_transport, base)->descriptor;
}

static td_status_t ucx_arm(struct kvt_transport *base)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    ucs_status_t status;

    if (transport->has_requests || transport->has_news || transport->has_ready ||
        !td_list_empty(&transport->ended) || !td_list_empty(&transport->closing))
        return TD_AGAIN;
    status = ucp_worker_arm(transport->worker);
    return status == UCS_ERR_BUSY ? TD_AGAIN : ucx_status(status);
}

static void ucx_lanes(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                      char out[static KVT_LANES_TEXT_BYTES])
{
    (void)base;
    memcpy(out, td_container_of(endpoint, struct ucx_endpoint, base)->lanes, KVT_LANES_TEXT_BYTES);
}

/* --------------------------------------------------------------------------------------- address */

static td_status_t pack_body(struct ucx_transport *transport, const ucp_address_t *worker_address,
                             size_t worker_bytes, uint8_t *out, size_t capacity, size_t *length_out)
{
    uint8_t body[KVT_ADDRESS_BODY_MAX];
    struct td_writer writer = td_writer_over(body, sizeof body);

    td_write_u64(&writer, transport->token);
    td_write_u128(&writer, transport->host);
    td_write_bytes(&writer, worker_address, worker_bytes);
    if (!writer.ok)
        return TD_LIMIT;
    return kvt_address_wrap(ucx_is_direct(transport) ? "ucxgpu" : "ucx", body,
                            (size_t)(writer.cursor - body), out, capacity, length_out);
}

static td_status_t ucx_address(struct kvt_transport *base, uint8_t *out, size_t capacity,
                               size_t *length_out)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    ucp_address_t *worker_address;
    size_t worker_bytes;
    ucs_status_t found = ucp_worker_get_address(transport->worker, &worker_address, &worker_bytes);
    td_status_t status;

    if (found != UCS_OK)
        return ucx_status(found);
    status = pack_body(transport, worker_address, worker_bytes, out, capacity, length_out);
    ucp_worker_release_address(transport->worker, worker_address);
    return status;
}

/* ------------------------------------------------------------------------------- open and close */

/* Gives UCX up to a bound of rounds to end what was closed by force. */
static void wait_for_ends(struct ucx_transport *transport)
{
    for (int i = 0; i < UCX_CLOSE_ROUNDS; i++) {
        ucp_worker_progress(transport->worker);
        if (td_list_empty(&transport->operations) && td_list_empty(&transport->ending) &&
            transport->greetings == 0)
            return;
    }
    td_log(TD_LOG_WARN, "kvtransfer", "ucx did not end everything before it was closed");
}

static void free_operations(struct td_list *list)
{
    td_list_for_each(node, list)
    {
        td_list_remove(node);
        free(td_container_of(node, struct ucx_operation, in_transport));
    }
}

static void close_context(struct ucx_transport *transport)
{
    if (transport->registered != NULL)
        ucp_mem_unmap(transport->context, transport->registered);
    ucp_cleanup(transport->context);
}

static void ucx_close(struct kvt_transport *base)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);

    transport->is_closing = true;
    td_list_for_each(node, &transport->endpoints)
    {
        td_list_remove(node);
        td_list_push_back(&transport->closing, node);
    }
    ucx_direct_cancel(transport, NULL);
    ucx_close_endpoints(transport);
    wait_for_ends(transport);
    ucp_worker_destroy(transport->worker);
    close_context(transport);
    ucx_direct_free(transport);
    free_operations(&transport->ended);
    free_operations(&transport->operations);
    td_list_for_each(node, &transport->ending)
        ucx_endpoint_free(td_container_of(node, struct ucx_endpoint, in_transport));
    free(transport);
}

#define UCX_OPS(send_, receive_, reject_)                                                          \
    {                                                                                              \
        .name = "ucx", .address = ucx_address, .connect = ucx_connect,                             \
        .disconnect = ucx_disconnect, .send = (send_), .receive = (receive_), .reject = (reject_), \
        .progress = ucx_progress, .descriptor = ucx_descriptor, .arm = ucx_arm,                    \
        .lanes = ucx_lanes, .close = ucx_close,                                                    \
    }

static const struct kvt_transport_ops ucx_ops = UCX_OPS(ucx_send, ucx_receive, ucx_reject);
static const struct kvt_transport_ops direct_ops =
    UCX_OPS(ucx_direct_send, ucx_direct_receive, ucx_direct_reject);

static ucs_status_t set_lanes(ucp_config_t *options, const struct kvt_ucx_config *config)
{
    ucs_status_t status;

    status = ucp_config_modify(options, "TLS",
                               !config->tcp   ? "sysv,posix"
                               : !config->shm ? "tcp"
                                              : "sysv,posix,tcp");
    if (status == UCS_OK && config->tcp)
        status = ucp_config_modify(options, "NET_DEVICES", config->interface);
    return status;
}

static ucs_status_t set_options(ucp_config_t *options, const struct ucx_transport *transport)
{
    char keepalive[32];
    ucs_status_t status = ucx_is_direct(transport) ? ucx_pool_options(options)
                                                   : set_lanes(options, &transport->config);

    snprintf(keepalive, sizeof keepalive, "%ums", transport->config.keepalive_ms);
    if (status == UCS_OK)
        status = ucp_config_modify(options, "KEEPALIVE_INTERVAL", keepalive);
    return status;
}

static td_status_t open_context(struct ucx_transport *transport, struct td_error *error)
{
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                           .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
    ucp_config_t *options;
    ucs_status_t status = ucp_config_read(NULL, NULL, &options);

    if (status != UCS_OK)
        return td_fail(error, ucx_status(status), "ucx configuration: %s",
                       ucs_status_string(status));
    status = set_options(options, transport);
    if (status == UCS_OK)
        status = ucp_init(&params, options, &transport->context);
    ucp_config_release(options);
    if (status != UCS_OK && ucx_is_direct(transport))
        return td_fail(error, TD_UNSUPPORTED, "ucx %s has no lanes for the memory of GPUs here: %s",
                       ucp_get_version_string(), ucs_status_string(status));
    if (status != UCS_OK)
        return td_fail(error, TD_UNSUPPORTED,
                       "ucx offers no transport for shm=%d tcp=%d interface '%s': %s",
                       transport->config.shm, transport->config.tcp, transport->config.interface,
                       ucs_status_string(status));
    return TD_OK;
}

static ucs_status_t set_handlers(struct ucx_transport *transport)
{
    static const struct {
        enum ucx_message id;
        ucp_am_recv_callback_t handler;
    } handlers[] = {{UCX_CHUNK, ucx_on_chunk},
                    {UCX_PING, ucx_on_ping},
                    {UCX_PONG, ucx_on_pong},
                    {UCX_BYE, ucx_on_bye}};

    for (size_t i = 0; i < sizeof handlers / sizeof handlers[0]; i++) {
        ucp_am_handler_param_t param = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                                                      UCP_AM_HANDLER_PARAM_FIELD_CB |
                                                      UCP_AM_HANDLER_PARAM_FIELD_ARG,
                                        .id = handlers[i].id,
                                        .cb = handlers[i].handler,
                                        .arg = transport};
        ucs_status_t status = ucp_worker_set_am_recv_handler(transport->worker, &param);

        if (status != UCS_OK)
            return status;
    }
    return ucx_is_direct(transport) ? ucx_direct_handlers(transport) : UCS_OK;
}

static td_status_t open_worker(struct ucx_transport *transport, struct td_error *error)
{
    ucp_worker_params_t params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
                                  .thread_mode = UCS_THREAD_MODE_SINGLE};
    ucp_worker_attr_t attributes = {.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER};
    ucs_status_t status = ucp_worker_create(transport->context, &params, &transport->worker);

    if (status != UCS_OK)
        return td_fail(error, ucx_status(status), "ucx worker: %s", ucs_status_string(status));
    status = ucp_worker_query(transport->worker, &attributes);
    if (status == UCS_OK && attributes.max_am_header < KVT_HEADER_BYTES_MAX)
        status = UCS_ERR_UNSUPPORTED;
    if (status == UCS_OK)
        status = ucp_worker_get_efd(transport->worker, &transport->descriptor);
    if (status == UCS_OK)
        status = set_handlers(transport);
    if (status != UCS_OK) {
        ucp_worker_destroy(transport->worker);
        return td_fail(error, ucx_status(status),
                       "ucx worker: %s (headers up to %zu bytes; %d are needed)",
                       ucs_status_string(status), attributes.max_am_header, KVT_HEADER_BYTES_MAX);
    }
    return TD_OK;
}

static td_status_t check_config(const struct kvt_ucx_config *config, struct td_error *error)
{
    if (!ucx_process_is_prepared())
        return td_fail(error, TD_STATE, "kvt_ucx_prepare_process was not called");
    if (!config->shm && !config->tcp)
        return td_fail(error, TD_INVALID, "ucx: at least one of shm and tcp must be on");
    if (config->tcp && config->interface[0] == '\0')
        return td_fail(error, TD_INVALID,
                       "ucx: interface: tcp needs a network device, for example lo");
    if (config->keepalive_ms == 0)
        return td_fail(error, TD_INVALID, "ucx: keepalive_ms must not be 0");
    return TD_OK;
}

static struct ucx_transport *transport_new(const struct kvt_ucx_config *config)
{
    struct ucx_transport *transport = calloc(1, sizeof *transport);

    if (transport == NULL)
        return NULL;
    transport->base.ops = &ucx_ops;
    snprintf(transport->base.library, sizeof transport->base.library, "ucx %s",
             ucp_get_version_string());
    transport->config = *config;
    transport->token = td_random_u64();
    td_list_init(&transport->endpoints);
    td_list_init(&transport->closing);
    td_list_init(&transport->ending);
    td_list_init(&transport->operations);
    td_list_init(&transport->ended);
    td_list_init(&transport->batches);
    return transport;
}

static td_status_t open_transport(struct ucx_transport *transport, struct td_error *error)
{
    td_status_t status = kvt_host_identity(&transport->host, error);

    if (status == TD_OK)
        status = open_context(transport, error);
    if (status != TD_OK)
        return status;
    if (ucx_is_direct(transport))
        status = ucx_pool_register(transport, error);
    if (status == TD_OK)
        status = open_worker(transport, error);
    if (status != TD_OK)
        close_context(transport);
    return status;
}

static td_status_t open_or_free(struct ucx_transport *transport,
                                struct kvt_transport **transport_out, struct td_error *error)
{
    td_status_t status = open_transport(transport, error);

    if (status == TD_OK)
        *transport_out = &transport->base;
    else
        free(transport);
    return status;
}

td_status_t kvt_ucx_open(const struct kvt_ucx_config *config, struct kvt_transport **transport_out,
                         struct td_error *error)
{
    td_status_t status = check_config(config, error);
    struct ucx_transport *transport;

    if (status != TD_OK)
        return status;
    transport = transport_new(config);
    if (transport == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the ucx transport");
    return open_or_free(transport, transport_out, error);
}

bool ucx_is_new_enough(void)
{
    unsigned major;
    unsigned minor;
    unsigned release;

    ucp_get_version(&major, &minor, &release);
    return UCP_VERSION(major, minor) >= UCP_VERSION(1, 20);
}

static td_status_t check_version(struct td_error *error)
{
    if (ucx_is_new_enough())
        return TD_OK;
    return td_fail(error, TD_UNSUPPORTED,
                   "ucx %s is too old for the memory of GPUs: 1.20 or newer with CUDA knows it",
                   ucp_get_version_string());
}

td_status_t kvt_ucx_open_direct(const struct kvt_ucx_config *config,
                                const struct kvt_memory *memory, size_t block_bytes,
                                struct kvt_transport **transport_out, struct td_error *error)
{
    td_status_t status = check_config(config, error);
    struct ucx_transport *transport;

    if (status == TD_OK)
        status = check_version(error);
    if (status == TD_OK)
        status = memory->device->ops->enter(memory->device, error);
    if (status != TD_OK)
        return status;
    transport = transport_new(config);
    if (transport == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the ucx transport");
    transport->base.ops = &direct_ops;
    transport->pool = *memory;
    transport->block_bytes = block_bytes;
    return open_or_free(transport, transport_out, error);
}
