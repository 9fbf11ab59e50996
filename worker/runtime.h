/*
 * runtime.h: a worker in production: the worker core between its sockets and its threads.
 *
 * It loads the model, reserves the block pool, starts the engine thread and the transfer thread, serves
 * RPC and HTTP, dials peers and schedulers, and carries everything to and from the worker core, which
 * decides. Loop thread. tandem-prefill and tandem-decode differ only in the policy they give here.
 */
#ifndef TANDEM_WORKER_RUNTIME_H
#define TANDEM_WORKER_RUNTIME_H

#include "kvtransfer/cuda.h"
#include "lib/api/limits.h"
#include "lib/net/program.h"
#include "worker/options.h"
#include "worker/types.h"

struct cuda_device;
struct worker_runtime;

struct worker_runtime_config {
    struct net_loop *loop;
    struct rpc *rpc;
    bool insecure; /* RPC beyond this host without certificates */
    bool has_certificates;
    uint64_t drain_ms;
    const struct worker_options *options; /* lives as long as the runtime */
    const struct api_limits *limits;
    struct worker_policy policy;
    /* Opens the GPU with this index, see engine/cuda/gpu/gpu.h; tests open an interpreted one. */
    td_status_t (*open_gpu)(uint32_t index, struct cuda_device **device_out,
                            struct td_error *error);
    /* The same for its pool, see kvtransfer/cuda.h. */
    td_status_t (*open_gpu_pool)(const struct kvt_cuda_config *config,
                                 struct kvt_device **device_out, struct td_error *error);
    /* Everything has ended: the runtime may be closed. Comes once, after drain or stop, or because the
     * worker cannot go on safely. */
    void (*stopped)(void *ctx, int exit_status);
    /* A step hangs, or a turn or the closing of the transfers, and with it whatever waits for that thread: the process
     * must end now, as it is. */
    void (*hung)(void *ctx);
    void *ctx;
};

/* Loads and listens; takes seconds for a large model. On failure nothing is left open. */
td_status_t worker_runtime_open(const struct worker_runtime_config *config,
                                struct worker_runtime **runtime_out,
                                struct td_error *error) TD_MUST_USE;

/* The real address of the RPC listener. */
const char *worker_runtime_rpc_address(const struct worker_runtime *runtime);
/* The real address of the OpenAI port. */
const char *worker_runtime_http_address(const struct worker_runtime *runtime);

/* Takes nothing new; `stopped` comes when what runs has ended. */
void worker_runtime_drain(struct worker_runtime *runtime);
/* Breaks off what runs; `stopped` comes when blocks and peers are at rest. */
void worker_runtime_stop(struct worker_runtime *runtime);

/* After `stopped`; from outside the loop's callbacks. */
void worker_runtime_close(struct worker_runtime *runtime);

/* Appends Markdown tables of all metrics, for docs/operations.md. */
void worker_metrics_print_markdown(struct td_buf *out);

#endif
