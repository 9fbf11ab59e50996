/*
 * internal.h: the router core's objects, shared by its files and by nobody else.
 *
 * The core owns journeys, links and the picture of the fleet. A journey is in exactly one of: the queue
 * (QUEUED), the map of placements (PLACING), or the list of its link (from STARTING on).
 */
#ifndef TANDEM_ROUTER_INTERNAL_H
#define TANDEM_ROUTER_INTERNAL_H

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/time.h"
#include "lib/base/timers.h"
#include "router/core.h"
#include "router/journey.h"

#define ROUTER_CANDIDATES_MAX 3
#define ROUTER_FRAME_TOKENS   8192 /* ids of up to 5 bytes each: under 64 KiB with the usual ones */
#define LINK_ENDED_MAX        1024 /* acknowledgements that wait for a link */

/* What a journey still has to tell its worker. */
enum journey_owes {
    JOURNEY_OWES_CANCEL = 1,
    JOURNEY_OWES_ATTACH = 2,
};

struct router_candidate {
    char target[ROUTER_TARGET_BYTES];
    uint64_t epoch;
    uint32_t matched_blocks;
};

struct router_journey {
    struct router_core *core;
    struct td_u128 id;
    uint8_t state;
    struct td_timer timer;
    struct td_list node;      /* queue, or link's journeys */
    struct td_list send_node; /* link's urgent or starting list */
    void *context;            /* the front's; NULL: abandoned */
    bool counted;             /* holds one of the running places */

    char model[ROUTER_NAME_BYTES];
    uint32_t *tokens;
    uint32_t token_count;
    uint32_t max_new_tokens;
    Td__Sampling sampling; /* its arrays are the journey's */
    struct td_u128 salt;
    struct td_u128 text_id;
    uint64_t deadline_ns;
    uint64_t queue_deadline_ns; /* waiting for capacity must end; anew with each try */
    uint64_t not_before_ns;     /* QUEUED: not to be tried again earlier */

    uint64_t place_number; /* PLACING */
    struct router_link *link;
    uint32_t tries;                   /* that have failed */
    uint64_t tried[ROUTER_TRIES_MAX]; /* epochs of the workers to leave out for that */
    uint32_t tried_count;
    struct router_candidate candidates[ROUTER_CANDIDATES_MAX];
    uint32_t candidate_count;

    bool start_sent;
    uint32_t tokens_sent;
    unsigned owes;
    uint32_t next_index; /* of the output */

    uint64_t started_ns;
    uint64_t admitted_ns;
    uint64_t placing_ns;
    struct front_result result;
};

enum router_link_state {
    LINK_CONNECTING = 1,
    LINK_GREETING, /* the stream is open; Hello is sent or about to be */
    LINK_UP,
    LINK_DOWN, /* waiting for the next try */
};

struct router_link {
    struct router_core *core;
    uint64_t number;
    uint64_t epoch; /* of the worker; a link serves one incarnation */
    char target[ROUTER_TARGET_BYTES];
    enum router_link_state state;
    bool hello_owed;
    struct td_timer timer; /* the next try, or idleness */
    struct td_list node;
    struct td_list journeys;
    struct td_list urgent;   /* journeys with something owed */
    struct td_list starting; /* journeys with frames to send, served in turn */
    struct td_u128 ended[LINK_ENDED_MAX];
    uint32_t ended_count;

    /* the message being sent */
    Td__GenerateIn out;
    Td__Hello hello;
    Td__Versions versions;
    Td__Start start;
    Td__Sampling sampling;
    Td__PrefillCandidate prefill[ROUTER_CANDIDATES_MAX];
    Td__PrefillCandidate *prefill_pointers[ROUTER_CANDIDATES_MAX];
    Td__StartTokens frame;
    Td__Cancel cancel;
    Td__Attach attach;
    Td__Ended ack;
};

struct router_core {
    uint64_t epoch;
    struct router_limits limits;
    struct router_env env;
    uint64_t now_ns;
    struct td_timers timers;
    struct td_list queue;
    uint32_t queued;
    uint32_t running;
    struct td_timer queue_timer; /* the earliest not_before of the queue */
    struct td_map journeys;      /* by id */
    struct td_map placing;       /* by place_number */
    struct td_list links;
    uint32_t link_count;
    uint64_t last_number;
    struct router_worker workers[ROUTER_WORKERS_MAX];
    uint32_t worker_count;
    uint64_t service_ns; /* smoothed time that a request holds a running place */
    struct router_counters counters;
};

/* core.c */
void router_timer_after(struct router_core *core, struct td_timer *timer, uint32_t delay_ms);
struct router_worker *router_worker_find(struct router_core *core, uint64_t epoch);
uint32_t router_us(uint64_t ns);

/* admission.c */
void admission_push(struct router_journey *journey, bool in_front);
void admission_remove(struct router_journey *journey);
void admission_run(struct router_core *core); /* starts what there is room for */
void admission_release(struct router_journey *journey);
uint32_t admission_retry_after_ms(const struct router_core *core);
uint32_t admission_capacity(const struct router_core *core);
void admission_init(struct router_core *core);

/* journey.c */
void journey_step(struct router_journey *journey, enum journey_event event);
void journey_fail_with(struct router_journey *journey, td_status_t status, const char *reason);
/* Whether tokens between what was passed on and the update are missing: a fault of the worker's. */
bool journey_misses(const struct router_journey *journey, const Td__Update *update);
void journey_on_update(struct router_journey *journey, const Td__Update *update);
void journey_link_lost(struct router_journey *journey);
/* The storage alone, for what leaves nothing behind. */
void journey_free_memory(struct router_journey *journey);
void journey_free(struct router_journey *journey);

/* place.c */
void place_ask(struct router_journey *journey);

/* link.c */
struct router_link *link_for(struct router_core *core, const struct router_worker *worker);
bool link_is_down(const struct router_core *core,
                  uint64_t epoch); /* it could not be reached lately */
void link_take(struct router_link *link, struct router_journey *journey);
void link_leave(struct router_journey *journey);
void link_owe(struct router_journey *journey, unsigned what);
void link_ended(struct router_link *link, struct td_u128 id);
void link_sweep(struct router_core *core); /* after a change of the fleet */
void links_close(struct router_core *core);

#endif
