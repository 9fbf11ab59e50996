/*
 * service.h: the scheduler on the network: Announce, Place and Fleet over RPC around one core.
 *
 * It owns the RPC server, the core and its clock, and one small object per open stream. It refuses to
 * decide anything: every message goes to the core, and what the core has to say is pulled from it
 * whenever a stream can send, so a peer that does not read costs a few flags and no memory.
 *
 * Who may call what, on links with TLS: Announce is for workers, Place and Fleet for routers.
 *
 * Loop thread only.
 */
#ifndef TANDEM_SCHEDULER_SERVICE_H
#define TANDEM_SCHEDULER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/metrics.h"
#include "lib/base/status.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "scheduler/core.h"

struct sched_service;

struct sched_service_config {
    const char *address;      /* "127.0.0.1:7100", "unix:/path" */
    bool insecure;            /* without certificates, listen beyond this host all the same */
    struct sched_config core; /* an epoch or seed of 0 is drawn at random */
};

/*
 * Listens and serves. TD_INVALID: a number of config.core makes no sense; TD_REFUSED, TD_IO: see
 * rpc_server_open; TD_NO_MEMORY.
 */
td_status_t sched_service_open(struct net_loop *loop, struct rpc *rpc,
                               const struct sched_service_config *config,
                               struct sched_service **service_out,
                               struct td_error *error) TD_MUST_USE;

/* The real address. */
const char *sched_service_address(const struct sched_service *service);

/* For figures; nobody else calls into it. */
const struct sched_core *sched_service_core(const struct sched_service *service);

/* Streams of workers and routers that are open, those that have not said who they are included. */
size_t sched_service_stream_count(const struct sched_service *service);

/* From now on the time that each Place takes is observed, in nanoseconds. */
void sched_service_measure(struct sched_service *service, struct td_histogram *place_ns);

/*
 * Takes no more calls and ends all streams with a word of goodbye; workers and routers go on without
 * us. on_drained runs once when all have ended; not after sched_service_close.
 */
void sched_service_drain(struct sched_service *service, void (*on_drained)(void *ctx), void *ctx);
bool sched_service_draining(const struct sched_service *service);

/* Ends everything now. NULL is allowed. */
void sched_service_close(struct sched_service *service);

#endif
