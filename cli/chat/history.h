/*
 * history.h: what was said in a chat, and the fields of sampling that the user has set: all that a
 * request is made of. Pure.
 *
 * Nothing is ever dropped to make room: when a chat no longer fits into the model's context, the server
 * says so, and the user decides.
 */
#ifndef TANDEM_CLI_CHAT_HISTORY_H
#define TANDEM_CLI_CHAT_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/json_write.h"
#include "lib/base/status.h"

#define CHAT_MESSAGES_MAX 10000
#define CHAT_BYTES_MAX    ((size_t)16 << 20) /* of all messages */

enum chat_role { CHAT_USER, CHAT_ASSISTANT };

struct chat_message {
    enum chat_role role;
    char *text;
    size_t length;
};

/* name in JSON, kind of td_json, what it does. */
#define CHAT_SETTINGS_MAP(X)                                                                  \
    X(temperature, NUMBER, "0 always takes the likeliest token; higher is more varied")       \
    X(top_p, NUMBER, "choose among the likeliest tokens that together have this probability") \
    X(top_k, INTEGER, "choose among so many of the likeliest tokens")                         \
    X(min_p, NUMBER, "leave out tokens less likely than this share of the likeliest")         \
    X(seed, INTEGER, "the same seed gives the same answer")                                   \
    X(max_tokens, INTEGER, "an answer ends after so many tokens")                             \
    X(max_completion_tokens, INTEGER, "the same, for servers that want it under this name")   \
    X(stop, STRING, "an answer ends before this text")                                        \
    X(presence_penalty, NUMBER, "above 0: new words rather than those that were there")       \
    X(frequency_penalty, NUMBER, "above 0: less of what was there often")                     \
    X(repetition_penalty, NUMBER, "above 1: less repetition")                                 \
    X(reasoning_effort, STRING, "how long a model thinks that can: low, medium or high")

enum chat_setting {
#define X(name, kind, text) CHAT_SETTING_##name,
    CHAT_SETTINGS_MAP(X)
#undef X
        CHAT_SETTING_COUNT
};

#define CHAT_SETTING_BYTES 256 /* of a text */

struct chat_setting_value {
    bool is_set; /* else the server decides, and the field is not sent */
    int64_t integer;
    double number;
    char text[CHAT_SETTING_BYTES];
};

/* The caller's storage. */
struct chat_history {
    struct chat_message *messages;
    size_t count;
    size_t capacity;
    size_t bytes;
    char *system; /* NULL: none */
    struct chat_setting_value settings[CHAT_SETTING_COUNT];
};

/* Empty, without a system prompt, all settings the server's. */
void chat_history_init(struct chat_history *history);
void chat_history_fini(struct chat_history *history);

/*
 * Adds a message. A user's message behind one that was never answered takes its place: servers want the
 * two to take turns. TD_LIMIT, TD_NO_MEMORY: with a sentence; the history is as before.
 */
td_status_t chat_history_add(struct chat_history *history, enum chat_role role, const char *text,
                             size_t length, struct td_error *error) TD_MUST_USE;

/* text "" or NULL: no system prompt. */
td_status_t chat_history_set_system(struct chat_history *history, const char *text,
                                    struct td_error *error) TD_MUST_USE;

/* Forgets all messages; system prompt and settings stay. */
void chat_history_reset(struct chat_history *history);

/* Takes back the last message of the user and what came after it. False: there is none. */
bool chat_history_undo(struct chat_history *history);

/* Takes back the last answer, so that its question can be asked again. False: nothing was asked. */
bool chat_history_retry(struct chat_history *history);

/* The last message of the user, or NULL. */
const struct chat_message *chat_history_last_question(const struct chat_history *history);

/*
 * "temperature 0.7", "temperature=0.7", "temperature default" (which unsets it). TD_INVALID names the
 * setting, or lists them.
 */
td_status_t chat_history_set(struct chat_history *history, const char *words,
                             struct td_error *error) TD_MUST_USE;

/* One line for each setting with its value, for people. */
void chat_history_print_settings(const struct chat_history *history, struct td_buf *out);

/*
 * The members of a request: model, messages and settings. With stream also the fields that ask for a
 * stream with usage.
 */
void chat_history_write(const struct chat_history *history, const char *model, bool stream,
                        struct td_buf *out);

/*
 * Replaces everything by what a request says; members that are not ours are passed over, and so is the
 * model, since whoever saved the chat may have had another server. TD_INVALID names the member; the history
 * is as before.
 */
td_status_t chat_history_read(struct chat_history *history, const char *json, size_t length,
                              struct td_error *error) TD_MUST_USE;

/* The same with a file; a file that exists is replaced only if may_replace. The error names the file. */
td_status_t chat_history_save(const struct chat_history *history, const char *model,
                              const char *path, bool may_replace,
                              struct td_error *error) TD_MUST_USE;
td_status_t chat_history_load(struct chat_history *history, const char *path,
                              struct td_error *error) TD_MUST_USE;

#endif
