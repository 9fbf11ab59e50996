/*
 * local.h: a whole cluster on this host, from the first process to the last: what `tandem serve`,
 * `tandem demo` and `tandem chat MODEL` have in common.
 *
 * Makes the private folder, starts and watches the processes, says on stderr how they are doing, says on
 * stdout that the cluster is ready, and handles the signals: the first SIGINT, SIGTERM or SIGHUP
 * drains, the second stops at once. Main thread.
 */
#ifndef TANDEM_CLI_LOCAL_H
#define TANDEM_CLI_LOCAL_H

#include "cli/cluster.h"

struct cli_local;

struct cli_local_config {
    const char *program; /* "tandem serve", for messages */
    const char *model;
    const struct cli_cluster_options *options;
    bool quiet_ready; /* no line "ready ..." on stdout */
    void *ctx;
    /* Requests are answered at origin, "http://127.0.0.1:8000". May be NULL. */
    void (*on_ready)(void *ctx, struct cli_local *local, const char *origin);
    /* All processes have ended: close what was opened on the loop. May be NULL. */
    void (*on_closing)(void *ctx);
    /* Ctrl-C has come. True: it was meant for the owner, and nothing is stopped. May be NULL. */
    bool (*on_interrupt)(void *ctx);
};

/*
 * Runs the cluster until it has ended. Returns the exit status: failure if a process could not start or
 * had to be killed, else 0.
 */
int cli_local_run(const struct cli_local_config *config);

/* Drains as a first signal would; a second call is no second signal. */
void cli_local_stop(struct cli_local *local);

/* The loop of the cluster, while it runs. */
struct net_loop *cli_local_loop(struct cli_local *local);

#endif
