/*
 * words.h: what a line typed into a chat means: a message, a command, or a part of a longer message. Pure.
 */
#ifndef TANDEM_CLI_CHAT_WORDS_H
#define TANDEM_CLI_CHAT_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/status.h"

/* id, name, what follows it, what it does. In the order of /help. */
#define CHAT_COMMANDS_MAP(X)                                                                 \
    X(HELP, "help", "", "lists the commands")                                                \
    X(MULTI, "multi", "", "a message of several lines, up to a line \"\"\"; so does \"\"\"") \
    X(SYSTEM, "system", "[TEXT]",                                                            \
      "sets the system prompt; without TEXT shows it; \"\" removes it")                      \
    X(MODEL, "model", "[NAME]", "lists the models, or goes on with another one")             \
    X(SET, "set", "[NAME VALUE]", "sets a field of sampling (temperature 0.7); lists them")  \
    X(RETRY, "retry", "", "asks the last message again")                                     \
    X(UNDO, "undo", "", "takes back the last message and its answer")                        \
    X(RESET, "reset", "", "forgets all messages; system prompt and settings stay")           \
    X(SAVE, "save", "FILE", "writes the chat as the JSON of a request")                      \
    X(LOAD, "load", "FILE", "goes on with a chat that was saved")                            \
    X(STATS, "stats", "", "tokens and times of the last answer and of the chat")             \
    X(QUIT, "quit", "", "ends; so does Ctrl-D")

enum chat_word {
    CHAT_NOTHING, /* an empty line */
    CHAT_MESSAGE,
    CHAT_UNKNOWN, /* begins with '/', and is no command */
#define X(id, name, argument, text) CHAT_##id,
    CHAT_COMMANDS_MAP(X)
#undef X
        CHAT_WORD_COUNT
};

struct chat_line {
    enum chat_word word;
    const char *text; /* the message, the command's argument, or the unknown name; in the line */
};

/*
 * Takes a line apart; spaces at its end are cut off in place. A message that is to begin with a slash is
 * typed with two.
 */
struct chat_line chat_line_read(char *line);

/* The name of a command that begins like this; NULL behind the last. For completion. */
const char *chat_command_matching(const char *beginning, size_t length, size_t *next);

/* The known name nearest to this one, or NULL. */
const char *chat_command_nearest(const char *name);

/* One line for each command, for /help. */
void chat_commands_print(struct td_buf *out);

/* ---- messages of several lines ---- */

#define CHAT_MESSAGE_BYTES_MAX ((size_t)4 << 20)

/* The caller's storage; zeroed and td_buf_init for text. */
struct chat_multi {
    struct td_buf text;
    bool is_open; /* a message of several lines has begun */
};

/* Begins, as """ and /multi do. */
void chat_multi_open(struct chat_multi *multi);

/*
 * Adds a line. TD_OK: text is whole; it is the caller's to read until the next call. TD_AGAIN: more
 * lines follow. TD_LIMIT, TD_NO_MEMORY: it is dropped.
 */
td_status_t chat_multi_add(struct chat_multi *multi, const char *line, size_t length) TD_MUST_USE;

#endif
