/* question.c: the request, the stream and its trace, see question.h. */
#include "cli/question.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/json_write.h"

#define EVENT_BYTES_MAX ((size_t)1 << 20)
#define BODY_BYTES_MAX  ((size_t)1 << 20)
#define SILENCE_MS      120000 /* the server sends comments while it computes */

static const struct td_json_limits event_limits = {
    .bytes_max = EVENT_BYTES_MAX, .nodes_max = 10000, .depth_max = 16};

const char *cli_stage_name(enum cli_stage stage)
{
    static const char *const names[] = {
#define X(name, label, text) [CLI_STAGE_##name] = #name,
        CLI_STAGES_MAP(X)
#undef X
    };

    return names[stage];
}

static void fail(struct cli_question *question, const char *what)
{
    if (question->answer.failure[0] == '\0')
        snprintf(question->answer.failure, sizeof question->answer.failure, "%s", what);
}

/* ---- reading members; what is not there, or of another kind, leaves the value alone ---- */

static const struct td_json *object_at(const struct td_json *parent, const char *name)
{
    const struct td_json *value = parent != NULL ? td_json_find(parent, name) : NULL;

    return value != NULL && value->kind == TD_JSON_OBJECT ? value : NULL;
}

static void read_text(const struct td_json *parent, const char *name, char *out, size_t size)
{
    const struct td_json *value = td_json_find(parent, name);

    if (value != NULL && value->kind == TD_JSON_STRING)
        snprintf(out, size, "%.*s", (int)value->string.length, value->string.bytes);
}

static void read_count(const struct td_json *parent, const char *name, uint64_t *out)
{
    const struct td_json *value = td_json_find(parent, name);

    if (value != NULL && value->kind == TD_JSON_INTEGER && value->integer >= 0)
        *out = (uint64_t)value->integer;
}

static void read_number(const struct td_json *parent, const char *name, double *out)
{
    const struct td_json *value = td_json_find(parent, name);

    if (value != NULL && value->kind == TD_JSON_NUMBER)
        *out = value->number;
    else if (value != NULL && value->kind == TD_JSON_INTEGER)
        *out = (double)value->integer;
}

/* ---- events ---- */

static void take_trace(struct cli_answer *answer, const struct td_json *trace)
{
    const struct td_json *stages = object_at(trace, "stages_ms");
    const struct td_json *kv = object_at(trace, "kv");

    if (stages == NULL || kv == NULL)
        return;
    answer->has_trace = true;
    for (enum cli_stage stage = 0; stage < CLI_STAGE_COUNT; stage++)
        read_number(stages, cli_stage_name(stage), &answer->stages_ms[stage]);
    read_count(kv, "bytes", &answer->kv_bytes);
    read_count(kv, "remote_blocks", &answer->remote_blocks);
    read_text(kv, "transport", answer->transport, sizeof answer->transport);
    read_text(kv, "fallback", answer->fallback, sizeof answer->fallback);
}

static void take_choice(struct cli_question *question, const struct td_json *choice)
{
    const struct td_json *delta = object_at(choice, "delta");
    const struct td_json *content = delta != NULL ? td_json_find(delta, "content") : NULL;
    const struct td_json *finish = td_json_find(choice, "finish_reason");

    if (content != NULL && content->kind == TD_JSON_STRING && content->string.length > 0) {
        td_buf_append(&question->answer.text, content->string.bytes, content->string.length);
        question->config.on_text(question->config.ctx, content->string.bytes,
                                 content->string.length);
    }
    if (finish != NULL && finish->kind == TD_JSON_STRING)
        question->answer.has_finish = true;
}

static void take_error(struct cli_question *question, const struct td_json *error)
{
    char message[200] = "the server reports an error without a message";

    read_text(error, "message", message, sizeof message);
    fail(question, message);
}

static void take_event(struct cli_question *question, const struct td_json *event)
{
    const struct td_json *choices = td_json_find(event, "choices");
    const struct td_json *usage = object_at(event, "usage");
    const struct td_json *trace = object_at(event, "tandem");
    const struct td_json *error = object_at(event, "error");

    read_text(event, "model", question->answer.model, sizeof question->answer.model);
    if (error != NULL)
        take_error(question, error);
    if (choices != NULL && choices->kind == TD_JSON_ARRAY && choices->items.first != NULL &&
        choices->items.first->kind == TD_JSON_OBJECT)
        take_choice(question, choices->items.first);
    if (usage != NULL) {
        question->answer.has_usage = true;
        read_count(usage, "prompt_tokens", &question->answer.prompt_tokens);
        read_count(usage, "completion_tokens", &question->answer.completion_tokens);
    }
    if (trace != NULL)
        take_trace(&question->answer, trace);
}

/* Parses one JSON text into the arena and hands it on; the arena is emptied. */
static void with_json(struct cli_question *question, const char *text, size_t length,
                      void (*take)(struct cli_question *, const struct td_json *))
{
    const struct td_json *root = NULL;
    struct td_error error = {0};
    char what[200];

    if (td_json_parse(&question->arena, td_span_over(text, length), &event_limits, &root, &error) !=
        TD_OK) {
        snprintf(what, sizeof what, "the server sent no JSON: %.150s", error.text);
        fail(question, what);
    } else if (root->kind == TD_JSON_OBJECT) {
        take(question, root);
    }
    td_arena_fini(&question->arena);
}

void cli_question_on_event(struct cli_question *question, const char *data, size_t length)
{
    if (length == 6 && memcmp(data, "[DONE]", 6) == 0)
        question->saw_done = true;
    else
        with_json(question, data, length, take_event);
}

static void on_event(void *ctx, const char *data, size_t length)
{
    cli_question_on_event(ctx, data, length);
}

/* ---- the answer ---- */

static void on_head(void *ctx, int status)
{
    struct cli_question *question = ctx;

    question->status = status;
}

static void on_body(void *ctx, const void *bytes, size_t length)
{
    struct cli_question *question = ctx;

    if (question->status != 200)
        td_buf_append(&question->error_body, bytes, length);
    else if (http_sse_feed(&question->sse, bytes, length) != TD_OK)
        fail(question, "an event of the stream is too long");
}

static void read_refusal(struct cli_question *question)
{
    char what[64];

    if (question->error_body.length > 0 && question->error_body.status == TD_OK)
        with_json(question, question->error_body.data, question->error_body.length, take_event);
    snprintf(what, sizeof what, "the server answers with status %d", question->status);
    fail(question, what);
}

static void on_end(void *ctx, td_status_t status, const char *reason)
{
    struct cli_question *question = ctx;
    struct cli_answer *answer = &question->answer;

    if (status != TD_OK)
        fail(question, reason);
    else if (question->status != 200)
        read_refusal(question);
    else if (!question->saw_done || !answer->has_finish || !answer->has_usage)
        fail(question, "the stream ended before the answer was complete");
    answer->is_complete = answer->failure[0] == '\0';
    question->config.on_end(question->config.ctx, answer);
}

static void put_message(struct td_json_writer *writer, const char *role, const char *content)
{
    td_json_begin_object(writer, NULL);
    td_json_put_text(writer, "role", role);
    td_json_put_text(writer, "content", content);
    td_json_end(writer);
}

static void write_body(const struct cli_question_config *config, struct td_buf *out)
{
    struct td_json_writer writer = td_json_writer_to(out);

    td_json_begin_object(&writer, NULL);
    td_json_begin_array(&writer, "messages");
    if (config->system != NULL)
        put_message(&writer, "system", config->system);
    put_message(&writer, "user", config->user);
    td_json_end(&writer);
    td_json_put_uint(&writer, "max_tokens", config->max_tokens);
    td_json_put_double(&writer, "temperature", 0.0); /* the same answer every time */
    td_json_put_bool(&writer, "stream", true);
    td_json_begin_object(&writer, "stream_options");
    td_json_put_bool(&writer, "include_usage", true);
    td_json_end(&writer);
    td_json_end(&writer);
}

static td_status_t send_request(struct cli_question *question, struct td_error *error)
{
    static const struct http_client_callbacks callbacks = {on_head, on_body, on_end};
    static const struct http_header headers[] = {{"Content-Type", "application/json"},
                                                 {"x-tandem-trace", "1"}};
    struct http_client_request request = {
        .method = HTTP_POST,
        .path = "/v1/chat/completions",
        .headers = headers,
        .header_count = sizeof headers / sizeof headers[0],
        .silence_ms = SILENCE_MS,
    };
    struct td_buf body;
    td_status_t status;

    td_buf_init(&body, BODY_BYTES_MAX);
    write_body(&question->config, &body);
    request.body = body.data;
    request.body_length = body.length;
    status = body.status;
    if (status == TD_OK)
        status = http_client_ask(question->client, &request, &callbacks, question);
    if (status != TD_OK)
        td_fail(error, status, "cannot ask: %s", td_status_text(status));
    td_buf_fini(&body);
    return status;
}

td_status_t cli_question_init(struct cli_question *question,
                              const struct cli_question_config *config, struct td_error *error)
{
    td_status_t status;

    *question = (struct cli_question){.config = *config};
    td_buf_init(&question->answer.text, CLI_ANSWER_TEXT_MAX);
    td_buf_init(&question->error_body, BODY_BYTES_MAX);
    td_arena_init(&question->arena, td_json_arena_bytes(&event_limits));
    http_sse_init(&question->sse, EVENT_BYTES_MAX, on_event, question);
    status = http_client_open(config->loop, config->origin, &question->client, error);
    if (status == TD_OK)
        status = send_request(question, error);
    if (status != TD_OK)
        cli_question_fini(question);
    return status;
}

void cli_question_fini(struct cli_question *question)
{
    http_client_close(question->client);
    question->client = NULL;
    http_sse_fini(&question->sse);
    td_arena_fini(&question->arena);
    td_buf_fini(&question->error_body);
    td_buf_fini(&question->answer.text);
}
