/*
 * rpc_support.h: a server with methods of every kind and clients that write down what happens, for
 * the tests of the RPC. Messages are td.TextChunk: a number and bytes.
 */
#ifndef TANDEM_TESTS_NET_RPC_SUPPORT_H
#define TANDEM_TESTS_NET_RPC_SUPPORT_H

#include "lib/net/rpc.h"
#include "proto/tandem.pb-c.h"
#include "tests/net/net_support.h"

#define ECHO_PATH    "/test.Rpc/Echo"   /* unary: the same message back */
#define STREAM_PATH  "/test.Rpc/Stream" /* each message back; ends OK after the half close */
#define SILENT_PATH  "/test.Rpc/Silent" /* takes messages, says nothing, never ends */
#define PUSH_PATH    "/test.Rpc/Push" /* message n: sends n numbered messages of 16 KiB, ends OK */
#define REFUSE_PATH  "/test.Rpc/Refuse"  /* ends with TD_EXHAUSTED "busy" at once */
#define CANCEL_PATH  "/test.Rpc/Cancel"  /* the server cancels at the first message */
#define SMALL_PATH   "/test.Rpc/Small"   /* unary, messages of at most 1,000 bytes */
#define ROUTER_PATH  "/test.Rpc/Router"  /* unary, for routers only */
#define MISSING_PATH "/test.Rpc/Missing" /* not served */

#define SMALL_BYTES_MAX  1000
#define PUSH_BYTES       16384
#define STREAM_BYTES_MAX (1u << 20)

/* A loop with an rpc, on the test's own thread. Running it too long fails the test. */
struct world {
    struct net_loop *loop;
    struct net_timer watchdog;
    struct net_tls *tls;
    struct rpc *rpc;
    struct rpc_server *server;
    struct rpc_channel *channel;

    /* the server's side */
    int calls_open; /* opened and not ended */
    int closes;     /* on_close of servers */
    int half_closes;
    int messages; /* that the server has received */
    int pushed;   /* messages that Push has handed over */
    td_status_t close_status;
    enum net_role last_role;
    char last_peer[128];
    bool stop_on_message; /* the server's next message stops the loop */
    bool stop_on_close;
};

/* address NULL: no server; certs NULL: no TLS. */
void world_open(struct world *world, const char *address, const char *certs);
void world_close(struct world *world);

/* Opens the channel to a target, or to our own server (NULL). */
void world_connect(struct world *world, const char *target);

/* Runs until somebody calls net_loop_stop. */
void world_run(struct world *world);

/* Runs until the condition holds. */
void world_run_until(struct world *world, bool (*condition)(void *ctx), void *ctx);

/* The table of the methods above and its length; ctx of the server is the world. */
extern const struct rpc_method world_methods[];
extern const size_t world_method_count;

/* A client's call that writes down what happens. */
struct client {
    struct world *world;
    struct rpc_call *call; /* NULL after its end */
    int messages;
    int writables;
    int closes;
    td_status_t status;
    char detail[256];
    uint64_t last_number;
    uint64_t next_to_send;
    uint64_t send_count; /* on_writable sends up to so many numbered messages, then half-closes */
    size_t payload_bytes;
    bool out_of_order;
    bool stop_on_message;
    bool cancel_on_message;
    bool pause_on_message;
};

void client_start(struct client *client, struct world *world, const char *path,
                  uint32_t deadline_ms);
td_status_t client_send(struct client *client, uint64_t number, size_t bytes);

/* Sends what is left of send_count while the call takes it. */
void client_pump(struct client *client);

/* Runs the loop until on_close has come. */
void client_wait(struct client *client);

/* A unary call and its answer. */
struct answer {
    struct world *world;
    struct rpc_unary *unary;
    int count;
    td_status_t status;
    char detail[256];
    uint64_t number;
    size_t bytes;
    bool content_is_right;
};

void unary_start(struct answer *answer, struct world *world, const char *path, uint64_t number,
                 size_t bytes, uint32_t deadline_ms);
void unary_wait(struct answer *answer);

#endif
