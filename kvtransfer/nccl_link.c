/* nccl_link.c: a control connection of the NCCL transport with its communicator, see nccl_private.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvtransfer/nccl_private.h"
#include "lib/base/log.h"

#define MESSAGES_PER_TURN 16
#define WORK_MAX          64 /* chunks accepted and not landed, or answers not sent; then an inlet waits */

/* A packet that the socket had no room for. */
struct nccl_waiting {
    struct td_list in_link;
    struct nccl_packet packet;
};

void nccl_link_init(struct nccl_link *link, struct nccl_transport *transport, bool is_inlet)
{
    link->transport = transport;
    link->is_inlet = is_inlet;
    link->socket = (struct nccl_watch){.role = NCCL_SOCKET, .fd = -1, .link = link};
    link->woken = (struct nccl_watch){.role = NCCL_QUEUE, .fd = -1, .link = link};
    td_list_init(&link->in_transport);
    td_list_init(&link->asked);
    td_list_init(&link->posted);
    td_list_init(&link->running);
    td_list_init(&link->packets);
}

/* --------------------------------------------------------------------------------- the descriptors */

td_status_t nccl_watch_add(struct nccl_transport *transport, struct nccl_watch *watch,
                           uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};

    watch->events = events;
    return epoll_ctl(transport->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) == 0 ? TD_OK : TD_IO;
}

/* Whether there is room for what more messages bring: that of a sender is the core's to bound. */
static bool takes_messages(const struct nccl_link *link)
{
    return !link->is_inlet || (link->operation_count < WORK_MAX && link->packet_count < WORK_MAX);
}

void nccl_link_watch(struct nccl_link *link)
{
    struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = &link->socket};
    int failure;

    if (takes_messages(link))
        event.events |= EPOLLIN;
    if (link->packet_count > 0)
        event.events |= EPOLLOUT;
    if (link->socket.fd < 0 || link->socket.events == event.events)
        return;
    failure = epoll_ctl(link->transport->epoll_fd, EPOLL_CTL_MOD, link->socket.fd, &event);
    assert(failure == 0); /* it is in the set, and modifying needs no memory */
    (void)failure;
    link->socket.events = event.events;
}

/* Before the queue is closed: that of a GPU which has failed keeps its descriptor open, and with it its events. */
static void forget_queue(struct nccl_link *link)
{
    (void)epoll_ctl(link->transport->epoll_fd, EPOLL_CTL_DEL, link->woken.fd, NULL);
    link->woken.fd = -1;
}

/* ------------------------------------------------------------------------------------- operations */

td_status_t nccl_link_join(struct nccl_link *link, const struct nccl_unique_id *id)
{
    struct nccl_transport *transport = link->transport;
    struct kvt_device *device = transport->memory.device;
    struct nccl_rank_config config = {.library = transport->library, .id = id};
    struct td_error error = {0};
    td_status_t status = device->ops->queue_open(device, &config.queue, &error);

    if (status != TD_OK) {
        td_log(TD_LOG_WARN, "kvtransfer", "nccl: %s", error.text);
        return status;
    }
    link->woken.fd = config.queue->descriptor;
    status = nccl_watch_add(transport, &link->woken, EPOLLIN);
    if (status == TD_OK)
        status = nccl_rank_open(&config, &link->rank);
    if (status != TD_OK) {
        forget_queue(link);
        device->ops->queue_close(config.queue);
        return status;
    }
    link->queue = config.queue;
    return TD_OK;
}

void nccl_link_post(struct nccl_link *link, struct nccl_operation *operation)
{
    operation->job.pieces = operation->pieces;
    operation->job.piece_count = operation->piece_count;
    td_list_remove(&operation->in_list);
    td_list_push_back(&link->posted, &operation->in_list);
    link->operation_count++;
    nccl_rank_post(link->rank, &operation->job);
    nccl_link_watch(link);
}

/* Marks the stream behind what is in it now. */
static td_status_t mark_launched(struct nccl_link *link)
{
    const struct kvt_device_ops *device = link->transport->memory.device->ops;
    td_status_t status = TD_OK;
    struct nccl_job *job;

    while (status == TD_OK && (job = nccl_rank_take(link->rank)) != NULL) {
        struct nccl_operation *operation = td_container_of(job, struct nccl_operation, job);

        td_list_remove(&operation->in_list);
        td_list_push_back(&link->running, &operation->in_list);
        status = device->mark(link->queue, &operation->mark);
    }
    return status;
}

/*
 * Ends what the stream has done. A rank that aborts lets the stream go on without having carried everything, so what
 * has passed is right only if it was not aborting even after that.
 */
static td_status_t end_passed(struct nccl_link *link)
{
    const struct kvt_device_ops *device = link->transport->memory.device->ops;
    td_status_t status = TD_OK;
    struct td_list *node;

    while (status == TD_OK && (node = td_list_first(&link->running)) != NULL) {
        struct nccl_operation *operation = td_container_of(node, struct nccl_operation, in_list);
        td_status_t why;

        if (operation->mark == NULL)
            break;
        status = device->poll(link->queue, operation->mark);
        if (status == TD_AGAIN)
            return TD_OK;
        operation->mark = NULL;
        if (status == TD_OK && nccl_rank_state(link->rank, &why) >= NCCL_RANK_FAILED)
            status = why;
        if (status != TD_OK)
            break; /* it ends with the others */
        nccl_rank_job_ended(link->rank);
        link->operation_count--;
        nccl_operation_end(operation, TD_OK);
    }
    return status;
}

static void end_all(struct td_list *list, td_status_t status)
{
    td_list_for_each(node, list)
        nccl_operation_end(td_container_of(node, struct nccl_operation, in_list), status);
}

/* ------------------------------------------------------------------------------------------ ending */

/* Whether everything that an aborted rank has left in the stream has run. */
static bool stream_is_empty(struct nccl_link *link)
{
    const struct kvt_device_ops *device = link->transport->memory.device->ops;

    if (td_list_empty(&link->posted) && td_list_empty(&link->running))
        return true;
    if (link->fence == NULL && device->mark(link->queue, &link->fence) != TD_OK) {
        device->drain(link->queue); /* short: nothing waits for a peer any more */
        return true;
    }
    if (device->poll(link->queue, link->fence) == TD_AGAIN)
        return false;
    link->fence = NULL;
    return true;
}

static void give_marks_back(struct nccl_link *link)
{
    td_list_for_each(node, &link->running)
    {
        struct nccl_operation *operation = td_container_of(node, struct nccl_operation, in_list);

        if (operation->mark != NULL)
            (void)link->transport->memory.device->ops->poll(link->queue, operation->mark);
        operation->mark = NULL;
    }
}

/* After the abort nothing is queued, and after the fence nothing runs: only then are the blocks free. */
static void finish_ending(struct nccl_link *link)
{
    td_status_t ignored;

    if (link->is_over)
        return;
    if (link->rank != NULL) {
        if (nccl_rank_state(link->rank, &ignored) != NCCL_RANK_OVER || !stream_is_empty(link))
            return;
        give_marks_back(link);
        end_all(&link->posted, link->status);
        end_all(&link->running, link->status);
        link->operation_count = 0;
    }
    link->is_over = true;
    link->transport->has_news = true;
}

static void close_socket(struct nccl_link *link)
{
    if (link->socket.fd >= 0)
        close(link->socket.fd); /* leaves the epoll set by itself */
    link->socket.fd = -1;
}

void nccl_link_end(struct nccl_link *link, td_status_t status)
{
    struct nccl_transport *transport = link->transport;

    if (link->is_ending)
        return;
    link->is_ending = true;
    link->status = status;
    close_socket(link);
    if (link->rank != NULL) {
        (void)end_passed(link); /* what came before the end is whole */
        nccl_rank_stop(link->rank);
    }
    end_all(&link->asked, status);
    if (link->is_inlet) {
        td_list_remove(&link->in_transport);
        td_list_push_back(&transport->ending, &link->in_transport);
        transport->inlet_count--;
    } else {
        nccl_endpoint_of(link)->lost_pending = true;
    }
    transport->has_news = true;
    finish_ending(link);
}

void nccl_link_fini(struct nccl_link *link)
{
    end_all(&link->asked, TD_CANCELED);
    close_socket(link);
    td_list_for_each(node, &link->packets)
    {
        struct nccl_waiting *waiting = td_container_of(node, struct nccl_waiting, in_link);

        td_list_remove(node);
        free(waiting->packet.bytes);
        free(waiting);
    }
    if (link->rank != NULL) {
        forget_queue(link);
        nccl_rank_close(link->rank);
        link->queue->device->ops->queue_close(link->queue);
    }
    free(link->body);
    td_list_remove(&link->in_transport);
}

/* -------------------------------------------------------------------------------------- the thread */

static void see_rank(struct nccl_link *link)
{
    td_status_t status;
    enum nccl_rank_state state = nccl_rank_state(link->rank, &status);

    if (state >= NCCL_RANK_FAILED) {
        nccl_link_end(link, status);
        return;
    }
    while (link->seen < state && !link->is_ending) {
        link->seen++;
        if (link->is_inlet)
            nccl_inlet_rank(nccl_inlet_of(link), link->seen);
        else
            nccl_endpoint_rank(nccl_endpoint_of(link), link->seen);
    }
}

/* Perhaps the rank, or the stream, has got further. */
static void look(struct nccl_link *link)
{
    td_status_t status;

    if (!link->is_ending)
        see_rank(link);
    if (!link->is_ending) {
        status = mark_launched(link);
        if (status == TD_OK)
            status = end_passed(link);
        if (status != TD_OK)
            nccl_link_end(link, status);
        else
            nccl_link_watch(link);
    }
    if (link->is_ending)
        finish_ending(link);
}

void nccl_link_look(struct nccl_link *link)
{
    if (!link->is_over && (link->fence != NULL || !td_list_empty(&link->running)))
        look(link);
}

/* ---------------------------------------------------------------------------------------- messages */

static void write_packets(struct nccl_link *link)
{
    struct td_list *node;

    while (!link->is_ending && (node = td_list_first(&link->packets)) != NULL) {
        struct nccl_waiting *waiting = td_container_of(node, struct nccl_waiting, in_link);
        ssize_t sent =
            send(link->socket.fd, waiting->packet.bytes + link->packet_sent,
                 waiting->packet.length - link->packet_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS))
            break;
        if (sent < 0) {
            nccl_link_end(link, TD_PEER_LOST);
            return;
        }
        link->packet_sent += (size_t)sent;
        if (link->packet_sent < waiting->packet.length)
            continue;
        td_list_remove(node);
        free(waiting->packet.bytes);
        free(waiting);
        link->packet_count--;
        link->packet_sent = 0;
    }
    nccl_link_watch(link);
}

void nccl_link_say(struct nccl_link *link, struct nccl_packet packet)
{
    struct nccl_waiting *waiting = link->is_ending ? NULL : malloc(sizeof *waiting);

    if (waiting == NULL) {
        free(packet.bytes);
        nccl_link_end(link, TD_NO_MEMORY); /* the peer would wait for ever */
        return;
    }
    waiting->packet = packet;
    td_list_push_back(&link->packets, &waiting->in_link);
    link->packet_count++;
    write_packets(link);
}

static td_status_t read_bytes(struct nccl_link *link, uint8_t *to, size_t length, size_t *got)
{
    while (*got < length) {
        ssize_t count = recv(link->socket.fd, to + *got, length - *got, MSG_DONTWAIT);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && errno == EAGAIN)
            return TD_AGAIN;
        if (count <= 0)
            return TD_PEER_LOST;
        *got += (size_t)count;
    }
    return TD_OK;
}

/* Strangers say who they are before any memory is taken for what they say. */
static bool may_come(struct nccl_link *link)
{
    if (!link->is_inlet)
        return link->kind != NCCL_HELLO && link->kind != NCCL_CHUNK;
    return link->kind == (nccl_inlet_of(link)->has_greeted ? NCCL_CHUNK : NCCL_HELLO);
}

/* TD_OK: a whole message is in body. */
static td_status_t read_message(struct nccl_link *link)
{
    td_status_t status;

    if (link->body == NULL) {
        status = read_bytes(link, link->frame, sizeof link->frame, &link->frame_got);
        if (status == TD_OK)
            status = nccl_frame_decode(link->frame, &link->kind, &link->body_bytes);
        if (status == TD_OK && !may_come(link))
            status = TD_INVALID;
        if (status != TD_OK)
            return status;
        link->body = malloc(link->body_bytes + 1);
        if (link->body == NULL)
            return TD_NO_MEMORY;
        link->body_got = 0;
    }
    return read_bytes(link, link->body, link->body_bytes, &link->body_got);
}

static void forget_message(struct nccl_link *link)
{
    free(link->body);
    link->body = NULL;
    link->frame_got = 0;
}

static void read_messages(struct nccl_link *link)
{
    for (int i = 0; i < MESSAGES_PER_TURN && !link->is_ending && takes_messages(link); i++) {
        td_status_t status = read_message(link);

        if (status == TD_AGAIN)
            break;
        if (status == TD_OK) {
            bool is_fine = link->is_inlet ? nccl_inlet_message(nccl_inlet_of(link))
                                          : nccl_endpoint_message(nccl_endpoint_of(link));

            forget_message(link);
            status = is_fine ? TD_OK : TD_INVALID;
        }
        if (status == TD_OK)
            continue;
        if (status != TD_PEER_LOST && !link->is_ending)
            td_log(TD_LOG_WARN, "kvtransfer", "nccl: a peer was cut off: %s",
                   td_status_text(status));
        nccl_link_end(link, TD_PEER_LOST);
    }
    nccl_link_watch(link);
}

void nccl_link_ready(struct nccl_link *link, const struct nccl_watch *watch, uint32_t events)
{
    if (watch->role == NCCL_QUEUE) {
        kvt_queue_woken(link->queue);
        look(link);
        return;
    }
    if (!link->is_inlet && !nccl_endpoint_of(link)->is_reached) {
        nccl_endpoint_reached(nccl_endpoint_of(link), events);
        return;
    }
    if ((events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0 && !takes_messages(link)) {
        nccl_link_end(link, TD_PEER_LOST); /* what it had to say is not waited for */
        return;
    }
    if ((events & EPOLLOUT) != 0)
        write_packets(link);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0 && !link->is_ending)
        read_messages(link);
}
