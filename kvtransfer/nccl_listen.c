/* nccl_listen.c: where control connections of the NCCL transport are made and taken, see nccl_private.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvtransfer/address.h"
#include "kvtransfer/nccl_private.h"
#include "lib/base/bytes.h"
#include "lib/base/log.h"

#define LISTEN_BACKLOG 128
#define BODY_FIXED     38 /* token u128, host u128, version u32, count u16 */
#define PLACE_BYTES    20 /* family u16 (4 or 6), port u16, address 16 bytes */

/*
 * A host that is gone says nothing: these find it out, in about eight seconds. A process that is frozen answers by its
 * kernel, and is the core's to give up.
 */
#define KEEPALIVE_IDLE_S     2
#define KEEPALIVE_INTERVAL_S 2
#define KEEPALIVE_COUNT      3
#define UNANSWERED_MS        8000
#define CONNECT_ATTEMPTS     1 /* repeated SYNs: 3 s for each place that does not answer */

/* ---------------------------------------------------------------------------------------- sockets */

static void set(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value); /* without it all works, slower */
}

static void prepare(int fd)
{
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNANSWERED_MS);
}

int nccl_reach(const struct nccl_place_address *place)
{
    int fd = socket(place->at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    prepare(fd);
    set(fd, IPPROTO_TCP, TCP_SYNCNT, CONNECT_ATTEMPTS);
    if (connect(fd, &place->at.any, place->length) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

/* A connection that can be neither taken nor refused would keep the thread from sleeping. */
static void refuse_one(struct nccl_transport *transport, int listener)
{
    int fd;

    td_log(TD_LOG_ERROR, "kvtransfer", "nccl: no descriptor is left; a connection was refused");
    if (transport->spare_fd >= 0)
        close(transport->spare_fd);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    transport->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

int nccl_accept(struct nccl_transport *transport, const struct nccl_watch *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE))
        refuse_one(transport, listener->fd);
    if (fd >= 0)
        prepare(fd);
    return fd;
}

/* -------------------------------------------------------------------------------------- listening */

/* Whether a name is one of a comma-separated list. */
static bool is_listed(const char *list, const char *name)
{
    size_t length = strlen(name);

    while (*list != '\0') {
        size_t item = strcspn(list, ",");

        if (item == length && strncmp(list, name, length) == 0)
            return true;
        list += item + (list[item] == ',');
    }
    return false;
}

/* False: an address that means nothing to others, or to us. */
static bool take_address(const struct sockaddr *address, struct nccl_place_address *place)
{
    memset(place, 0, sizeof *place);
    if (address == NULL)
        return false;
    if (address->sa_family == AF_INET) {
        place->length = sizeof place->at.v4;
        memcpy(&place->at.v4, address, place->length);
        place->at.v4.sin_port = 0;
        return true;
    }
    if (address->sa_family != AF_INET6)
        return false;
    place->length = sizeof place->at.v6;
    memcpy(&place->at.v6, address, place->length);
    place->at.v6.sin6_port = 0;
    return !IN6_IS_ADDR_LINKLOCAL(&place->at.v6.sin6_addr);
}

/* 0, or an errno: perhaps another address can be had, as one that is not there yet cannot. */
static int listen_at(struct nccl_transport *transport, struct nccl_place_address *place)
{
    struct nccl_watch *listener = &transport->listeners[transport->address.place_count];
    socklen_t length = place->length;
    int failure;

    listener->fd = socket(place->at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0 || bind(listener->fd, &place->at.any, place->length) != 0 ||
        listen(listener->fd, LISTEN_BACKLOG) != 0 ||
        getsockname(listener->fd, &place->at.any, &length) != 0 ||
        nccl_watch_add(transport, listener, EPOLLIN) != TD_OK) {
        failure = errno;
        if (listener->fd >= 0)
            close(listener->fd);
        listener->fd = -1;
        return failure;
    }
    transport->address.places[transport->address.place_count++] = *place;
    return 0;
}

td_status_t nccl_listen(struct nccl_transport *transport, const char *interfaces,
                        struct td_error *error)
{
    struct nccl_place_address place;
    struct ifaddrs *all;
    int failure = 0;

    if (getifaddrs(&all) != 0)
        return td_fail(error, TD_IO, "nccl: addresses of this host: %s", strerror(errno));
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next)
        if (transport->address.place_count < NCCL_PLACES_MAX && (one->ifa_flags & IFF_UP) != 0 &&
            is_listed(interfaces, one->ifa_name) && take_address(one->ifa_addr, &place))
            failure = listen_at(transport, &place);
    freeifaddrs(all);
    if (transport->address.place_count > 0)
        return TD_OK;
    if (failure != 0)
        return td_fail(error, TD_IO, "nccl: listening for control connections: %s",
                       strerror(failure));
    return td_fail(error, TD_INVALID, "nccl: no network interface '%s' has an address", interfaces);
}

/* -------------------------------------------------------------------------------------- addresses */

static void write_place(struct td_writer *writer, const struct nccl_place_address *place)
{
    uint8_t bytes[16] = {0};
    bool is_v4 = place->at.any.sa_family == AF_INET;

    if (is_v4)
        memcpy(bytes, &place->at.v4.sin_addr, sizeof place->at.v4.sin_addr);
    else
        memcpy(bytes, &place->at.v6.sin6_addr, sizeof bytes);
    td_write_u16(writer, is_v4 ? 4 : 6);
    td_write_u16(writer, ntohs(is_v4 ? place->at.v4.sin_port : place->at.v6.sin6_port));
    td_write_bytes(writer, bytes, sizeof bytes);
}

td_status_t nccl_address_encode(const struct nccl_address *address, uint8_t *out, size_t capacity,
                                size_t *length_out)
{
    uint8_t body[BODY_FIXED + NCCL_PLACES_MAX * PLACE_BYTES];
    struct td_writer writer = td_writer_over(body, sizeof body);

    td_write_u128(&writer, address->token);
    td_write_u128(&writer, address->host);
    td_write_u32(&writer, address->version);
    td_write_u16(&writer, (uint16_t)address->place_count);
    for (size_t i = 0; i < address->place_count; i++)
        write_place(&writer, &address->places[i]);
    return kvt_address_wrap(KVT_NCCL, body, (size_t)(writer.cursor - body), out, capacity,
                            length_out);
}

static bool read_place(struct td_reader *reader, struct nccl_place_address *place)
{
    uint16_t family = td_read_u16(reader);
    uint16_t port = td_read_u16(reader);
    const uint8_t *bytes = td_read_bytes(reader, 16);

    memset(place, 0, sizeof *place);
    if (bytes == NULL || (family != 4 && family != 6) || port == 0)
        return false;
    if (family == 4) {
        place->length = sizeof place->at.v4;
        place->at.v4.sin_family = AF_INET;
        place->at.v4.sin_port = htons(port);
        memcpy(&place->at.v4.sin_addr, bytes, sizeof place->at.v4.sin_addr);
        return true;
    }
    place->length = sizeof place->at.v6;
    place->at.v6.sin6_family = AF_INET6;
    place->at.v6.sin6_port = htons(port);
    memcpy(&place->at.v6.sin6_addr, bytes, 16);
    return true;
}

/* Its own loopback is nobody else's. */
static bool is_loopback(const struct nccl_place_address *place)
{
    if (place->at.any.sa_family == AF_INET)
        return (ntohl(place->at.v4.sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(&place->at.v6.sin6_addr);
}

td_status_t nccl_address_decode(const struct nccl_transport *transport, const uint8_t *bytes,
                                size_t length, struct nccl_address *address_out)
{
    const uint8_t *body;
    size_t body_bytes;
    struct td_reader reader;
    uint16_t count;
    td_status_t status = kvt_address_unwrap(KVT_NCCL, bytes, length, &body, &body_bytes);

    if (status != TD_OK)
        return status;
    memset(address_out, 0, sizeof *address_out);
    reader = td_reader_over(body, body_bytes);
    address_out->token = td_read_u128(&reader);
    address_out->host = td_read_u128(&reader);
    address_out->version = td_read_u32(&reader);
    count = td_read_u16(&reader);
    if (!reader.ok || count > NCCL_PLACES_MAX ||
        td_reader_left(&reader) != count * (size_t)PLACE_BYTES)
        return TD_INVALID;
    for (uint16_t i = 0; i < count; i++) {
        struct nccl_place_address *place = &address_out->places[address_out->place_count];

        if (!read_place(&reader, place))
            return TD_INVALID;
        if (!is_loopback(place) || td_u128_equal(address_out->host, transport->address.host))
            address_out->place_count++;
    }
    return address_out->version == transport->address.version ? TD_OK : TD_UNSUPPORTED;
}
