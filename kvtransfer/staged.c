/* staged.c: see staged.h. */
#include "kvtransfer/staged.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kvtransfer/map.h"
#include "kvtransfer/staged_private.h"
#include "kvtransfer/wire.h"
#include "lib/base/log.h"

#define STAGED_PIECES_MAX (KVT_CHUNK_BLOCKS_MAX + 1) /* the blocks of a chunk, and an attachment */

static struct staged *staged_of(struct kvt_transport *base)
{
    return td_container_of(base, struct staged, base);
}

/* ------------------------------------------------------------------------------------- operations */

/* NULL: no memory. */
static struct staged_operation *operation_new(struct staged *staged, const struct kvt_piece *pieces,
                                              size_t piece_count, size_t header_bytes, void *tag)
{
    struct staged_operation *operation =
        calloc(1, sizeof *operation + piece_count * sizeof *pieces + header_bytes);

    if (operation == NULL)
        return NULL;
    operation->staged = staged;
    operation->tag = tag;
    operation->piece_count = piece_count;
    operation->header_bytes = header_bytes;
    td_list_init(&operation->in_list);
    memcpy(operation->pieces, pieces, piece_count * sizeof *pieces);
    for (size_t i = 0; i < piece_count; i++)
        if (staged_is_ours(staged, &pieces[i]))
            operation->staged_bytes += pieces[i].length;
    return operation;
}

static uint8_t *header_of(struct staged_operation *operation)
{
    return (uint8_t *)(operation->pieces + operation->piece_count);
}

static void operation_free(struct staged_operation *operation)
{
    struct staged *staged = operation->staged;

    if (operation->mark != NULL) /* after the queue was drained: gives it back */
        (void)staged->memory.device->ops->poll(staged->queue, operation->mark);
    staged_room_give(&staged->room, &operation->place);
    td_list_remove(&operation->in_list);
    free(operation);
}

/* The same pieces, with memory of the host for those of the pool. */
static size_t host_pieces(const struct staged_operation *operation,
                          struct kvt_piece out[static STAGED_PIECES_MAX])
{
    uint8_t *at = operation->place.base;
    size_t count = 0;

    for (size_t i = 0; i < operation->piece_count; i++) {
        struct kvt_piece piece = operation->pieces[i];

        if (staged_is_ours(operation->staged, &piece)) {
            piece.base = at;
            at += piece.length;
        }
        if (count > 0 && (uint8_t *)out[count - 1].base + out[count - 1].length == piece.base)
            out[count - 1].length += piece.length;
        else
            out[count++] = piece;
    }
    return count;
}

/* Queues the copies of an operation, to the host or from it. On failure nothing of them runs any more. */
static td_status_t begin_copies(struct staged_operation *operation, bool is_to_host)
{
    struct staged *staged = operation->staged;
    const struct kvt_device_ops *device = staged->memory.device->ops;
    uint8_t *at = operation->place.base;
    td_status_t status = TD_OK;

    for (size_t i = 0; i < operation->piece_count && status == TD_OK; i++) {
        const struct kvt_piece *piece = &operation->pieces[i];

        if (!staged_is_ours(staged, piece))
            continue;
        status = is_to_host ? device->copy(staged->queue, at, piece->base, piece->length)
                            : device->copy(staged->queue, piece->base, at, piece->length);
        at += piece->length;
    }
    if (status == TD_OK)
        status = device->mark(staged->queue, &operation->mark);
    if (status != TD_OK)
        device->drain(staged->queue);
    return status;
}

/* Puts an ended operation where the end of progress reports it. */
static void end(struct staged_operation *operation, td_status_t status)
{
    operation->status = status;
    td_list_remove(&operation->in_list);
    td_list_push_back(&operation->staged->ended, &operation->in_list);
}

/* ---------------------------------------------------------------------------------------- sending */

/* The copy is there: on to the inner transport. */
static void pass_on(struct staged_operation *operation)
{
    struct staged *staged = operation->staged;
    struct kvt_piece pieces[STAGED_PIECES_MAX];
    size_t count = host_pieces(operation, pieces);
    td_status_t status =
        staged->inner->ops->send(staged->inner, operation->endpoint, header_of(operation),
                                 operation->header_bytes, pieces, count, operation);

    if (status != TD_OK) {
        end(operation, status);
        return;
    }
    td_list_remove(&operation->in_list);
    td_list_push_back(&staged->passed, &operation->in_list);
}

static bool has_slots(const struct td_list *sends, const struct kvt_endpoint *endpoint)
{
    td_list_for_each(node, sends)
    {
        const struct staged_operation *operation =
            td_container_of(node, struct staged_operation, in_list);

        if (operation->is_send && operation->endpoint == endpoint && operation->place.base != NULL)
            return true;
    }
    return false;
}

/* Who has slots already leaves the last ones to others. */
static bool may_take_slot(const struct staged *staged, const struct staged_operation *operation)
{
    return operation->staged_bytes == 0 || staged_room_has_spare(&staged->room) ||
           !(has_slots(&staged->filling, operation->endpoint) ||
             has_slots(&staged->passed, operation->endpoint));
}

/* Sends take turns; one that finds no pinned memory waits, and those of other peers pass it by. */
static void fill(struct staged *staged)
{
    td_list_for_each(node, &staged->waiting)
    {
        struct staged_operation *operation =
            td_container_of(node, struct staged_operation, in_list);
        td_status_t status;

        if (!may_take_slot(staged, operation))
            continue;
        if (!staged_room_take(&staged->room, operation->staged_bytes, &operation->place))
            return;
        status = begin_copies(operation, true);
        if (status != TD_OK) {
            end(operation, status);
            continue;
        }
        td_list_remove(node);
        td_list_push_back(&staged->filling, node);
    }
}

static td_status_t staged_send(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                               const uint8_t *header, size_t header_bytes,
                               const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct staged *staged = staged_of(base);
    struct staged_operation *operation;

    if (piece_count > STAGED_PIECES_MAX)
        return TD_LIMIT;
    operation = operation_new(staged, pieces, piece_count, header_bytes, tag);
    if (operation == NULL)
        return TD_NO_MEMORY;
    if (operation->staged_bytes > staged->room.slot_bytes) {
        operation_free(operation);
        return TD_LIMIT;
    }
    operation->is_send = true;
    operation->endpoint = endpoint;
    memcpy(header_of(operation), header, header_bytes);
    td_list_push_back(&staged->waiting, &operation->in_list);
    fill(staged);
    return TD_OK;
}

/* -------------------------------------------------------------------------------------- receiving */

static td_status_t staged_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                                  const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct staged *staged = staged_of(base);
    struct kvt_transport *inner = staged->inner;
    struct kvt_piece landing[STAGED_PIECES_MAX];
    struct staged_operation *operation = NULL;
    td_status_t status;

    if (piece_count <= STAGED_PIECES_MAX)
        operation = operation_new(staged, pieces, piece_count, 0, tag);
    if (operation == NULL ||
        !staged_room_take_any(&staged->room, operation->staged_bytes, &operation->place)) {
        free(operation);
        inner->ops->reject(inner, arrival, TD_NO_MEMORY);
        return TD_NO_MEMORY;
    }
    piece_count = host_pieces(operation, landing);
    status = inner->ops->receive(inner, arrival, landing, piece_count, operation);
    if (status != TD_OK) {
        operation_free(operation);
        return status;
    }
    td_list_push_back(&staged->passed, &operation->in_list);
    return TD_OK;
}

static void staged_reject(struct kvt_transport *base, struct kvt_arrival *arrival,
                          td_status_t status)
{
    struct kvt_transport *inner = staged_of(base)->inner;

    inner->ops->reject(inner, arrival, status);
}

/* ------------------------------------------------------------------- what the inner transport says */

static void on_connected(void *impl, struct kvt_transport *inner, struct kvt_endpoint *endpoint)
{
    struct staged *staged = impl;
    const struct kvt_transport_sink *sink = &staged->base.sink;
    char lanes[KVT_LANES_TEXT_BYTES];

    inner->ops->lanes(inner, endpoint, lanes);
    td_log(
        TD_LOG_WARN, "kvtransfer",
        "KV of a peer goes through the host's memory, by %s: copied twice more than between GPUs",
        lanes);
    sink->connected(sink->impl, &staged->base, endpoint);
}

static void on_arrived(void *impl, struct kvt_transport *inner, const uint8_t *header,
                       size_t header_bytes, uint64_t payload_bytes, struct kvt_arrival *arrival)
{
    struct staged *staged = impl;
    const struct kvt_transport_sink *sink = &staged->base.sink;

    (void)inner;
    sink->arrived(sink->impl, &staged->base, header, header_bytes, payload_bytes, arrival);
}

static void on_received(void *impl, struct kvt_transport *inner, void *tag, td_status_t status)
{
    struct staged *staged = impl;
    struct staged_operation *operation = tag;

    (void)inner;
    if (status == TD_OK && operation->staged_bytes > 0)
        status = begin_copies(operation, false);
    if (operation->mark == NULL) {
        end(operation, status);
        return;
    }
    td_list_remove(&operation->in_list);
    td_list_push_back(&staged->emptying, &operation->in_list);
}

static void on_sent(void *impl, struct kvt_transport *inner, void *tag, td_status_t status)
{
    (void)impl;
    (void)inner;
    end(tag, status);
}

static void on_lost(void *impl, struct kvt_transport *inner, struct kvt_endpoint *endpoint,
                    td_status_t status)
{
    struct staged *staged = impl;
    const struct kvt_transport_sink *sink = &staged->base.sink;

    (void)inner;
    sink->lost(sink->impl, &staged->base, endpoint, status);
}

/* --------------------------------------------------------------------------------------- progress */

/* Copies end in their order: the first that has not ended hides the rest. */
static bool look_at_copies(struct staged *staged, struct td_list *copies)
{
    struct td_list *node;
    bool worked = false;

    while ((node = td_list_first(copies)) != NULL) {
        struct staged_operation *operation =
            td_container_of(node, struct staged_operation, in_list);
        td_status_t status = staged->memory.device->ops->poll(staged->queue, operation->mark);

        if (status == TD_AGAIN)
            break;
        operation->mark = NULL;
        worked = true;
        if (status == TD_OK && operation->is_canceled)
            status = TD_CANCELED;
        if (status == TD_OK && operation->is_send)
            pass_on(operation);
        else
            end(operation, status);
    }
    return worked;
}

static bool report(struct staged *staged)
{
    const struct kvt_transport_sink *sink = &staged->base.sink;
    struct td_list *node;
    bool worked = false;

    while ((node = td_list_first(&staged->ended)) != NULL) {
        struct staged_operation *operation =
            td_container_of(node, struct staged_operation, in_list);
        void *tag = operation->tag;
        td_status_t status = operation->status;
        bool is_send = operation->is_send;

        operation_free(operation);
        if (is_send)
            sink->sent(sink->impl, &staged->base, tag, status);
        else
            sink->received(sink->impl, &staged->base, tag, status);
        worked = true;
    }
    return worked;
}

static bool staged_progress(struct kvt_transport *base)
{
    struct staged *staged = staged_of(base);
    bool worked;

    kvt_queue_woken(staged->queue);
    worked = staged->inner->ops->progress(staged->inner);
    worked = look_at_copies(staged, &staged->filling) || worked;
    worked = look_at_copies(staged, &staged->emptying) || worked;
    worked = report(staged) || worked;
    fill(staged);
    return worked;
}

static int staged_descriptor(struct kvt_transport *base)
{
    return staged_of(base)->epoll_fd;
}

static td_status_t staged_arm(struct kvt_transport *base)
{
    struct staged *staged = staged_of(base);

    return !td_list_empty(&staged->ended) ? TD_AGAIN : staged->inner->ops->arm(staged->inner);
}

/* ------------------------------------------------------------------------------------- connections */

static td_status_t staged_address(struct kvt_transport *base, uint8_t *out, size_t capacity,
                                  size_t *length_out)
{
    struct kvt_transport *inner = staged_of(base)->inner;

    return inner->ops->address(inner, out, capacity, length_out);
}

static td_status_t staged_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                                  void *context, struct kvt_endpoint **endpoint_out)
{
    struct kvt_transport *inner = staged_of(base)->inner;

    return inner->ops->connect(inner, address, length, context, endpoint_out);
}

/* Copies of these still read the pool, or the peer still reads what they have made. */
static void let_go(struct td_list *sends, const struct kvt_endpoint *endpoint)
{
    td_list_for_each(node, sends)
    {
        struct staged_operation *operation =
            td_container_of(node, struct staged_operation, in_list);

        if (operation->endpoint != endpoint)
            continue;
        operation->is_canceled = true;
        operation->endpoint = NULL; /* its slot does not count for who connects anew */
    }
}

static void staged_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint, bool force)
{
    struct staged *staged = staged_of(base);

    td_list_for_each(node, &staged->waiting)
    {
        struct staged_operation *operation =
            td_container_of(node, struct staged_operation, in_list);

        if (operation->endpoint == endpoint)
            end(operation, TD_CANCELED);
    }
    let_go(&staged->filling, endpoint);
    let_go(&staged->passed, endpoint);
    staged->inner->ops->disconnect(staged->inner, endpoint, force);
}

static void staged_lanes(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                         char out[static KVT_LANES_TEXT_BYTES])
{
    struct kvt_transport *inner = staged_of(base)->inner;
    char lanes[KVT_LANES_TEXT_BYTES];

    inner->ops->lanes(inner, endpoint, lanes);
    snprintf(out, KVT_LANES_TEXT_BYTES, "through the host (%.100s)", lanes);
}

/* ------------------------------------------------------------------------------- open and close */

static void free_operations(struct td_list *list)
{
    td_list_for_each(node, list)
        operation_free(td_container_of(node, struct staged_operation, in_list));
}

/* Nothing of ours is copied any more, then nothing of the inner transport's: then memory may go. */
static void staged_close(struct kvt_transport *base)
{
    struct staged *staged = staged_of(base);

    if (staged->queue != NULL)
        staged->memory.device->ops->drain(staged->queue);
    if (staged->inner != NULL)
        staged->inner->ops->close(staged->inner);
    free_operations(&staged->waiting);
    free_operations(&staged->filling);
    free_operations(&staged->passed);
    free_operations(&staged->emptying);
    free_operations(&staged->ended);
    if (staged->queue != NULL)
        staged->memory.device->ops->queue_close(staged->queue);
    staged_room_close(&staged->room);
    if (staged->epoll_fd >= 0)
        close(staged->epoll_fd);
    free(staged);
}

#define STAGED_OPS(name_)                                                                      \
    {                                                                                          \
        .name = (name_), .address = staged_address, .connect = staged_connect,                 \
        .disconnect = staged_disconnect, .send = staged_send, .receive = staged_receive,       \
        .reject = staged_reject, .progress = staged_progress, .descriptor = staged_descriptor, \
        .arm = staged_arm, .lanes = staged_lanes, .close = staged_close,                       \
    }

static const struct kvt_transport_ops map_ops = STAGED_OPS(KVT_MAPHOST);
static const struct kvt_transport_ops ucx_ops = STAGED_OPS(KVT_UCXHOST);

static td_status_t open_inner(struct staged *staged, const struct kvt_ucx_config *ucx,
                              struct td_error *error)
{
    struct kvt_memory memory = {.base = staged->room.base,
                                .bytes = staged->room.slot_bytes * staged->room.slot_count,
                                .fd = staged->room.fd};
    td_status_t status = ucx != NULL ? kvt_ucx_open(ucx, &staged->inner, error)
                                     : kvt_map_open(&memory, 0, &staged->inner, error);

    if (status != TD_OK)
        return status;
    staged->inner->sink = (struct kvt_transport_sink){.impl = staged,
                                                      .connected = on_connected,
                                                      .arrived = on_arrived,
                                                      .received = on_received,
                                                      .sent = on_sent,
                                                      .lost = on_lost};
    memcpy(staged->base.library, staged->inner->library, sizeof staged->base.library);
    return TD_OK;
}

/* One descriptor for two: the inner transport's, and that of our copies. */
static td_status_t open_descriptor(struct staged *staged, struct td_error *error)
{
    struct epoll_event event = {.events = EPOLLIN};

    staged->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (staged->epoll_fd < 0 ||
        epoll_ctl(staged->epoll_fd, EPOLL_CTL_ADD, staged->queue->descriptor, &event) != 0 ||
        epoll_ctl(staged->epoll_fd, EPOLL_CTL_ADD, staged->inner->ops->descriptor(staged->inner),
                  &event) != 0)
        return td_fail(error, TD_IO, "%s: epoll: %s", staged->base.ops->name, strerror(errno));
    return TD_OK;
}

td_status_t kvt_staged_open(const struct kvt_staged_config *config,
                            struct kvt_transport **transport_out, struct td_error *error)
{
    struct kvt_device *device = config->memory.device;
    struct staged *staged;
    td_status_t status;

    if (device == NULL || config->chunk_bytes == 0)
        return td_fail(error, TD_INVALID, "staging: it needs a device, and the size of chunks");
    staged = calloc(1, sizeof *staged);
    if (staged == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the staged transport");
    staged->base.ops = config->ucx != NULL ? &ucx_ops : &map_ops;
    staged->base.is_staged = true;
    staged->memory = config->memory;
    staged->epoll_fd = -1;
    td_list_init(&staged->waiting);
    td_list_init(&staged->filling);
    td_list_init(&staged->passed);
    td_list_init(&staged->emptying);
    td_list_init(&staged->ended);
    status =
        staged_room_open(&staged->room, device, config->chunk_bytes, config->pinned_bytes, error);
    if (status == TD_OK)
        status = device->ops->queue_open(device, &staged->queue, error);
    if (status == TD_OK)
        status = open_inner(staged, config->ucx, error);
    if (status == TD_OK)
        status = open_descriptor(staged, error);
    if (status != TD_OK) {
        staged_close(&staged->base);
        return status;
    }
    *transport_out = &staged->base;
    return TD_OK;
}
