/*
 * ucx_endpoint.c: connections to peers.
 *
 * Endpoints are made and closed by progress alone, never inside one of UCX's callbacks, from where the
 * core may ask for both. Making one returns at once, and over shared memory UCX itself would not notice
 * that nobody is there. So each side sends a PING through its new endpoint; the PONG proves that the peer is alive,
 * is the incarnation that was meant, and that the lanes are final. A side that closes its endpoint
 * says BYE: a closed endpoint is silent otherwise, and the other side would wait for its deadlines.
 */
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/address.h"
#include "kvtransfer/ucx_private.h"
#include "lib/base/bytes.h"
#include "lib/base/log.h"

#define BODY_FIXED 24 /* token u64, host u128; the UCX worker's address follows */

/* ------------------------------------------------------------------------------------- greetings */

/* A greeting in flight. */
struct greeting_request {
    struct ucx_transport *transport;
    uint8_t bytes[UCX_GREETING_BYTES];
};

void ucx_greeting_write(const struct ucx_greeting *greeting, uint8_t out[static UCX_GREETING_BYTES])
{
    struct td_writer writer = td_writer_over(out, UCX_GREETING_BYTES);

    td_write_u64(&writer, greeting->from);
    td_write_u64(&writer, greeting->to);
    td_write_u64(&writer, greeting->number);
}

static void on_greeted(void *request, ucs_status_t status, void *argument)
{
    struct greeting_request *greeting = argument;

    (void)status; /* if the peer is gone the endpoint says so */
    greeting->transport->greetings--;
    ucp_request_free(request);
    free(greeting);
}

td_status_t ucx_greet(struct ucx_transport *transport, ucp_ep_h ep, enum ucx_message message,
                      const struct ucx_greeting *greeting)
{
    struct greeting_request *sending = malloc(sizeof *sending);
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA |
                                                 UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER,
                                 .cb.send = on_greeted,
                                 .user_data = sending};
    ucs_status_ptr_t request;

    if (sending == NULL)
        return TD_NO_MEMORY;
    sending->transport = transport;
    ucx_greeting_write(greeting, sending->bytes);
    request = ucp_am_send_nbx(ep, message, sending->bytes, sizeof sending->bytes, NULL, 0, &param);
    if (UCS_PTR_IS_PTR(request)) {
        transport->greetings++;
        return TD_OK;
    }
    free(sending);
    return request == NULL ? TD_OK : ucx_status(UCS_PTR_STATUS(request));
}

bool ucx_greeting_read(const struct ucx_transport *transport, const void *header,
                       size_t header_bytes, struct ucx_greeting *greeting_out)
{
    struct td_reader reader = td_reader_over(header, header_bytes);

    greeting_out->from = td_read_u64(&reader);
    greeting_out->to = td_read_u64(&reader);
    greeting_out->number = td_read_u64(&reader);
    return reader.ok && header_bytes == UCX_GREETING_BYTES &&
           greeting_out->to == transport->token && !transport->is_closing;
}

ucs_status_t ucx_on_ping(void *argument, const void *header, size_t header_bytes, void *data,
                         size_t length, const ucp_am_recv_param_t *param)
{
    struct ucx_transport *transport = argument;
    struct ucx_greeting ping;

    (void)data;
    (void)length;
    if (ucx_greeting_read(transport, header, header_bytes, &ping) &&
        (param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0) {
        struct ucx_greeting pong = {
            .from = transport->token, .to = ping.from, .number = ping.number};

        (void)!ucx_greet(transport, param->reply_ep, UCX_PONG, &pong); /* it will time out there */
    }
    return UCS_OK;
}

void ucx_note_lost(struct ucx_endpoint *endpoint, td_status_t status)
{
    if (endpoint->is_lost)
        return;
    endpoint->is_lost = true;
    endpoint->lost_pending = true;
    endpoint->lost_status = status;
    endpoint->transport->has_news = true;
}

void ucx_give_up(struct ucx_endpoint *endpoint, td_status_t status)
{
    endpoint->is_given_up = endpoint->is_given_up || !endpoint->is_lost;
    ucx_note_lost(endpoint, status);
}

ucs_status_t ucx_on_pong(void *argument, const void *header, size_t header_bytes, void *data,
                         size_t length, const ucp_am_recv_param_t *param)
{
    struct ucx_transport *transport = argument;
    struct ucx_greeting pong;

    (void)data;
    (void)length;
    (void)param;
    if (!ucx_greeting_read(transport, header, header_bytes, &pong))
        return UCS_OK;
    td_list_for_each(node, &transport->endpoints)
    {
        struct ucx_endpoint *endpoint = td_container_of(node, struct ucx_endpoint, in_transport);

        if (endpoint->number != pong.number || endpoint->remote != pong.from ||
            endpoint->is_connected)
            continue;
        endpoint->is_connected = true;
        endpoint->wants_trial = ucx_is_direct(transport);
        endpoint->connected_pending = !endpoint->wants_trial;
        transport->has_news = true;
    }
    return UCS_OK;
}

ucs_status_t ucx_on_bye(void *argument, const void *header, size_t header_bytes, void *data,
                        size_t length, const ucp_am_recv_param_t *param)
{
    struct ucx_transport *transport = argument;
    struct ucx_greeting bye;

    (void)data;
    (void)length;
    (void)param;
    if (!ucx_greeting_read(transport, header, header_bytes, &bye))
        return UCS_OK;
    td_list_for_each(node, &transport->endpoints)
    {
        struct ucx_endpoint *endpoint = td_container_of(node, struct ucx_endpoint, in_transport);

        if (endpoint->remote == bye.from)
            ucx_note_lost(endpoint, TD_PEER_LOST);
    }
    return UCS_OK;
}

/* ------------------------------------------------------------------------------------- reporting */

static void report(struct ucx_endpoint *endpoint)
{
    struct kvt_transport *base = &endpoint->transport->base;

    if (endpoint->wants_trial && !endpoint->is_lost) {
        endpoint->wants_trial = false;
        ucx_try_lanes(endpoint);
    }
    if (endpoint->connected_pending && !endpoint->is_lost) {
        td_status_t status = ucx_lanes_check(endpoint);

        if (status != TD_OK)
            ucx_give_up(endpoint, status);
    }
    if (endpoint->connected_pending && !endpoint->is_lost) {
        endpoint->connected_pending = false;
        base->sink.connected(base->sink.impl, base, &endpoint->base);
    } else if (endpoint->lost_pending) {
        endpoint->lost_pending = false;
        base->sink.lost(base->sink.impl, base, &endpoint->base, endpoint->lost_status);
    }
}

bool ucx_report_endpoints(struct ucx_transport *transport)
{
    if (!transport->has_news)
        return false;
    transport->has_news = false;
    td_list_for_each(node, &transport->endpoints)
        report(td_container_of(node, struct ucx_endpoint, in_transport));
    return true;
}

/* -------------------------------------------------------------------------- connecting, closing */

static void on_endpoint_failed(void *argument, ucp_ep_h ep, ucs_status_t status)
{
    struct ucx_endpoint *endpoint = argument;

    (void)ep;
    td_log(TD_LOG_DEBUG, "kvtransfer", "ucx endpoint failed: %s", ucs_status_string(status));
    endpoint->is_given_up = false; /* nothing can be said any more */
    ucx_note_lost(endpoint, TD_PEER_LOST);
}

void ucx_endpoint_free(struct ucx_endpoint *endpoint)
{
    td_list_remove(&endpoint->in_transport);
    free(endpoint->worker_address);
    free(endpoint);
}

/* Takes the address apart, into the endpoint. */
static td_status_t read_body(struct ucx_endpoint *endpoint, const uint8_t *address, size_t length)
{
    const uint8_t *body;
    size_t body_bytes;
    struct td_reader reader;
    td_status_t status = kvt_address_unwrap(ucx_is_direct(endpoint->transport) ? "ucxgpu" : "ucx",
                                            address, length, &body, &body_bytes);

    if (status != TD_OK)
        return status;
    if (body_bytes <= BODY_FIXED)
        return TD_INVALID;
    reader = td_reader_over(body, body_bytes);
    endpoint->remote = td_read_u64(&reader);
    endpoint->is_same_host = td_u128_equal(td_read_u128(&reader), endpoint->transport->host);
    endpoint->worker_address = malloc(td_reader_left(&reader));
    if (endpoint->worker_address == NULL)
        return TD_NO_MEMORY;
    memcpy(endpoint->worker_address, reader.cursor, td_reader_left(&reader));
    return TD_OK;
}

/* The address was checked by its envelope only: UCX trusts it, and so do we the worker that sent it. */
static td_status_t make_ep(struct ucx_endpoint *endpoint)
{
    ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                                            UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                                            UCP_EP_PARAM_FIELD_ERR_HANDLER,
                              .address = (const ucp_address_t *)endpoint->worker_address,
                              .err_mode = UCP_ERR_HANDLING_MODE_PEER,
                              .err_handler = {.cb = on_endpoint_failed, .arg = endpoint}};
    ucs_status_t status = ucp_ep_create(endpoint->transport->worker, &params, &endpoint->ep);

    if (status != UCS_OK)
        td_log(TD_LOG_WARN, "kvtransfer", "ucx cannot connect: %s", ucs_status_string(status));
    return ucx_status(status);
}

td_status_t ucx_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                        void *context, struct kvt_endpoint **endpoint_out)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    struct ucx_endpoint *endpoint = calloc(1, sizeof *endpoint);
    td_status_t status;

    if (endpoint == NULL)
        return TD_NO_MEMORY;
    td_list_init(&endpoint->in_transport);
    endpoint->base.context = context;
    endpoint->transport = transport;
    endpoint->number = ++transport->number;
    status = read_body(endpoint, address, length);
    if (status != TD_OK) {
        ucx_endpoint_free(endpoint);
        return status;
    }
    td_list_push_back(&transport->endpoints, &endpoint->in_transport);
    transport->has_requests = true;
    *endpoint_out = &endpoint->base;
    return TD_OK;
}

/* Says hello through a new endpoint. */
static void open_endpoint(struct ucx_endpoint *endpoint)
{
    struct ucx_transport *transport = endpoint->transport;
    struct ucx_greeting ping = {
        .from = transport->token, .to = endpoint->remote, .number = endpoint->number};
    td_status_t status = make_ep(endpoint);

    if (status == TD_OK)
        status = ucx_greet(transport, endpoint->ep, UCX_PING, &ping);
    if (status != TD_OK)
        ucx_note_lost(endpoint, status);
}

bool ucx_make_endpoints(struct ucx_transport *transport)
{
    if (!transport->has_requests)
        return false;
    transport->has_requests = false;
    td_list_for_each(node, &transport->endpoints)
    {
        struct ucx_endpoint *endpoint = td_container_of(node, struct ucx_endpoint, in_transport);

        if (endpoint->ep == NULL && !endpoint->is_lost)
            open_endpoint(endpoint);
    }
    return true;
}

/* Closing by force means: UCX fails what is in flight, after it has flushed and destroyed its lanes. */
void ucx_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint_base, bool force)
{
    struct ucx_endpoint *endpoint = td_container_of(endpoint_base, struct ucx_endpoint, base);
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);

    (void)
        force; /* nothing is in flight otherwise, and a flush may wait for a peer that is frozen */
    td_list_remove(&endpoint->in_transport);
    td_list_push_back(&transport->closing, &endpoint->in_transport);
    ucx_direct_cancel(transport, endpoint);
}

static void on_closed(void *request, ucs_status_t status, void *argument)
{
    (void)status;
    ucp_request_free(request);
    ucx_endpoint_free(argument);
}

/* The endpoint is freed when UCX says that it will not call its failure handler any more. */
static void close_endpoint(struct ucx_endpoint *endpoint)
{
    struct ucx_transport *transport = endpoint->transport;
    struct ucx_greeting bye = {.from = transport->token, .to = endpoint->remote};
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA |
                                                 UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_EP_CLOSE_FLAG_FORCE,
                                 .cb.send = on_closed,
                                 .user_data = endpoint};
    ucs_status_ptr_t request;

    if (endpoint->ep == NULL) {
        ucx_endpoint_free(endpoint);
        return;
    }
    td_list_remove(&endpoint->in_transport);
    td_list_push_back(&transport->ending, &endpoint->in_transport);
    if (!endpoint->is_lost || endpoint->is_given_up)
        (void)!ucx_greet(transport, endpoint->ep, UCX_BYE, &bye); /* as far as it gets */
    request = ucp_ep_close_nbx(endpoint->ep, &param);
    if (request == NULL)
        ucx_endpoint_free(endpoint);
    else if (UCS_PTR_IS_ERR(request))
        td_log(TD_LOG_WARN, "kvtransfer", "ucx cannot close an endpoint: %s",
               ucs_status_string(UCS_PTR_STATUS(request)));
}

bool ucx_close_endpoints(struct ucx_transport *transport)
{
    struct td_list *node = td_list_first(&transport->closing);

    if (node == NULL)
        return false;
    for (; node != NULL; node = td_list_first(&transport->closing))
        close_endpoint(td_container_of(node, struct ucx_endpoint, in_transport));
    return true;
}
