/*
 * child.h: one supervised process: started, watched, restarted with growing pauses, stopped.
 *
 * A child that ends before it was ever ready is a mistake in its arguments or surroundings, and the
 * whole cluster gives up: starting it again would only repeat the message. Once it was ready it is
 * started again whenever it ends. What to do in which state is a table (child.c walks it).
 *
 * Everything runs on the loop thread, which must be the process's main thread (see process.h).
 */
#ifndef TANDEM_CLI_CHILD_H
#define TANDEM_CLI_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/fsm.h"
#include "lib/net/loop.h"
#include "lib/net/process.h"

#define CHILD_STATES(X, P)                                                         \
    X(P, STARTING, start_ms, "started for the first time; has not said ready yet") \
    X(P, RUNNING, calm_ms, "said ready; after calm_ms its failures are forgotten") \
    X(P, WAITING, back_off_ms, "ended by itself; will be started again")           \
    X(P, RESTARTING, start_ms, "started again; has not said ready yet")            \
    X(P, STOPPING, drain_ms, "was told to finish; after drain_ms it is killed")    \
    X(P, ENDED, none, "ended, and will not be started again")

#define CHILD_EVENTS(X, P)                                \
    X(P, READY, "it says that it listens")                \
    X(P, EXIT, "it ended, or could not be started again") \
    X(P, DUE, "the state's time is over")                 \
    X(P, STOP, "the supervisor wants it to finish")

#define CHILD_ACTIONS(X, P)                                         \
    X(P, ANNOUNCE, "tell the owner its address")                    \
    X(P, GIVE_UP, "tell the owner that it cannot start")            \
    X(P, BACK_OFF, "say how it ended and when it is started again") \
    X(P, SPAWN, "start it again")                                   \
    X(P, CALM, "forget earlier failures")                           \
    X(P, TERMINATE, "send SIGTERM")                                 \
    X(P, KILL, "send SIGKILL")                                      \
    X(P, FINISH, "tell the owner that it is gone")

#define CHILD_CELLS(X, P)                                                        \
    X(P, STARTING, READY, RUNNING, ANNOUNCE, "")                                 \
    X(P, STARTING, EXIT, ENDED, GIVE_UP, "")                                     \
    X(P, STARTING, DUE, STOPPING, GIVE_UP, "it hangs; told to finish as well")   \
    X(P, STARTING, STOP, STOPPING, TERMINATE, "")                                \
    X(P, RUNNING, READY, RUNNING, IGNORE, "it may say more than once")           \
    X(P, RUNNING, EXIT, WAITING, BACK_OFF, "")                                   \
    X(P, RUNNING, DUE, RUNNING, CALM, "")                                        \
    X(P, RUNNING, STOP, STOPPING, TERMINATE, "")                                 \
    X(P, WAITING, READY, WAITING, BUG, "there is no process")                    \
    X(P, WAITING, EXIT, WAITING, BUG, "there is no process")                     \
    X(P, WAITING, DUE, RESTARTING, SPAWN, "")                                    \
    X(P, WAITING, STOP, ENDED, FINISH, "")                                       \
    X(P, RESTARTING, READY, RUNNING, ANNOUNCE, "")                               \
    X(P, RESTARTING, EXIT, WAITING, BACK_OFF, "")                                \
    X(P, RESTARTING, DUE, RESTARTING, KILL, "it hangs; its end starts it again") \
    X(P, RESTARTING, STOP, STOPPING, TERMINATE, "")                              \
    X(P, STOPPING, READY, STOPPING, IGNORE, "too late")                          \
    X(P, STOPPING, EXIT, ENDED, FINISH, "")                                      \
    X(P, STOPPING, DUE, STOPPING, KILL, "")                                      \
    X(P, STOPPING, STOP, STOPPING, IGNORE, "was told already")                   \
    X(P, ENDED, READY, ENDED, IGNORE, "")                                        \
    X(P, ENDED, EXIT, ENDED, IGNORE, "")                                         \
    X(P, ENDED, DUE, ENDED, IGNORE, "")                                          \
    X(P, ENDED, STOP, ENDED, IGNORE, "")

TD_FSM_DECLARE(child, CHILD);

struct cli_child_times {
    uint64_t start_ms;          /* from start to "ready" */
    uint64_t back_off_first_ms; /* before the first restart; doubles from one to the next */
    uint64_t back_off_max_ms;
    uint64_t calm_ms;  /* alive for so long: the next pause is the first one again */
    uint64_t drain_ms; /* from SIGTERM to SIGKILL */
};

#define CLI_FAILURE_BYTES 384

struct cli_child;

struct cli_child_config {
    const char *name;        /* "prefill-0"; lives as long as the child, as does argv */
    const char *const *argv; /* see process.h */
    int stdout_fd;           /* -1: ours */
    struct cli_child_times times;
    struct net_loop *loop;
    void *ctx;
    /* It listens (again) on the address that it said, which may be empty. */
    void (*on_ready)(void *ctx, struct cli_child *child, const char *address);
    /* It is starting, and so much of something is done; total 0: unknown. May be NULL. */
    void (*on_progress)(void *ctx, struct cli_child *child, const char *what, uint64_t done,
                        uint64_t total);
    /* It ended before it was ever ready, or took too long (and is then being stopped). */
    void (*on_failed)(void *ctx, struct cli_child *child, const char *reason);
    /* It is gone for good, after cli_child_stop. */
    void (*on_ended)(void *ctx, struct cli_child *child);
};

/* The caller's storage. */
struct cli_child {
    struct cli_child_config config;
    struct net_process *process; /* NULL while there is none */
    struct net_timer timer;
    uint64_t back_off_ms; /* the next pause */
    uint32_t restarts;
    char
        failure[CLI_FAILURE_BYTES]; /* why it cannot start, in its own words; "": it has not said */
    bool was_killed;                /* it did not end in its drain time, or was hurried */
    bool ended_badly;               /* it crashed or failed while it was stopping */
    uint8_t state;                  /* enum child_state */
};

/* Starts it. On failure there is nothing to fini. */
td_status_t cli_child_init(struct cli_child *child, const struct cli_child_config *config,
                           struct td_error *error) TD_MUST_USE;

/* Asks it to finish what it does; on_ended follows, from inside the call if there is no process. */
void cli_child_stop(struct cli_child *child);

/* Stops it without delay: SIGTERM a second time, and SIGKILL a moment later. After cli_child_stop. */
void cli_child_hurry(struct cli_child *child);

/* Its process, or -1 while there is none. */
pid_t cli_child_pid(const struct cli_child *child);

bool cli_child_has_ended(const struct cli_child *child);

/* Kills it if it still runs. No callback follows. */
void cli_child_fini(struct cli_child *child);

#endif
