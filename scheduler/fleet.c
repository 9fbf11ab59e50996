/* fleet.c: the table of workers, see fleet.h. */
#include "scheduler/fleet.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

TD_FSM_DEFINE(sched_worker, SCHED_WORKER, "One worker, as its scheduler sees it.");

void sched_fleet_init(struct sched_fleet *fleet)
{
    td_list_init(&fleet->workers);
    td_map_init(&fleet->by_epoch, SCHED_WORKERS_MAX);
}

void sched_fleet_fini(struct sched_fleet *fleet)
{
    assert(td_list_empty(&fleet->workers));
    td_map_fini(&fleet->by_epoch);
}

struct sched_worker *sched_fleet_find(const struct sched_fleet *fleet, uint64_t epoch)
{
    return td_map_find(&fleet->by_epoch, td_u128_from_u64(epoch));
}

struct sched_worker *sched_fleet_at(const struct sched_fleet *fleet, const char *rpc_target)
{
    sched_fleet_for_each(worker, fleet)
    {
        if (strcmp(worker->identity.rpc_target, rpc_target) == 0)
            return worker;
    }
    return NULL;
}

/* Workers with the same content_id must agree on what a block is, or their keys would never match. */
static const struct sched_worker *other_block_tokens(const struct sched_fleet *fleet,
                                                     const struct sched_identity *identity)
{
    sched_fleet_for_each(worker, fleet)
    {
        if (td_u128_equal(worker->identity.content_id, identity->content_id) &&
            worker->identity.block_tokens != identity->block_tokens &&
            strcmp(worker->identity.rpc_target, identity->rpc_target) != 0)
            return worker;
    }
    return NULL;
}

/* A process never changes these; a registration that does comes from somebody else. */
static bool is_same_process(const struct sched_identity *a, const struct sched_identity *b)
{
    return a->role == b->role && td_u128_equal(a->content_id, b->content_id) &&
           a->block_count == b->block_count;
}

td_status_t sched_fleet_check(const struct sched_fleet *fleet,
                              const struct sched_identity *identity, struct td_error *error)
{
    const struct sched_worker *same = sched_fleet_find(fleet, identity->epoch);
    const struct sched_worker *other;

    if (same != NULL && strcmp(same->identity.rpc_target, identity->rpc_target) != 0)
        return td_fail(error, TD_REFUSED, "registration: epoch belongs to the worker at %s",
                       same->identity.rpc_target);
    if (same != NULL && !is_same_process(&same->identity, identity))
        return td_fail(error, TD_REFUSED,
                       "registration: epoch is known with another role, content_id or block_count");
    other = other_block_tokens(fleet, identity);
    if (other != NULL)
        return td_fail(error, TD_REFUSED,
                       "registration: geometry.block_tokens is %u here and %u at %s, which has the "
                       "same content_id",
                       identity->block_tokens, other->identity.block_tokens,
                       other->identity.rpc_target);
    if (sched_fleet_count(fleet) >= SCHED_WORKERS_MAX &&
        sched_fleet_at(fleet, identity->rpc_target) == NULL)
        return td_fail(error, TD_LIMIT, "registration: the fleet has its %d workers",
                       SCHED_WORKERS_MAX);
    return TD_OK;
}

td_status_t sched_fleet_add(struct sched_fleet *fleet, struct sched_identity *identity,
                            struct sched_worker **worker_out)
{
    struct sched_worker *worker = calloc(1, sizeof *worker);
    td_status_t status;

    if (worker == NULL)
        return TD_NO_MEMORY;
    status = td_map_insert(&fleet->by_epoch, td_u128_from_u64(identity->epoch), worker);
    if (status != TD_OK) {
        free(worker);
        return status;
    }
    worker->identity = *identity;
    *identity = (struct sched_identity){0};
    td_list_push_back(&fleet->workers, &worker->node);
    *worker_out = worker;
    return TD_OK;
}

void sched_fleet_remove(struct sched_fleet *fleet, struct sched_worker *worker)
{
    struct sched_worker *removed =
        td_map_remove(&fleet->by_epoch, td_u128_from_u64(worker->identity.epoch));

    assert(removed == worker);
    assert(worker->feed.state == SCHED_FEED_CLOSED);
    assert(!worker->deadline.armed);
    td_list_remove(&worker->node);
    sched_identity_fini(&worker->identity);
    free(worker);
}

bool sched_worker_report(struct sched_worker *worker, const Td__LoadReport *report)
{
    struct sched_load *load = &worker->load;

    if (report->admitted < load->admitted)
        return false; /* it counts upwards within an epoch */
    sched_guess_admitted(&worker->guesses, report->admitted - load->admitted);
    *load = (struct sched_load){
        .running = report->running,
        .prefilling = report->prefilling,
        .prefilling_tokens = report->prefilling_tokens,
        .waiting = report->waiting,
        .waiting_tokens = report->waiting_tokens,
        .blocks_free = report->blocks_free,
        .step_age_ms = report->step_age_ms,
        .prefill_tokens_per_s = report->prefill_tokens_per_s,
        .decode_step_us = report->decode_step_us,
        .admitted = report->admitted,
    };
    return true;
}

const char *sched_worker_state_name(uint8_t state)
{
    static const char *const names[SCHED_WORKER_STATE_COUNT] = {
        [SCHED_WORKER_REGISTERED] = "registered",
        [SCHED_WORKER_READY] = "ready",
        [SCHED_WORKER_DRAINING] = "draining",
        [SCHED_WORKER_STALE] = "stale",
        [SCHED_WORKER_LOST] = "lost",
        [SCHED_WORKER_GONE] = "gone",
    };

    assert(state < SCHED_WORKER_STATE_COUNT);
    return names[state];
}
