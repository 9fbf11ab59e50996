/*
 * ucx_private.h: what the files of the UCX transport share. Not for use elsewhere.
 *
 *   ucx.c          context, worker, operations table, progress
 *   ucx_endpoint.c connecting, greeting, losing and closing endpoints
 *   ucx_chunk.c    sending, receiving and refusing chunks
 *   ucx_direct.c   chunks of a device's pool, block by block
 *   ucx_pool.c     what UCX is told of such a pool
 *   ucx_trial.c    whether blocks of a device really get to a peer without the host
 *   ucx_look.c     what the library can do on this host, for `tandem check`
 *   ucx_process.c  environment, log and signals of the process
 *   ucx_events.c   stands between UCX and its event sets
 *   ucx_lanes.c    which lanes an endpoint really uses
 */
#ifndef TANDEM_KVTRANSFER_UCX_PRIVATE_H
#define TANDEM_KVTRANSFER_UCX_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucp/api/ucp.h>

#include "kvtransfer/memory.h"
#include "kvtransfer/transport.h"
#include "kvtransfer/ucx.h"
#include "lib/base/list.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

/* Active message ids. */
enum ucx_message {
    UCX_CHUNK = 1,
    UCX_PING, /* "I have made an endpoint to you": answered with PONG */
    UCX_PONG,
    UCX_BYE, /* "I close my endpoint to you" */
    /* of direct transports alone, see ucx_direct.c and ucx_trial.c */
    UCX_OFFER,
    UCX_GO,
    UCX_NO,
    UCX_PART,
    UCX_TRIAL,
};

/*
 * The greeting of PING, PONG and BYE. Each transport draws a token and tells it in its address, so a
 * greeting names both ends; number is the pinger's endpoint, echoed by PONG.
 */
struct ucx_greeting {
    uint64_t from;
    uint64_t to;
    uint64_t number;
};

struct ucx_transport {
    struct kvt_transport base;
    struct kvt_ucx_config config;
    ucp_context_h context;
    ucp_worker_h worker;
    int descriptor;
    uint64_t token;
    uint64_t number; /* the last one given to an endpoint */
    struct td_u128 host;
    struct td_list endpoints;  /* struct ucx_endpoint, until disconnected */
    struct td_list closing;    /* disconnected, to be closed by the next progress */
    struct td_list ending;     /* closed; UCX has not said yet that it is over */
    struct td_list operations; /* struct ucx_operation, in flight */
    struct td_list ended;      /* operations to be reported by the next progress */
    size_t greetings;          /* that have not ended */
    bool has_requests;         /* some endpoint is to be made */
    bool has_news;             /* some endpoint is to be reported connected or lost */
    bool is_closing;           /* refuse everything that arrives */
    /* of a direct transport */
    struct kvt_memory pool; /* device NULL: the transport is not direct */
    size_t block_bytes;
    ucp_mem_h registered;
    struct td_list batches; /* struct ucx_batch, see ucx_direct.c */
    bool has_ready;         /* some batch was told to go */
};

struct ucx_endpoint {
    struct kvt_endpoint base;
    struct td_list in_transport;
    struct ucx_transport *transport;
    ucp_ep_h ep;             /* NULL until progress has made it */
    uint8_t *worker_address; /* for that */
    uint64_t number;
    uint64_t remote; /* token of the peer's transport */
    bool is_same_host;
    bool is_connected;
    bool wants_trial;       /* direct: before it is reported connected */
    bool connected_pending; /* to be reported */
    bool lost_pending;
    bool is_lost;
    bool is_given_up; /* lost by our own decision: the peer is told */
    td_status_t lost_status;
    char lanes[KVT_LANES_TEXT_BYTES];
};

/* A send or a receive: lives from its call to its report. */
struct ucx_operation {
    struct td_list in_transport;
    struct ucx_transport *transport;
    void *tag;
    bool is_send;
    td_status_t status;
    size_t header_bytes;
    uint8_t *header; /* sends: behind the pieces */
    size_t piece_count;
    ucp_dt_iov_t pieces[];
};

td_status_t ucx_status(ucs_status_t status);

static inline bool ucx_is_direct(const struct ucx_transport *transport)
{
    return transport->pool.device != NULL;
}

/* ---- ucx_endpoint.c */

td_status_t ucx_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                        void *context, struct kvt_endpoint **endpoint_out);
void ucx_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint, bool force);

/* Handlers of the greetings; called by UCX inside progress. */
ucs_status_t ucx_on_ping(void *argument, const void *header, size_t header_bytes, void *data,
                         size_t length, const ucp_am_recv_param_t *param);
ucs_status_t ucx_on_pong(void *argument, const void *header, size_t header_bytes, void *data,
                         size_t length, const ucp_am_recv_param_t *param);
ucs_status_t ucx_on_bye(void *argument, const void *header, size_t header_bytes, void *data,
                        size_t length, const ucp_am_recv_param_t *param);

/* Makes the endpoints that connect has asked for; true if there were any. */
bool ucx_make_endpoints(struct ucx_transport *transport);

/* Reports connected and lost endpoints to the sink; true if there were any. */
bool ucx_report_endpoints(struct ucx_transport *transport);

/* Closes what disconnect has put aside; true if there was any. */
bool ucx_close_endpoints(struct ucx_transport *transport);

void ucx_endpoint_free(struct ucx_endpoint *endpoint);

#define UCX_GREETING_BYTES 24

void ucx_greeting_write(const struct ucx_greeting *greeting,
                        uint8_t out[static UCX_GREETING_BYTES]);

/* False unless it is a greeting for this very transport. */
bool ucx_greeting_read(const struct ucx_transport *transport, const void *header,
                       size_t header_bytes, struct ucx_greeting *greeting_out);

/* Sends a message that is a greeting alone. */
td_status_t ucx_greet(struct ucx_transport *transport, ucp_ep_h ep, enum ucx_message message,
                      const struct ucx_greeting *greeting);

/* The next progress reports it lost. */
void ucx_note_lost(struct ucx_endpoint *endpoint, td_status_t status);

/* The same, where we do not want a connection that is well: the peer hears of it. */
void ucx_give_up(struct ucx_endpoint *endpoint, td_status_t status);

/* ---- ucx_chunk.c */

td_status_t ucx_send(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                     const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                     size_t piece_count, void *tag);
td_status_t ucx_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                        const struct kvt_piece *pieces, size_t piece_count, void *tag);
void ucx_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status);
ucs_status_t ucx_on_chunk(void *argument, const void *header, size_t header_bytes, void *data,
                          size_t length, const ucp_am_recv_param_t *param);

/* An operation with room for a header and for pieces, which are copied. NULL: no memory. */
struct ucx_operation *ucx_operation_new(struct ucx_transport *transport,
                                        const struct kvt_piece *pieces, size_t piece_count,
                                        size_t header_bytes, void *tag);
void ucx_operation_free(struct ucx_operation *operation);

/* Sinks are called from progress only, wherever UCX was when the operation ended. */
void ucx_operation_end(struct ucx_operation *operation, td_status_t status);

/* Reports operations that have ended; true if there were any. */
bool ucx_report_operations(struct ucx_transport *transport);

/* ---- ucx.c */

/* Whether the UCX that was loaded may know the memory of GPUs: 1.20 is the first that works with CUDA 13. */
bool ucx_is_new_enough(void);

/* ---- ucx_pool.c */

/* Registers the pool with the context. */
td_status_t ucx_pool_register(struct ucx_transport *transport, struct td_error *error);
ucs_status_t ucx_pool_options(ucp_config_t *options);

/* Tells UCX of a request whether its memory is of the pool, and how that was registered. */
void ucx_pool_describe(const struct ucx_transport *transport, const void *base,
                       ucp_request_param_t *param);

/* ---- ucx_direct.c */

ucs_status_t ucx_direct_handlers(struct ucx_transport *transport);

td_status_t ucx_direct_send(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                            const uint8_t *header, size_t header_bytes,
                            const struct kvt_piece *pieces, size_t piece_count, void *tag);
td_status_t ucx_direct_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                               const struct kvt_piece *pieces, size_t piece_count, void *tag);
void ucx_direct_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status);

/* Starts what was told to go; true if there was any. */
bool ucx_direct_start(struct ucx_transport *transport);

/* What goes to and comes from the peer behind the endpoint, or all (NULL), ends as soon as UCX lets go of it. */
void ucx_direct_cancel(struct ucx_transport *transport, const struct ucx_endpoint *endpoint);

/* Frees batches that UCX never let go of, once it is closed. */
void ucx_direct_free(struct ucx_transport *transport);

/* ---- ucx_trial.c */

/*
 * Asks UCX how it would move a block to the peer. If without the host, and the peer answers, the endpoint will be reported
 * connected; else lost.
 */
void ucx_try_lanes(struct ucx_endpoint *endpoint);
ucs_status_t ucx_on_trial(void *argument, const void *header, size_t header_bytes, void *data,
                          size_t length, const ucp_am_recv_param_t *param);

/* Whether UCX's words for a transfer mean that the receiver reads the sender's GPU by itself. */
bool ucx_text_is_direct(const char *text);

/* ---- ucx_process.c */

bool ucx_process_is_prepared(void);

/* ---- ucx_events.c */

/* Whether UCX's calls of ucs_event_set_wait reach ours. */
bool ucx_events_are_guarded(void);

/* ---- ucx_lanes.c */

/*
 * Reads the transports out of what UCX prints about an endpoint, in order, each once, with a comma
 * between them: "sysv" or "sysv,tcp". Empty if there is none.
 */
void ucx_lanes_parse(const char *text, char *out, size_t capacity);

/* Fills endpoint->lanes; TD_UNSUPPORTED if a lane is used that was not asked for. */
td_status_t ucx_lanes_check(struct ucx_endpoint *endpoint);

#endif
