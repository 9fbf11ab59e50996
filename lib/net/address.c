/* address.c: parsing listening addresses and opening them, see address.h. */
#include "lib/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024

static bool parse_port(const char *text, uint16_t *port_out)
{
    unsigned long value = 0;

    if (text[0] == '\0')
        return false;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9')
            return false;
        value = value * 10 + (unsigned long)(*c - '0');
        if (value > UINT16_MAX)
            return false;
    }
    *port_out = (uint16_t)value;
    return true;
}

td_status_t net_address_split(const char *address, char host_out[static NET_HOST_BYTES_MAX],
                              uint16_t *port_out, struct td_error *error)
{
    const char *host = address;
    const char *colon = strrchr(address, ':');
    size_t length;
    uint16_t port;

    if (colon == NULL)
        return td_fail(error, TD_INVALID, "address '%.200s' has no port (want host:port)", address);
    length = (size_t)(colon - address);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    } else if (memchr(host, ':', length) != NULL) {
        return td_fail(error, TD_INVALID, "address '%.200s': an IPv6 host needs brackets", address);
    }
    if (length == 0)
        return td_fail(error, TD_INVALID,
                       "address '%.200s' has no host (0.0.0.0 means all interfaces)", address);
    if (length >= NET_HOST_BYTES_MAX)
        return td_fail(error, TD_INVALID, "address has a host of %zu bytes", length);
    if (!parse_port(colon + 1, &port))
        return td_fail(error, TD_INVALID, "address '%.200s': the port is not in 0..65535", address);
    memcpy(host_out, host, length);
    host_out[length] = '\0';
    *port_out = port;
    return TD_OK;
}

void net_address_join(const char *host, uint16_t port, char out[static NET_ADDRESS_BYTES_MAX])
{
    bool is_v6 = strchr(host, ':') != NULL;

    snprintf(out, NET_ADDRESS_BYTES_MAX, "%s%.255s%s:%u", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
             (unsigned)port);
}

bool net_address_is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

/* Whether only processes of this host can reach it: unix sockets, 127.0.0.0/8, ::1, localhost. */
static bool is_loopback(const char *address)
{
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;
    struct in_addr v4;
    struct in6_addr v6;

    if (net_address_is_unix(address))
        return true;
    if (net_address_split(address, host, &port, NULL) != TD_OK)
        return false;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
    return strcmp(host, "localhost") == 0;
}

td_status_t net_listen_check(const char *address, bool has_certificates, bool insecure,
                             struct td_error *error)
{
    if (has_certificates || insecure || is_loopback(address))
        return TD_OK;
    return td_fail(error, TD_REFUSED,
                   "refusing to listen on %.100s without certificates: give --certs DIR "
                   "(`tandem certs DIR` makes them), listen on 127.0.0.1, or say --insecure",
                   address);
}

/* What a person can do about a port that cannot be had. */
static const char *next_step(int reason)
{
    switch (reason) {
    case EADDRINUSE: return "; choose another port (0 takes any), or end what has it: ss -ltnp";
    case EACCES: return "; ports below 1024 are for root: choose another one";
    case EADDRNOTAVAIL: return "; no interface of this host has that address: ip address";
    default: return "";
    }
}

static td_status_t bind_and_listen(int fd, const struct addrinfo *where, bool reuse_port)
{
    const int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return TD_IO;
    if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        return TD_IO;
    if (bind(fd, where->ai_addr, where->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0)
        return TD_IO;
    return TD_OK;
}

static td_status_t real_address(int fd, char out[static NET_ADDRESS_BYTES_MAX])
{
    struct sockaddr_storage name;
    socklen_t name_bytes = sizeof name;
    char host[NI_MAXHOST];
    char service[NI_MAXSERV];
    uint16_t port;

    if (getsockname(fd, (struct sockaddr *)&name, &name_bytes) != 0 ||
        getnameinfo((struct sockaddr *)&name, name_bytes, host, sizeof host, service,
                    sizeof service, NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
        !parse_port(service, &port))
        return TD_IO;
    net_address_join(host, port, out);
    return TD_OK;
}

td_status_t net_listen(const char *address, bool reuse_port, int *fd_out,
                       char real_out[static NET_ADDRESS_BYTES_MAX], struct td_error *error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    char host[NET_HOST_BYTES_MAX];
    char service[8];
    uint16_t port;
    td_status_t status = net_address_split(address, host, &port, error);
    int fd;

    if (status != TD_OK)
        return status;
    snprintf(service, sizeof service, "%u", (unsigned)port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return td_fail(error, TD_INVALID, "cannot listen on %.150s: no such host", address);
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind_and_listen(fd, found, reuse_port) != TD_OK ||
        real_address(fd, real_out) != TD_OK) {
        status = td_fail(error, TD_IO, "cannot listen on %.120s: %s%s", address, strerror(errno),
                         next_step(errno));
        if (fd >= 0)
            close(fd);
    } else {
        *fd_out = fd;
    }
    freeaddrinfo(found);
    return status;
}
