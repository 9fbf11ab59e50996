/*
 * rpc_call.c: one call, either side, see rpc.h for who holds it and when.
 *
 * At most one operation of each class is out at a time: head, read, send, close, end. The memory
 * lives until the user has let go and every tag has come back; ending a call brings them all back.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/rpc_internal.h"

static void read_more(struct rpc_call *call);
static void send_close_now(struct rpc_call *call);

/* ---- life ---- */

static void drop_outgoing(struct rpc_call *call)
{
    if (call->outgoing != NULL)
        grpc_byte_buffer_destroy(call->outgoing);
    call->outgoing = NULL;
}

static void destroy(struct rpc_call *call)
{
    td_list_remove(&call->linger_node);
    if (call->incoming != NULL)
        grpc_byte_buffer_destroy(call->incoming);
    drop_outgoing(call);
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
    grpc_slice_unref(call->detail);
    gpr_free(call->peer_name);
    grpc_call_unref(call->grpc);
    free(call);
}

static void start(struct rpc_call *call, const grpc_op *ops, size_t count, struct rpc_tag *tag)
{
    call->tags_out++;
    rpc_start(call->rpc, call->grpc, ops, count, tag);
}

/* Last thing in every tag's function: the call may be gone afterwards. */
static void tag_back(struct rpc_call *call)
{
    call->tags_out--;
    if (call->tags_out == 0 && call->released)
        destroy(call);
}

/* The user holds the call no more. */
static void release(struct rpc_call *call)
{
    assert(!call->released && "a call is used after its end");
    call->released = true;
    td_list_remove(&call->node);
    if (call->tags_out == 0)
        destroy(call);
    else if (!call->ended)
        rpc_linger(call->rpc, call);
}

/* Tells the user of the end, once everything that came before it has been told. */
static void report_close(struct rpc_call *call)
{
    char detail[RPC_DETAIL_BYTES] = "the client canceled or is lost";
    td_status_t status = TD_CANCELED;

    if (!call->ended || call->reading || call->released)
        return;
    if (call->method == NULL) {
        status = rpc_status_from_grpc(call->status);
        rpc_copy_detail(call->detail, detail);
    }
    call->released = true; /* the tag whose function this is has not been taken off yet */
    td_list_remove(&call->node);
    if (call->handlers != NULL && call->handlers->on_close != NULL)
        call->handlers->on_close(call->ctx, call, status, detail);
}

/* ---- tags ---- */

static void head_back(struct rpc_tag *tag, bool ok)
{
    (void)ok;
    tag_back(td_container_of(tag, struct rpc_call, head_tag));
}

static void end_back(struct rpc_tag *tag, bool ok)
{
    struct rpc_call *call = td_container_of(tag, struct rpc_call, end_tag);

    (void)ok;
    call->ended = true;
    td_list_remove(&call->linger_node);
    report_close(call);
    tag_back(call);
}

static void close_back(struct rpc_tag *tag, bool ok)
{
    (void)ok;
    tag_back(td_container_of(tag, struct rpc_call, close_tag));
}

static void send_back(struct rpc_tag *tag, bool ok)
{
    struct rpc_call *call = td_container_of(tag, struct rpc_call, send_tag);

    call->sending = false;
    drop_outgoing(call);
    if (call->close_wanted && !call->close_sent)
        send_close_now(call);
    else if (ok && !call->released && !call->ended && !call->close_wanted &&
             call->handlers->on_writable != NULL)
        call->handlers->on_writable(call->ctx, call);
    tag_back(call);
}

/* A violation of the method's terms: ends the call for both sides. */
static void refuse_message(struct rpc_call *call, td_status_t status, const char *detail)
{
    const struct rpc_handlers *handlers = call->handlers;
    void *ctx = call->ctx;

    rpc_call_finish(call, status, detail);
    if (handlers->on_close != NULL)
        handlers->on_close(ctx, call, status, detail);
}

static void deliver(struct rpc_call *call, const struct rpc_bytes *message)
{
    const struct rpc_method *method = call->method;

    call->got_message = true;
    if (method != NULL && method->unary)
        call->read_ended = true; /* whatever else it sends is not read */
    if (method != NULL && message->length > method->message_bytes_max)
        refuse_message(call, TD_LIMIT, "the message is too large");
    else if (call->handlers->on_message != NULL)
        call->handlers->on_message(call->ctx, call, message->bytes, message->length);
}

static void deliver_end(struct rpc_call *call)
{
    if (call->method == NULL || call->ended)
        return;
    if (call->method->unary && !call->got_message)
        refuse_message(call, TD_INVALID, "the request has no message");
    else if (call->handlers->on_half_close != NULL)
        call->handlers->on_half_close(call->ctx, call);
}

static void read_back(struct rpc_tag *tag, bool ok)
{
    struct rpc_call *call = td_container_of(tag, struct rpc_call, read_tag);
    grpc_byte_buffer *incoming = call->incoming;
    struct rpc_bytes message;

    call->reading = false;
    call->incoming = NULL;
    if (!ok || incoming == NULL)
        call->read_ended = true;
    if (!call->released && incoming != NULL && rpc_flatten(incoming, &message)) {
        deliver(call, &message);
        grpc_slice_unref(message.slice);
    } else if (!call->released && incoming == NULL) {
        deliver_end(call);
    }
    if (incoming != NULL)
        grpc_byte_buffer_destroy(incoming);
    if (!call->released)
        read_more(call);
    report_close(call);
    tag_back(call);
}

static void read_more(struct rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    if (call->reading || call->read_ended || call->paused || call->ended)
        return;
    call->reading = true;
    op.data.recv_message.recv_message = &call->incoming;
    start(call, &op, 1, &call->read_tag);
}

/* ---- creation ---- */

td_status_t rpc_call_create(struct rpc *rpc, grpc_call *grpc, const struct rpc_method *method,
                            struct rpc_call **call_out)
{
    struct rpc_call *call = calloc(1, sizeof *call);

    if (call == NULL) {
        grpc_call_cancel(grpc, NULL);
        grpc_call_unref(grpc);
        return TD_NO_MEMORY;
    }
    call->rpc = rpc;
    call->grpc = grpc;
    call->method = method;
    call->head_tag.fn = head_back;
    call->read_tag.fn = read_back;
    call->send_tag.fn = send_back;
    call->close_tag.fn = close_back;
    call->end_tag.fn = end_back;
    call->detail = grpc_empty_slice();
    td_list_init(&call->node);
    td_list_init(&call->linger_node);
    grpc_metadata_array_init(&call->initial_metadata);
    grpc_metadata_array_init(&call->trailing_metadata);
    *call_out = call;
    return TD_OK;
}

void rpc_call_start_client(struct rpc_call *call, const struct rpc_handlers *handlers, void *ctx)
{
    grpc_op head[2] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                       {.op = GRPC_OP_RECV_INITIAL_METADATA}};
    grpc_op end = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT};

    call->handlers = handlers;
    call->ctx = ctx;
    head[1].data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata;
    start(call, head, 2, &call->head_tag);
    end.data.recv_status_on_client.trailing_metadata = &call->trailing_metadata;
    end.data.recv_status_on_client.status = &call->status;
    end.data.recv_status_on_client.status_details = &call->detail;
    start(call, &end, 1, &call->end_tag);
    read_more(call);
}

void rpc_call_start_server(struct rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};

    op.data.recv_close_on_server.cancelled = &call->canceled;
    start(call, &op, 1, &call->end_tag);
}

void rpc_call_begin_reading(struct rpc_call *call)
{
    read_more(call);
}

void rpc_call_bind(struct rpc_call *call, const struct rpc_handlers *handlers, void *ctx)
{
    assert(call->method != NULL && call->handlers == NULL);
    call->handlers = handlers;
    call->ctx = ctx;
}

/* ---- sending ---- */

bool rpc_call_writable(const struct rpc_call *call)
{
    return !call->sending && !call->close_wanted;
}

td_status_t rpc_call_send(struct rpc_call *call, const ProtobufCMessage *message)
{
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_MESSAGE}, {.op = GRPC_OP_SEND_INITIAL_METADATA}};
    bool with_head = call->method != NULL && !call->head_sent;

    assert(!call->released);
    if (call->close_wanted)
        return TD_STATE;
    if (call->sending)
        return TD_AGAIN;
    call->outgoing = rpc_pack(message);
    ops[0].data.send_message.send_message = call->outgoing;
    call->sending = true;
    call->head_sent = true;
    start(call, ops, with_head ? 2 : 1, &call->send_tag);
    return TD_OK;
}

/* Half close, or the final status. */
static void send_close_now(struct rpc_call *call)
{
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                      {.op = GRPC_OP_SEND_INITIAL_METADATA}};
    bool with_head = call->method != NULL && !call->head_sent;

    call->close_sent = true;
    call->head_sent = true;
    if (call->method != NULL) {
        ops[0].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        ops[0].data.send_status_from_server.status = call->status;
        ops[0].data.send_status_from_server.status_details = &call->detail;
    }
    start(call, ops, with_head ? 2 : 1, &call->close_tag);
}

void rpc_call_send_close(struct rpc_call *call)
{
    assert(call->method == NULL && !call->released);
    if (call->close_wanted)
        return;
    call->close_wanted = true;
    if (!call->sending)
        send_close_now(call);
}

void rpc_call_finish(struct rpc_call *call, td_status_t status, const char *detail)
{
    assert(call->method != NULL && !call->released);
    call->status = rpc_status_to_grpc(status);
    if (detail != NULL)
        call->detail = grpc_slice_from_copied_string(detail);
    call->close_wanted = true;
    if (!call->sending)
        send_close_now(call);
    release(call);
}

void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message)
{
    grpc_op ops[3] = {{.op = GRPC_OP_SEND_MESSAGE},
                      {.op = GRPC_OP_SEND_STATUS_FROM_SERVER},
                      {.op = GRPC_OP_SEND_INITIAL_METADATA}};

    assert(call->method != NULL && !call->released && !call->sending);
    call->outgoing = rpc_pack(message);
    ops[0].data.send_message.send_message = call->outgoing;
    ops[1].data.send_status_from_server.status = GRPC_STATUS_OK;
    call->close_wanted = true;
    call->close_sent = true;
    start(call, ops, call->head_sent ? 2 : 3, &call->close_tag);
    release(call);
}

/* ---- ending and pausing ---- */

void rpc_call_cancel(struct rpc_call *call)
{
    grpc_call_cancel(call->grpc, NULL);
    release(call);
}

void rpc_call_drop(struct rpc_call *call, const char *detail)
{
    const struct rpc_handlers *handlers = call->handlers;
    void *ctx = call->ctx;

    grpc_call_cancel(call->grpc, NULL);
    call->tags_out++; /* the memory stays until the user has heard of it */
    release(call);
    if (handlers != NULL && handlers->on_close != NULL)
        handlers->on_close(ctx, call, TD_CANCELED, detail);
    tag_back(call);
}

void rpc_call_pause(struct rpc_call *call)
{
    call->paused = true;
}

void rpc_call_resume(struct rpc_call *call)
{
    call->paused = false;
    if (call->handlers != NULL)
        read_more(call);
}

/* ---- about the peer ---- */

enum net_role rpc_call_peer_role(struct rpc_call *call)
{
    if (call->peer_role == NET_ROLE_UNKNOWN)
        call->peer_role = rpc_peer_role(call->grpc);
    return call->peer_role;
}

const char *rpc_call_peer_name(struct rpc_call *call)
{
    if (call->peer_name == NULL)
        call->peer_name = grpc_call_get_peer(call->grpc);
    return call->peer_name != NULL ? call->peer_name : "";
}
