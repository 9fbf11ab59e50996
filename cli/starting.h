/*
 * starting.h: what `tandem serve` shows while its processes start: how far the slowest of them is, by
 * what they report, or for how long it has taken if they report nothing. Loop thread.
 */
#ifndef TANDEM_CLI_STARTING_H
#define TANDEM_CLI_STARTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/supervisor.h"
#include "lib/base/progress.h"
#include "lib/net/loop.h"

struct cli_starting_member {
    uint64_t done;
    uint64_t total; /* 0: it has reported nothing, or is ready */
};

/* The caller's storage. */
struct cli_starting {
    struct td_progress progress;
    struct net_timer timer;
    struct cli_starting_member members[CLI_CHILDREN_MAX];
    char idle[TD_PROGRESS_WHAT_BYTES]; /* what is named while nobody reports */
};

/* program lives as long as it; what: "loading model.gguf". */
void cli_starting_init(struct cli_starting *starting, struct net_loop *loop, const char *program,
                       const char *what);

/* Process i, which has this name, has come so far. */
void cli_starting_report(struct cli_starting *starting, size_t i, const char *name,
                         const struct cli_starting_member *amount, const char *what);

/* Process i is ready. */
void cli_starting_forget(struct cli_starting *starting, size_t i);

/* Before a line is written. */
void cli_starting_hide(struct cli_starting *starting);

/* All is ready, or it is given up. Harmless on zeroed storage and a second time. */
void cli_starting_fini(struct cli_starting *starting);

#endif
