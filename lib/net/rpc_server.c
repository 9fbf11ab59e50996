/*
 * rpc_server.c: listening and dispatching calls to methods, see rpc.h.
 *
 * Methods are not registered with gRPC: every new call comes the same way and is looked up in our
 * table, so that an unknown path is answered (gRPC would let it hang) and roles are checked in one
 * place. A few requests for a new call are always posted.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/net/rpc_internal.h"

#define REQUESTS_POSTED      32
#define KEEPALIVE_MS         2000 /* a client that is frozen is found out, as in rpc_client.c */
#define KEEPALIVE_TIMEOUT_MS 5000
#define PING_INTERVAL_MIN_MS 500 /* clients ping every 2 s */
#define HANDSHAKE_MS         10000
#define METADATA_BYTES_MAX   8192
#define CALLS_PER_CONNECTION 4096

struct request {
    struct rpc_tag tag;
    struct rpc_server *server;
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
};

static void post_request(struct request *request);

/* ---- new calls ---- */

static const struct rpc_method *find_method(const struct rpc_server *server, grpc_slice path)
{
    for (size_t i = 0; i < server->config.method_count; i++)
        if (grpc_slice_str_cmp(path, server->config.methods[i].path) == 0)
            return &server->config.methods[i];
    return NULL;
}

/* True if the peer may call the method; otherwise the call has been answered. */
static bool admit(struct rpc_server *server, struct rpc_call *call)
{
    enum net_role role;

    if (!server->has_tls)
        return true; /* only we ourselves can reach it, or somebody said --insecure */
    role = rpc_call_peer_role(call);
    if (role != NET_ROLE_UNKNOWN && (call->method->allowed_roles & NET_ROLE_BIT(role)))
        return true;
    td_log(TD_LOG_WARN, "rpc", "refused %s to role %s at %s", call->method->path,
           net_role_name(role), rpc_call_peer_name(call));
    rpc_call_finish(call, TD_REFUSED, "this role may not call this method");
    return false;
}

/* Takes over the gRPC call. */
static void open_call(struct rpc_server *server, grpc_call *grpc, const struct rpc_method *method)
{
    static const struct rpc_method unknown = {.path = "unknown"};
    struct rpc_call *call;

    if (rpc_call_create(server->rpc, grpc, method != NULL ? method : &unknown, &call) != TD_OK)
        return;
    td_list_push_back(&server->calls, &call->node);
    rpc_call_start_server(call);
    if (method == NULL) {
        rpc_call_finish(call, TD_UNSUPPORTED, "there is no such method");
        return;
    }
    if (!admit(server, call))
        return;
    method->on_open(server->config.ctx, call);
    /* its tags keep the call in memory, whatever on_open did */
    assert((call->released || call->handlers != NULL) && "on_open neither bound nor ended a call");
    if (!call->released)
        rpc_call_begin_reading(call);
}

static void free_if_done(struct rpc_server *server)
{
    if (!server->closed || server->tags_out > 0)
        return;
    grpc_server_destroy(server->grpc);
    free(server);
}

static void request_back(struct rpc_tag *tag, bool ok)
{
    struct request *request = td_container_of(tag, struct request, tag);
    struct rpc_server *server = request->server;

    if (ok && !server->closed) {
        open_call(server, request->call, find_method(server, request->details.method));
    } else if (ok) {
        grpc_call_cancel(request->call, NULL);
        grpc_call_unref(request->call);
    }
    grpc_call_details_destroy(&request->details);
    grpc_metadata_array_destroy(&request->metadata);
    server->tags_out--;
    if (ok && !server->closed && !server->draining) {
        post_request(request);
        return;
    }
    free(request);
    free_if_done(server);
}

static void post_request(struct request *request)
{
    struct rpc_server *server = request->server;
    grpc_completion_queue *queue = server->rpc->queue;

    request->call = NULL;
    grpc_call_details_init(&request->details);
    grpc_metadata_array_init(&request->metadata);
    server->tags_out++;
    rpc_expect(server->rpc, &request->tag);
    /* a server that is shutting down gives the tag back at once, with ok false */
    grpc_server_request_call(server->grpc, &request->call, &request->details, &request->metadata,
                             queue, queue, &request->tag);
}

/* ---- listening ---- */

/*
 * Makes way for a socket at this path: what a dead process left is removed, what a living one
 * serves or what is no socket is not (gRPC would remove any of them).
 */
static td_status_t clear_socket_path(const char *path, struct td_error *error)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat status;
    bool alive;
    int fd;

    if (strlen(path) >= sizeof name.sun_path || path[0] == '\0')
        return td_fail(error, TD_INVALID, "unix:%.150s is not a path of 1 to %zu bytes", path,
                       sizeof name.sun_path - 1);
    if (lstat(path, &status) != 0)
        return TD_OK;
    if (!S_ISSOCK(status.st_mode))
        return td_fail(error, TD_IO, "%.180s is there and is no socket", path);
    memcpy(name.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    alive =
        fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof name) == 0 || errno != ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    if (alive)
        return td_fail(error, TD_IO, "%.180s is served by another process", path);
    if (unlink(path) != 0)
        return td_fail(error, TD_IO, "cannot remove %.150s: %s", path, strerror(errno));
    return TD_OK;
}

/* Asks the kernel first: it can say why, and gRPC says so at length and only in the log. */
static td_status_t check_free(const char *address, struct td_error *error)
{
    char real[NET_ADDRESS_BYTES_MAX];
    int fd;
    td_status_t status = net_listen(address, false, &fd, real, error);

    if (status == TD_OK)
        close(fd);
    return status;
}

static td_status_t check_address(struct rpc_server *server, struct td_error *error)
{
    const char *address = server->config.address;
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;
    td_status_t status;

    if (strlen(address) >= NET_ADDRESS_BYTES_MAX)
        return td_fail(error, TD_INVALID, "the address to listen on is too long");
    if (net_address_is_unix(address))
        return clear_socket_path(address + strlen("unix:"), error);
    status = net_address_split(address, host, &port, error);
    if (status == TD_OK)
        status =
            net_listen_check(address, server->rpc->tls != NULL, server->config.insecure, error);
    return status == TD_OK ? check_free(address, error) : status;
}

static grpc_arg integer(const char *key, int value)
{
    /* gRPC's struct has a pointer to non-const and never writes through it */
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_server *make_server(const struct rpc_server *server)
{
    grpc_arg args[] = {
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        integer(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        integer(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, PING_INTERVAL_MIN_MS),
        integer(GRPC_ARG_ALLOW_REUSEPORT, 0), /* a port in use must be an error */
        integer(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
        integer(GRPC_ARG_MAX_CONCURRENT_STREAMS, CALLS_PER_CONNECTION),
        integer(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES_MAX),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)server->message_bytes_max),
        /* identity only: a compressed message could be a bomb */
        integer(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
    };
    const grpc_channel_args all = {.num_args = sizeof args / sizeof args[0], .args = args};

    return grpc_server_create(&all, NULL);
}

static td_status_t listen_at(struct rpc_server *server, struct td_error *error)
{
    const char *address = server->config.address;
    grpc_server_credentials *credentials = rpc_server_credentials(server);
    int port = grpc_server_add_http2_port(server->grpc, address, credentials);
    char host[NET_HOST_BYTES_MAX];
    uint16_t asked_port;

    grpc_server_credentials_release(credentials);
    if (port <= 0)
        return td_fail(error, TD_IO, "cannot listen on %.150s; gRPC's reason is in the log",
                       address);
    if (net_address_is_unix(address)) {
        snprintf(server->address, sizeof server->address, "%s", address);
        if (chmod(address + strlen("unix:"), 0600) != 0)
            return td_fail(error, TD_IO, "cannot restrict %.150s: %s", address, strerror(errno));
        return TD_OK;
    }
    if (net_address_split(address, host, &asked_port, error) != TD_OK)
        return TD_INVALID;
    net_address_join(host, (uint16_t)port, server->address);
    return TD_OK;
}

static void post_requests(struct rpc_server *server)
{
    for (int i = 0; i < REQUESTS_POSTED; i++) {
        struct request *request = calloc(1, sizeof *request);

        if (request == NULL)
            return; /* fewer in parallel; the first one is checked for by the caller */
        request->tag.fn = request_back;
        request->server = server;
        post_request(request);
    }
}

static void shutdown_back(struct rpc_tag *tag, bool ok)
{
    struct rpc_server *server = td_container_of(tag, struct rpc_server, shutdown_tag);

    (void)ok;
    if (!server->closed && server->on_drained != NULL)
        server->on_drained(server->drained_ctx); /* may close the server */
    server->tags_out--;
    free_if_done(server);
}

static void start_shutdown(struct rpc_server *server)
{
    server->draining = true;
    server->tags_out++;
    rpc_expect(server->rpc, &server->shutdown_tag);
    grpc_server_shutdown_and_notify(server->grpc, server->rpc->queue, &server->shutdown_tag);
}

/* ---- life ---- */

static struct rpc_server *new_server(struct rpc *rpc, const struct rpc_server_config *config)
{
    struct rpc_server *server = calloc(1, sizeof *server);

    if (server == NULL)
        return NULL;
    server->rpc = rpc;
    server->config = *config;
    server->has_tls = rpc->tls != NULL && !net_address_is_unix(config->address);
    server->shutdown_tag.fn = shutdown_back;
    td_list_init(&server->node);
    td_list_init(&server->calls);
    for (size_t i = 0; i < config->method_count; i++)
        if (config->methods[i].message_bytes_max > server->message_bytes_max)
            server->message_bytes_max = config->methods[i].message_bytes_max;
    assert(server->message_bytes_max <= INT32_MAX);
    return server;
}

td_status_t rpc_server_open(struct rpc *rpc, const struct rpc_server_config *config,
                            struct rpc_server **server_out, struct td_error *error)
{
    struct rpc_server *server = new_server(rpc, config);
    td_status_t status;

    if (server == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for an RPC server");
    status = check_address(server, error);
    if (status != TD_OK) {
        free(server);
        return status;
    }
    server->grpc = make_server(server);
    grpc_server_register_completion_queue(server->grpc, rpc->queue, NULL);
    status = listen_at(server, error);
    grpc_server_start(server->grpc);
    td_list_push_back(&rpc->servers, &server->node);
    if (status == TD_OK) {
        post_requests(server);
        if (server->tags_out == 0)
            status = td_fail(error, TD_NO_MEMORY, "no memory for an RPC server");
    }
    if (status != TD_OK)
        rpc_server_close(server);
    else
        *server_out = server;
    return status;
}

const char *rpc_server_address(const struct rpc_server *server)
{
    return server->address;
}

void rpc_server_drain(struct rpc_server *server, void (*on_drained)(void *ctx), void *ctx)
{
    assert(!server->draining);
    server->on_drained = on_drained;
    server->drained_ctx = ctx;
    start_shutdown(server);
}

void rpc_server_close(struct rpc_server *server)
{
    struct td_list *node;

    if (server == NULL)
        return;
    server->closed = true;
    td_list_remove(&server->node);
    while ((node = td_list_first(&server->calls)) != NULL)
        rpc_call_drop(td_container_of(node, struct rpc_call, node), "the server was closed");
    if (!server->draining)
        start_shutdown(server);
    grpc_server_cancel_all_calls(server->grpc);
    free_if_done(server);
}
