/* map_socket.c: packets with descriptors over abstract sockets, see map_private.h. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtransfer/map_private.h"

#define FDS_TAKEN_MAX 4 /* room for more than we accept, so that all can be closed */

unsigned map_socket_name(struct td_u128 token, struct sockaddr_un *name_out)
{
    char hex[TD_U128_HEX_BYTES];
    int length;

    memset(name_out, 0, sizeof *name_out);
    name_out->sun_family = AF_UNIX;
    /* sun_path[0] stays 0: an abstract name, gone with its last socket */
    length = snprintf(name_out->sun_path + 1, sizeof name_out->sun_path - 1, "tandem-kv-%s",
                      td_u128_hex(token, hex));
    return (unsigned)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

bool map_socket_is_ours(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof peer;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == geteuid();
}

static td_status_t status_of_errno(void)
{
    if (errno == EAGAIN || errno == ENOBUFS)
        return TD_AGAIN;
    if (errno == EMSGSIZE)
        return TD_LIMIT;
    return TD_PEER_LOST;
}

td_status_t map_socket_send(int fd, const uint8_t *bytes, size_t length, int fd_to_pass)
{
    struct iovec part = {.iov_len = length};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t sent;

    memcpy(&part.iov_base, &bytes, sizeof bytes); /* sendmsg does not write to it */
    if (fd_to_pass >= 0) {
        struct cmsghdr *head;

        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &fd_to_pass, sizeof fd_to_pass);
    }
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return status_of_errno();
    return (size_t)sent == length ? TD_OK : TD_INTERNAL;
}

/*
 * Takes descriptors out of a received message. *fd_out, which must be -1, gets the first; the others are
 * closed, and the result is false if there were any.
 */
static bool take_descriptors(struct msghdr *message, int *fd_out)
{
    bool is_fine = (message->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
         head = CMSG_NXTHDR(message, head)) {
        size_t count;

        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (*fd_out < 0) {
                *fd_out = fd;
                continue;
            }
            close(fd);
            is_fine = false;
        }
    }
    return is_fine;
}

td_status_t map_socket_receive(int fd, uint8_t *bytes, size_t capacity, size_t *length_out,
                               int *fd_out)
{
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_TAKEN_MAX * sizeof(int))];
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t length;

    *fd_out = -1;
    do
        length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return status_of_errno();
    if (!take_descriptors(&message, fd_out) || (message.msg_flags & MSG_TRUNC) != 0) {
        if (*fd_out >= 0)
            close(*fd_out);
        *fd_out = -1;
        return TD_INVALID;
    }
    if (length == 0) { /* no message of ours is empty */
        if (*fd_out >= 0)
            close(*fd_out);
        *fd_out = -1;
        return TD_PEER_LOST;
    }
    *length_out = (size_t)length;
    return TD_OK;
}

void map_socket_watch(struct map_transport *transport, struct map_socket *socket, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = socket};
    int failure;

    if (socket->fd < 0 || socket->events == events)
        return;
    failure = epoll_ctl(transport->epoll_fd, EPOLL_CTL_MOD, socket->fd, &event);
    assert(failure == 0); /* it is in the set, and modifying needs no memory */
    (void)failure;
    socket->events = events;
}

td_status_t map_socket_add(struct map_transport *transport, struct map_socket *socket)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};

    socket->events = EPOLLIN;
    return epoll_ctl(transport->epoll_fd, EPOLL_CTL_ADD, socket->fd, &event) == 0 ? TD_OK : TD_IO;
}

int map_socket_take(struct map_transport *transport, struct map_socket *socket)
{
    int fd = socket->fd;

    if (fd >= 0)
        (void)epoll_ctl(transport->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    socket->fd = -1;
    return fd;
}

void map_socket_close(struct map_socket *socket)
{
    if (socket->fd >= 0)
        close(socket->fd); /* leaves the epoll set by itself: nobody else has this socket */
    socket->fd = -1;
}
