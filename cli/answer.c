/* answer.c: events, whole answers and refusals, see answer.h. */
#include "cli/answer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/json.h"

#define EVENT_BYTES_MAX ((size_t)1 << 20)
#define BODY_BYTES_MAX  ((size_t)8 << 20)

static const struct td_json_limits limits = {
    .bytes_max = BODY_BYTES_MAX, .nodes_max = 20000, .depth_max = 32};

const char *cli_stage_name(enum cli_stage stage)
{
    static const char *const names[] = {
#define X(name, label, text) [CLI_STAGE_##name] = #name,
        CLI_STAGES_MAP(X)
#undef X
    };

    return names[stage];
}

static void fail(struct cli_answer *answer, const char *what)
{
    if (answer->failure[0] == '\0')
        snprintf(answer->failure, sizeof answer->failure, "%s", what);
}

/* ---- reading members; what is not there, or of another kind, leaves the value alone ---- */

static const struct td_json *object_at(const struct td_json *parent, const char *name)
{
    const struct td_json *value = parent != NULL ? td_json_find(parent, name) : NULL;

    return value != NULL && value->kind == TD_JSON_OBJECT ? value : NULL;
}

static const struct td_json *text_at(const struct td_json *parent, const char *name)
{
    const struct td_json *value = td_json_find(parent, name);

    return value != NULL && value->kind == TD_JSON_STRING ? value : NULL;
}

static void read_text(const struct td_json *parent, const char *name, char *out, size_t size)
{
    const struct td_json *value = text_at(parent, name);

    if (value != NULL)
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

/* ---- one object: an event, or a whole answer ---- */

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

static void take_piece(struct cli_answer_reader *reader, enum cli_piece piece,
                       const struct td_json *parent, const char *name)
{
    const struct td_json *value = text_at(parent, name);

    if (value == NULL || value->string.length == 0)
        return;
    if (piece == CLI_PIECE_TEXT) {
        td_buf_append(&reader->answer.text, value->string.bytes, value->string.length);
        if (reader->answer.text.status != TD_OK) {
            fail(&reader->answer, "the answer is longer than any that is taken");
            return;
        }
    }
    reader->on_piece(reader->ctx, piece, value->string.bytes, value->string.length);
}

/* Events have a delta, whole answers a message. Servers disagree about the name of reasoning. */
static void take_choice(struct cli_answer_reader *reader, const struct td_json *choice)
{
    const struct td_json *message = object_at(choice, "delta");

    if (message == NULL)
        message = object_at(choice, "message");
    if (message != NULL) {
        const char *name =
            text_at(message, "reasoning_content") ? "reasoning_content" : "reasoning";

        take_piece(reader, CLI_PIECE_REASONING, message, name);
        take_piece(reader, CLI_PIECE_TEXT, message, "content");
        take_piece(reader, CLI_PIECE_TEXT, message, "refusal");
    }
    read_text(choice, "finish_reason", reader->answer.finish, sizeof reader->answer.finish);
}

/*
 * OpenAI's form, {"error":{"message","code"}}, and those of others: {"error":"text"}; on a refusal also
 * {"message":"text"} and {"detail":"text"}.
 */
static void take_error(struct cli_answer *answer, const struct td_json *event, bool is_refusal)
{
    const struct td_json *error = object_at(event, "error");
    char message[sizeof answer->failure] = "";

    if (error != NULL) {
        read_text(error, "message", message, sizeof message);
        read_text(error, "code", answer->code, sizeof answer->code);
        fail(answer,
             message[0] != '\0' ? message : "the server reports an error without a message");
        return;
    }
    read_text(event, "error", message, sizeof message);
    if (is_refusal && message[0] == '\0')
        read_text(event, "message", message, sizeof message);
    if (is_refusal && message[0] == '\0')
        read_text(event, "detail", message, sizeof message);
    if (message[0] != '\0')
        fail(answer, message);
}

static void take_object(struct cli_answer_reader *reader, const struct td_json *event)
{
    struct cli_answer *answer = &reader->answer;
    const struct td_json *choices = td_json_find(event, "choices");
    const struct td_json *usage = object_at(event, "usage");
    const struct td_json *trace = object_at(event, "tandem");

    read_text(event, "model", answer->model, sizeof answer->model);
    take_error(answer, event, answer->status != 200);
    if (choices != NULL && choices->kind == TD_JSON_ARRAY && choices->items.first != NULL &&
        choices->items.first->kind == TD_JSON_OBJECT)
        take_choice(reader, choices->items.first);
    if (usage != NULL) {
        answer->has_usage = true;
        read_count(usage, "prompt_tokens", &answer->prompt_tokens);
        read_count(usage, "completion_tokens", &answer->completion_tokens);
    }
    if (trace != NULL)
        take_trace(answer, trace);
}

/* Whether the text is a JSON object, which is taken; else error says why not. */
static bool take_json(struct cli_answer_reader *reader, const char *text, size_t length,
                      struct td_error *error)
{
    const struct td_json *root = NULL;
    bool good =
        td_json_parse(&reader->arena, td_span_over(text, length), &limits, &root, error) == TD_OK;

    if (good && root->kind != TD_JSON_OBJECT)
        good = td_fail(error, TD_INVALID, "no object") == TD_OK;
    if (good)
        take_object(reader, root);
    td_arena_fini(&reader->arena);
    return good;
}

static void on_event(void *ctx, const char *data, size_t length)
{
    struct cli_answer_reader *reader = ctx;
    struct td_error error = {0};
    char what[200];

    if (reader->answer.failure[0] != '\0')
        return; /* behind an error nothing counts */
    if (length == 6 && memcmp(data, "[DONE]", 6) == 0) {
        reader->answer.saw_done = true;
    } else if (!take_json(reader, data, length, &error)) {
        snprintf(what, sizeof what, "the server sent an event that is no JSON: %.120s", error.text);
        fail(&reader->answer, what);
    }
}

/* ---- the answer ---- */

void cli_answer_init(struct cli_answer_reader *reader, cli_piece_fn on_piece, void *ctx)
{
    *reader = (struct cli_answer_reader){.on_piece = on_piece, .ctx = ctx};
    td_buf_init(&reader->answer.text, CLI_ANSWER_TEXT_MAX);
    td_buf_init(&reader->body, BODY_BYTES_MAX);
    td_arena_init(&reader->arena, td_json_arena_bytes(&limits));
    http_sse_init(&reader->sse, EVENT_BYTES_MAX, on_event, reader);
}

void cli_answer_fini(struct cli_answer_reader *reader)
{
    http_sse_fini(&reader->sse);
    td_arena_fini(&reader->arena);
    td_buf_fini(&reader->body);
    td_buf_fini(&reader->answer.text);
}

void cli_answer_head(struct cli_answer_reader *reader, int status, const char *content_type)
{
    static const char stream_type[] = "text/event-stream";

    reader->answer.status = status;
    reader->is_stream = status == 200 && content_type != NULL &&
                        strncasecmp(content_type, stream_type, sizeof stream_type - 1) == 0;
}

void cli_answer_body(struct cli_answer_reader *reader, const void *bytes, size_t length)
{
    if (!reader->is_stream) {
        td_buf_append(&reader->body, bytes, length);
        if (reader->body.status != TD_OK)
            fail(&reader->answer, "the answer is longer than any that is taken");
    } else if (http_sse_feed(&reader->sse, bytes, length) != TD_OK) {
        fail(&reader->answer, "an event of the stream is too long");
    }
}

/* An answer in one piece (the server does not stream), or a refusal. */
static void take_body(struct cli_answer_reader *reader)
{
    struct cli_answer *answer = &reader->answer;
    struct td_error error = {0};
    bool is_json = reader->body.status == TD_OK && reader->body.length > 0 &&
                   take_json(reader, reader->body.data, reader->body.length, &error);
    char what[80];

    if (answer->status != 200) {
        snprintf(what, sizeof what, "the server answers with status %d", answer->status);
        fail(answer, what);
    } else if (!is_json) {
        fail(answer, "the server sent neither a stream nor JSON: is this an OpenAI API?");
    }
}

void cli_answer_end(struct cli_answer_reader *reader, td_status_t status, const char *reason)
{
    struct cli_answer *answer = &reader->answer;

    if (status != TD_OK)
        fail(answer, reason);
    else if (!reader->is_stream)
        take_body(reader);
    if (!answer->saw_done && answer->finish[0] == '\0')
        fail(answer, "the stream ended before the answer was complete");
    answer->is_complete = answer->failure[0] == '\0';
}
