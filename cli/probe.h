/*
 * probe.h: does something in a process of its own, with a deadline, and shows for how long it takes.
 *
 * For what may crash, hang, take memory or load libraries that do not go again: nothing of it is left
 * when the call returns, whatever became of it. The work talks back through shared memory. Only for
 * processes that have started no thread (it forks).
 */
#ifndef TANDEM_CLI_PROBE_H
#define TANDEM_CLI_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

#define CLI_PROBE_SAID_BYTES 200

struct cli_probe {
    const char *program; /* "tandem check", for the line that shows the time */
    const char *what;    /* "reading model.gguf" */
    uint64_t deadline_ms;
    bool is_shown; /* it writes to the terminal itself; else what it says on stderr is kept back */
    /* In the new process: returns its exit status. What ctx points to must be shared to come back. */
    int (*run)(void *ctx);
    void *ctx;
};

struct cli_probe_end {
    int exit_status;                 /* -1: it did not end by itself */
    int signal;                      /* that ended it; 0: none */
    bool timed_out;                  /* it was killed at the deadline */
    char said[CLI_PROBE_SAID_BYTES]; /* the last line that was kept back */
};

/* TD_EXHAUSTED: no process can be started. Otherwise it has ended, with all that it started. */
td_status_t cli_probe_run(const struct cli_probe *probe, struct cli_probe_end *end_out,
                          struct td_error *error) TD_MUST_USE;

/* "took longer than 10 s", "was ended by signal 9 (Killed)"; "" if it ended by itself. */
void cli_probe_describe(const struct cli_probe *probe, const struct cli_probe_end *end, char *out,
                        size_t size);

/* Zeroed memory that a probe's process shares with this one; NULL: none is left. */
void *cli_probe_share(size_t bytes);
void cli_probe_unshare(void *memory, size_t bytes);

#endif
