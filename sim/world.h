/*
 * world.h: the simulator's world: processes, the event queue, the network between them, the clients.
 *
 * Everything that happens is an event with a time; equal times are broken by the order of posting.
 * An event is for one incarnation of one process, for any incarnation of it, or for nobody. Nothing
 * here depends on addresses, on the clock of the host or on the order of a hash table.
 */
#ifndef TANDEM_SIM_WORLD_H
#define TANDEM_SIM_WORLD_H

#include "engine/modelled/modelled.h"
#include "lib/base/list.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "sim/sim.h"

#define SIM_ROUTERS_MAX    2
#define SIM_SCHEDULERS_MAX 2
#define SIM_WORKERS_MAX    6 /* of each role */
#define SIM_NODES_MAX      (SIM_ROUTERS_MAX + SIM_SCHEDULERS_MAX + 2 * SIM_WORKERS_MAX)
#define SIM_MODEL          "modelled"
#define SIM_LIFE_ANY       0 /* an event for whatever incarnation runs, or none */

struct sim;
struct sim_event;
struct sim_router;
struct sim_scheduler;
struct sim_worker;
struct sim_client;
struct kvt_loop;
struct kvt_loop_message;

enum sim_role {
    SIM_ROUTER,
    SIM_SCHEDULER,
    SIM_PREFILL,
    SIM_DECODE,
};

/* One process: its name stays, its incarnations come and go. */
struct sim_node {
    struct sim *sim;
    enum sim_role role;
    uint32_t index;
    char name[16]; /* also its target */
    uint32_t life; /* number of the present incarnation, from 1 */
    bool up;
    bool frozen;
    bool leaving;            /* drains; will end by itself */
    struct td_list deferred; /* events that came while it was frozen */
    struct sim_router *router;
    struct sim_scheduler *scheduler;
    struct sim_worker *worker;
};

typedef void (*sim_event_fn)(struct sim *sim, struct sim_event *event);

struct sim_event {
    uint64_t at_ns;
    uint64_t order;
    struct sim_node *node; /* NULL: nobody's */
    uint32_t life;
    const char *what; /* in the trace */
    sim_event_fn run;
    sim_event_fn drop; /* instead of run, if its incarnation has gone; NULL: nothing to free */
    void *object;
    uint64_t number;
    td_status_t status;
    uint8_t *bytes; /* freed after run or drop */
    size_t length;
    struct td_list in_deferred;
};

/* When a core next wants to run. An alarm may ring early; it never rings late. */
struct sim_alarm {
    uint64_t at_ns;
};

enum sim_phase {
    SIM_STORM, /* clients come, faults strike */
    SIM_CALM,  /* no fault any more: what was begun must end */
    SIM_CHECK, /* a last wave of requests, which must all be answered */
    SIM_REST,  /* nothing is asked: everything must come to rest */
};

struct sim {
    struct sim_options options;
    struct sim_report *report;
    enum sim_phase phase;
    bool failed;
    uint64_t now_ns;
    uint64_t order;
    struct sim_event **heap;
    size_t heap_count;
    size_t heap_capacity;
    struct td_rng network; /* one generator per concern, so that one does not disturb the others */
    struct td_rng faults;
    struct td_rng clients;
    struct td_rng ids;

    struct sim_node nodes[SIM_NODES_MAX];
    uint32_t node_count;
    struct td_list streams; /* with an open end */
    struct td_list graves; /* streams that are over; freed at the end, since events point to them */
    struct td_list calls;  /* open */
    struct td_list call_graves;
    uint64_t stream_count;
    uint64_t fifo_ns[SIM_NODES_MAX][SIM_NODES_MAX]; /* last arrival between two processes */
    uint64_t cut_ns[SIM_NODES_MAX][SIM_NODES_MAX];  /* cut off from each other until */
    struct kvt_loop *loop;
    uint64_t kv_last_ns;    /* arrival of the last KV message, while none may overtake another */
    uint64_t strike_gap_ns; /* between two strikes of the faults, at most */
    bool closing;           /* the run is over: nothing is sent any more */

    struct modelled_config model;
    uint32_t pool_blocks;
    struct sim_client *client_array;
    uint32_t client_count;
    uint32_t clients_over;
    uint32_t breaks_done; /* times that options.break_what was carried out */

    char lines[SIM_TAIL_LINES][SIM_LINE_BYTES];
    uint64_t line_count;
};

/* With these faults alone nothing is lost, only late. */
#define SIM_FAULTS_GENTLE                                                          \
    (1u << SIM_FAULT_DELAY | 1u << SIM_FAULT_REORDER | 1u << SIM_FAULT_DUPLICATE | \
     1u << SIM_FAULT_CORRUPT | 1u << SIM_FAULT_LEAVE)

static inline bool sim_has(const struct sim *sim, enum sim_fault fault)
{
    return sim->phase == SIM_STORM && (sim->options.faults >> fault & 1) != 0;
}

static inline bool sim_breaks(const struct sim *sim, enum sim_break what)
{
    return sim->options.break_what == what;
}

/* Calls that cannot fail here: without memory the simulator ends. */
void *sim_alloc(size_t count, size_t size);
uint8_t *sim_copy(const void *bytes, size_t length);

/* Draws. */
uint64_t sim_between(struct td_rng *rng, uint64_t low, uint64_t high);
bool sim_chance(struct td_rng *rng, uint32_t per_mille);

/* --- events.c --- */

/* An event in delay_ns; the caller fills what it needs besides. */
struct sim_event *sim_post(struct sim *sim, struct sim_node *node, uint32_t life, uint64_t delay_ns,
                           const char *what, sim_event_fn run);
/* Executes the next event; false if there is none. */
bool sim_step(struct sim *sim);
uint64_t sim_next_ns(const struct sim *sim);
void sim_thaw(struct sim_node *node);
void sim_events_free(struct sim *sim);
/* Rings run for the present incarnation at deadline_ns at the latest, unless it will already. */
void sim_alarm_set(struct sim_node *node, struct sim_alarm *alarm, uint64_t deadline_ns,
                   const char *what, sim_event_fn run);
/* To be called first by what an alarm runs; false: it was set to an earlier time meanwhile. */
bool sim_alarm_rings(const struct sim_event *event);

/* --- trace.c --- */

void sim_trace(struct sim *sim, const struct sim_event *event);
/* One more line in the trace, outside of events: what a client saw, what a fault did. */
void sim_note(struct sim *sim, const char *format, ...) TD_PRINTF(2, 3);
/* An oracle has found a fault. The first one counts. */
void sim_fail(struct sim *sim, const char *oracle, const char *format, ...) TD_PRINTF(3, 4);
void sim_trace_tail(struct sim *sim);

/* --- network.c --- */

/* How long a message between two processes takes now. */
uint64_t sim_latency(struct sim *sim);
/* Between the threads of one process. */
uint64_t sim_ring_latency(struct sim *sim);
/* When a message that is sent now arrives: not before *last_ns, the one in front of it. */
uint64_t sim_arrival(struct sim *sim, const struct sim_node *from, const struct sim_node *to,
                     uint64_t *last_ns);
bool sim_is_cut(const struct sim *sim, const struct sim_node *a, const struct sim_node *b);
void sim_cut(struct sim *sim, struct sim_node *a, struct sim_node *b, uint64_t duration_ns);

/* --- nodes.c --- */

struct sim_node *sim_node_add(struct sim *sim, enum sim_role role, uint32_t number);
struct sim_node *sim_node_named(struct sim *sim, const char *target);
void sim_node_start(struct sim_node *node);
/* The process ends at once; it starts again after delay_ns. */
void sim_node_kill(struct sim_node *node, uint64_t delay_ns);
/* The process is asked to end. */
void sim_node_leave(struct sim_node *node);
/* After each event: alarms, and the oracles that watch single steps. */
void sim_node_settle(struct sim_node *node);
/* All processes end, for the end of the run. */
void sim_nodes_close(struct sim *sim);
uint64_t sim_epoch(struct sim *sim);
void sim_random(void *impl, void *out, size_t length); /* impl: struct sim */

/* --- faults.c --- */

void sim_faults_start(struct sim *sim);
/* The storm is over: everything runs again, and nobody is cut off. */
void sim_faults_stop(struct sim *sim);

/* --- oracle.c --- */

void sim_check_rest(struct sim *sim);

#endif
