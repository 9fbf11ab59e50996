/*
 * ops.h: what an operator asks a scheduler over HTTP.
 *
 *     /health   200 while the loop turns: the loop that does all the work is the one that answers,
 *               so a scheduler that is stuck does not answer, and its supervisor restarts it
 *     /ready    200 while workers and routers are taken; 503 once it drains
 *     /metrics  Prometheus
 *     /fleet    JSON: every worker with its state, its load and what is known of its cache
 *
 * Readiness does not ask for workers: they find a scheduler by asking the ready ones.
 */
#ifndef TANDEM_SCHEDULER_OPS_H
#define TANDEM_SCHEDULER_OPS_H

#include "scheduler/service.h"

struct sched_ops;

/* Listens and answers. The service must live as long. TD_INVALID, TD_IO; TD_NO_MEMORY. */
td_status_t sched_ops_open(struct net_loop *loop, const char *address,
                           struct sched_service *service, struct sched_ops **ops_out,
                           struct td_error *error) TD_MUST_USE;

/* The real address. */
const char *sched_ops_address(const struct sched_ops *ops);

/* NULL is allowed. */
void sched_ops_close(struct sched_ops *ops);

#endif
