/*
 * process.h: child processes for a supervisor.
 *
 * A child never outlives its parent: the kernel kills it when the thread that spawned it ends
 * (PR_SET_PDEATHSIG), so spawn from the main thread. It has a process group of its own, so that
 * Ctrl-C in a terminal reaches only the supervisor, which decides what to tell the children.
 *
 * A child says what it has to say to its supervisor in lines through a pipe (net_ready_report);
 * by custom "progress <done> <total> <what>" while it starts, then "ready <address>" or "failed
 * <reason>" (program.h writes them). How it ended is reported once, after its last line.
 *
 * Everything runs on the loop thread.
 */
#ifndef TANDEM_LIB_NET_PROCESS_H
#define TANDEM_LIB_NET_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/status.h"

struct net_loop;
struct net_process;

#define NET_READY_LINE_MAX 512

/* Tells the child the number of its end of the pipe. */
#define NET_READY_VARIABLE "TANDEM_READY_FD"

struct net_process_options {
    const char *const *argv;        /* argv[0]: a path, or a name looked up in PATH; NULL ends it */
    const char *const *environment; /* "NAME=value" added to ours (and winning); NULL: none */
    int stdin_fd;                   /* -1: /dev/null */
    int stdout_fd;                  /* -1: ours */
    int stderr_fd;                  /* -1: ours */

    void *ctx;
    /* One line without its newline; longer ones are cut at NET_READY_LINE_MAX. May be NULL. */
    void (*on_line)(void *ctx, const char *line);
    /* Once: exit_code 0..255, or -1 and the signal that ended it. The handle is still to be closed. */
    void (*on_exit)(void *ctx, int exit_code, int signal_number);
};

/*
 * Starts a child. A program that cannot be executed is an error here (TD_NOT_FOUND or TD_IO with
 * a sentence), not an exit later. The options need not outlive the call.
 */
td_status_t net_process_spawn(struct net_loop *loop, const struct net_process_options *options,
                              struct net_process **process_out, struct td_error *error) TD_MUST_USE;

/* Sends a signal; harmless after the child has ended. */
void net_process_signal(struct net_process *process, int signal_number);

pid_t net_process_pid(const struct net_process *process);

/* Lets go of the child: if it still runs it is killed and reaped, and on_exit is not called. */
void net_process_close(struct net_process *process);

/*
 * In the child: sends one line to the supervisor. TD_NOT_FOUND if nobody listens (the program was
 * started by hand), which callers usually ignore. The line must not contain a newline.
 */
td_status_t net_ready_report(const char *line) TD_MUST_USE;

#endif
