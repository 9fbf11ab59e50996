/*
 * progress.h: says how far something is that a person waits for, on stderr.
 *
 * What ends soon says nothing: the first sign comes after a second. On a terminal it is one line,
 * redrawn in place, which leaves no trace; the cursor waits at its beginning, so that a line
 * of somebody else writes over it. Anywhere else (a log, a pipe) it is a plain line every few seconds.
 *
 * One thread, the caller's storage, nothing to free. An update between two signs costs one reading of the
 * clock.
 */
#ifndef TANDEM_LIB_BASE_PROGRESS_H
#define TANDEM_LIB_BASE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TD_PROGRESS_WHAT_BYTES 96
#define TD_PROGRESS_LINE_BYTES 256

struct td_progress {
    const char *program; /* how the lines begin: "tandem bench engine" */
    char what[TD_PROGRESS_WHAT_BYTES];
    int fd;
    bool is_terminal;
    bool is_drawn; /* a line of ours stands on the terminal */
    uint64_t started_ns;
    uint64_t next_ns; /* no sign before this */
};

/* Begins something: "loading model.gguf". program lives as long as the progress; what is copied. */
void td_progress_begin(struct td_progress *progress, const char *program, const char *what);

/* It goes on as something else; the time counts from its own beginning. */
void td_progress_rename(struct td_progress *progress, const char *what);

/* So much is done, in any unit. total 0: how much there is to do is not known. */
void td_progress_update(struct td_progress *progress, uint64_t done, uint64_t total);

/*
 * Takes the line off the terminal: at the end, or before something else is written there (the next
 * update draws it again). Harmless on zeroed storage.
 */
void td_progress_hide(struct td_progress *progress);

/* ------------------------------------------------------------------------------------------- */
/* With a given clock and descriptor: what the calls above do, and tests look at.               */

void td_progress_begin_at(struct td_progress *progress, const char *program, const char *what,
                          uint64_t now_ns);
void td_progress_update_at(struct td_progress *progress, uint64_t done, uint64_t total,
                           uint64_t now_ns);

/* The sign that an update gives, without any control characters. At most 79 columns of ASCII text. */
void td_progress_line(const struct td_progress *progress, uint64_t done, uint64_t total,
                      uint64_t now_ns, char out[static TD_PROGRESS_LINE_BYTES]);

#endif
