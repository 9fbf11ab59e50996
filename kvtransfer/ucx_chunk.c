/*
 * ucx_chunk.c: chunks as active messages.
 *
 * A chunk is always sent as rendezvous and with a list of pieces at both ends: then UCX moves the
 * payload in fragments that the receiver's own progress copies to its place. The other ways UCX knows
 * (one-sided put and get into or out of registered memory) are excluded by the list.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/ucx_private.h"

struct kvt_arrival {
    void *data; /* descriptor of a rendezvous, or the payload itself */
    size_t length;
    bool is_rendezvous;
    ucs_status_t answer; /* what the handler returns to UCX */
    bool is_answered;
};

td_status_t ucx_status(ucs_status_t status)
{
    switch (status) {
    case UCS_OK: return TD_OK;
    case UCS_ERR_NO_MEMORY: return TD_NO_MEMORY;
    case UCS_ERR_REJECTED: return TD_REFUSED;
    case UCS_ERR_CANCELED: return TD_CANCELED;
    case UCS_ERR_TIMED_OUT: return TD_TIMEOUT;
    case UCS_ERR_ENDPOINT_TIMEOUT: /* a keep-alive was not answered; TCP says so of a killed peer */
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_NOT_CONNECTED: return TD_PEER_LOST;
    case UCS_ERR_UNSUPPORTED: return TD_UNSUPPORTED;
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
    case UCS_ERR_MESSAGE_TRUNCATED: return TD_INVALID;
    default: return TD_IO;
    }
}

struct ucx_operation *ucx_operation_new(struct ucx_transport *transport,
                                        const struct kvt_piece *pieces, size_t piece_count,
                                        size_t header_bytes, void *tag)
{
    struct ucx_operation *operation =
        malloc(sizeof *operation + piece_count * sizeof *operation->pieces + header_bytes);

    if (operation == NULL)
        return NULL;
    operation->transport = transport;
    operation->tag = tag;
    operation->is_send = false;
    operation->status = TD_OK;
    operation->header_bytes = header_bytes;
    operation->header = (uint8_t *)(operation->pieces + piece_count);
    operation->piece_count = piece_count;
    for (size_t i = 0; i < piece_count; i++)
        operation->pieces[i] = (ucp_dt_iov_t){.buffer = pieces[i].base, .length = pieces[i].length};
    td_list_push_back(&transport->operations, &operation->in_transport);
    return operation;
}

void ucx_operation_free(struct ucx_operation *operation)
{
    td_list_remove(&operation->in_transport);
    free(operation);
}

void ucx_operation_end(struct ucx_operation *operation, td_status_t status)
{
    operation->status = status;
    td_list_remove(&operation->in_transport);
    td_list_push_back(&operation->transport->ended, &operation->in_transport);
}

bool ucx_report_operations(struct ucx_transport *transport)
{
    const struct kvt_transport_sink *sink = &transport->base.sink;
    struct td_list *node;
    bool worked = false;

    while ((node = td_list_first(&transport->ended)) != NULL) {
        struct ucx_operation *operation = td_container_of(node, struct ucx_operation, in_transport);
        void *tag = operation->tag;
        td_status_t status = operation->status;
        bool is_send = operation->is_send;

        ucx_operation_free(operation);
        if (is_send)
            sink->sent(sink->impl, &transport->base, tag, status);
        else
            sink->received(sink->impl, &transport->base, tag, status);
        worked = true;
    }
    return worked;
}

/* --------------------------------------------------------------------------------------- sending */

static void on_sent(void *request, ucs_status_t status, void *argument)
{
    ucp_request_free(request);
    ucx_operation_end(argument, ucx_status(status));
}

td_status_t ucx_send(struct kvt_transport *base, struct kvt_endpoint *endpoint_base,
                     const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                     size_t piece_count, void *tag)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    struct ucx_endpoint *endpoint = td_container_of(endpoint_base, struct ucx_endpoint, base);
    ucp_request_param_t param = {.op_attr_mask =
                                     UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                                     UCP_OP_ATTR_FIELD_DATATYPE | UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_RNDV,
                                 .cb.send = on_sent,
                                 .datatype = ucp_dt_make_iov()};
    struct ucx_operation *operation;
    ucs_status_ptr_t request;

    if (endpoint->is_lost)
        return TD_PEER_LOST;
    operation = ucx_operation_new(transport, pieces, piece_count, header_bytes, tag);
    if (operation == NULL)
        return TD_NO_MEMORY;
    operation->is_send = true;
    memcpy(operation->header, header, header_bytes);
    param.user_data = operation;
    request = ucp_am_send_nbx(endpoint->ep, UCX_CHUNK, operation->header, header_bytes,
                              operation->pieces, piece_count, &param);
    if (UCS_PTR_IS_ERR(request)) {
        ucx_operation_free(operation);
        return ucx_status(UCS_PTR_STATUS(request));
    }
    if (request == NULL)
        ucx_operation_end(operation, TD_OK);
    return TD_OK;
}

/* ------------------------------------------------------------------------------------- receiving */

ucs_status_t ucx_on_chunk(void *argument, const void *header, size_t header_bytes, void *data,
                          size_t length, const ucp_am_recv_param_t *param)
{
    struct ucx_transport *transport = argument;
    const struct kvt_transport_sink *sink = &transport->base.sink;
    struct kvt_arrival arrival = {.data = data,
                                  .length = length,
                                  .is_rendezvous =
                                      (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0,
                                  .answer = UCS_ERR_REJECTED};

    if (transport->is_closing || header_bytes > KVT_HEADER_BYTES_MAX)
        return UCS_ERR_REJECTED;
    sink->arrived(sink->impl, &transport->base, header, header_bytes, length, &arrival);
    assert(arrival.is_answered);
    return arrival.answer;
}

static void on_received(void *request, ucs_status_t status, size_t length, void *argument)
{
    (void)length;
    ucp_request_free(request);
    ucx_operation_end(argument, ucx_status(status));
}

/* A payload that came with its message: UCX sends small ones so even if rendezvous was asked for. */
static void copy_eager(const struct kvt_arrival *arrival, const struct kvt_piece *pieces,
                       size_t piece_count)
{
    const uint8_t *from = arrival->data;

    for (size_t i = 0; i < piece_count; i++) {
        memcpy(pieces[i].base, from, pieces[i].length);
        from += pieces[i].length;
    }
    assert(from == (const uint8_t *)arrival->data + arrival->length);
}

td_status_t ucx_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                        const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    struct ucx_operation *operation = ucx_operation_new(transport, pieces, piece_count, 0, tag);
    ucp_request_param_t param = {.op_attr_mask =
                                     UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                                     UCP_OP_ATTR_FIELD_DATATYPE | UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
                                 .cb.recv_am = on_received,
                                 .datatype = ucp_dt_make_iov(),
                                 .user_data = operation};
    ucs_status_ptr_t request;

    arrival->is_answered = true;
    if (operation == NULL)
        return TD_NO_MEMORY; /* the handler refuses the message */
    if (!arrival->is_rendezvous) {
        copy_eager(arrival, pieces, piece_count);
        ucx_operation_end(operation, TD_OK);
        arrival->answer = UCS_OK;
        return TD_OK;
    }
    request = ucp_am_recv_data_nbx(transport->worker, arrival->data, operation->pieces, piece_count,
                                   &param);
    if (UCS_PTR_IS_ERR(request)) {
        ucx_operation_free(operation);
        return ucx_status(UCS_PTR_STATUS(request));
    }
    arrival->answer = UCS_INPROGRESS;
    return TD_OK;
}

void ucx_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status)
{
    (void)base;
    (void)
        status; /* the header's sender learns that it was refused; why is in our log and counters */
    arrival->is_answered = true;
    arrival->answer = UCS_ERR_REJECTED;
}
