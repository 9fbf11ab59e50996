/*
 * input.h: reads lines from stdin, one when asked, without ever stopping the loop.
 *
 * Lines are edited by libedit, which blocks; so it runs in a thread of its own that touches the terminal only
 * between chat_input_ask and the callback. In a terminal Ctrl-C is a key then, not a signal; while an
 * answer is written it is a signal as usual. When stdin is no terminal lines are read as they are.
 *
 * All calls are the loop thread's.
 */
#ifndef TANDEM_CLI_CHAT_INPUT_H
#define TANDEM_CLI_CHAT_INPUT_H

#include <stdbool.h>
#include <stdio.h>

#include "lib/base/status.h"
#include "lib/net/loop.h"

enum chat_input_kind {
    CHAT_INPUT_LINE,
    CHAT_INPUT_END,       /* end of file, Ctrl-D; or the line is too long, or stdin is broken */
    CHAT_INPUT_INTERRUPT, /* Ctrl-C */
};

struct chat_input_config {
    struct net_loop *loop;
    FILE *echo; /* where the terminal is written to; NULL: stdin is no terminal */
    void *ctx;
    /*
     * Once for each chat_input_ask. The line, without its end, lives until the next call and may be
     * changed. had_text: of an interrupt, whether something was typed.
     */
    void (*on_input)(void *ctx, enum chat_input_kind kind, char *line, bool had_text);
};

struct chat_input;

/* Starts the thread, and with a terminal the editor. TD_IO, TD_NO_MEMORY. */
td_status_t chat_input_open(const struct chat_input_config *config, struct chat_input **input_out,
                            struct td_error *error) TD_MUST_USE;

/* Reads one line. The prompt (static) is shown in a terminal only. One at a time. */
void chat_input_ask(struct chat_input *input, const char *prompt);

/* Stops reading and puts the terminal back as it was; no callback follows. NULL is allowed. */
void chat_input_close(struct chat_input *input);

#endif
