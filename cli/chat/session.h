/*
 * session.h: one chat, from the choice of a model to its end: lines come in, questions go to the server,
 * answers and notes go to the screen. Loop thread.
 *
 *     CONNECTING -> READING -> ANSWERING -> READING ... -> ENDED
 *                          \-> LISTING (models) ->
 *
 * While an answer is written nothing is read. Ctrl-C then breaks the request off, which the server sees and
 * stops computing; what came so far stays in the chat. A second Ctrl-C at the prompt ends.
 */
#ifndef TANDEM_CLI_CHAT_SESSION_H
#define TANDEM_CLI_CHAT_SESSION_H

#include <stdbool.h>

#include "cli/chat/endpoint.h"
#include "cli/chat/history.h"
#include "cli/chat/input.h"
#include "cli/chat/models.h"
#include "cli/chat/screen.h"
#include "cli/chat/words.h"
#include "cli/question.h"
#include "lib/base/flags.h"

enum chat_state { CHAT_CONNECTING, CHAT_READING, CHAT_ANSWERING, CHAT_LISTING, CHAT_ENDED };

struct chat_session_config {
    struct net_loop *loop;
    struct chat_endpoint endpoint;
    const char *model;            /* NULL: the first that the server lists */
    const char *system;           /* NULL: none */
    struct td_flag_list settings; /* "temperature=0.7" */
    bool quiet;                   /* no times after answers */
    void *ctx;
    /* Once, with an exit status. The session is still to be closed. */
    void (*on_end)(void *ctx, int exit_status);
};

/* Sums over a chat, for /stats. */
struct chat_totals {
    uint64_t answers;
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
};

/* The caller's storage, several KiB. */
struct chat_session {
    struct chat_session_config config;
    enum chat_state state;
    struct chat_screen screen;
    struct chat_input *input;
    struct chat_history history;
    struct chat_multi multi;
    struct td_buf model; /* the name that is sent */
    char *saved_path;    /* the file that /save may replace; NULL: none */
    unsigned interrupts; /* since the last line */

    struct chat_models_request models;
    struct td_buf wanted; /* during LISTING: the argument of /model */

    struct cli_question question;
    bool has_question;
    struct cli_answer last; /* without its text; for /stats */
    struct td_buf request;
    uint64_t asked_ns;
    uint64_t first_ns; /* of the first piece; 0: none yet */
    uint64_t last_ns;
    struct chat_totals totals;
    struct net_defer give_up; /* stdout is gone */
};

/* TD_INVALID: a setting is wrong; the error names it. After an error there is nothing to close. */
td_status_t chat_session_open(struct chat_session *session,
                              const struct chat_session_config *config,
                              struct td_error *error) TD_MUST_USE;

/* SIGINT: stops the answer, or ends what is not answering. */
void chat_session_interrupt(struct chat_session *session);

/* Harmless on zeroed storage. Puts the terminal back. */
void chat_session_close(struct chat_session *session);

/* ---- between session.c and commands.c ---- */

/* Carries out a command. True: the prompt comes next; false: something runs, or the chat has ended. */
bool chat_session_command(struct chat_session *session, struct chat_line line);

/* Asks for the answer to the history. */
void chat_session_ask(struct chat_session *session);

/* Asks the server for its models; wanted: a name or number to go on with, "" to show all. */
void chat_session_list(struct chat_session *session, const char *wanted);

/* Ends the chat. */
void chat_session_end(struct chat_session *session, int exit_status);

/* A line after an answer: times and tokens. */
void chat_session_print_times(struct chat_session *session);

/* What went wrong with a line; in a script it ends the chat. True: the prompt comes next. */
bool chat_session_refuse(struct chat_session *session, const char *what);

#endif
