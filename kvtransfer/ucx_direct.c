/*
 * ucx_direct.c: chunks of a pool in a GPU's memory, block by block.
 *
 * UCX moves memory of a GPU without the host only if a message is one contiguous piece at both ends, and of one kind of
 * memory: a list of pieces goes through the host in fragments, without a word. Runs of blocks are different ones at both
 * ends, a block is not. So a chunk is an OFFER (its header, and how many parts there are), answered by GO when the receiver
 * has room or by NO, and then a PART for each block and for the attachment, each landed where the receiver wants that part.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/ucx_private.h"
#include "lib/base/bytes.h"

#define OFFER_BYTES (UCX_GREETING_BYTES + 12) /* greeting, payload u64, parts u32 */
#define PART_BYTES  (UCX_GREETING_BYTES + 4)  /* greeting, index u32 */

struct part {
    void *base;
    size_t length;
    bool is_taken;              /* receives: its message has come */
    uint8_t header[PART_BYTES]; /* sends: UCX reads it until the message has gone */
};

/* The chunk of one send or receive. */
struct ucx_batch {
    struct td_list in_transport;
    struct ucx_operation *operation; /* what is reported at the end */
    ucp_ep_h ep;                     /* sends: to the peer */
    const struct ucx_endpoint *endpoint;
    uint64_t remote; /* token of the peer's transport */
    uint64_t number; /* the sender's */
    bool is_ready;   /* sends: GO has come, and nothing was started yet */
    td_status_t status;
    size_t requests; /* UCX's, in flight */
    size_t left;     /* parts that were not started yet */
    uint8_t offer[OFFER_BYTES];
    size_t part_count;
    struct part parts[];
};

struct kvt_arrival {
    uint64_t from;
    uint64_t number;
    uint32_t part_count;
    ucp_ep_h reply;
    bool is_answered;
};

/* --------------------------------------------------------------------------------------- batches */

/* Pieces of the pool are runs of whole blocks; what is not of the pool stays one part. */
static size_t count_parts(const struct ucx_transport *transport, const struct kvt_piece *piece)
{
    if (!kvt_memory_contains(&transport->pool, piece->base, piece->length))
        return 1;
    return (piece->length + transport->block_bytes - 1) / transport->block_bytes;
}

static void cut(const struct ucx_transport *transport, const struct kvt_piece *piece,
                struct part *parts, size_t count)
{
    size_t most = count > 1 ? transport->block_bytes : piece->length;

    for (size_t i = 0, at = 0; i < count; i++, at += most)
        parts[i] = (struct part){.base = (uint8_t *)piece->base + at,
                                 .length = piece->length - at < most ? piece->length - at : most};
}

static struct ucx_batch *batch_new(struct ucx_transport *transport, const struct kvt_piece *pieces,
                                   size_t piece_count, size_t header_bytes, void *tag)
{
    struct ucx_batch *batch;
    size_t count = 0;

    for (size_t i = 0; i < piece_count; i++)
        count += count_parts(transport, &pieces[i]);
    batch = calloc(1, sizeof *batch + count * sizeof batch->parts[0]);
    if (batch == NULL)
        return NULL;
    batch->operation = ucx_operation_new(transport, NULL, 0, header_bytes, tag);
    if (batch->operation == NULL) {
        free(batch);
        return NULL;
    }
    batch->part_count = count;
    batch->left = count;
    for (size_t i = 0, at = 0; i < piece_count; i++) {
        size_t of_piece = count_parts(transport, &pieces[i]);

        cut(transport, &pieces[i], batch->parts + at, of_piece);
        at += of_piece;
    }
    td_list_push_back(&transport->batches, &batch->in_transport);
    return batch;
}

/* One that was never begun: nobody hears of it. */
static void batch_drop(struct ucx_batch *batch)
{
    td_list_remove(&batch->in_transport);
    ucx_operation_free(batch->operation);
    free(batch);
}

/* Ends the batch if UCX has let go of it, and all is done or more will not be. */
static void settle(struct ucx_batch *batch)
{
    if (batch->requests > 0 || (batch->status == TD_OK && batch->left > 0))
        return;
    td_list_remove(&batch->in_transport);
    ucx_operation_end(batch->operation, batch->status);
    free(batch);
}

static void fail(struct ucx_batch *batch, td_status_t status)
{
    if (batch->status == TD_OK)
        batch->status = status;
    batch->is_ready = false;
    settle(batch);
}

static void on_request_ended(struct ucx_batch *batch, void *request, ucs_status_t status)
{
    ucp_request_free(request);
    batch->requests--;
    if (status != UCS_OK)
        fail(batch, ucx_status(status));
    else
        settle(batch);
}

static void on_sent(void *request, ucs_status_t status, void *argument)
{
    on_request_ended(argument, request, status);
}

static void on_received(void *request, ucs_status_t status, size_t length, void *argument)
{
    (void)length;
    on_request_ended(argument, request, status);
}

static struct ucx_batch *find_batch(struct ucx_transport *transport,
                                    const struct ucx_greeting *greeting, bool is_send)
{
    td_list_for_each(node, &transport->batches)
    {
        struct ucx_batch *batch = td_container_of(node, struct ucx_batch, in_transport);

        if (batch->operation->is_send == is_send && batch->remote == greeting->from &&
            batch->number == greeting->number)
            return batch;
    }
    return NULL;
}

void ucx_direct_cancel(struct ucx_transport *transport, const struct ucx_endpoint *endpoint)
{
    td_list_for_each(node, &transport->batches)
    {
        struct ucx_batch *batch = td_container_of(node, struct ucx_batch, in_transport);

        if (endpoint == NULL || batch->endpoint == endpoint ||
            (!batch->operation->is_send && batch->remote == endpoint->remote))
            fail(batch, TD_CANCELED);
    }
}

void ucx_direct_free(struct ucx_transport *transport)
{
    td_list_for_each(node, &transport->batches)
    {
        td_list_remove(node);
        free(td_container_of(node, struct ucx_batch, in_transport));
    }
}

/* --------------------------------------------------------------------------------------- sending */

static void write_offer(struct ucx_batch *batch, const struct ucx_greeting *greeting,
                        const struct kvt_piece *pieces, size_t piece_count)
{
    struct td_writer writer =
        td_writer_over(batch->offer + UCX_GREETING_BYTES, OFFER_BYTES - UCX_GREETING_BYTES);
    uint64_t bytes = 0;

    for (size_t i = 0; i < piece_count; i++)
        bytes += pieces[i].length;
    ucx_greeting_write(greeting, batch->offer);
    td_write_u64(&writer, bytes);
    td_write_u32(&writer, (uint32_t)batch->part_count);
}

static void write_part_header(struct part *part, const struct ucx_greeting *greeting, size_t index)
{
    struct td_writer writer =
        td_writer_over(part->header + UCX_GREETING_BYTES, PART_BYTES - UCX_GREETING_BYTES);

    ucx_greeting_write(greeting, part->header);
    td_write_u32(&writer, (uint32_t)index);
}

td_status_t ucx_direct_send(struct kvt_transport *base, struct kvt_endpoint *endpoint_base,
                            const uint8_t *header, size_t header_bytes,
                            const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    struct ucx_endpoint *endpoint = td_container_of(endpoint_base, struct ucx_endpoint, base);
    struct ucx_greeting greeting = {.from = transport->token, .to = endpoint->remote};
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA |
                                                 UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER,
                                 .cb.send = on_sent};
    struct ucx_batch *batch;
    ucs_status_ptr_t request;

    if (endpoint->is_lost)
        return TD_PEER_LOST;
    if (piece_count == 0)
        return TD_INVALID;
    batch = batch_new(transport, pieces, piece_count, header_bytes, tag);
    if (batch == NULL)
        return TD_NO_MEMORY;
    greeting.number = ++transport->number;
    batch->operation->is_send = true;
    batch->ep = endpoint->ep;
    batch->endpoint = endpoint;
    batch->remote = endpoint->remote;
    batch->number = greeting.number;
    memcpy(batch->operation->header, header, header_bytes);
    write_offer(batch, &greeting, pieces, piece_count);
    for (size_t i = 0; i < batch->part_count; i++)
        write_part_header(&batch->parts[i], &greeting, i);
    param.user_data = batch;
    request = ucp_am_send_nbx(endpoint->ep, UCX_OFFER, batch->operation->header, header_bytes,
                              batch->offer, sizeof batch->offer, &param);
    if (UCS_PTR_IS_ERR(request)) {
        batch_drop(batch);
        return ucx_status(UCS_PTR_STATUS(request));
    }
    batch->requests = request != NULL ? 1 : 0;
    return TD_OK;
}

static ucs_status_t send_part(struct ucx_transport *transport, struct ucx_batch *batch,
                              struct part *part)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA |
                                                 UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_RNDV,
                                 .cb.send = on_sent,
                                 .user_data = batch};
    ucs_status_ptr_t request;

    ucx_pool_describe(transport, part->base, &param);
    request = ucp_am_send_nbx(batch->ep, UCX_PART, part->header, sizeof part->header, part->base,
                              part->length, &param);
    if (UCS_PTR_IS_ERR(request))
        return UCS_PTR_STATUS(request);
    batch->left--;
    if (request != NULL)
        batch->requests++;
    return UCS_OK;
}

static void send_parts(struct ucx_transport *transport, struct ucx_batch *batch)
{
    ucs_status_t status = UCS_OK;

    batch->is_ready = false;
    batch->requests++; /* ours: it must not end in between */
    for (size_t i = 0; i < batch->part_count && status == UCS_OK; i++)
        status = send_part(transport, batch, &batch->parts[i]);
    batch->requests--;
    if (status != UCS_OK)
        fail(batch, ucx_status(status));
    else
        settle(batch);
}

bool ucx_direct_start(struct ucx_transport *transport)
{
    if (!transport->has_ready)
        return false;
    transport->has_ready = false;
    td_list_for_each(node, &transport->batches)
    {
        struct ucx_batch *batch = td_container_of(node, struct ucx_batch, in_transport);

        if (batch->is_ready)
            send_parts(transport, batch);
    }
    return true;
}

/* The answer to an offer: parts are sent by the next progress, not inside UCX's callback. */
static ucs_status_t on_answer(struct ucx_transport *transport, const void *header,
                              size_t header_bytes, bool is_go)
{
    struct ucx_greeting answer;
    struct ucx_batch *batch;

    if (!ucx_greeting_read(transport, header, header_bytes, &answer))
        return UCS_OK;
    batch = find_batch(transport, &answer, true);
    if (batch == NULL || batch->left != batch->part_count || batch->status != TD_OK)
        return UCS_OK;
    if (!is_go) {
        fail(batch, TD_REFUSED);
        return UCS_OK;
    }
    batch->is_ready = true;
    transport->has_ready = true;
    return UCS_OK;
}

static ucs_status_t on_go(void *argument, const void *header, size_t header_bytes, void *data,
                          size_t length, const ucp_am_recv_param_t *param)
{
    (void)data;
    (void)length;
    (void)param;
    return on_answer(argument, header, header_bytes, true);
}

static ucs_status_t on_no(void *argument, const void *header, size_t header_bytes, void *data,
                          size_t length, const ucp_am_recv_param_t *param)
{
    (void)data;
    (void)length;
    (void)param;
    return on_answer(argument, header, header_bytes, false);
}

/* ------------------------------------------------------------------------------------- receiving */

static ucs_status_t on_offer(void *argument, const void *header, size_t header_bytes, void *data,
                             size_t length, const ucp_am_recv_param_t *param)
{
    struct ucx_transport *transport = argument;
    const struct kvt_transport_sink *sink = &transport->base.sink;
    struct ucx_greeting greeting;
    struct kvt_arrival arrival = {.reply = param->reply_ep};
    struct td_reader reader;
    uint64_t bytes;

    if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0)
        return UCS_ERR_REJECTED;
    if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0 || length != OFFER_BYTES ||
        header_bytes > KVT_HEADER_BYTES_MAX ||
        !ucx_greeting_read(transport, data, UCX_GREETING_BYTES, &greeting))
        return UCS_OK;
    reader = td_reader_over((const uint8_t *)data + UCX_GREETING_BYTES,
                            OFFER_BYTES - UCX_GREETING_BYTES);
    bytes = td_read_u64(&reader);
    arrival.part_count = td_read_u32(&reader);
    arrival.from = greeting.from;
    arrival.number = greeting.number;
    sink->arrived(sink->impl, &transport->base, header, header_bytes, bytes, &arrival);
    assert(arrival.is_answered);
    return UCS_OK;
}

static td_status_t answer(struct ucx_transport *transport, struct kvt_arrival *arrival,
                          enum ucx_message message)
{
    struct ucx_greeting greeting = {
        .from = transport->token, .to = arrival->from, .number = arrival->number};

    arrival->is_answered = true;
    return ucx_greet(transport, arrival->reply, message, &greeting);
}

td_status_t ucx_direct_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                               const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);
    struct ucx_batch *batch = batch_new(transport, pieces, piece_count, 0, tag);
    td_status_t status = TD_OK;

    if (batch == NULL)
        status = TD_NO_MEMORY;
    else if (batch->part_count == 0 || batch->part_count != arrival->part_count)
        status = TD_INVALID; /* the sender's blocks are of another size */
    if (status == TD_OK)
        status = answer(transport, arrival, UCX_GO);
    else
        (void)!answer(transport, arrival, UCX_NO);
    if (status != TD_OK) {
        if (batch != NULL)
            batch_drop(batch);
        return status;
    }
    batch->remote = arrival->from;
    batch->number = arrival->number;
    return TD_OK;
}

void ucx_direct_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status)
{
    struct ucx_transport *transport = td_container_of(base, struct ucx_transport, base);

    (void)status; /* why is in our log and counters */
    (void)!answer(transport, arrival, UCX_NO);
}

/* A part that came with its message: UCX sends small ones so even if rendezvous was asked for. */
static bool take_eager(const struct ucx_transport *transport, struct part *part, const void *data)
{
    if (kvt_memory_contains(&transport->pool, part->base, 1))
        return false; /* not by the processor */
    memcpy(part->base, data, part->length);
    return true;
}

static ucs_status_t take_part(struct ucx_transport *transport, struct ucx_batch *batch,
                              struct part *part, void *data)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA |
                                                 UCP_OP_ATTR_FLAG_NO_IMM_CMPL,
                                 .cb.recv_am = on_received,
                                 .user_data = batch};
    ucs_status_ptr_t request;

    ucx_pool_describe(transport, part->base, &param);
    request = ucp_am_recv_data_nbx(transport->worker, data, part->base, part->length, &param);
    if (UCS_PTR_IS_ERR(request)) {
        fail(batch, ucx_status(UCS_PTR_STATUS(request)));
        return UCS_ERR_REJECTED;
    }
    batch->requests++;
    return UCS_INPROGRESS;
}

static ucs_status_t on_part(void *argument, const void *header, size_t header_bytes, void *data,
                            size_t length, const ucp_am_recv_param_t *param)
{
    struct ucx_transport *transport = argument;
    struct td_reader reader;
    struct ucx_greeting greeting;
    struct ucx_batch *batch;
    struct part *part;
    uint32_t index;

    if (header_bytes != PART_BYTES ||
        !ucx_greeting_read(transport, header, UCX_GREETING_BYTES, &greeting))
        return UCS_ERR_REJECTED;
    reader = td_reader_over((const uint8_t *)header + UCX_GREETING_BYTES,
                            PART_BYTES - UCX_GREETING_BYTES);
    index = td_read_u32(&reader);
    batch = find_batch(transport, &greeting, false);
    if (batch == NULL || batch->status != TD_OK)
        return UCS_ERR_REJECTED;
    part = index < batch->part_count ? &batch->parts[index] : NULL;
    if (part == NULL || part->is_taken || part->length != length) {
        fail(batch, TD_INVALID);
        return UCS_ERR_REJECTED;
    }
    part->is_taken = true;
    batch->left--;
    if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0)
        return take_part(transport, batch, part, data);
    if (take_eager(transport, part, data))
        settle(batch);
    else
        fail(batch, TD_INVALID);
    return UCS_OK;
}

ucs_status_t ucx_direct_handlers(struct ucx_transport *transport)
{
    static const struct {
        enum ucx_message id;
        ucp_am_recv_callback_t handler;
    } handlers[] = {{UCX_OFFER, on_offer},
                    {UCX_GO, on_go},
                    {UCX_NO, on_no},
                    {UCX_PART, on_part},
                    {UCX_TRIAL, ucx_on_trial}};
    ucs_status_t status = UCS_OK;

    for (size_t i = 0; i < sizeof handlers / sizeof handlers[0] && status == UCS_OK; i++) {
        ucp_am_handler_param_t param = {.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                                                      UCP_AM_HANDLER_PARAM_FIELD_CB |
                                                      UCP_AM_HANDLER_PARAM_FIELD_ARG,
                                        .id = handlers[i].id,
                                        .cb = handlers[i].handler,
                                        .arg = transport};

        status = ucp_worker_set_am_recv_handler(transport->worker, &param);
    }
    return status;
}
