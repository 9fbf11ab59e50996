/* commands.c: what the commands of a chat do, see words.h for their list. */
#include <stdlib.h>
#include <string.h>

#include "cli/chat/session.h"
#include "cli/report.h"
#include "lib/base/time.h"
#include "lib/net/program.h"

#define TEXT_BYTES_MAX    ((size_t)64 << 10)
#define QUOTED_BYTES      60 /* of a message that is shown again */
#define NEAREST_BYTES_MAX 200

/* ---- showing ---- */

static void show_help(struct chat_session *session)
{
    struct td_buf text;

    td_buf_init(&text, TEXT_BYTES_MAX);
    chat_commands_print(&text);
    td_buf_append_text(&text,
                       "A message that begins with a slash is typed with two. Ctrl-C stops an "
                       "answer. Arrow keys bring back earlier lines.\n");
    chat_screen_text(&session->screen, text.data);
    td_buf_fini(&text);
}

static void show_settings(struct chat_session *session)
{
    struct td_buf text;

    td_buf_init(&text, TEXT_BYTES_MAX);
    chat_history_print_settings(&session->history, &text);
    td_buf_append_text(&text, "default: the server decides, and nothing is sent.\n");
    chat_screen_text(&session->screen, text.data);
    td_buf_fini(&text);
}

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 0.0;
}

void chat_session_print_times(struct chat_session *session)
{
    const struct cli_answer *last = &session->last;
    double first_s = seconds(session->asked_ns, session->first_ns);
    double rest_s = seconds(session->first_ns, session->last_ns);

    if (session->first_ns == 0)
        return;
    if (!last->has_usage || last->completion_tokens < 2 || rest_s <= 0)
        chat_screen_note(&session->screen, "%.2f s to the first token, %.2f s in all", first_s,
                         first_s + rest_s);
    else
        chat_screen_note(&session->screen,
                         "%.2f s to the first token, then %.1f tokens/s; %llu tokens in, %llu out",
                         first_s, (double)(last->completion_tokens - 1) / rest_s,
                         (unsigned long long)last->prompt_tokens,
                         (unsigned long long)last->completion_tokens);
}

static void show_stats(struct chat_session *session)
{
    const struct chat_totals *totals = &session->totals;
    struct td_buf text;

    td_buf_init(&text, TEXT_BYTES_MAX);
    if (session->last.has_trace)
        cli_report_print(&session->last, &text);
    td_buf_printf(&text, "%zu messages; %llu answers, %llu tokens read and %llu written in all.\n",
                  session->history.count, (unsigned long long)totals->answers,
                  (unsigned long long)totals->prompt_tokens,
                  (unsigned long long)totals->completion_tokens);
    if (totals->answers > 0)
        chat_session_print_times(session);
    chat_screen_text(&session->screen, text.data);
    td_buf_fini(&text);
}

/* ---- changing ---- */

static bool set_system(struct chat_session *session, const char *text)
{
    struct td_error error = {0};

    if (text[0] == '\0') {
        chat_screen_note(&session->screen, "%s",
                         session->history.system != NULL
                             ? session->history.system
                             : "no system prompt; the model's own default is used");
        return true;
    }
    if (strcmp(text, "\"\"") == 0)
        text = "";
    if (chat_history_set_system(&session->history, text, &error) != TD_OK)
        return chat_session_refuse(session, error.text);
    chat_screen_note(&session->screen, "%s",
                     text[0] != '\0' ? "system prompt set" : "system prompt removed");
    return true;
}

static bool set(struct chat_session *session, const char *words)
{
    struct td_error error = {0};

    if (words[0] == '\0') {
        show_settings(session);
        return true;
    }
    if (chat_history_set(&session->history, words, &error) != TD_OK)
        return chat_session_refuse(session, error.text);
    return true;
}

static bool undo(struct chat_session *session)
{
    const struct chat_message *question;

    if (!chat_history_undo(&session->history))
        return chat_session_refuse(session, "There is nothing to take back.");
    question = chat_history_last_question(&session->history);
    if (question == NULL)
        chat_screen_note(&session->screen, "taken back; the chat is empty");
    else
        chat_screen_note(&session->screen, "taken back; the last message is now: %.*s%s",
                         QUOTED_BYTES, question->text,
                         question->length > QUOTED_BYTES ? "..." : "");
    return true;
}

static bool retry(struct chat_session *session)
{
    if (!chat_history_retry(&session->history))
        return chat_session_refuse(session, "Nothing was asked yet.");
    chat_session_ask(session);
    return false;
}

/* ---- files ---- */

/* The file is the chat's own from here on: /save may replace it. */
static void remember_path(struct chat_session *session, const char *path)
{
    char *copy = strdup(path);

    if (copy == NULL)
        return; /* then the next /save to it is refused, no more */
    free(session->saved_path);
    session->saved_path = copy;
}

static bool save(struct chat_session *session, const char *path)
{
    bool is_ours = session->saved_path != NULL && strcmp(session->saved_path, path) == 0;
    struct td_error error = {0};

    if (path[0] == '\0')
        return chat_session_refuse(session, "/save wants the name of a file.");
    if (chat_history_save(&session->history, session->model.data, path, is_ours, &error) != TD_OK)
        return chat_session_refuse(session, error.text);
    remember_path(session, path);
    chat_screen_note(&session->screen, "%zu messages are in %s", session->history.count, path);
    return true;
}

static bool load(struct chat_session *session, const char *path)
{
    struct td_error error = {0};

    if (path[0] == '\0')
        return chat_session_refuse(session, "/load wants the name of a file.");
    if (chat_history_load(&session->history, path, &error) != TD_OK)
        return chat_session_refuse(session, error.text);
    remember_path(session, path);
    chat_screen_note(&session->screen, "%zu messages from %s; %s answers", session->history.count,
                     path, session->model.data);
    return true;
}

/* ---- all of them ---- */

static bool refuse_unknown(struct chat_session *session, const char *name)
{
    const char *nearest;
    char word[32];
    char what[NEAREST_BYTES_MAX];

    snprintf(word, sizeof word, "%.*s", (int)strcspn(name, " \t"), name);
    nearest = chat_command_nearest(word);
    if (nearest != NULL)
        snprintf(what, sizeof what, "There is no /%s; did you mean /%s?", word, nearest);
    else
        snprintf(what, sizeof what,
                 "There is no /%s; /help lists the commands. A message that begins with a slash is "
                 "typed with two.",
                 word);
    return chat_session_refuse(session, what);
}

bool chat_session_command(struct chat_session *session, struct chat_line line)
{
    switch (line.word) {
    case CHAT_HELP: show_help(session); return true;
    case CHAT_MULTI: chat_multi_open(&session->multi); return true;
    case CHAT_SYSTEM: return set_system(session, line.text);
    case CHAT_MODEL: chat_session_list(session, line.text); return false;
    case CHAT_SET: return set(session, line.text);
    case CHAT_RETRY: return retry(session);
    case CHAT_UNDO: return undo(session);
    case CHAT_RESET:
        chat_history_reset(&session->history);
        chat_screen_note(&session->screen, "a new chat begins");
        return true;
    case CHAT_SAVE: return save(session, line.text);
    case CHAT_LOAD: return load(session, line.text);
    case CHAT_STATS: show_stats(session); return true;
    case CHAT_QUIT: chat_session_end(session, NET_EXIT_OK); return false;
    case CHAT_NOTHING:
    case CHAT_MESSAGE:
    case CHAT_UNKNOWN:
    case CHAT_WORD_COUNT: break;
    }
    return refuse_unknown(session, line.text);
}
