/*
 * supervisor.h: the processes of one cluster on this host: all started, all watched, stopped in order.
 *
 * The processes find each other in any order, but those that look for others are started later: then
 * nobody has to complain that the others are not there yet. When all have been ready
 * once, on_started is called. When one cannot start, on_failed is called and the rest is stopped.
 * Stopping goes rank by rank: what clients talk to first, what that needs afterwards, so that
 * running requests can end. on_ended is called once, when no process is left.
 *
 * Loop thread only.
 */
#ifndef TANDEM_CLI_SUPERVISOR_H
#define TANDEM_CLI_SUPERVISOR_H

#include "cli/child.h"
#include "lib/net/loop.h"

#define CLI_CHILDREN_MAX 128

struct cli_child_plan {
    const char *name;
    const char *const *argv;
    unsigned stop_rank; /* lower ranks are stopped first */
    bool starts_later;  /* when all that do not have been ready once; these come last in the list */
};

struct cli_supervisor_config {
    struct net_loop *loop;
    const struct cli_child_plan *plans; /* live as long as the supervisor */
    size_t count;                       /* at most CLI_CHILDREN_MAX */
    struct cli_child_times times;
    int stdout_fd; /* of the children; -1: ours */

    void *ctx;
    /* Child i listens (again) on address. May be NULL. */
    void (*on_child_ready)(void *ctx, size_t i, const char *address);
    /* Child i is starting, see child.h. May be NULL. */
    void (*on_child_progress)(void *ctx, size_t i, const char *what, uint64_t done, uint64_t total);
    void (*on_started)(void *ctx);
    /* Once; the supervisor has begun to stop. */
    void (*on_failed)(void *ctx, const char *reason);
    /* No process is left. clean: none had to be killed, none failed while it was stopping. */
    void (*on_ended)(void *ctx, bool clean);
};

struct cli_supervisor;

/* Starts the first processes. On failure none of them is left. */
td_status_t cli_supervisor_open(const struct cli_supervisor_config *config,
                                struct cli_supervisor **supervisor_out,
                                struct td_error *error) TD_MUST_USE;

/*
 * Lets the processes finish what they do and end; on_ended follows, never from inside the call. A second
 * call stops at once what is left.
 */
void cli_supervisor_stop(struct cli_supervisor *supervisor);

/* The address that child i said last; "" before that. */
const char *cli_supervisor_address(const struct cli_supervisor *supervisor, size_t i);

const struct cli_child *cli_supervisor_child(const struct cli_supervisor *supervisor, size_t i);

/* Kills what still runs. NULL is allowed. */
void cli_supervisor_close(struct cli_supervisor *supervisor);

#endif
