/*
 * rpc.h: calls between processes: messages of protobuf-c over gRPC, on the loop.
 *
 * One struct rpc per process holds the gRPC library: one thread of ours polls its queue and hands
 * events to the loop through a lock-free list. All functions here are called on the loop thread and
 * all callbacks run there, never from inside the call that causes them (but for the two close
 * functions, see below).
 *
 * There is one kind of call, for both sides: messages both ways, then an end. A unary method is a
 * call with one message each way; rpc_unary is a shortcut for its caller.
 *
 * Who holds a call. A struct rpc_call * belongs to its user from rpc_channel_call or on_open until
 * one of two things, whichever comes first: on_close (the other side, a deadline or the network
 * ended it), or the user's own rpc_call_cancel, rpc_call_finish or rpc_call_reply. After either, the
 * pointer is dead and no callback runs. So on_close comes at most once and last, and never after
 * the user has let go.
 *
 * Back-pressure. A sender has at most one message on its way (TD_AGAIN until on_writable), so that
 * what waits stays in the sender's own bounded queue, where something urgent can overtake it. A
 * receiver gets the next message only when on_message has returned and reading is not paused.
 */
#ifndef TANDEM_LIB_NET_RPC_H
#define TANDEM_LIB_NET_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "lib/base/status.h"
#include "lib/net/tls.h"

struct net_loop;
struct rpc;
struct rpc_server;
struct rpc_channel;
struct rpc_call;
struct rpc_unary;

#define RPC_MESSAGE_BYTES_MAX (4u << 20) /* what a channel receives unless it says otherwise */

/*
 * How a td_status_t travels as the end of a call: as the gRPC status nearest to it. TD_LIMIT and
 * TD_EXHAUSTED share one (RESOURCE_EXHAUSTED) and arrive as TD_LIMIT; TD_NO_MEMORY, TD_IO and
 * TD_INTERNAL share INTERNAL and arrive as TD_INTERNAL. A lost connection, a refused one and a peer
 * that does not answer pings are TD_PEER_LOST; a method that is not served is TD_UNSUPPORTED; a
 * role that may not call it is TD_REFUSED.
 */

/* tls may be NULL: links without TLS, which servers offer only on this host or with `insecure`. */
td_status_t rpc_open(struct net_loop *loop, struct net_tls *tls, struct rpc **rpc_out) TD_MUST_USE;

/*
 * Closes all servers and channels that are still open (see their close functions for what happens
 * to calls), then waits until the library has let go of everything. Not from a callback of the
 * same rpc. NULL is allowed.
 */
void rpc_close(struct rpc *rpc);

/* ------------------------------------------------------------------------------------------
 * Calls, both sides
 * ------------------------------------------------------------------------------------------ */

/* Any of these may be NULL. The struct is static or lives as long as the call. */
struct rpc_handlers {
    /* One message; bytes are valid during the call only. */
    void (*on_message)(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length);
    /* The message given to rpc_call_send has left; another can be sent. */
    void (*on_writable)(void *ctx, struct rpc_call *call);
    /* Servers: the client will send no more messages. It still waits for ours. */
    void (*on_half_close)(void *ctx, struct rpc_call *call);
    /*
     * The call is over and the pointer is dead on return. Clients: how the server ended it, or why
     * it broke. Servers: the client canceled, its deadline passed or it is lost (TD_CANCELED).
     */
    void (*on_close)(void *ctx, struct rpc_call *call, td_status_t status, const char *detail);
};

/*
 * Sends a message (packed before this returns). TD_AGAIN: one is still on its way, nothing was
 * taken; TD_STATE: after rpc_call_send_close.
 */
td_status_t rpc_call_send(struct rpc_call *call, const ProtobufCMessage *message) TD_MUST_USE;

/* Whether rpc_call_send would take a message now. */
bool rpc_call_writable(const struct rpc_call *call);

/* Clients: no more messages will follow. What was sent before still arrives. */
void rpc_call_send_close(struct rpc_call *call);

/* Servers: ends the call after what was sent before, and lets go of it. detail may be NULL. */
void rpc_call_finish(struct rpc_call *call, td_status_t status, const char *detail);

/* Servers: the last message and the end TD_OK in one, while nothing else is on its way. */
void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message);

/* Both sides: breaks the call off at once and lets go of it. The peer sees a cancel. */
void rpc_call_cancel(struct rpc_call *call);

/* Takes no further message until resumed; then the peer's sends come to a halt. */
void rpc_call_pause(struct rpc_call *call);
void rpc_call_resume(struct rpc_call *call);

/* The role in the peer's certificate; UNKNOWN without TLS, or for a client before an answer. */
enum net_role rpc_call_peer_role(struct rpc_call *call);

/* The peer's address as gRPC writes it ("ipv4:10.0.0.7:4711"), for logs. Lives as long as the call. */
const char *rpc_call_peer_name(struct rpc_call *call);

/* ------------------------------------------------------------------------------------------
 * Servers
 * ------------------------------------------------------------------------------------------ */

struct rpc_method {
    const char *path;           /* "/td.Worker/Generate" */
    uint32_t allowed_roles;     /* NET_ROLE_BITs; checked whenever the link has TLS */
    uint32_t message_bytes_max; /* of one message from the client */
    bool unary;                 /* one message is read; none ends the call */
    /*
     * A new call: calls rpc_call_bind before it returns, or ends it at once. No message is read
     * before it has returned.
     */
    void (*on_open)(void *ctx, struct rpc_call *call);
};

/* Gives a server's call its handlers. */
void rpc_call_bind(struct rpc_call *call, const struct rpc_handlers *handlers, void *ctx);

struct rpc_server_config {
    const char *address; /* "host:port" (0: the kernel chooses) or "unix:/path", which has no TLS */
    bool insecure;       /* without certificates, listen beyond this host all the same */
    const struct rpc_method *methods; /* live as long as the server */
    size_t method_count;
    void *ctx; /* for on_open */
};

/*
 * Listens and serves. TD_REFUSED: beyond this host without certificates and without insecure;
 * TD_IO: cannot listen (a port in use, a socket path that a living process serves).
 */
td_status_t rpc_server_open(struct rpc *rpc, const struct rpc_server_config *config,
                            struct rpc_server **server_out, struct td_error *error) TD_MUST_USE;

/* The real address. */
const char *rpc_server_address(const struct rpc_server *server);

/*
 * Takes no more calls; those that are there go on. on_drained (may be NULL) runs once when the last
 * has ended; not after rpc_server_close.
 */
void rpc_server_drain(struct rpc_server *server, void (*on_drained)(void *ctx), void *ctx);

/* Ends every call: its user gets on_close(TD_CANCELED) before this returns. Stops listening. */
void rpc_server_close(struct rpc_server *server);

/* ------------------------------------------------------------------------------------------
 * Clients
 * ------------------------------------------------------------------------------------------ */

struct rpc_channel_config {
    const char *target;      /* "host:port" or "unix:/path" */
    uint32_t expected_roles; /* with TLS: who may be at the other end; 0: any role of the cluster */
    uint32_t message_bytes_max; /* of one message from the server; 0: RPC_MESSAGE_BYTES_MAX */
};

/*
 * A channel to one server. Connects when the first call comes, again and again while there are
 * calls (after 0.1 to 1 s); a call to a server that cannot be reached fails at once. A peer that
 * does not answer pings for 7 s counts as lost.
 */
td_status_t rpc_channel_open(struct rpc *rpc, const struct rpc_channel_config *config,
                             struct rpc_channel **channel_out) TD_MUST_USE;

/*
 * Ends every call: their users get on_close or their callback with TD_CANCELED before this returns.
 */
void rpc_channel_close(struct rpc_channel *channel);

struct rpc_call_options {
    const char *path;
    uint32_t deadline_ms; /* 0: none */
    const struct rpc_handlers *handlers;
    void *ctx;
};

/*
 * Starts a call; a message may be sent at once. TD_NO_MEMORY; TD_STATE: the channel is closing
 * (asked from one of the callbacks that tell so); TD_OK: on_close will come.
 */
td_status_t rpc_channel_call(struct rpc_channel *channel, const struct rpc_call_options *options,
                             struct rpc_call **call_out) TD_MUST_USE;

/* The answer of a unary call: bytes (valid during the call) if TD_OK, else why not. */
typedef void (*rpc_unary_fn)(void *ctx, td_status_t status, const char *detail,
                             const uint8_t *bytes, size_t length);

struct rpc_unary_options {
    const char *path;
    const ProtobufCMessage *request; /* packed before the call returns */
    uint32_t deadline_ms;            /* must not be 0: every wait has a deadline */
    rpc_unary_fn fn;
    void *ctx;
};

/*
 * Sends one request for one answer. fn runs exactly once, unless canceled. unary_out may be NULL;
 * otherwise what it got is dead when fn is called. Errors as in rpc_channel_call.
 */
td_status_t rpc_unary_start(struct rpc_channel *channel, const struct rpc_unary_options *options,
                            struct rpc_unary **unary_out) TD_MUST_USE;

/* Lets go of it: fn does not run. */
void rpc_unary_cancel(struct rpc_unary *unary);

#endif
