/*
 * screen.h: what a chat writes: answers to stdout, and beside them notes for a person.
 *
 * In a terminal everything that comes from outside goes through printable.h, and notes and reasoning are
 * dimmed. Where stdout is no terminal an answer's bytes are written as they are. Notes appear only where a
 * person types: a script gets answers and nothing else, and errors on stderr.
 */
#ifndef TANDEM_CLI_CHAT_SCREEN_H
#define TANDEM_CLI_CHAT_SCREEN_H

#include <stdbool.h>
#include <stdio.h>

#include "cli/answer.h"
#include "cli/printable.h"

struct chat_screen {
    bool is_typed;    /* stdin is a terminal */
    bool is_terminal; /* stdout is one */
    FILE *notes;      /* where notes go: stdout if it is a terminal, else stderr */
    bool has_color;
    bool is_dim;
    bool in_line;    /* the answer's last character was no newline */
    bool has_failed; /* stdout cannot be written any more */
    enum cli_piece piece;
    struct cli_printable printable;
    struct td_buf buf;
};

/* Looks at stdin, stdout and the environment (NO_COLOR, TERM). */
void chat_screen_init(struct chat_screen *screen);
void chat_screen_fini(struct chat_screen *screen);

/* A piece of an answer. */
void chat_screen_piece(struct chat_screen *screen, enum cli_piece piece, const char *text,
                       size_t length);

/* The answer is over, or broken off. */
void chat_screen_end_answer(struct chat_screen *screen);

/* A dimmed line. Nothing where nobody types. */
void chat_screen_note(struct chat_screen *screen, const char *format, ...) TD_PRINTF(2, 3);

/* Lines as they are, ended already; for lists. Nothing where nobody types. */
void chat_screen_text(struct chat_screen *screen, const char *text);

/* What went wrong, on stderr. */
void chat_screen_problem(const struct chat_screen *screen, const char *format, ...) TD_PRINTF(2, 3);

#endif
