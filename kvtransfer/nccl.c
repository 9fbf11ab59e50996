/* nccl.c: opening, driving and closing the NCCL transport, see nccl.h. */
#include "kvtransfer/nccl.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kvtransfer/host.h"
#include "kvtransfer/nccl_private.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/base/time.h"

#define EVENTS_PER_TURN  32
#define CLOSE_MS_DEFAULT 10000

/* What was left behind, of all transports: kept where a look for leaks finds it. */
static struct {
    pthread_mutex_t lock;
    struct nccl_link *last;
} left_behind = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct nccl_transport *transport_of(struct kvt_transport *base)
{
    return td_container_of(base, struct nccl_transport, base);
}

/* ------------------------------------------------------------------------------------- operations */

struct nccl_operation *nccl_operation_new(struct nccl_transport *transport,
                                          const struct kvt_piece *pieces, size_t piece_count,
                                          void *tag)
{
    struct nccl_operation *operation = calloc(1, sizeof *operation);

    if (operation == NULL)
        return NULL;
    operation->pieces = calloc(piece_count + 1, sizeof *pieces);
    if (operation->pieces == NULL) {
        free(operation);
        return NULL;
    }
    operation->transport = transport;
    operation->tag = tag;
    operation->piece_count = piece_count;
    td_list_init(&operation->in_list);
    td_list_init(&operation->job.in_rank);
    memcpy(operation->pieces, pieces, piece_count * sizeof *pieces);
    return operation;
}

void nccl_operation_end(struct nccl_operation *operation, td_status_t status)
{
    operation->status = status;
    td_list_remove(&operation->in_list);
    td_list_push_back(&operation->transport->ended, &operation->in_list);
}

void nccl_operation_free(struct nccl_operation *operation)
{
    td_list_remove(&operation->in_list);
    free(operation->pieces);
    free(operation);
}

static bool report_operations(struct nccl_transport *transport)
{
    const struct kvt_transport_sink *sink = &transport->base.sink;
    struct td_list *node;
    bool worked = false;

    while ((node = td_list_first(&transport->ended)) != NULL) {
        struct nccl_operation *operation = td_container_of(node, struct nccl_operation, in_list);
        void *tag = operation->tag;
        td_status_t status = operation->status;
        bool is_send = operation->is_send;

        nccl_operation_free(operation);
        if (is_send)
            sink->sent(sink->impl, &transport->base, tag, status);
        else
            sink->received(sink->impl, &transport->base, tag, status);
        worked = true;
    }
    return worked;
}

/* --------------------------------------------------------------------------------------- progress */

static void link_free(struct nccl_link *link)
{
    nccl_link_fini(link);
    if (link->is_inlet)
        free(nccl_inlet_of(link));
    else
        free(nccl_endpoint_of(link));
}

static void bury(struct nccl_transport *transport)
{
    td_list_for_each(node, &transport->ending)
    {
        struct nccl_link *link = td_container_of(node, struct nccl_link, in_transport);

        if (link->is_over)
            link_free(link);
    }
}

static void on_ready(struct nccl_transport *transport, const struct epoll_event *event)
{
    const struct nccl_watch *watch = event->data.ptr;

    if (watch->fd < 0)
        return; /* closed by an event before this one */
    if (watch->role == NCCL_LISTENER)
        nccl_inlet_accept(transport, watch);
    else
        nccl_link_ready(watch->link, watch, event->events);
}

static bool take_events(struct nccl_transport *transport, int timeout_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(transport->epoll_fd, events, EVENTS_PER_TURN, timeout_ms);

    for (int i = 0; i < count; i++)
        on_ready(transport, &events[i]);
    return count > 0;
}

static void look_at_links(struct td_list *list)
{
    td_list_for_each(node, list)
        nccl_link_look(td_container_of(node, struct nccl_link, in_transport));
}

/* In every turn: those of a GPU that has failed come from the clock (kvt_device_poll_ms), without an event. */
static void look_at_streams(struct nccl_transport *transport)
{
    look_at_links(&transport->endpoints);
    look_at_links(&transport->inlets);
    look_at_links(&transport->ending);
}

static bool nccl_progress(struct kvt_transport *base)
{
    struct nccl_transport *transport = transport_of(base);
    bool worked = take_events(transport, 0);

    look_at_streams(transport);
    worked = report_operations(transport) || worked;
    if (transport->has_news) {
        transport->has_news = false;
        worked = nccl_endpoints_report(transport) || worked;
        bury(transport);
    }
    return worked;
}

static int nccl_descriptor(struct kvt_transport *base)
{
    return transport_of(base)->epoll_fd;
}

static td_status_t nccl_arm(struct kvt_transport *base)
{
    const struct nccl_transport *transport = transport_of(base);

    return transport->has_news || !td_list_empty(&transport->ended) ? TD_AGAIN : TD_OK;
}

static void nccl_lanes(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                       char out[static KVT_LANES_TEXT_BYTES])
{
    (void)base;
    (void)endpoint; /* which network, NCCL's own log says: NCCL_DEBUG=INFO */
    snprintf(out, KVT_LANES_TEXT_BYTES, "nccl");
}

static td_status_t nccl_address(struct kvt_transport *base, uint8_t *out, size_t capacity,
                                size_t *length_out)
{
    return nccl_address_encode(&transport_of(base)->address, out, capacity, length_out);
}

/* ------------------------------------------------------------------------------- open and close */

static void end_links(struct td_list *list)
{
    td_list_for_each(node, list)
        nccl_link_end(td_container_of(node, struct nccl_link, in_transport), TD_CANCELED);
}

static bool all_are_over(const struct td_list *list)
{
    td_list_for_each(node, list)
    {
        if (!td_container_of(node, struct nccl_link, in_transport)->is_over)
            return false;
    }
    return true;
}

/* Aborts take what they take, but not for ever: NCCL may hang where the GPU or a network does. */
static void wait_for_links(struct nccl_transport *transport)
{
    uint64_t wait_ms =
        transport->config.close_ms != 0 ? transport->config.close_ms : CLOSE_MS_DEFAULT;
    uint64_t until_ns = td_now_ns() + wait_ms * TD_NS_PER_MS;
    uint64_t now_ns;

    while ((!all_are_over(&transport->ending) || !all_are_over(&transport->endpoints)) &&
           (now_ns = td_now_ns()) < until_ns) {
        int left_ms = (int)((until_ns - now_ns) / TD_NS_PER_MS) + 1;
        int poll_ms = kvt_device_poll_ms(transport->memory.device);

        take_events(transport, poll_ms >= 0 && poll_ms < left_ms ? poll_ms : left_ms);
        look_at_streams(transport);
    }
}

/* Its thread has its memory, and the GPU may be at work for it: both for good. */
static void leave_behind(struct nccl_link *link)
{
    td_log(TD_LOG_ERROR, "kvtransfer",
           "nccl: a communicator cannot be aborted, and is left behind with its memory");
    nccl_rank_leave(link->rank);
    td_list_remove(&link->in_transport);
    pthread_mutex_lock(&left_behind.lock);
    link->left_before = left_behind.last;
    left_behind.last = link;
    pthread_mutex_unlock(&left_behind.lock);
}

static void free_links(struct td_list *list)
{
    td_list_for_each(node, list)
    {
        struct nccl_link *link = td_container_of(node, struct nccl_link, in_transport);

        if (link->is_over)
            link_free(link);
        else
            leave_behind(link);
    }
}

static void close_listeners(struct nccl_transport *transport)
{
    for (size_t i = 0; i < NCCL_PLACES_MAX; i++) {
        if (transport->listeners[i].fd >= 0)
            close(transport->listeners[i].fd);
        transport->listeners[i].fd = -1;
    }
}

static void nccl_close(struct kvt_transport *base)
{
    struct nccl_transport *transport = transport_of(base);

    close_listeners(transport);
    end_links(&transport->endpoints);
    end_links(&transport->inlets);
    wait_for_links(transport);
    free_links(&transport->endpoints);
    free_links(&transport->ending);
    td_list_for_each(node, &transport->ended)
        nccl_operation_free(td_container_of(node, struct nccl_operation, in_list));
    if (transport->epoll_fd >= 0)
        close(transport->epoll_fd);
    if (transport->spare_fd >= 0)
        close(transport->spare_fd);
    free(transport);
}

static const struct kvt_transport_ops nccl_ops = {
    .name = KVT_NCCL,
    .address = nccl_address,
    .connect = nccl_connect,
    .disconnect = nccl_disconnect,
    .send = nccl_send,
    .receive = nccl_receive,
    .reject = nccl_reject,
    .progress = nccl_progress,
    .descriptor = nccl_descriptor,
    .arm = nccl_arm,
    .lanes = nccl_lanes,
    .close = nccl_close,
};

static struct nccl_transport *transport_new(const struct kvt_memory *memory,
                                            const struct kvt_nccl_config *config)
{
    struct nccl_transport *transport = calloc(1, sizeof *transport);

    if (transport == NULL)
        return NULL;
    transport->base.ops = &nccl_ops;
    transport->memory = *memory;
    transport->config = *config;
    transport->address.token = td_random_u128();
    for (size_t i = 0; i < NCCL_PLACES_MAX; i++)
        transport->listeners[i] = (struct nccl_watch){.role = NCCL_LISTENER, .fd = -1};
    transport->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    transport->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    td_list_init(&transport->endpoints);
    td_list_init(&transport->inlets);
    td_list_init(&transport->ending);
    td_list_init(&transport->ended);
    return transport;
}

static td_status_t prepare(struct nccl_transport *transport, struct td_error *error)
{
    td_status_t status = nccl_library_load(transport->config.library, &transport->library, error);

    if (status != TD_OK)
        return status;
    transport->address.version = (uint32_t)transport->library->version;
    snprintf(transport->base.library, sizeof transport->base.library, "nccl %s",
             transport->library->version_text);
    if (transport->epoll_fd < 0)
        return td_fail(error, TD_IO, "nccl: epoll: %s", strerror(errno));
    status = kvt_host_identity(&transport->address.host, error);
    return status == TD_OK ? nccl_listen(transport, transport->config.interface, error) : status;
}

td_status_t kvt_nccl_open(const struct kvt_memory *memory, const struct kvt_nccl_config *config,
                          struct kvt_transport **transport_out, struct td_error *error)
{
    struct nccl_transport *transport;
    td_status_t status;

    if (memory->device == NULL)
        return td_fail(error, TD_INVALID, "nccl: the pool is not in a GPU's memory");
    transport = transport_new(memory, config);
    if (transport == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the nccl transport");
    status = prepare(transport, error);
    if (status != TD_OK) {
        nccl_close(&transport->base);
        return status;
    }
    *transport_out = &transport->base;
    return TD_OK;
}
