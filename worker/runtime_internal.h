/*
 * runtime_internal.h: the parts of a worker's runtime, shared by its files and by nobody else.
 *
 *   load.c        pool, engine thread, transfer thread
 *   load_model.c  model, tokenizer, packed weights
 *   load_gpu.c    the GPU, and what is on it
 *   load_transfers.c  the transfer thread and its transports
 *   pump.c        rings of the two threads <-> worker core
 *   serve.c       RPC that others call: Generate, Prefill, Pair, Text
 *   dial.c        RPC that we call: Pair, Prefill
 *   report.c      RPC to schedulers: Announce
 *   local.c       our own OpenAI port: the front's backend
 *   gauges.c      metrics
 *   watch.c       an engine that is lost, and threads that hang
 *   runtime.c     opening, stopping, closing
 */
#ifndef TANDEM_WORKER_RUNTIME_INTERNAL_H
#define TANDEM_WORKER_RUNTIME_INTERNAL_H

#include "engine/cpu/cpu.h"
#include "engine/cuda/blocks.h"
#include "engine/cuda/choice.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/hash.h"
#include "engine/runtime.h"
#include "front/front.h"
#include "kvtransfer/runtime.h"
#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/metrics.h"
#include "lib/base/time.h"
#include "lib/net/rpc.h"
#include "lib/text/model.h"
#include "model/model.h"
#include "proto/unpack.h"
#include "worker/core.h"
#include "worker/runtime.h"

#define WORKER_RING_CAPACITY 4096

/*
 * What reading one message may allocate. The largest sound one, an ask for a prompt of a million tokens,
 * takes 5 MiB; one made of empty fields would take hundreds.
 */
#define WORKER_UNPACK_BYTES_MAX ((size_t)12 << 20)

struct worker_engines {
    struct model *model;
    struct cpu_weights *weights; /* NULL with a GPU */
    struct cuda_choice choice;
    struct cuda_device *device; /* NULL: the CPU computes */
    struct cuda_blocks *blocks; /* NULL without a GPU */
    struct cuda_device
        *hash_device;             /* another queue of the GPU, for the transfer thread; likewise */
    struct cuda_hasher *hasher;   /* NULL: blocks are hashed on the host */
    struct kvt_device *kv_device; /* the pool, for transfers; likewise */
    struct text_model *text;
    struct td_buf text_bytes; /* the serialised source, for routers */
    struct td_u128 text_id;
    struct engine_kv kv;
    struct engine_runtime *engine;
    struct kvt_runtime *transfers;
};

enum worker_phase {
    WORKER_SERVING = 0,
    WORKER_DRAINING,
    WORKER_STOPPING_TRANSFERS,
    WORKER_STOPPING_ENGINE,
    WORKER_CLOSING_FRONT,
    WORKER_STOPPED,
};

/* Zero without a GPU. */
struct worker_gpu_gauges {
    uint64_t memory_bytes;
    uint64_t kv_bytes;
};

/* watch.c's own: a thread whose steps, or turns, are looked at. */
struct worker_watch {
    uint64_t hang_ms; /* a step that runs so long hangs; 0: none does */
    uint64_t seen_ns; /* when the step began that the last look saw; 0: it saw none */
    uint32_t looks;   /* after the first that saw this step */
};

struct worker_watches {
    struct net_timer timer;
    struct worker_watch engine;
    struct worker_watch transfers;
};

struct worker_runtime {
    struct worker_runtime_config config;
    struct worker_engines engines;
    struct worker_core *core;
    enum worker_phase phase;
    int exit_status;
    int64_t created; /* Unix seconds */
    char model_name[WORKER_MODEL_NAME_BYTES];
    struct td_u128 content_id;

    /* pump.c */
    struct net_wake *wake;
    struct td_list engine_backlog; /* commands for which a ring had no room */
    struct td_list transfer_backlog;
    struct net_defer settle; /* at the end of a turn in which the core was called */
    struct net_timer timer;

    /* serve.c */
    struct rpc_server *server;
    uint32_t ask_count; /* Prefill streams, those that have not asked yet included */
    uint32_t text_count;

    /* dial.c */
    struct td_list channels;
    uint32_t channel_count;
    struct td_map asks;  /* by number */
    struct td_map pairs; /* by number */

    /* report.c */
    struct td_list reports;

    struct worker_watches watches;

    /* local.c */
    struct front *front;

    /* gauges.c */
    struct td_metrics *metrics;
    struct engine_load load; /* copies, taken when metrics are rendered */
    struct worker_counters counters;
    struct worker_gauges gauges;
    struct worker_gpu_gauges gpu;
};

/* load.c */
/* How long the parts of loading took; text and weights run at the same time. */
struct worker_load_times {
    uint64_t model_ns;
    uint64_t text_ns;
    uint64_t weights_ns;
};

/*
 * load_model.c: how far loading is, for the supervisor and, where it takes long, for the log. say_progress is told as often as
 * one likes; its ctx is what begin has given.
 */
struct worker_saying {
    uint64_t reported_ns;
    uint64_t logged_ns;
};
struct worker_saying worker_saying_begin(void);
void worker_say_progress(void *ctx, const char *what, uint64_t done, uint64_t total);

/* load_model.c: the parts that the model file is behind. The caller closes what is open, also on failure. */
td_status_t worker_model_open(struct worker_runtime *runtime, struct worker_load_times *times_out,
                              struct td_error *error) TD_MUST_USE;

/* load_transfers.c: opens the transfers, and adds their addresses to the identity. */
td_status_t worker_transfers_open(struct worker_runtime *runtime, uint64_t epoch,
                                  struct worker_identity *identity,
                                  struct td_error *error) TD_MUST_USE;

/* load_gpu.c: opens the device, if one was asked for; the model on it; and closes both. */
td_status_t worker_gpu_open(struct worker_runtime *runtime, struct td_error *error) TD_MUST_USE;
td_status_t worker_gpu_backend_open(struct worker_runtime *runtime,
                                    struct engine_backend **backend_out,
                                    struct td_error *error) TD_MUST_USE;
void worker_gpu_close(struct worker_engines *engines);

/* The compute threads of the CPU: as asked for, or the cores that this process may use. */
uint32_t worker_threads(const struct worker_options *options);

td_status_t worker_engines_open(struct worker_runtime *runtime, uint64_t epoch,
                                struct worker_identity *identity_out,
                                struct td_error *error) TD_MUST_USE;
void worker_engines_close(struct worker_engines *engines);

/* pump.c */
td_status_t worker_pump_open(struct worker_runtime *runtime) TD_MUST_USE;
void worker_pump_close(struct worker_runtime *runtime);
void worker_pump_wake(void *impl);                            /* any thread */
void worker_pump_hear_engine(struct worker_runtime *runtime); /* all it has said so far */
void worker_pump_engine(void *impl, struct engine_command *command);
void worker_pump_transfers(void *impl, struct kvt_command *command);
/* To be called in every turn in which the core was called. */
void worker_touch(struct worker_runtime *runtime);

/* serve.c */
td_status_t worker_serve_open(struct worker_runtime *runtime, struct td_error *error) TD_MUST_USE;
void worker_serve_close(struct worker_runtime *runtime);
void worker_serve_env(struct worker_env *env);

/* dial.c */
void worker_dial_open(struct worker_runtime *runtime);
void worker_dial_close(struct worker_runtime *runtime);
void worker_dial_env(struct worker_env *env);

/* report.c */
td_status_t worker_report_open(struct worker_runtime *runtime, struct td_error *error) TD_MUST_USE;
void worker_report_close(struct worker_runtime *runtime);
void worker_report_env(struct worker_env *env);

/* local.c */
struct front_backend worker_local_backend(struct worker_runtime *runtime);

/* gauges.c */
td_status_t worker_gauges_open(struct worker_runtime *runtime) TD_MUST_USE;
void worker_gauges_render(struct worker_runtime *runtime, struct td_buf *out);

/* watch.c */
void worker_watch_open(struct worker_runtime *runtime);
void worker_watch_close(struct worker_runtime *runtime);
/* Waits for the end of the transfer thread, which a GPU may hold for ever: then the process ends as at any hang. */
void worker_watch_end(struct worker_runtime *runtime);
/* Why the engine will never compute again, or NULL. */
const char *worker_watch_lost(const struct worker_runtime *runtime);
/*
 * A look at now_ns, when the engine's present step began at started_ns (0: there is none); both of one clock. Whether
 * the step hangs.
 */
bool worker_watch_look(struct worker_watch *watch, uint64_t started_ns, uint64_t now_ns);
/* Gives up if the engine is lost. To be called when the engine's thread has woken the loop. */
void worker_watch_engine(struct worker_runtime *runtime);
/* The worker breaks off what runs, and ends with this status; the first caller's counts. */
void worker_give_up(struct worker_runtime *runtime, int exit_status, const char *reason);

/* runtime.c: looks whether the present phase of stopping is over. */
void worker_phase_advance(struct worker_runtime *runtime);

#endif
