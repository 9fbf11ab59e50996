/* http_server.c: listening, limits of connections, draining and closing, see http_server.h. */
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/net/http_internal.h"

#define ACCEPTS_PER_TURN     64  /* then others get their turn */
#define ACCEPT_PAUSE_MS      100 /* when descriptors have run out */
#define REFUSAL_BYTES_MAX    4096
#define SECONDS_TO_KEEPALIVE 15
#define SECONDS_OF_KEEPALIVE 5
#define PROBES_OF_KEEPALIVE  3
#define UNSENT_BYTES         65536 /* kept in the kernel beyond what is on its way */

struct address_count {
    uint32_t connections;
};

void http_limits_init(struct http_limits *limits)
{
    *limits = (struct http_limits){
        .connections_max = 10000,
        .connections_per_address_max = 256,
        .body_bytes_total_max = UINT64_C(1) << 30,
        .backlog_bytes_max = 256 * 1024,
        .head_ms = 10000,
        .body_ms = 60000,
        .idle_ms = 75000,
        .stall_ms = 30000,
        .linger_ms = 2000,
        .drain_ms = 2000,
    };
}

/* ---- accepting ---- */

static struct td_u128 address_key(const struct sockaddr_storage *name)
{
    struct td_u128 key = {0};

    if (name->ss_family == AF_INET6)
        memcpy(&key, &((const struct sockaddr_in6 *)name)->sin6_addr, sizeof key);
    else
        key.lo = ((const struct sockaddr_in *)name)->sin_addr.s_addr;
    return key;
}

static void address_text(const struct sockaddr_storage *name, char out[static INET6_ADDRSTRLEN])
{
    const void *address = name->ss_family == AF_INET6
                              ? (const void *)&((const struct sockaddr_in6 *)name)->sin6_addr
                              : (const void *)&((const struct sockaddr_in *)name)->sin_addr;

    if (inet_ntop(name->ss_family, address, out, INET6_ADDRSTRLEN) == NULL)
        out[0] = '\0';
}

static void set_option(int fd, int level, int option, int value)
{
    if (setsockopt(fd, level, option, &value, sizeof value) != 0)
        td_log(TD_LOG_WARN, "http", "setsockopt option %d failed: %s", option, strerror(errno));
}

/* Small writes leave at once; a host that vanished without a word is found out. */
static void set_options(const struct http_server *server, int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)server->config.limits.stall_ms);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, SECONDS_TO_KEEPALIVE);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, SECONDS_OF_KEEPALIVE);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES_OF_KEEPALIVE);
}

/* Tells a client without a connection why, if its socket takes it at once. */
static void refuse(struct http_server *server, int fd, int status, const char *reason)
{
    struct td_buf answer;

    server->counts.connections_refused++;
    td_buf_init(&answer, REFUSAL_BYTES_MAX);
    http_write_refusal(server, status, reason, &answer);
    if (answer.status == TD_OK && send(fd, answer.data, answer.length, MSG_NOSIGNAL) > 0)
        shutdown(fd, SHUT_WR);
    td_buf_fini(&answer);
    close(fd);
}

/* Counts a connection of this address in; TD_LIMIT if it has too many. */
static td_status_t count_address(struct http_server *server, struct td_u128 address)
{
    struct address_count *count = td_map_find(&server->per_address, address);
    uint32_t max = server->config.limits.connections_per_address_max;
    td_status_t status;

    if (count == NULL) {
        count = calloc(1, sizeof *count);
        if (count == NULL)
            return TD_NO_MEMORY;
        status = td_map_insert(&server->per_address, address, count);
        if (status != TD_OK) {
            free(count);
            return status;
        }
    }
    if (max > 0 && count->connections >= max)
        return TD_LIMIT;
    count->connections++;
    return TD_OK;
}

static void uncount_address(struct http_server *server, struct td_u128 address)
{
    struct address_count *count = td_map_find(&server->per_address, address);

    assert(count != NULL && count->connections > 0);
    if (--count->connections == 0)
        free(td_map_remove(&server->per_address, address));
}

static void admit_connection(struct http_server *server, int fd,
                             const struct sockaddr_storage *name)
{
    struct td_u128 address = address_key(name);
    char peer[INET6_ADDRSTRLEN];

    address_text(name, peer);
    if (server->counts.connections >= server->config.limits.connections_max) {
        td_log(TD_LOG_WARN, "http", "too many connections; refused one from %s", peer);
        refuse(server, fd, 503, "there are too many connections");
        return;
    }
    if (count_address(server, address) != TD_OK) {
        td_log(TD_LOG_WARN, "http", "too many connections from %s", peer);
        refuse(server, fd, 429, "there are too many connections from this address");
        return;
    }
    set_options(server, fd);
    server->counts.connections++;
    if (http_connection_open(server, fd, address, peer) != TD_OK) {
        server->counts.connections--;
        uncount_address(server, address);
        close(fd);
    }
}

static void accept_again(struct net_timer *timer, uint64_t now_ns)
{
    struct http_server *server = td_container_of(timer, struct http_server, accept_again);

    (void)now_ns;
    net_poll_set(server->poll, NET_READABLE);
}

static void accept_event(void *ctx, unsigned events)
{
    struct http_server *server = ctx;

    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage name = {0};
        socklen_t name_bytes = sizeof name;
        int fd = accept4(server->fd, (struct sockaddr *)&name, &name_bytes,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            admit_connection(server, fd, &name);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            td_log(TD_LOG_ERROR, "http", "cannot accept: %s", strerror(errno));
            net_poll_set(server->poll, 0);
            net_timer_set_in(&server->accept_again, ACCEPT_PAUSE_MS);
            return;
        } else if (errno == EAGAIN) {
            return;
        } /* anything else concerns the one connection that did not come about */
    }
}

/* ---- life ---- */

static void run_drained(struct net_defer *defer)
{
    struct http_server *server = td_container_of(defer, struct http_server, drained);
    void (*on_drained)(void *ctx) = server->on_drained;

    server->on_drained = NULL;
    if (on_drained != NULL)
        on_drained(server->drained_ctx);
}

td_status_t http_server_open(struct net_loop *loop, const struct http_server_config *config,
                             struct http_server **server_out, struct td_error *error)
{
    struct http_server *server = calloc(1, sizeof *server);
    td_status_t status;

    if (server == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for an HTTP server");
    server->loop = loop;
    server->config = *config;
    td_list_init(&server->connections);
    td_map_init(&server->per_address, config->limits.connections_max);
    net_timer_init(&server->accept_again, loop, accept_again);
    net_defer_init(&server->drained, run_drained);
    status = net_listen(config->address, config->reuse_port, &server->fd, server->address, error);
    if (status != TD_OK) {
        free(server);
        return status;
    }
    server->config.address = server->address;
    status = net_poll_open(loop, server->fd, accept_event, server, &server->poll);
    if (status != TD_OK) {
        close(server->fd);
        free(server);
        return td_fail(error, status, "cannot watch the listening socket");
    }
    net_poll_set(server->poll, NET_READABLE);
    *server_out = server;
    return TD_OK;
}

const char *http_server_address(const struct http_server *server)
{
    return server->address;
}

struct http_server_counts http_server_counts(const struct http_server *server)
{
    return server->counts;
}

static void stop_listening(struct http_server *server)
{
    net_timer_cancel(&server->accept_again);
    net_poll_close(server->poll);
    server->poll = NULL;
    if (server->fd >= 0)
        close(server->fd);
    server->fd = -1;
}

void http_server_forget(struct http_server *server, struct http_connection *connection)
{
    td_list_remove(&connection->node);
    uncount_address(server, connection->address);
    server->counts.connections--;
    if (server->draining && server->counts.connections == 0)
        net_defer_post(server->loop, &server->drained);
}

void http_server_drain(struct http_server *server, void (*on_drained)(void *ctx), void *ctx)
{
    assert(!server->draining);
    server->draining = true;
    server->drain_until_ns = td_now_ns() + server->config.limits.drain_ms * TD_NS_PER_MS;
    server->on_drained = on_drained;
    server->drained_ctx = ctx;
    stop_listening(server);
    td_list_for_each(node, &server->connections)
        http_connection_drain(td_container_of(node, struct http_connection, node));
    if (server->counts.connections == 0)
        net_defer_post(server->loop, &server->drained);
}

void http_server_close(struct http_server *server)
{
    struct td_list *node;

    if (server == NULL)
        return;
    stop_listening(server);
    while ((node = td_list_first(&server->connections)) != NULL)
        http_connection_close(td_container_of(node, struct http_connection, node), TD_CANCELED);
    net_defer_cancel(&server->drained);
    td_map_fini(&server->per_address);
    free(server);
}
