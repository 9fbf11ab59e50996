/*
 * program.h: what the main of every Tandem process begins and ends with.
 *
 * Command line, logging, loop, certificates, RPC, and the manners of stopping: the first SIGTERM or
 * SIGINT asks the owner to drain; when that takes longer than --drain-timeout, or a second signal comes,
 * the owner is asked to stop now, once; a further signal ends the process on the spot. The owner
 * answers with net_program_finish.
 */
#ifndef TANDEM_LIB_NET_PROGRAM_H
#define TANDEM_LIB_NET_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/flags.h"
#include "lib/base/status.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "lib/net/tls.h"

#define NET_EXIT_OK      0
#define NET_EXIT_FAILURE 1 /* it could not start, or had to give up */
#define NET_EXIT_USAGE   2 /* the command line or the environment is wrong */
#define NET_EXIT_LOST    3 /* what computes is lost or hangs (a GPU): only a new process can go on */

/* The flags that every process has. */
struct net_program_options {
    const char *certs; /* folder of ca.pem, cert.pem, key.pem; NULL: no TLS */
    bool insecure;     /* RPC beyond this host without certificates */
    uint64_t drain_ms;
    unsigned log_level; /* enum td_log_level */
};

struct td_flag_table net_program_table(struct net_program_options *options);

/*
 * net_program_flags: parses the command line of a program.
 * Prints help, version or the error itself. Returns -1 to go on, otherwise the status to exit with,
 * and then the arena is empty again. The arena is made here, and texts in the options live as long as
 * it: for the process's life.
 */
int net_program_flags(const struct td_flags *flags, int argc, char *const *argv,
                      struct td_arena *arena_out, struct td_flags_result *result_out);

/*
 * For programs that take no words beside their flags, after net_program_flags: -1 if there are none,
 * otherwise it names the first and returns the status to exit with.
 */
int net_program_no_words(const struct td_flags *flags, const struct td_flags_result *result);

struct net_program_config {
    const char *name;   /* in every log line: "router"; lives for ever */
    enum net_role role; /* what its certificate should say; UNKNOWN: not looked at */
    struct net_program_options options;
    void *ctx;
    void (*drain)(void *ctx); /* finish what runs, take nothing new, then net_program_finish */
    void (*stop)(void *ctx);  /* end what is left now, then net_program_finish; may follow drain */
};

struct net_program;

/*
 * Opens loop, certificates and RPC, and watches the signals. Call it before any thread is started.
 * The error names the file.
 */
td_status_t net_program_open(const struct net_program_config *config,
                             struct net_program **program_out, struct td_error *error) TD_MUST_USE;

struct net_loop *net_program_loop(struct net_program *program);
struct rpc *net_program_rpc(struct net_program *program);
/* NULL without --certs. */
struct net_tls *net_program_tls(struct net_program *program);

/* Tells the supervisor, if there is one, that requests are answered at this address. */
void net_program_report_ready(const char *address);

/*
 * While it starts: so much of something is done ("packing weights"), in any unit; total 0: unknown. The
 * supervisor, if there is one, shows it to whoever waits. A pipe is written to: some ten times a
 * second is enough.
 */
void net_program_report_progress(const char *what, uint64_t done, uint64_t total);

/*
 * It cannot start: the supervisor, if there is one, says why, once; else stderr does. program is its
 * name for that: "tandem-router".
 */
void net_program_report_failure(const char *program, const char *reason);

/* Runs the loop until net_program_finish; returns the exit status given there. */
int net_program_run(struct net_program *program);

/* Makes net_program_run return at the end of the loop's turn. */
void net_program_finish(struct net_program *program, int exit_status);

/* After everything that was opened on the loop is closed. */
void net_program_close(struct net_program *program);

#endif
