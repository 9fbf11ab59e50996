/*
 * rpc_internal.h: what the files of the RPC share. It shows gRPC, so nobody else includes it.
 *
 *   rpc_bridge.c   the gRPC thread, tags, the way from its queue to the loop; opening and closing
 *   rpc_call.c     one call, either side
 *   rpc_client.c   channels and unary calls
 *   rpc_server.c   listening and dispatching
 *   rpc_convert.c  statuses, messages, credentials
 *
 * Every operation given to gRPC carries a tag, and every tag comes back exactly once: gRPC thread ->
 * list -> loop, where its function runs. What a tag is part of is not freed before that. All state
 * below belongs to the loop thread; the gRPC thread only touches the tags it passes on.
 */
#ifndef TANDEM_LIB_NET_RPC_INTERNAL_H
#define TANDEM_LIB_NET_RPC_INTERNAL_H

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/base/list.h"
#include "lib/net/address.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "lib/net/tls_internal.h"

struct rpc_tag;
typedef void (*rpc_tag_fn)(struct rpc_tag *tag, bool ok);

struct rpc_tag {
    struct rpc_tag *next; /* on its way to the loop */
    rpc_tag_fn fn;
    bool ok;
};

struct rpc {
    struct net_loop *loop;
    struct net_tls *tls;
    grpc_completion_queue *queue;
    pthread_t thread;
    _Atomic(struct rpc_tag *) done; /* finished tags, newest first */
    int wake_fd;                    /* eventfd: `done` is not empty any more */
    struct net_poll *poll;
    unsigned tags_out; /* given to gRPC and not yet dispatched */
    bool dispatching;
    struct td_list servers;
    struct td_list channels;
    struct td_list retired;   /* gRPC channels that are closed as soon as they have connected */
    struct td_list lingering; /* calls that their users have left and that have not ended */
    struct net_timer linger_timer;
};

struct rpc_call {
    struct rpc *rpc;
    struct td_list node;        /* of its server or channel, while a user holds it */
    struct td_list linger_node; /* of rpc->lingering, afterwards */
    uint64_t linger_until_ns;
    grpc_call *grpc;
    const struct rpc_handlers *handlers;
    void *ctx;
    const struct rpc_method *method; /* servers only: NULL for clients */

    struct rpc_tag head_tag;  /* clients: initial metadata both ways */
    struct rpc_tag read_tag;  /* one message */
    struct rpc_tag send_tag;  /* one message (servers: the first with initial metadata) */
    struct rpc_tag close_tag; /* clients: half close; servers: the final status */
    struct rpc_tag end_tag;   /* the end of the call, whoever ended it */
    unsigned tags_out;

    bool released;   /* the user holds it no more */
    bool head_sent;  /* servers: initial metadata */
    bool reading;    /* read_tag is out */
    bool read_ended; /* no more messages will come */
    bool paused;
    bool got_message;
    bool sending;      /* send_tag is out */
    bool close_wanted; /* half close or final status, once the message on its way has left */
    bool close_sent;
    bool ended; /* end_tag has come back */

    grpc_byte_buffer *incoming;
    grpc_byte_buffer *outgoing;
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    grpc_status_code status; /* clients: received; servers: to be sent */
    grpc_slice detail;
    int canceled; /* servers: received */
    enum net_role peer_role;
    char *peer_name;
};

struct rpc_server {
    struct rpc *rpc;
    struct td_list node;
    struct rpc_server_config config;
    char address[NET_ADDRESS_BYTES_MAX];
    bool has_tls;
    uint64_t fetched_generation; /* of the certificates gRPC has; gRPC's thread only */
    uint32_t message_bytes_max;  /* over all methods */
    grpc_server *grpc;
    struct td_list calls;
    struct rpc_tag shutdown_tag;
    unsigned tags_out; /* waiting for a new call, or for the shutdown */
    bool draining;
    bool closed;
    void (*on_drained)(void *ctx);
    void *drained_ctx;
};

struct rpc_channel {
    struct rpc *rpc;
    struct td_list node;
    char *target;
    uint32_t expected_roles;
    uint32_t message_bytes_max;
    bool closed;             /* its users are being told */
    uint64_t tls_generation; /* of the certificates `grpc` was made with */
    grpc_channel *grpc;      /* made for the first call, and again for new certificates */
    struct td_list calls;
    struct td_list unaries;
};

/* ---- rpc_bridge.c ---- */

/* Every batch goes through here: accounts for the tag and starts the operations. */
void rpc_start(struct rpc *rpc, grpc_call *call, const grpc_op *ops, size_t count,
               struct rpc_tag *tag);

/* For tags that other functions of gRPC take: accounts for the tag, just before. */
void rpc_expect(struct rpc *rpc, struct rpc_tag *tag);

/* A call whose user has left gets a bounded time to end by itself. */
void rpc_linger(struct rpc *rpc, struct rpc_call *call);

/* ---- rpc_call.c ---- */

/* A call around a gRPC call that it takes over (and unrefs even on failure). */
td_status_t rpc_call_create(struct rpc *rpc, grpc_call *grpc, const struct rpc_method *method,
                            struct rpc_call **call_out) TD_MUST_USE;

/* Clients: starts everything, for these handlers. */
void rpc_call_start_client(struct rpc_call *call, const struct rpc_handlers *handlers, void *ctx);

/* Servers: watches for the end of the call; reading starts with rpc_call_begin_reading. */
void rpc_call_start_server(struct rpc_call *call);
void rpc_call_begin_reading(struct rpc_call *call);

/* The server or channel closes: tells the user, ends the call. */
void rpc_call_drop(struct rpc_call *call, const char *detail);

/* ---- rpc_client.c ---- */

/* At the end: closes the channels that still connect, whatever it costs. */
void rpc_drop_retired(struct rpc *rpc);

/* ---- rpc_convert.c ---- */

td_status_t rpc_status_from_grpc(grpc_status_code code);
grpc_status_code rpc_status_to_grpc(td_status_t status);

/* NUL-terminated, bounded copy of a status detail for callbacks and logs. */
#define RPC_DETAIL_BYTES 256
void rpc_copy_detail(grpc_slice detail, char out[static RPC_DETAIL_BYTES]);

/* Packs a message straight into the memory that gRPC sends. */
grpc_byte_buffer *rpc_pack(const ProtobufCMessage *message);

/* The bytes of a received message in one piece; `slice` keeps them alive (grpc_slice_unref). */
struct rpc_bytes {
    grpc_slice slice;
    const uint8_t *bytes;
    size_t length;
};
bool rpc_flatten(grpc_byte_buffer *buffer, struct rpc_bytes *out);

/* The role in the certificate of the call's peer. */
enum net_role rpc_peer_role(grpc_call *call);

/* Credentials for the present certificates, or plaintext if tls is NULL. */
grpc_channel_credentials *rpc_channel_credentials(struct net_tls *tls, uint32_t expected_roles);

/* A server's credentials fetch changed certificates by themselves, for as long as it lives. */
grpc_server_credentials *rpc_server_credentials(struct rpc_server *server);

#endif
