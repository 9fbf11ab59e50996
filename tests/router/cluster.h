/*
 * cluster.h: a router's runtime among workers and schedulers that a test plays: real RPC over unix
 * sockets (or TCP with certificates), everything on one loop. They write down what they are told and say
 * what the test has them say.
 */
#ifndef TANDEM_TESTS_ROUTER_CLUSTER_H
#define TANDEM_TESTS_ROUTER_CLUSTER_H

#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "proto/tandem.pb-c.h"
#include "router/runtime.h"
#include "tests/support/support.h"

#define WORKERS_MAX    3
#define SCHEDULERS_MAX 2
#define REQUESTS_MAX   16
#define OUT_MAX        64

/* One request as a worker saw it. */
struct seen_request {
    struct td_u128 id;
    char model[64];
    uint32_t prompt_tokens;
    uint32_t received; /* of the prompt; each was checked to be the number of its place */
    uint32_t frames;
    uint32_t frame_bytes_max;
    int cancels;
    int attaches;
    uint32_t attach_index;
    int ended;
    uint32_t sent; /* tokens of the answer */
};

struct client;

struct fake_worker {
    struct cluster *cluster;
    struct rpc_server *server; /* NULL: dead */
    char address[128];
    uint64_t epoch;
    bool in_fleet;
    bool ready;

    const uint8_t *text; /* what it sends as its text */
    size_t text_bytes;
    uint64_t text_total; /* what it says how long that is; 0: the truth */
    struct td_u128 text_id;
    int texts_asked;

    bool mute;                      /* does not greet */
    bool talks_nonsense;            /* answers the greeting with bytes that are no message */
    uint64_t greets_as;             /* another epoch; 0: its own */
    struct client *leaves_at_start; /* its client goes away when the start arrives */
    struct rpc_call *link;          /* the newest Generate stream */
    int links;                      /* ever opened */
    struct seen_request requests[REQUESTS_MAX];
    int request_count;
    uint8_t *out[OUT_MAX]; /* packed messages that wait for the stream */
    size_t out_bytes[OUT_MAX];
    int out_count;
};

struct fake_scheduler {
    struct cluster *cluster;
    struct rpc_server *server;
    char address[128];
    uint64_t epoch;
    bool knows_nothing; /* its pictures are empty */
    struct rpc_call *fleet;
    bool owes_picture; /* the one before is still on its way */
    uint64_t router_epoch;

    int places;             /* asked */
    uint64_t last_excluded; /* of the last Place; 0: none */
    size_t last_keys;
    uint64_t place_on; /* this epoch, whatever is excluded; 0: the first ready and not excluded */
    td_status_t fails_with;
    bool holds;                  /* never answers */
    uint32_t no_worker_retry_ms; /* says that no worker can take it, and when to ask again */
    bool no_worker;
};

/* One request as its client saw it; stands for the front's exchange. */
struct client {
    struct cluster *cluster;
    void *handle;
    uint32_t tokens[4096];
    uint32_t token_count;
    bool stop_at_first; /* calls stop from inside the tokens */
    bool abandon_at_first;
    bool ended;
    struct front_result result;
};

struct cluster {
    struct net_loop *loop;
    struct net_timer watchdog;
    struct net_tls *tls[3];
    struct rpc *router_rpc;
    struct rpc *scheduler_rpc;
    struct rpc *worker_rpc;
    char folder[64];
    struct router_limits limits; /* for the runtime; may be changed before cluster_start */
    struct router_runtime *runtime;
    struct front_backend backend;
    uint8_t *text; /* tiny-llama's */
    size_t text_bytes;
    struct fake_worker workers[WORKERS_MAX];
    int worker_count;
    struct fake_scheduler schedulers[SCHEDULERS_MAX];
    int scheduler_count;
};

/* certs: a folder with one of ours for each role; NULL: unix sockets without TLS. */
void cluster_open(struct cluster *cluster, const char *certs);
void cluster_close(struct cluster *cluster);

struct fake_worker *cluster_worker(struct cluster *cluster, uint64_t epoch);
/* Listens as a process with the certificate of `role` would. */
struct fake_scheduler *cluster_scheduler(struct cluster *cluster, struct rpc *rpc);
/* Opens the runtime, with all schedulers named. */
void cluster_start(struct cluster *cluster);
/* The same with all ready: one scheduler, and workers with epochs 1 to count. */
void cluster_start_simple(struct cluster *cluster, int workers);

/* Runs the loop until the condition holds; fails the test if it never does. */
void cluster_until(struct cluster *cluster, bool (*holds)(void *ctx), void *ctx);
bool cluster_is_ready(void *cluster);
/* Runs the loop for some turns: for what must not happen there is nothing to wait for. */
void cluster_turns(struct cluster *cluster, int turns);

/* --- what workers and schedulers do --- */

void worker_kill(struct fake_worker *worker);
void worker_listen(struct fake_worker *worker);
/* Ends the Generate stream, nothing else. */
void worker_break_link(struct fake_worker *worker, td_status_t status);
void worker_tokens(struct fake_worker *worker, int request, uint32_t index, const uint32_t *tokens,
                   uint32_t count);
void worker_finish(struct fake_worker *worker, int request, Td__Finish finish, td_status_t code);
/* The whole fleet to the router. */
void scheduler_publish(struct fake_scheduler *scheduler);
void scheduler_kill(struct fake_scheduler *scheduler);
void scheduler_listen(struct fake_scheduler *scheduler, struct rpc *rpc);

/* --- what clients do --- */

/* A prompt of the tokens 0, 1, 2, ... */
td_status_t client_start(struct client *client, struct cluster *cluster, uint32_t prompt_tokens);
void client_leave(struct client *client);
bool client_has_token(void *client);
bool client_ended(void *client);
struct router_counters cluster_counters(const struct cluster *cluster);
struct router_gauges cluster_gauges(const struct cluster *cluster);

#endif
