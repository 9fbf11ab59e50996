/*
 * worker.h: a worker's process: the worker core, an engine core over the modelled backend, a transfer
 * core over the loop transport, and the rings between these three.
 *
 * In production each of the three has a thread. Here commands and events pass through rings that keep
 * their order and take their own time, so everything that can cross does cross.
 */
#ifndef TANDEM_SIM_WORKER_H
#define TANDEM_SIM_WORKER_H

#include "engine/core.h"
#include "kvtransfer/core.h"
#include "kvtransfer/loop.h"
#include "lib/base/map.h"
#include "sim/world.h"
#include "worker/core.h"

struct sim_stream;

/* One scheduler that this worker reports to. */
struct sim_announcer {
    struct sim_worker *owner;
    struct worker_announcer *announcer;
    struct sim_stream *stream; /* NULL: not connected at present */
    uint32_t scheduler;
};

/* The blocks of a transfer that somebody outside may touch, as the oracles remember them. */
struct sim_watch {
    struct td_list node;
    struct td_u128 transfer;
    uint64_t peer;
    bool is_sender;
    bool quarantined;
    uint32_t count;
    uint32_t capacity;
    struct engine_slot *slots;
};

struct sim_worker {
    struct sim_node *node;
    uint64_t epoch;
    struct worker_core *core;
    struct sim_alarm core_alarm;

    struct engine_kv kv;
    struct engine_backend *backend;
    struct engine_core *engine;
    struct sim_alarm engine_alarm;
    const struct engine_batch *batch; /* flying */
    struct engine_result result;
    bool late_result; /* computed again when the step ends: what was read must still be there */
    bool waking;
    uint64_t step_started_ns;
    struct td_map cached; /* keys that can be hit, as the engine has said */

    struct kvt_core *kvt;
    struct kvt_transport *transport;
    struct sim_alarm kvt_alarm;
    struct td_list to_kvt; /* commands in the ring */
    struct td_list watches;
    struct td_map ended_early; /* transfers whose end the run was told to make up */

    uint64_t to_engine_ns; /* arrival of the last one in each ring */
    uint64_t from_engine_ns;
    uint64_t to_kvt_ns;
    uint64_t from_kvt_ns;
    bool is_dying;
    struct sim_announcer announcers[SIM_SCHEDULERS_MAX];
};

void sim_worker_open(struct sim_node *node);
void sim_worker_close(struct sim_node *node);
void sim_worker_settle(struct sim_node *node);
/* Asked to end: it drains, and ends by itself. */
void sim_worker_drain(struct sim_node *node, uint32_t timeout_ms);

/* worker_env.c: what the worker core says to the network and to schedulers */
void sim_worker_env_fill(struct sim_worker *worker, struct worker_env *env_out);
void sim_worker_announce(struct sim_worker *worker);

/* worker_engine.c */
void sim_engine_open(struct sim_worker *worker);
void sim_engine_close(struct sim_worker *worker);
void sim_engine_settle(struct sim_worker *worker);
void sim_engine_send(void *impl, struct engine_command *command); /* worker_env.engine */
uint32_t sim_engine_step_age_ms(void *impl);

/* worker_kvt.c */
void sim_kvt_open(struct sim_worker *worker);
void sim_kvt_close(struct sim_worker *worker);
void sim_kvt_settle(struct sim_worker *worker);
void sim_kvt_send(void *impl, struct kvt_command *command); /* worker_env.kvt */
/* A message of the loop transport; impl is the simulator. */
void sim_kvt_post(void *impl, struct kvt_loop_message *message);

/* watch.c: who may touch which block */
void sim_watch_command(struct sim_worker *worker, const struct kvt_command *command);
void sim_watch_event(struct sim_worker *worker, const struct kvt_event *event);
struct sim_watch *sim_watch_find(struct sim_worker *worker, struct td_u128 transfer,
                                 bool is_sender);
void sim_watch_check(struct sim_worker *worker);
void sim_watch_close(struct sim_worker *worker);

#endif
