/* supervisor.c: see supervisor.h. */
#include "cli/supervisor.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define ADDRESS_BYTES 280

struct member {
    struct cli_child child;
    bool was_ready;
    char address[ADDRESS_BYTES];
};

enum phase { PHASE_RUNNING, PHASE_STOPPING, PHASE_HURRYING, PHASE_ENDED };

struct cli_supervisor {
    struct cli_supervisor_config config;
    struct net_defer advance; /* an end was reported: see who is next */
    enum phase phase;
    size_t started_count;
    size_t ready_count; /* started ones that have been ready once */
    struct member members[];
};

/* ---- stopping ---- */

/* The lowest rank that has a member left; UINT_MAX: nobody is left. */
static unsigned lowest_rank(const struct cli_supervisor *supervisor)
{
    unsigned lowest = UINT_MAX;

    for (size_t i = 0; i < supervisor->started_count; i++)
        if (!cli_child_has_ended(&supervisor->members[i].child) &&
            supervisor->config.plans[i].stop_rank < lowest)
            lowest = supervisor->config.plans[i].stop_rank;
    return lowest;
}

static bool all_ended_well(const struct cli_supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->started_count; i++)
        if (supervisor->members[i].child.was_killed || supervisor->members[i].child.ended_badly)
            return false;
    return true;
}

static void stop_lowest_rank(struct cli_supervisor *supervisor)
{
    unsigned rank = lowest_rank(supervisor);

    for (size_t i = 0; i < supervisor->started_count; i++)
        if (supervisor->config.plans[i].stop_rank == rank)
            cli_child_stop(&supervisor->members[i].child);
}

static void stop_all_now(struct cli_supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->started_count; i++) {
        struct cli_child *child = &supervisor->members[i].child;

        cli_child_stop(child);
        cli_child_hurry(child);
    }
}

static void advance(struct net_defer *defer)
{
    struct cli_supervisor *supervisor = td_container_of(defer, struct cli_supervisor, advance);

    if (supervisor->phase == PHASE_STOPPING)
        stop_lowest_rank(supervisor);
    if (lowest_rank(supervisor) == UINT_MAX && supervisor->phase != PHASE_ENDED) {
        supervisor->phase = PHASE_ENDED;
        supervisor->config.on_ended(supervisor->config.ctx, all_ended_well(supervisor));
    }
}

void cli_supervisor_stop(struct cli_supervisor *supervisor)
{
    if (supervisor->phase == PHASE_RUNNING) {
        supervisor->phase = PHASE_STOPPING;
    } else if (supervisor->phase == PHASE_STOPPING) {
        supervisor->phase = PHASE_HURRYING;
        stop_all_now(supervisor);
    }
    net_defer_post(supervisor->config.loop, &supervisor->advance);
}

/* ---- starting, and what children report ---- */

static td_status_t start_some(struct cli_supervisor *supervisor, bool later,
                              struct td_error *error);

static void fail(struct cli_supervisor *supervisor, const char *reason)
{
    net_defer_post(supervisor->config.loop, &supervisor->advance); /* it may have been the last */
    if (supervisor->phase != PHASE_RUNNING)
        return;
    cli_supervisor_stop(supervisor);
    supervisor->config.on_failed(supervisor->config.ctx, reason);
}

/* All that were started have been ready: the others follow, or all are there. */
static void go_on(struct cli_supervisor *supervisor)
{
    struct td_error error = {0};

    if (supervisor->phase != PHASE_RUNNING)
        return;
    if (supervisor->started_count == supervisor->config.count)
        supervisor->config.on_started(supervisor->config.ctx);
    else if (start_some(supervisor, true, &error) != TD_OK)
        fail(supervisor, error.text);
}

static void on_child_ready(void *ctx, struct cli_child *child, const char *address)
{
    struct cli_supervisor *supervisor = ctx;
    struct member *member = td_container_of(child, struct member, child);
    bool was_ready = member->was_ready;

    snprintf(member->address, sizeof member->address, "%s", address);
    member->was_ready = true;
    if (supervisor->config.on_child_ready != NULL)
        supervisor->config.on_child_ready(supervisor->config.ctx,
                                          (size_t)(member - supervisor->members), address);
    if (!was_ready && ++supervisor->ready_count == supervisor->started_count)
        go_on(supervisor);
}

static void on_child_progress(void *ctx, struct cli_child *child, const char *what, uint64_t done,
                              uint64_t total)
{
    struct cli_supervisor *supervisor = ctx;
    struct member *member = td_container_of(child, struct member, child);

    if (supervisor->config.on_child_progress != NULL)
        supervisor->config.on_child_progress(
            supervisor->config.ctx, (size_t)(member - supervisor->members), what, done, total);
}

static void on_child_failed(void *ctx, struct cli_child *child, const char *reason)
{
    (void)child;
    fail(ctx, reason);
}

static void on_child_ended(void *ctx, struct cli_child *child)
{
    struct cli_supervisor *supervisor = ctx;

    (void)child;
    net_defer_post(supervisor->config.loop, &supervisor->advance);
}

static td_status_t start_child(struct cli_supervisor *supervisor, size_t i, struct td_error *error)
{
    const struct cli_child_config config = {
        .name = supervisor->config.plans[i].name,
        .argv = supervisor->config.plans[i].argv,
        .stdout_fd = supervisor->config.stdout_fd,
        .times = supervisor->config.times,
        .loop = supervisor->config.loop,
        .ctx = supervisor,
        .on_ready = on_child_ready,
        .on_progress = on_child_progress,
        .on_failed = on_child_failed,
        .on_ended = on_child_ended,
    };

    return cli_child_init(&supervisor->members[i].child, &config, error);
}

static td_status_t start_some(struct cli_supervisor *supervisor, bool later, struct td_error *error)
{
    while (supervisor->started_count < supervisor->config.count &&
           supervisor->config.plans[supervisor->started_count].starts_later == later) {
        td_status_t status = start_child(supervisor, supervisor->started_count, error);

        if (status != TD_OK)
            return status;
        supervisor->started_count++;
    }
    return TD_OK;
}

/* ---- opening and closing ---- */

td_status_t cli_supervisor_open(const struct cli_supervisor_config *config,
                                struct cli_supervisor **supervisor_out, struct td_error *error)
{
    struct cli_supervisor *supervisor;
    td_status_t status;

    assert(config->count > 0 && config->count <= CLI_CHILDREN_MAX &&
           !config->plans[0].starts_later);
    supervisor = calloc(1, sizeof *supervisor + config->count * sizeof supervisor->members[0]);
    if (supervisor == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the supervisor");
    supervisor->config = *config;
    net_defer_init(&supervisor->advance, advance);
    status = start_some(supervisor, false, error);
    if (status != TD_OK)
        cli_supervisor_close(supervisor);
    else
        *supervisor_out = supervisor;
    return status;
}

const char *cli_supervisor_address(const struct cli_supervisor *supervisor, size_t i)
{
    return supervisor->members[i].address;
}

const struct cli_child *cli_supervisor_child(const struct cli_supervisor *supervisor, size_t i)
{
    return &supervisor->members[i].child;
}

void cli_supervisor_close(struct cli_supervisor *supervisor)
{
    if (supervisor == NULL)
        return;
    net_defer_cancel(&supervisor->advance);
    for (size_t i = 0; i < supervisor->started_count; i++)
        cli_child_fini(&supervisor->members[i].child);
    free(supervisor);
}
