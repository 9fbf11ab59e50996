/* session.c: what happens when, see session.h. */
#include "cli/chat/session.h"

#include <stdlib.h>
#include <string.h>

#include "cli/chat/advice.h"
#include "lib/base/list.h"
#include "lib/base/time.h"
#include "lib/net/program.h"

#define REQUEST_BYTES_MAX (8 * CHAT_BYTES_MAX)

/* Some servers say nothing while they read a long prompt. Ctrl-C is always there for a person. */
#define SILENCE_MS 600000

static void on_models(void *ctx, const struct chat_models *models, int http_status,
                      const struct td_error *error);

/* ---- the prompt ---- */

static void prompt(struct chat_session *session)
{
    if (session->state == CHAT_ENDED)
        return;
    if (session->screen.has_failed) { /* nobody reads what is written */
        chat_session_end(session, NET_EXIT_FAILURE);
        return;
    }
    session->state = CHAT_READING;
    chat_input_ask(session->input, session->multi.is_open ? "... " : "> ");
}

void chat_session_end(struct chat_session *session, int exit_status)
{
    if (session->state == CHAT_ENDED)
        return;
    session->state = CHAT_ENDED;
    net_defer_cancel(&session->give_up);
    if (session->has_question)
        cli_question_fini(&session->question);
    session->has_question = false;
    chat_models_close(&session->models);
    chat_input_close(session->input); /* the terminal is as it was from here on */
    session->input = NULL;
    session->config.on_end(session->config.ctx, exit_status);
}

bool chat_session_refuse(struct chat_session *session, const char *what)
{
    chat_screen_problem(&session->screen, "%s", what);
    if (session->screen.is_typed)
        return true;
    chat_session_end(session, NET_EXIT_FAILURE); /* what follows was written for another course */
    return false;
}

/* ---- lines ---- */

static bool take_message(struct chat_session *session, const char *text, size_t length)
{
    struct td_error error = {0};

    if (chat_history_add(&session->history, CHAT_USER, text, length, &error) != TD_OK)
        return chat_session_refuse(session, error.text);
    chat_session_ask(session);
    return false;
}

/* A line of a message of several. True: the prompt comes next. */
static bool take_part(struct chat_session *session, const char *line)
{
    td_status_t status = chat_multi_add(&session->multi, line, strlen(line));

    if (status == TD_AGAIN)
        return true;
    if (status != TD_OK)
        return chat_session_refuse(session, "The message is too long.");
    if (session->multi.text.length == 0)
        return true;
    return take_message(session, session->multi.text.data, session->multi.text.length);
}

static bool take_line(struct chat_session *session, char *text)
{
    struct chat_line line;

    if (strlen(text) > 0 && !session->multi.is_open && strncmp(text, "\"\"\"", 3) != 0) {
        line = chat_line_read(text);
        if (line.word == CHAT_NOTHING)
            return true;
        if (line.word == CHAT_MESSAGE)
            return take_message(session, line.text, strlen(line.text));
        return chat_session_command(session, line);
    }
    if (!session->multi.is_open && text[0] == '\0')
        return true;
    for (size_t length = strlen(text); length > 0 && strchr("\r\n", text[length - 1]) != NULL;)
        text[--length] = '\0';
    return take_part(session, text);
}

/* The first one gives up what is being typed, or warns; the second one ends. */
static void take_interrupt(struct chat_session *session, bool had_text)
{
    if (!had_text && !session->multi.is_open && ++session->interrupts >= 2) {
        chat_session_end(session, NET_EXIT_OK);
        return;
    }
    if (!had_text && !session->multi.is_open)
        chat_screen_note(&session->screen, "Ctrl-C once more ends; so do Ctrl-D and /quit");
    session->multi.is_open = false;
    prompt(session);
}

static void on_input(void *ctx, enum chat_input_kind kind, char *line, bool had_text)
{
    struct chat_session *session = ctx;

    if (kind == CHAT_INPUT_INTERRUPT) {
        take_interrupt(session, had_text);
        return;
    }
    session->interrupts = 0;
    if (kind == CHAT_INPUT_LINE) {
        if (take_line(session, line))
            prompt(session);
    } else if (session->multi.is_open && !session->screen.is_typed) {
        chat_session_refuse(session,
                            "The input ended inside a message: its end, \"\"\", is missing.");
    } else {
        chat_session_end(session, NET_EXIT_OK);
    }
}

/* ---- answers ---- */

static void on_piece(void *ctx, enum cli_piece piece, const char *text, size_t length)
{
    struct chat_session *session = ctx;

    session->last_ns = td_now_ns();
    if (session->first_ns == 0)
        session->first_ns = session->last_ns;
    chat_screen_piece(&session->screen, piece, text, length);
    if (session->screen.has_failed) /* what runs below us may not be closed from here */
        net_defer_post(session->config.loop, &session->give_up);
}

static void on_give_up(struct net_defer *defer)
{
    chat_session_end(td_container_of(defer, struct chat_session, give_up), NET_EXIT_FAILURE);
}

/* Keeps what came in the chat, so that the next question can be about it. */
static bool keep_answer(struct chat_session *session)
{
    const struct td_buf *text = &session->question.reader.answer.text;
    struct td_error error = {0};

    if (text->length == 0)
        return false;
    if (chat_history_add(&session->history, CHAT_ASSISTANT, text->data, text->length, &error) !=
        TD_OK)
        chat_screen_problem(&session->screen, "%s", error.text);
    return true;
}

static void note_totals(struct chat_session *session)
{
    session->totals.answers++;
    session->totals.prompt_tokens += session->last.prompt_tokens;
    session->totals.completion_tokens += session->last.completion_tokens;
}

/* Forgets the request and remembers what /stats tells. */
static void close_question(struct chat_session *session)
{
    chat_screen_end_answer(&session->screen);
    session->last = session->question.reader.answer;
    session->last.text = (struct td_buf){0};
    cli_question_fini(&session->question);
    session->has_question = false;
}

static void finish_well(struct chat_session *session)
{
    const char *advice;
    bool has_text = keep_answer(session);

    close_question(session);
    note_totals(session);
    advice = chat_advice_for_finish(session->last.finish);
    if (!has_text)
        chat_screen_note(&session->screen,
                         "The model ended without saying anything; /retry asks again.");
    if (advice != NULL)
        chat_screen_note(&session->screen, "%s", advice);
    if (!session->config.quiet)
        chat_session_print_times(session);
    prompt(session);
}

/* A half answer that broke is not part of the chat; its question is, until another one is asked. */
static void finish_badly(struct chat_session *session)
{
    bool had_text = session->question.reader.answer.text.length > 0;
    const struct cli_answer *last = &session->last;
    const char *advice;

    close_question(session);
    advice = chat_advice_for_answer(last, &session->config.endpoint);
    chat_screen_problem(&session->screen, "%s%s %s%s", last->failure,
                        strchr(".!?", last->failure[strlen(last->failure) - 1]) ? "" : ".",
                        had_text ? "What came is not kept in the chat. " : "",
                        session->screen.is_typed ? advice : "");
    if (session->screen.is_typed)
        prompt(session);
    else
        chat_session_end(session, NET_EXIT_FAILURE);
}

static void on_answer_end(void *ctx, const struct cli_answer *answer)
{
    struct chat_session *session = ctx;

    if (answer->is_complete)
        finish_well(session);
    else
        finish_badly(session);
}

void chat_session_ask(struct chat_session *session)
{
    struct cli_question_config config = {
        .loop = session->config.loop,
        .base = session->config.endpoint.base,
        .api_key = chat_endpoint_key(&session->config.endpoint),
        .silence_ms = SILENCE_MS,
        .ctx = session,
        .on_piece = on_piece,
        .on_end = on_answer_end,
    };
    struct td_error error = {0};
    td_status_t status;

    td_buf_clear(&session->request);
    chat_history_write(&session->history, session->model.data, true, &session->request);
    config.body = td_span_over(session->request.data, session->request.length);
    session->state = CHAT_ANSWERING;
    session->asked_ns = td_now_ns();
    session->first_ns = 0;
    status = session->request.status;
    if (status == TD_OK)
        status = cli_question_init(&session->question, &config, &error);
    else
        td_fail(&error, status, "the chat is too long to be sent: /save it and /reset");
    session->has_question = status == TD_OK;
    if (status != TD_OK && chat_session_refuse(session, error.text))
        prompt(session);
}

void chat_session_interrupt(struct chat_session *session)
{
    if (session->state == CHAT_ANSWERING && session->screen.is_typed) {
        bool has_text = keep_answer(session);

        session->interrupts = 1;
        close_question(session);
        chat_screen_note(&session->screen, "%s",
                         has_text ? "stopped; what was said is part of the chat (Ctrl-C again ends)"
                                  : "stopped; /retry asks again (Ctrl-C again ends)");
        prompt(session);
    } else if (session->state == CHAT_LISTING && session->screen.is_typed) {
        chat_models_close(&session->models);
        prompt(session);
    } else if (session->state != CHAT_READING || !session->screen.is_typed ||
               ++session->interrupts >= 2) {
        chat_session_end(session, session->screen.is_typed ? NET_EXIT_OK : NET_EXIT_FAILURE);
    }
}

/* ---- models ---- */

void chat_session_list(struct chat_session *session, const char *wanted)
{
    const struct chat_models_config config = {
        .loop = session->config.loop,
        .base = session->config.endpoint.base,
        .api_key = chat_endpoint_key(&session->config.endpoint),
        .ctx = session,
        .on_end = on_models,
    };
    struct td_error error = {0};

    td_buf_clear(&session->wanted);
    td_buf_append_text(&session->wanted, wanted);
    if (session->state != CHAT_CONNECTING)
        session->state = CHAT_LISTING;
    if (chat_models_ask(&session->models, &config, &error) != TD_OK)
        on_models(session, NULL, 0, &error);
}

static void use_model(struct chat_session *session, const char *name)
{
    td_buf_clear(&session->model);
    td_buf_append_text(&session->model, name);
}

static void begin(struct chat_session *session, const struct chat_models *models)
{
    if (session->config.model == NULL)
        use_model(session, models->names[0]);
    chat_screen_note(&session->screen,
                     "%s at %s. /help lists commands, Ctrl-C stops an answer, Ctrl-D ends.",
                     session->model.data, session->config.endpoint.base);
    if (session->config.model == NULL && models->count > 1)
        chat_screen_note(&session->screen,
                         "The server has %zu models; /model lists them, --model-name chooses one.",
                         models->count);
    prompt(session);
}

static void print_models(struct chat_session *session, const struct chat_models *models)
{
    struct td_buf text;

    td_buf_init(&text, (size_t)1 << 20);
    for (size_t i = 0; i < models->count; i++)
        td_buf_printf(&text, "  %zu %s%s\n", i + 1, models->names[i],
                      strcmp(models->names[i], session->model.data) == 0 ? "  (in use)" : "");
    chat_screen_text(&session->screen, text.data != NULL ? text.data : "");
    td_buf_fini(&text);
}

/* A name, or the number in the list. NULL: there is none. */
static const char *choose(const struct chat_models *models, const char *wanted)
{
    char *end;
    unsigned long number = strtoul(wanted, &end, 10);

    for (size_t i = 0; i < models->count; i++)
        if (strcmp(models->names[i], wanted) == 0)
            return models->names[i];
    if (*end == '\0' && number >= 1 && number <= models->count)
        return models->names[number - 1];
    return NULL;
}

/* The answer to /model. */
static void show_or_choose(struct chat_session *session, const struct chat_models *models)
{
    const char *wanted = session->wanted.data;
    const char *name = wanted[0] != '\0' ? choose(models, wanted) : NULL;

    if (name != NULL) {
        use_model(session, name);
        chat_screen_note(&session->screen, "from here on %s answers", name);
    } else if (wanted[0] != '\0') {
        if (!chat_session_refuse(session, "The server has no such model; /model lists them."))
            return;
    } else {
        print_models(session, models);
    }
    prompt(session);
}

/* No list: whoever has named a model can go on if a server is there at all. */
static void do_without_models(struct chat_session *session, int http_status,
                              const struct td_error *error)
{
    const char *advice =
        chat_advice_for_models(error->status, http_status, &session->config.endpoint);
    bool is_starting = session->state == CHAT_CONNECTING;

    if (is_starting && session->config.model != NULL && http_status != 0) {
        begin(session, NULL);
        return;
    }
    chat_screen_problem(&session->screen, "%s%s: %s. %s", is_starting ? "no chat with " : "",
                        session->config.endpoint.base, error->text, advice);
    if (is_starting || !session->screen.is_typed)
        chat_session_end(session, NET_EXIT_FAILURE);
    else
        prompt(session);
}

static void on_models(void *ctx, const struct chat_models *models, int http_status,
                      const struct td_error *error)
{
    struct chat_session *session = ctx;

    if (error->status != TD_OK)
        do_without_models(session, http_status, error);
    else if (session->state == CHAT_CONNECTING)
        begin(session, models);
    else
        show_or_choose(session, models);
    chat_models_close(&session->models);
}

/* ---- beginning and end ---- */

static td_status_t prepare(struct chat_session *session, struct td_error *error)
{
    const struct chat_session_config *config = &session->config;
    const struct chat_input_config input = {
        .loop = config->loop,
        .echo = session->screen.is_typed ? session->screen.notes : NULL,
        .ctx = session,
        .on_input = on_input,
    };
    td_status_t status = chat_history_set_system(&session->history, config->system, error);

    for (size_t i = 0; i < config->settings.count && status == TD_OK; i++) {
        status = chat_history_set(&session->history, config->settings.items[i], error);
        if (status != TD_OK)
            td_fail_wrap(error, "--set: ");
    }
    if (status == TD_OK)
        status = chat_input_open(&input, &session->input, error);
    return status;
}

td_status_t chat_session_open(struct chat_session *session,
                              const struct chat_session_config *config, struct td_error *error)
{
    td_status_t status;

    *session = (struct chat_session){.config = *config, .state = CHAT_CONNECTING};
    chat_screen_init(&session->screen);
    chat_history_init(&session->history);
    net_defer_init(&session->give_up, on_give_up);
    td_buf_init(&session->multi.text, CHAT_MESSAGE_BYTES_MAX);
    td_buf_init(&session->model, CHAT_MODEL_BYTES_MAX);
    td_buf_init(&session->wanted, CHAT_MODEL_BYTES_MAX);
    td_buf_init(&session->request, REQUEST_BYTES_MAX);
    if (config->model != NULL)
        use_model(session, config->model);
    status = session->model.status;
    if (status == TD_OK)
        status = prepare(session, error);
    else
        td_fail(error, TD_INVALID, "--model-name is longer than %d bytes", CHAT_MODEL_BYTES_MAX);
    if (status != TD_OK) {
        chat_session_close(session);
        return status;
    }
    chat_session_list(session, "");
    return TD_OK;
}

void chat_session_close(struct chat_session *session)
{
    if (session->config.loop == NULL)
        return; /* was never opened */
    net_defer_cancel(&session->give_up);
    if (session->has_question)
        cli_question_fini(&session->question);
    session->has_question = false;
    chat_models_close(&session->models);
    chat_input_close(session->input);
    session->input = NULL;
    chat_history_fini(&session->history);
    chat_screen_fini(&session->screen);
    td_buf_fini(&session->multi.text);
    td_buf_fini(&session->model);
    td_buf_fini(&session->wanted);
    td_buf_fini(&session->request);
    free(session->saved_path);
    session->saved_path = NULL;
}
