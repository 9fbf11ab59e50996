/*
 * env.h: the world as the worker core sees it: everything that leaves the core goes through here.
 *
 * Production (worker/runtime.c) wires these calls to the engine and transfer threads, to RPC calls
 * and to the loop; the simulator wires them to its event queue. Calls return at once and never call
 * back into the core. Messages are borrowed for the call (the callee packs them), commands move.
 */
#ifndef TANDEM_WORKER_ENV_H
#define TANDEM_WORKER_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "kvtransfer/kvtransfer.h"
#include "proto/tandem.pb-c.h"

struct worker_env {
    void *impl;

    /* Unpredictable bytes, for transfer ids and keys. */
    void (*random)(void *impl, void *out, size_t length);

    /* To the engine and to the transfer thread; answers come to worker_core_on_engine and _on_kvt. */
    void (*engine)(void *impl, struct engine_command *command);
    void (*kvt)(void *impl, struct kvt_command *command);

    /* Something is waiting for the link or the scheduler stream: pull it with worker_link_next or
     * worker_announce_next when a message can be sent. `handle` is what the driver gave at open. */
    void (*link_ready)(void *impl, void *handle);
    void (*announce_ready)(void *impl, void *handle);

    /* Closes a link after a protocol violation; worker_link_closed is not called afterwards. */
    void (*link_close)(void *impl, void *handle, td_status_t status, const char *reason);

    /* Unary Pair; the answer comes to worker_core_on_pair with the same number. */
    void (*pair)(void *impl, uint64_t pair, const char *target, const Td__PairRequest *request,
                 uint32_t deadline_ms);

    /* Our asks. Answers: worker_core_on_ask_message, worker_core_on_ask_closed (also after a failed
     * open, never after ask_close). `ask` is a number of the core's. */
    void (*ask_open)(void *impl, uint64_t ask, const char *target, const Td__AskIn *first);
    void (*ask_send)(void *impl, uint64_t ask, const Td__AskIn *message);
    void (*ask_close)(void *impl, uint64_t ask);

    /* Asks of others: `handle` is what the driver gave to worker_core_on_asked. After reply_close the
     * handle is dead; a driver whose stream broke says worker_core_on_asker_lost instead. */
    void (*reply_send)(void *impl, void *handle, const Td__AskOut *message);
    void (*reply_close)(void *impl, void *handle);

    /* How long the engine's present step has been running; 0 when it has no work. For load reports. */
    uint32_t (*step_age_ms)(void *impl);

    /* The worker cannot go on safely (too much quarantined): say so, and end the process. */
    void (*fatal)(void *impl, const char *reason);
};

#endif
