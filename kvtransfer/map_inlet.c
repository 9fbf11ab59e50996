/* map_inlet.c: the receiving side of the map transport, see map_private.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvtransfer/map_private.h"
#include "lib/base/log.h"

#define MAP_INLETS_MAX       256
#define MAP_COPIES_MAX       64 /* chunks accepted and not copied, per connection; then it waits */
#define MAP_PACKETS_PER_TURN 16

struct kvt_arrival {
    struct map_inlet *inlet;
    const struct map_chunk *chunk;
    bool is_answered;
};

/* --------------------------------------------------------------------------------------- answers */

/* Whether the inlet takes packets now: not while it has enough to do, or its answers do not leave. */
void map_inlet_watch(struct map_inlet *inlet)
{
    uint32_t events = 0;

    if (inlet->copy_count < MAP_COPIES_MAX && inlet->answer_count < MAP_COPIES_MAX)
        events |= EPOLLIN;
    if (inlet->answer_count > 0)
        events |= EPOLLOUT;
    map_socket_watch(inlet->transport, &inlet->socket, events);
}

void map_inlet_end(struct map_inlet *inlet, td_status_t status)
{
    struct map_transport *transport = inlet->transport;

    td_list_for_each(node, &inlet->copies)
    {
        struct map_operation *copy = td_container_of(node, struct map_operation, in_list);

        copy->status = status;
        if (copy->mark != NULL)
            continue;
        map_operation_end(copy, status);
        inlet->copy_count--;
    }
    td_list_remove(&inlet->in_transport);
    transport->inlet_count--;
    if (inlet->mapping != NULL)
        inlet->ending_fd = map_socket_take(transport, &inlet->socket);
    else
        map_socket_close(&inlet->socket);
    td_list_push_back(inlet->copy_count > 0 ? &transport->ending : &transport->dead_inlets,
                      &inlet->in_transport);
}

static void write_answers(struct map_inlet *inlet)
{
    struct td_list *node;

    while (inlet->socket.fd >= 0 && (node = td_list_first(&inlet->answers)) != NULL) {
        struct map_answer *answer = td_container_of(node, struct map_answer, in_inlet);
        td_status_t status = map_socket_send(inlet->socket.fd, answer->bytes, answer->length, -1);

        if (status == TD_AGAIN)
            break;
        td_list_remove(node);
        free(answer);
        inlet->answer_count--;
        if (status != TD_OK) {
            map_inlet_end(inlet, TD_PEER_LOST);
            return;
        }
    }
    map_inlet_watch(inlet);
}

static void answer(struct map_inlet *inlet, const uint8_t *bytes, size_t length)
{
    struct map_answer *waiting = malloc(sizeof *waiting);

    if (waiting == NULL) { /* the sender would wait for ever: end the connection instead */
        map_inlet_end(inlet, TD_NO_MEMORY);
        return;
    }
    memcpy(waiting->bytes, bytes, length);
    waiting->length = length;
    td_list_push_back(&inlet->answers, &waiting->in_inlet);
    inlet->answer_count++;
    write_answers(inlet);
}

void map_inlet_answer(struct map_inlet *inlet, uint64_t number, bool is_refused)
{
    struct map_done done = {.number = number, .is_refused = is_refused};
    uint8_t bytes[MAP_SHORT_BYTES];

    answer(inlet, bytes, map_done_encode(&done, bytes));
}

/* -------------------------------------------------------------------------------------- greeting */

/* Maps a peer's pool. The seal makes sure that no page of it can vanish under a read. */
static td_status_t map_pool(struct map_inlet *inlet, int fd, uint64_t pool_bytes)
{
    struct stat info;
    int seals = fcntl(fd, F_GET_SEALS);
    void *pool;

    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
        return TD_UNSUPPORTED;
    if (pool_bytes == 0 || pool_bytes > SIZE_MAX / 2 || fstat(fd, &info) != 0 ||
        (uint64_t)info.st_size < pool_bytes)
        return TD_INVALID;
    pool = mmap(NULL, (size_t)pool_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (pool == MAP_FAILED)
        return TD_NO_MEMORY;
    inlet->pool = pool;
    inlet->pool_bytes = (size_t)pool_bytes;
    return TD_OK;
}

/* Opens the pool of a peer's device, or says why not. */
static td_status_t open_share(struct map_inlet *inlet, const struct map_hello *hello)
{
    struct kvt_device *device = inlet->transport->memory.device;
    struct td_error error = {0};
    td_status_t status =
        device->ops->open(device, hello->share, hello->pool_bytes, &inlet->mapping, &error);

    if (status != TD_OK) {
        td_log(TD_LOG_WARN, "kvtransfer", "map: a peer's KV cannot be read from here: %s",
               error.text);
        return status;
    }
    inlet->pool = inlet->mapping->base;
    inlet->pool_bytes = inlet->mapping->bytes;
    return TD_OK;
}

static td_status_t open_pool(struct map_inlet *inlet, const struct map_hello *hello, int fd)
{
    if (hello->is_shared != (inlet->transport->memory.device != NULL))
        return TD_UNSUPPORTED; /* one is in ordinary memory and one in a device's */
    if (hello->is_shared)
        return fd < 0 ? open_share(inlet, hello) : TD_INVALID;
    return fd < 0 ? TD_INVALID : map_pool(inlet, fd, hello->pool_bytes);
}

static td_status_t on_hello(struct map_inlet *inlet, const uint8_t *bytes, size_t length, int fd)
{
    struct map_transport *transport = inlet->transport;
    uint8_t welcome[MAP_SHORT_BYTES];
    struct map_hello hello;
    td_status_t status;

    if (!map_hello_decode(bytes, length, &hello) || !td_u128_equal(hello.to, transport->token))
        return TD_INVALID;
    status = open_pool(inlet, &hello, fd);
    if (status != TD_OK)
        return status;
    inlet->has_greeted = true;
    inlet->remote = hello.from;
    answer(inlet, welcome, map_welcome_encode(welcome));
    return TD_OK;
}

/* ---------------------------------------------------------------------------------------- chunks */

static td_status_t on_chunk(struct map_inlet *inlet, const uint8_t *bytes, size_t length)
{
    struct kvt_transport *base = &inlet->transport->base;
    struct map_chunk chunk;
    struct kvt_arrival arrival = {.inlet = inlet, .chunk = &chunk};
    td_status_t status = map_chunk_decode(bytes, length, inlet->pool_bytes, &chunk);

    if (status != TD_OK)
        return status;
    base->sink.arrived(base->sink.impl, base, chunk.header, chunk.header_bytes, chunk.payload_bytes,
                       &arrival);
    assert(arrival.is_answered);
    return TD_OK;
}

/* The pieces of a receive: where its bytes are, and where they go. */
static bool copy_pieces(struct map_operation *copy, const struct map_chunk *chunk,
                        const struct kvt_piece *to, size_t to_count)
{
    const uint8_t *inlined;

    copy->from = calloc(chunk->piece_count + to_count + 1, sizeof *copy->from);
    copy->inlined = malloc(chunk->inlined_bytes + 1);
    if (copy->from == NULL || copy->inlined == NULL)
        return false;
    if (chunk->inlined_bytes > 0)
        memcpy(copy->inlined, chunk->inlined, chunk->inlined_bytes);
    inlined = copy->inlined;
    for (uint32_t i = 0; i < chunk->piece_count; i++) {
        struct map_piece piece = map_chunk_piece(chunk, i);

        copy->from[i].length = (size_t)piece.length;
        if (piece.offset == MAP_INLINE) {
            copy->from[i].base = copy->inlined + (inlined - copy->inlined);
            inlined += piece.length;
        } else {
            copy->from[i].base = copy->inlet->pool + piece.offset;
        }
    }
    copy->from_count = chunk->piece_count;
    copy->to = copy->from + chunk->piece_count;
    copy->to_count = to_count;
    memcpy(copy->to, to, to_count * sizeof *to);
    return true;
}

td_status_t map_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                        const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct map_inlet *inlet = arrival->inlet;
    struct map_operation *copy = calloc(1, sizeof *copy);

    arrival->is_answered = true;
    if (inlet->socket.fd < 0) { /* a command that came with this chunk has cut the peer off */
        free(copy);
        return TD_PEER_LOST;
    }
    if (copy == NULL) {
        map_inlet_answer(inlet, arrival->chunk->number, true);
        return TD_NO_MEMORY;
    }
    copy->transport = td_container_of(base, struct map_transport, base);
    copy->tag = tag;
    copy->inlet = inlet;
    copy->number = arrival->chunk->number;
    td_list_init(&copy->in_list);
    if (!copy_pieces(copy, arrival->chunk, pieces, piece_count)) {
        map_operation_free(copy);
        map_inlet_answer(inlet, arrival->chunk->number, true);
        return TD_NO_MEMORY;
    }
    td_list_push_back(&inlet->copies, &copy->in_list);
    inlet->copy_count++;
    return TD_OK;
}

void map_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status)
{
    (void)base;
    (void)status; /* the sender learns that it was refused; why is in our log and counters */
    arrival->is_answered = true;
    map_inlet_answer(arrival->inlet, arrival->chunk->number, true);
}

/* ----------------------------------------------------------------------------------- connections */

static void read_packets(struct map_inlet *inlet)
{
    struct map_transport *transport = inlet->transport;

    for (int i = 0;
         i < MAP_PACKETS_PER_TURN && inlet->socket.fd >= 0 && inlet->copy_count < MAP_COPIES_MAX;
         i++) {
        size_t length;
        int fd;
        td_status_t status =
            map_socket_receive(inlet->socket.fd, transport->packet, MAP_MESSAGE_MAX, &length, &fd);

        if (status == TD_AGAIN)
            break;
        if (status == TD_OK && !inlet->has_greeted)
            status = on_hello(inlet, transport->packet, length, fd);
        else if (status == TD_OK)
            status = fd < 0 ? on_chunk(inlet, transport->packet, length) : TD_INVALID;
        if (fd >= 0)
            close(fd);
        if (status == TD_OK || inlet->socket.fd < 0)
            continue;
        if (status != TD_PEER_LOST)
            td_log(TD_LOG_WARN, "kvtransfer", "map: a peer was cut off: %s",
                   td_status_text(status));
        map_inlet_end(inlet, TD_PEER_LOST);
    }
    if (inlet->socket.fd >= 0)
        map_inlet_watch(inlet);
}

void map_inlet_ready(struct map_inlet *inlet, uint32_t events)
{
    if ((events & EPOLLOUT) != 0)
        write_answers(inlet);
    if (inlet->socket.fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        read_packets(inlet);
}

/* Room for one more: the oldest that has not said who it is makes place. */
static bool make_room(struct map_transport *transport)
{
    if (transport->inlet_count < MAP_INLETS_MAX)
        return true;
    td_list_for_each(node, &transport->inlets)
    {
        struct map_inlet *inlet = td_container_of(node, struct map_inlet, in_transport);

        if (inlet->has_greeted)
            continue;
        map_inlet_end(inlet, TD_LIMIT);
        return true;
    }
    return false;
}

static void inlet_add(struct map_transport *transport, int fd)
{
    struct map_inlet *inlet;

    if (!map_socket_is_ours(fd) || !make_room(transport)) {
        td_log(TD_LOG_WARN, "kvtransfer", "map: a connection was refused");
        close(fd);
        return;
    }
    inlet = calloc(1, sizeof *inlet);
    if (inlet == NULL) {
        close(fd);
        return;
    }
    inlet->socket = (struct map_socket){.role = MAP_INLET, .fd = fd};
    inlet->transport = transport;
    inlet->ending_fd = -1;
    td_list_init(&inlet->copies);
    td_list_init(&inlet->answers);
    if (map_socket_add(transport, &inlet->socket) != TD_OK) {
        map_socket_close(&inlet->socket);
        free(inlet);
        return;
    }
    td_list_push_back(&transport->inlets, &inlet->in_transport);
    transport->inlet_count++;
}

/* A connection that can be neither taken nor refused would keep the thread from sleeping. */
static void refuse_one(struct map_transport *transport)
{
    int fd;

    td_log(TD_LOG_ERROR, "kvtransfer", "map: no descriptor is left; a connection was refused");
    if (transport->spare_fd >= 0)
        close(transport->spare_fd);
    fd = accept4(transport->listener.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    transport->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void map_inlet_accept(struct map_transport *transport)
{
    for (int i = 0; i < MAP_PACKETS_PER_TURN; i++) {
        int fd = accept4(transport->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0 && (errno == EMFILE || errno == ENFILE))
            refuse_one(transport);
        if (fd < 0)
            return;
        inlet_add(transport, fd);
    }
}

void map_inlets_cut(struct map_transport *transport, struct td_u128 remote)
{
    td_list_for_each(node, &transport->inlets)
    {
        struct map_inlet *inlet = td_container_of(node, struct map_inlet, in_transport);

        if (inlet->has_greeted && td_u128_equal(inlet->remote, remote))
            map_inlet_end(inlet, TD_CANCELED);
    }
}

void map_inlet_free(struct map_inlet *inlet)
{
    td_list_for_each(node, &inlet->copies)
        map_operation_free(td_container_of(node, struct map_operation, in_list));
    td_list_for_each(node, &inlet->answers)
    {
        td_list_remove(node);
        free(td_container_of(node, struct map_answer, in_inlet));
    }
    if (inlet->mapping != NULL)
        inlet->transport->memory.device->ops->unmap(inlet->transport->memory.device,
                                                    inlet->mapping);
    else if (inlet->pool != NULL)
        munmap(inlet->pool, inlet->pool_bytes);
    map_socket_close(&inlet->socket); /* after that the owner may free what was mapped */
    if (inlet->ending_fd >= 0)
        close(inlet->ending_fd);
    td_list_remove(&inlet->in_transport);
    free(inlet);
}
