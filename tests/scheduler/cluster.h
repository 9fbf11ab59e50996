/*
 * cluster.h: a scheduler service on a loop, with workers and routers that a test plays at the other
 * ends of real calls.
 */
#ifndef TANDEM_TESTS_SCHEDULER_CLUSTER_H
#define TANDEM_TESTS_SCHEDULER_CLUSTER_H

#include "lib/net/certs.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "scheduler/service.h"
#include "tests/scheduler/world.h"

#define CLUSTER_LOOPBACK    "127.0.0.1:0"
#define CLUSTER_PATIENCE_MS 60000 /* only a broken test ever waits as long */

#define ANNOUNCE_PATH "/td.Scheduler/Announce"
#define PLACE_PATH    "/td.Scheduler/Place"
#define FLEET_PATH    "/td.Scheduler/Fleet"

struct cluster {
    struct net_loop *loop;
    struct net_timer watchdog; /* running too long fails the test */
    const char *certs;         /* folder with one folder per role; NULL: no TLS */
    struct net_tls *tls;
    struct rpc *rpc;
    struct sched_config config;
    struct sched_service *service;
    char address[128];
};

/* A process that is not the scheduler. */
struct side {
    struct cluster *cluster;
    struct net_tls *tls;
    struct rpc *rpc;
    struct rpc_channel *channel;
};

/* A stream towards the scheduler, and how it ended. */
struct line {
    struct rpc_call *call; /* NULL after the end */
    td_status_t status;
    char detail[256];
};

struct worker {
    struct side side;
    struct line line;
    uint64_t epoch;
    Td__Role role;
    char target[64];
    uint32_t welcomes;
    uint32_t asks; /* snapshot requests */
    uint64_t scheduler_epoch;
    uint64_t sequence; /* of the last block events */
    struct td_u128 digest;
    uint64_t admitted;
};

struct router {
    struct side side;
    struct line line;
    uint32_t updates;
    Td__FleetUpdate *picture; /* the newest; NULL before the first */
};

/* What came of one Place. */
struct placed {
    bool done;
    td_status_t status;
    char detail[256];
    Td__PlaceReply *reply; /* TD_OK; free with placed_fini */
};

/* The defaults, an address and a loop; nothing listens yet. */
void cluster_init(struct cluster *cluster, const char *address, const char *certs);

/* Starts the service, again at the address that the first start chose. */
void cluster_start(struct cluster *cluster);
void cluster_stop(struct cluster *cluster);
void cluster_fini(struct cluster *cluster);

/* Numbers under which nothing happens by time alone. */
void cluster_be_patient(struct sched_config *config);

/* All of that with those numbers; certs may be NULL. */
void cluster_open(struct cluster *cluster, const char *address, const char *certs);

/* Runs the loop until the condition holds. */
void cluster_until(struct cluster *cluster, bool (*holds)(void *ctx), void *ctx);

/* What a scheduler has counted since its start, at least. */
struct cluster_seen {
    uint64_t loaded;  /* snapshots */
    uint64_t applied; /* messages with block events */
    uint64_t reports;
};

/* Runs the loop until the scheduler has seen so much. */
void cluster_wait(struct cluster *cluster, struct cluster_seen seen);

void side_open(struct side *side, struct cluster *cluster, enum net_role role);
void side_close(struct side *side);

/* A stream whose messages go to on_message, with the line as context's first look at its end. */
void line_open(struct line *line, struct side *side, const char *path,
               const struct rpc_handlers *handlers, void *ctx);
void line_send(struct line *line, struct cluster *cluster, const ProtobufCMessage *message);
void line_wait_end(struct line *line, struct cluster *cluster);

/* Notes the end; for handlers. */
void line_closed(struct line *line, td_status_t status, const char *detail);

void worker_open(struct worker *worker, struct cluster *cluster, uint64_t epoch, Td__Role role);
void worker_connect(struct worker *worker);
void worker_register(struct worker *worker);
/* Waits for the request for the n-th snapshot of this stream. */
void worker_wait_ask(struct worker *worker, uint32_t n);
void worker_snapshot(struct worker *worker, uint64_t first_key, size_t count);
void worker_events(struct worker *worker, uint64_t first_key, size_t count);
void worker_report(struct worker *worker, bool ready);
/* Connects, registers, answers the snapshot request, reports ready. */
void worker_join(struct worker *worker, uint64_t first_key, size_t count);
void worker_close(struct worker *worker);

void router_open(struct router *router, struct cluster *cluster);
void router_watch(struct router *router);
/* With a request of the test's own; NULL: none is sent. */
void router_watch_with(struct router *router, const Td__FleetRequest *request);
/* Waits until the picture shows so many workers, so many of them ready. */
void router_wait(struct router *router, size_t workers, size_t ready);
void router_close(struct router *router);

/* Asks for a place and waits for the answer. */
void place(struct side *side, uint32_t tokens, uint64_t first_key, size_t keys,
           struct placed *placed_out);
void placed_fini(struct placed *placed);

#endif
