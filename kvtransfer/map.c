/* map.c: opening, driving and closing the map transport, see map.h. */
#include "kvtransfer/map.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtransfer/address.h"
#include "kvtransfer/map_private.h"
#include "lib/base/bytes.h"
#include "lib/base/random.h"

#define MAP_EVENTS_PER_TURN 32
#define MAP_BACKLOG         128

/* ------------------------------------------------------------------------------------- operations */

void map_operation_end(struct map_operation *operation, td_status_t status)
{
    operation->status = status;
    td_list_remove(&operation->in_list);
    td_list_push_back(&operation->transport->ended, &operation->in_list);
}

void map_operation_free(struct map_operation *operation)
{
    td_list_remove(&operation->in_list);
    if (operation->mark != NULL) /* after the queue was drained: gives it back */
        (void)operation->transport->memory.device->ops->poll(operation->transport->queue,
                                                             operation->mark);
    free(operation->packet);
    free(operation->from);
    free(operation->inlined);
    free(operation);
}

static bool report_operations(struct map_transport *transport)
{
    const struct kvt_transport_sink *sink = &transport->base.sink;
    struct td_list *node;
    bool worked = false;

    while ((node = td_list_first(&transport->ended)) != NULL) {
        struct map_operation *operation = td_container_of(node, struct map_operation, in_list);
        void *tag = operation->tag;
        td_status_t status = operation->status;
        bool is_send = operation->is_send;

        map_operation_free(operation);
        if (is_send)
            sink->sent(sink->impl, &transport->base, tag, status);
        else
            sink->received(sink->impl, &transport->base, tag, status);
        worked = true;
    }
    return worked;
}

/* -------------------------------------------------------------------------------------- progress */

static void bury(struct map_transport *transport)
{
    td_list_for_each(node, &transport->dead_endpoints)
        map_endpoint_free(td_container_of(node, struct map_endpoint, in_transport));
    td_list_for_each(node, &transport->dead_inlets)
        map_inlet_free(td_container_of(node, struct map_inlet, in_transport));
}

static void on_ready(struct map_transport *transport, const struct epoll_event *event)
{
    struct map_socket *ready = event->data.ptr;

    if (ready->fd < 0)
        return; /* closed by an event before this one */
    switch (ready->role) {
    case MAP_LISTENER: map_inlet_accept(transport); break;
    case MAP_QUEUE: break; /* map_inlets_copy looks at it in every turn */
    case MAP_ENDPOINT:
        map_endpoint_ready(td_container_of(ready, struct map_endpoint, socket), event->events);
        break;
    case MAP_INLET:
        map_inlet_ready(td_container_of(ready, struct map_inlet, socket), event->events);
        break;
    }
}

static bool map_progress(struct kvt_transport *base)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);
    struct epoll_event events[MAP_EVENTS_PER_TURN];
    int count = epoll_wait(transport->epoll_fd, events, MAP_EVENTS_PER_TURN, 0);
    bool worked = count > 0;

    for (int i = 0; i < count; i++)
        on_ready(transport, &events[i]);
    worked = map_inlets_copy(transport) || worked;
    worked = report_operations(transport) || worked;
    worked = map_endpoints_report(transport) || worked;
    bury(transport);
    return worked;
}

static int map_descriptor(struct kvt_transport *base)
{
    return td_container_of(base, struct map_transport, base)->epoll_fd;
}

static td_status_t map_arm(struct kvt_transport *base)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);

    return transport->has_news || !td_list_empty(&transport->ended) ||
                   !td_list_empty(&transport->dead_inlets) || map_inlets_have_work(transport)
               ? TD_AGAIN
               : TD_OK;
}

static void map_lanes(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                      char out[static KVT_LANES_TEXT_BYTES])
{
    (void)endpoint;
    snprintf(out, KVT_LANES_TEXT_BYTES, "%s",
             td_container_of(base, struct map_transport, base)->queue != NULL ? "map (cuda ipc)"
                                                                              : "map");
}

static td_status_t map_address(struct kvt_transport *base, uint8_t *out, size_t capacity,
                               size_t *length_out)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);
    uint8_t body[32];
    struct td_writer writer = td_writer_over(body, sizeof body);

    td_write_u128(&writer, transport->token);
    td_write_u128(&writer, transport->host);
    return kvt_address_wrap("map", body, sizeof body, out, capacity, length_out);
}

/* ------------------------------------------------------------------------------- open and close */

static void close_descriptors(struct map_transport *transport)
{
    map_socket_close(&transport->listener);
    if (transport->epoll_fd >= 0)
        close(transport->epoll_fd);
    if (transport->read_only_fd >= 0)
        close(transport->read_only_fd);
    if (transport->spare_fd >= 0)
        close(transport->spare_fd);
}

static void free_inlets(struct map_transport *transport)
{
    td_list_for_each(node, &transport->inlets)
        map_inlet_free(td_container_of(node, struct map_inlet, in_transport));
    td_list_for_each(node, &transport->ending)
        map_inlet_free(td_container_of(node, struct map_inlet, in_transport));
    td_list_for_each(node, &transport->dead_inlets)
        map_inlet_free(td_container_of(node, struct map_inlet, in_transport));
}

static void free_endpoints(struct map_transport *transport)
{
    td_list_for_each(node, &transport->endpoints)
        map_endpoint_free(td_container_of(node, struct map_endpoint, in_transport));
    td_list_for_each(node, &transport->draining)
        map_endpoint_free(td_container_of(node, struct map_endpoint, in_transport));
    td_list_for_each(node, &transport->dead_endpoints)
        map_endpoint_free(td_container_of(node, struct map_endpoint, in_transport));
}

/* First what we have of peers, so that two that close at once do not wait for each other. */
static void map_close(struct kvt_transport *base)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);

    if (transport->queue != NULL)
        transport->memory.device->ops->drain(transport->queue);
    free_inlets(transport);
    map_socket_close(&transport->listener);
    if (transport->queue != NULL)
        map_endpoints_hang_up(transport);
    free_endpoints(transport);
    td_list_for_each(node, &transport->ended)
        map_operation_free(td_container_of(node, struct map_operation, in_list));
    close_descriptors(transport);
    if (transport->queue != NULL)
        transport->memory.device->ops->queue_close(transport->queue);
    free(transport->packet);
    free(transport);
}

static const struct kvt_transport_ops map_ops = {
    .name = "map",
    .address = map_address,
    .connect = map_connect,
    .disconnect = map_disconnect,
    .send = map_send,
    .receive = map_receive,
    .reject = map_reject,
    .progress = map_progress,
    .descriptor = map_descriptor,
    .arm = map_arm,
    .lanes = map_lanes,
    .close = map_close,
};

/* Peers get a text that opens the pool; copies from theirs run in a queue of ours. */
static td_status_t open_device(struct map_transport *transport, struct td_error *error)
{
    struct kvt_device *device = transport->memory.device;
    td_status_t status = device->ops->share(device, transport->share, error);

    if (status == TD_OK)
        status = device->ops->queue_open(device, &transport->queue, error);
    if (status != TD_OK)
        td_fail_wrap(error, "map");
    return status;
}

/* Peers get the pool read-only, and sealed so that their reads cannot fault. */
static td_status_t open_pool(struct map_transport *transport, struct td_error *error)
{
    char path[64];
    int seals = fcntl(transport->memory.fd, F_GET_SEALS);

    if (seals < 0)
        return td_fail(error, TD_INVALID, "map: the pool's memory is not a memfd: %s",
                       strerror(errno));
    if ((seals & F_SEAL_SHRINK) == 0 &&
        fcntl(transport->memory.fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0)
        return td_fail(error, TD_UNSUPPORTED, "map: the pool's memfd cannot be sealed: %s",
                       strerror(errno));
    snprintf(path, sizeof path, "/proc/self/fd/%d", transport->memory.fd);
    transport->read_only_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (transport->read_only_fd < 0)
        return td_fail(error, TD_UNSUPPORTED, "map: %s: %s", path, strerror(errno));
    return TD_OK;
}

static td_status_t open_listener(struct map_transport *transport, struct td_error *error)
{
    struct sockaddr_un name;
    socklen_t length = map_socket_name(transport->token, &name);

    if (transport->queue != NULL)
        transport->woken =
            (struct map_socket){.role = MAP_QUEUE, .fd = transport->queue->descriptor};
    transport->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    transport->listener.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (transport->epoll_fd < 0 || transport->listener.fd < 0 ||
        bind(transport->listener.fd, (const struct sockaddr *)&name, length) != 0 ||
        listen(transport->listener.fd, MAP_BACKLOG) != 0 ||
        map_socket_add(transport, &transport->listener) != TD_OK ||
        (transport->queue != NULL && map_socket_add(transport, &transport->woken) != TD_OK))
        return td_fail(error, TD_IO, "map: listening socket: %s", strerror(errno));
    return TD_OK;
}

static struct map_transport *transport_new(const struct kvt_memory *memory)
{
    struct map_transport *transport = calloc(1, sizeof *transport);

    if (transport == NULL)
        return NULL;
    transport->packet = malloc(MAP_MESSAGE_MAX + 1);
    if (transport->packet == NULL) {
        free(transport);
        return NULL;
    }
    transport->base.ops = &map_ops;
    snprintf(transport->base.library, sizeof transport->base.library, "tandem map 1");
    transport->memory = *memory;
    transport->read_only_fd = -1;
    transport->epoll_fd = -1;
    transport->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    transport->listener = (struct map_socket){.role = MAP_LISTENER, .fd = -1};
    transport->token = td_random_u128();
    td_list_init(&transport->endpoints);
    td_list_init(&transport->draining);
    td_list_init(&transport->inlets);
    td_list_init(&transport->ending);
    td_list_init(&transport->ended);
    td_list_init(&transport->dead_endpoints);
    td_list_init(&transport->dead_inlets);
    return transport;
}

td_status_t kvt_map_open(const struct kvt_memory *memory, uint32_t close_ms,
                         struct kvt_transport **transport_out, struct td_error *error)
{
    struct map_transport *transport;
    td_status_t status;

    if (memory->fd < 0 && memory->device == NULL)
        return td_fail(error, TD_INVALID, "map: the pool has no memfd to share");
    transport = transport_new(memory);
    if (transport == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the map transport");
    transport->close_ms = close_ms;
    status = kvt_memory_reach(memory, &transport->host, error);
    if (status == TD_OK)
        status =
            memory->device != NULL ? open_device(transport, error) : open_pool(transport, error);
    if (status == TD_OK)
        status = open_listener(transport, error);
    if (status != TD_OK) {
        map_close(&transport->base);
        return status;
    }
    *transport_out = &transport->base;
    return TD_OK;
}
