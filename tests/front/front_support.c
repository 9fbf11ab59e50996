/* front_support.c: see front_support.h. */
#include "tests/front/front_support.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front/internal.h"

#define ANSWER_BYTES_MAX ((size_t)256 << 20)

/* ---- the model ---- */

/* The character of GPT-2's alphabet that stands for a byte. */
static size_t alphabet(unsigned byte, char out[static 2])
{
    unsigned character = byte;

    if (byte < 33)
        character = 0x100 + byte;
    else if (byte >= 127 && byte <= 160)
        character = 0x100 + 33 + byte - 127;
    else if (byte == 173)
        character = 0x100 + 67;
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    out[0] = (char)(0xc0 | character >> 6);
    out[1] = (char)(0x80 | (character & 0x3f));
    return 2;
}

static const char template[] =
    "{% for message in messages %}"
    "{% if message.role == 'developer' %}{{ raise_exception('no developers here') }}{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% endif %}"
    "{% for call in message.tool_calls %}{{ call.function.name }}:"
    "{{ call.function.arguments | tojson }}{% endfor %}<|im_end|>\n"
    "{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

struct text_model *test_byte_model_open(void)
{
    return test_template_model_open(template);
}

struct text_model *test_template_model_open(const char *chat_template)
{
    static char bytes[256][2];
    struct text_token tokens[TEST_TOKEN_COUNT];
    struct text_source source;
    struct text_model *model = NULL;
    struct td_error error = {0};

    for (unsigned i = 0; i < 256; i++)
        tokens[i] = (struct text_token){.bytes = bytes[i],
                                        .length = (uint16_t)alphabet(i, bytes[i]),
                                        .type = TEXT_TOKEN_NORMAL};
    tokens[TEST_TOKEN_START] =
        (struct text_token){.bytes = "<|im_start|>", .length = 12, .type = TEXT_TOKEN_CONTROL};
    tokens[TEST_TOKEN_END] =
        (struct text_token){.bytes = "<|im_end|>", .length = 10, .type = TEXT_TOKEN_CONTROL};
    text_source_init(&source);
    source.pretokenizer = td_span_of("gpt-2");
    source.tokens = tokens;
    source.token_count = TEST_TOKEN_COUNT;
    source.chat_template = td_span_of(chat_template);
    source.eos = TEST_TOKEN_END;
    if (text_model_open(&source, &model, &error) != TD_OK)
        fail_msg("the byte model: %s", error.text);
    return model;
}

/* ---- the backend; on the loop ---- */

static void fill_model(const struct test_front *front, struct front_model *model_out)
{
    *model_out = (struct front_model){.name = TEST_MODEL,
                                      .text = front->without_text ? NULL : front->text,
                                      .max_context = TEST_CONTEXT,
                                      .content_id = {0x1122334455667788, 0x99},
                                      .created = 1700000000};
}

static bool model_at(void *impl, size_t i, struct front_model *model_out)
{
    const struct test_front *front = impl;

    if (i > 0 || front->model_status != TD_OK)
        return false;
    fill_model(front, model_out);
    return true;
}

static td_status_t model_by_name(void *impl, const char *name, struct front_model *model_out)
{
    const struct test_front *front = impl;

    if (front->model_status != TD_OK)
        return front->model_status;
    if (name[0] != '\0' && strcmp(name, TEST_MODEL) != 0 && strcmp(name, TEST_ALIAS) != 0)
        return TD_NOT_FOUND;
    fill_model(front, model_out);
    return TD_OK;
}

static td_status_t start(void *impl, struct front_job *job, struct front_exchange *exchange,
                         void **handle_out, uint32_t *retry_after_ms_out)
{
    struct test_front *front = impl;
    struct test_call *call = &front->calls[front->call_count];

    if (front->start_status != TD_OK) {
        *retry_after_ms_out = front->retry_after_ms;
        return front->start_status;
    }
    assert_true(front->call_count < TEST_CALLS_MAX);
    front->call_count++;
    *call = (struct test_call){.exchange = exchange, .job = *job};
    snprintf(call->model, sizeof call->model, "%s", job->model);
    call->job.model = call->model;
    *handle_out = call;
    test_event_post(&front->started);
    return TD_OK;
}

static void stop(void *impl, void *handle)
{
    struct test_front *front = impl;
    struct test_call *call = handle;

    assert_false(call->stopped || call->abandoned || call->ended);
    call->stopped = true;
    test_event_post(&front->stopped);
}

static void abandon(void *impl, void *handle)
{
    struct test_front *front = impl;
    struct test_call *call = handle;

    assert_false(call->abandoned || call->ended);
    call->abandoned = true;
    test_event_post(&front->abandoned);
}

static bool is_ready(void *impl, char *why_out, size_t why_size)
{
    const struct test_front *front = impl;

    snprintf(why_out, why_size, "there is no worker");
    return !front->unready;
}

static bool is_healthy(void *impl, char *why_out, size_t why_size)
{
    const struct test_front *front = impl;

    snprintf(why_out, why_size, "the engine stands still");
    return !front->unhealthy;
}

static void add_metrics(void *impl, struct td_buf *out)
{
    (void)impl;
    td_buf_append_text(out, "# of the backend\n");
}

/* ---- life ---- */

static void drained(void *context)
{
    struct test_front *front = context;

    test_event_post(&front->drained);
}

void test_front_init(struct test_front *front)
{
    *front = (struct test_front){.front = NULL};
    api_limits_init(&front->config.limits);
    front->config.ping_ms = 3600 * 1000;
    front->config.listen = "127.0.0.1:0";
    front->config.on_drained = drained;
    front->config.context = front;
    front->config.backend = (struct front_backend){.impl = front,
                                                   .model_at = model_at,
                                                   .model_by_name = model_by_name,
                                                   .start = start,
                                                   .stop = stop,
                                                   .abandon = abandon,
                                                   .is_ready = is_ready,
                                                   .is_healthy = is_healthy,
                                                   .metrics = add_metrics};
    front->text = test_byte_model_open();
    test_event_init(&front->started);
    test_event_init(&front->stopped);
    test_event_init(&front->abandoned);
    test_event_init(&front->drained);
    test_event_init(&front->closed);
    test_event_init(&front->pool_taken);
    test_event_init(&front->pool_left);
    assert_int_equal(sem_init(&front->pool, 0, 0), 0);
}

static void open_front(void *ctx)
{
    struct test_front *front = ctx;
    struct td_error error = {0};

    if (front_open(&front->config, &front->front, &error) != TD_OK)
        fail_msg("front_open: %s", error.text);
    snprintf(front->address, sizeof front->address, "%s", front_address(front->front));
}

void test_front_start(struct test_front *front)
{
    test_loop_start(&front->loop);
    front->config.loop = front->loop.loop;
    front->descriptors = test_open_descriptors();
    test_loop_call(&front->loop, open_front, front);
}

static void closed(void *context)
{
    struct test_front *front = context;

    test_event_post(&front->closed);
}

static void close_front(void *ctx)
{
    struct test_front *front = ctx;

    front_close(front->front, closed, front);
}

void test_front_close(struct test_front *front)
{
    front->closing = true;
    test_loop_call(&front->loop, close_front, front);
}

void test_front_forget_calls(struct test_front *front)
{
    for (uint32_t i = 0; i < front->call_count; i++) {
        const struct test_call *call = &front->calls[i];

        if (call->abandoned == call->ended)
            fail_msg("request %u at the backend: abandoned %d, ended %d", i, call->abandoned,
                     call->ended);
        free(call->job.tokens);
    }
    front->call_count = 0;
}

void test_front_stop(struct test_front *front)
{
    if (front->front != NULL) {
        if (!front->closing)
            test_front_close(front);
        test_event_wait(&front->closed);
        assert_int_equal(test_open_descriptors(), front->descriptors);
        test_loop_stop(&front->loop);
    }
    test_front_forget_calls(front);
    text_model_close(front->text);
    test_event_fini(&front->started);
    test_event_fini(&front->stopped);
    test_event_fini(&front->abandoned);
    test_event_fini(&front->drained);
    test_event_fini(&front->closed);
    test_event_fini(&front->pool_taken);
    test_event_fini(&front->pool_left);
    sem_destroy(&front->pool);
}

int test_front_setup_init(void **state)
{
    struct test_front *front = calloc(1, sizeof *front);

    test_front_init(front);
    *state = front;
    return 0;
}

int test_front_setup(void **state)
{
    test_front_setup_init(state);
    test_front_start(*state);
    return 0;
}

int test_front_teardown(void **state)
{
    test_front_stop(*state);
    free(*state);
    return 0;
}

/* ---- driving the backend ---- */

struct order {
    struct test_front *front;
    struct test_call *call;
    const uint32_t *tokens;
    uint32_t count;
    const struct front_result *result;
    void (*fn)(struct test_front *front);
    bool idle;
    uint32_t exchanges;
    uint32_t connections;
};

struct test_call *test_front_call(struct test_front *front, uint32_t index)
{
    test_event_wait(&front->started);
    return &front->calls[index];
}

static void give_tokens(void *ctx)
{
    const struct order *order = ctx;

    if (!order->call->abandoned && !order->call->ended) /* the client may have left */
        front_exchange_tokens(order->call->exchange, order->tokens, order->count);
}

void test_front_tokens(struct test_front *front, struct test_call *call, const uint32_t *tokens,
                       uint32_t count)
{
    test_loop_call(&front->loop, give_tokens,
                   &(struct order){.call = call, .tokens = tokens, .count = count});
}

void test_front_say(struct test_front *front, struct test_call *call, const char *text)
{
    size_t length = strlen(text);
    uint32_t *tokens = calloc(length + 1, sizeof *tokens);

    for (size_t i = 0; i < length; i++)
        tokens[i] = (unsigned char)text[i];
    test_front_tokens(front, call, tokens, (uint32_t)length);
    free(tokens);
}

static void give_end(void *ctx)
{
    const struct order *order = ctx;

    if (order->call->abandoned || order->call->ended)
        return;
    order->call->ended = true;
    front_exchange_end(order->call->exchange, order->result);
}

void test_front_end(struct test_front *front, struct test_call *call,
                    const struct front_result *result)
{
    test_loop_call(&front->loop, give_end, &(struct order){.call = call, .result = result});
}

void test_front_finish(struct test_front *front, struct test_call *call, enum front_finish finish,
                       uint32_t completion_tokens)
{
    test_front_end(front, call,
                   &(struct front_result){.finish = finish,
                                          .prompt_tokens = call->job.token_count,
                                          .completion_tokens = completion_tokens});
}

static void run_fn(void *ctx)
{
    struct order *order = ctx;

    order->fn(order->front);
}

void test_front_run(struct test_front *front, void (*fn)(struct test_front *front))
{
    test_loop_call(&front->loop, run_fn, &(struct order){.front = front, .fn = fn});
}

static void look_idle(void *ctx)
{
    struct order *order = ctx;

    order->idle = front_idle(order->front->front);
    order->exchanges = order->front->front->exchange_count;
    order->connections = http_server_counts(order->front->front->http).connections;
}

void test_front_wait_idle(struct test_front *front)
{
    struct order order = {.front = front};

    do {
        sched_yield();
        test_loop_call(&front->loop, look_idle, &order);
    } while (!order.idle);
}

void test_front_wait_exchanges(struct test_front *front, uint32_t count)
{
    struct order order = {.front = front};

    do {
        sched_yield();
        test_loop_call(&front->loop, look_idle, &order);
    } while (order.exchanges != count);
}

void test_front_wait_gone(struct test_front *front)
{
    struct order order = {.front = front};
    struct test_answer answer;

    test_front_get(front, "/health", &answer); /* connections are accepted in their order */
    test_answer_free(&answer);
    do {
        sched_yield();
        test_loop_call(&front->loop, look_idle, &order);
    } while (!order.idle || order.connections > 0);
}

/* ---- the pool ---- */

static void hold_thread(void *ctx)
{
    struct test_front *front = ctx;

    test_event_post(&front->pool_taken);
    while (sem_wait(&front->pool) != 0)
        continue;
}

static void thread_left(void *ctx, td_status_t status)
{
    struct test_front *front = ctx;

    (void)status;
    test_event_post(&front->pool_left);
}

static void take_pool(void *ctx)
{
    static const struct net_job job = {hold_thread, thread_left};
    struct test_front *front = ctx;
    struct net_work *work;

    for (int i = 0; i < TEST_POOL_THREADS; i++)
        assert_int_equal(net_work_start(front->loop.loop, &job, front, &work), TD_OK);
}

void test_front_take_pool(struct test_front *front)
{
    test_loop_call(&front->loop, take_pool, front);
    for (int i = 0; i < TEST_POOL_THREADS; i++)
        test_event_wait(&front->pool_taken);
}

void test_front_release_pool(struct test_front *front)
{
    for (int i = 0; i < TEST_POOL_THREADS; i++)
        sem_post(&front->pool);
    for (int i = 0; i < TEST_POOL_THREADS; i++)
        test_event_wait(&front->pool_left);
}

/* ---- the client ---- */

void test_front_send_post(int fd, const char *path, const char *headers, const char *body)
{
    struct td_buf text;

    td_buf_init(&text, ANSWER_BYTES_MAX);
    td_buf_printf(&text,
                  "POST %s HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\n%s\r\n",
                  path, strlen(body), headers);
    td_buf_append_text(&text, body);
    assert_int_equal(text.status, TD_OK);
    test_send(fd, text.data, text.length);
    td_buf_fini(&text);
}

int test_front_post(struct test_front *front, const char *path, const char *headers,
                    const char *body)
{
    int fd = test_connect(front->address);

    test_front_send_post(fd, path, headers, body);
    return fd;
}

void test_front_send_get(int fd, const char *path)
{
    char text[1024];

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: test\r\n\r\n", path);
    test_send_text(fd, text);
}

static const struct td_json *parse(struct td_arena *arena, struct td_span text)
{
    static const struct td_json_limits limits = {
        .bytes_max = ANSWER_BYTES_MAX, .nodes_max = 1000000, .depth_max = 32};
    const struct td_json *json = NULL;
    struct td_error error = {0};

    if (td_json_parse(arena, text, &limits, &json, &error) != TD_OK)
        fail_msg("not JSON: %s: %.*s", error.text, (int)text.length, text.bytes);
    return json;
}

void test_answer_read(int fd, struct test_answer *answer)
{
    size_t body;

    *answer = (struct test_answer){.status = 0};
    td_buf_init(&answer->raw, ANSWER_BYTES_MAX);
    td_arena_init(&answer->arena, ANSWER_BYTES_MAX);
    body = test_read_answer(fd, &answer->raw);
    answer->body = answer->raw.data + body;
    assert_int_equal(sscanf(answer->raw.data, "HTTP/1.1 %d ", &answer->status), 1);
    if (test_answer_has(answer, "Content-Type: application/json"))
        answer->json = parse(&answer->arena, td_span_over(answer->body, answer->raw.length - body));
}

void test_answer_free(struct test_answer *answer)
{
    td_buf_fini(&answer->raw);
    td_arena_fini(&answer->arena);
}

bool test_answer_has(const struct test_answer *answer, const char *line)
{
    char wanted[256];
    const char *found;

    snprintf(wanted, sizeof wanted, "\r\n%s\r\n", line);
    found = strcasestr(answer->raw.data, wanted);
    return found != NULL && found < answer->body;
}

static void check_text(const struct td_json *json, const char *key, const char *wanted)
{
    const struct td_json *value = td_json_find(json, key);

    if (value == NULL)
        fail_msg("the error has no '%s'", key);
    else if (wanted[0] == '\0')
        assert_int_equal(value->kind, TD_JSON_NULL);
    else if (value->kind != TD_JSON_STRING || !td_span_is(value->string, wanted))
        fail_msg("'%s' is not %s", key, wanted);
}

void test_answer_is_error(const struct test_answer *answer, int status, const char *type,
                          const char *code)
{
    const struct td_json *error = answer->json != NULL ? td_json_find(answer->json, "error") : NULL;

    if (answer->status != status || error == NULL)
        fail_msg("expected an error %d, got:\n%s", status, answer->raw.data);
    check_text(error, "type", type);
    check_text(error, "code", code);
    assert_non_null(td_json_find(error, "message"));
    assert_non_null(td_json_find(error, "param"));
}

void test_front_get(struct test_front *front, const char *path, struct test_answer *answer)
{
    int fd = test_connect(front->address);

    test_front_send_get(fd, path);
    test_answer_read(fd, answer);
    close(fd);
}

/* ---- streams ---- */

void test_stream_open(struct test_stream *stream)
{
    *stream = (struct test_stream){.status = 0};
    td_buf_init(&stream->raw, ANSWER_BYTES_MAX);
    td_buf_init(&stream->events, ANSWER_BYTES_MAX);
    td_buf_init(&stream->text, ANSWER_BYTES_MAX);
    td_arena_init(&stream->arena, ANSWER_BYTES_MAX);
}

void test_stream_free(struct test_stream *stream)
{
    td_buf_fini(&stream->raw);
    td_buf_fini(&stream->events);
    td_buf_fini(&stream->text);
    td_arena_fini(&stream->arena);
}

/* Takes whole chunks off raw from *at on. True: the last one. */
static bool take_chunks(struct test_stream *stream, size_t *at)
{
    for (;;) {
        const char *begin = stream->raw.data + *at;
        const char *end = strstr(begin, "\r\n");
        size_t length;

        if (end == NULL)
            return false;
        length = strtoul(begin, NULL, 16);
        end += 2;
        if ((size_t)(end - stream->raw.data) + length + 2 > stream->raw.length)
            return false;
        td_buf_append(&stream->events, end, length);
        *at = (size_t)(end - stream->raw.data) + length + 2;
        if (length == 0)
            return true;
    }
}

static void take_choice(struct test_stream *stream, const struct td_json *choice)
{
    const struct td_json *delta = td_json_find(choice, "delta");
    const struct td_json *text =
        delta != NULL ? td_json_find(delta, "content") : td_json_find(choice, "text");
    const struct td_json *finish = td_json_find(choice, "finish_reason");

    assert_non_null(td_json_find(choice, "index"));
    assert_non_null(td_json_find(choice, "logprobs"));
    assert_non_null(finish);
    assert_int_equal(stream->finish[0], '\0'); /* nothing comes behind the last choice */
    if (delta != NULL && td_json_find(delta, "role") != NULL)
        stream->roles++;
    if (text != NULL && text->string.length > 0) {
        td_buf_append(&stream->text, text->string.bytes, text->string.length);
        stream->deltas++;
    }
    if (finish->kind == TD_JSON_STRING)
        snprintf(stream->finish, sizeof stream->finish, "%s", finish->string.bytes);
}

static void take_event(struct test_stream *stream, struct td_span data)
{
    const struct td_json *json;
    const struct td_json *choices;
    const struct td_json *usage;

    assert_false(stream->done);
    if (td_span_is(data, "[DONE]")) {
        stream->done = true;
        return;
    }
    json = parse(&stream->arena, data);
    stream->error = td_json_find(json, "error");
    if (stream->error != NULL)
        return;
    assert_non_null(td_json_find(json, "id"));
    assert_non_null(td_json_find(json, "created"));
    assert_non_null(td_json_find(json, "system_fingerprint"));
    choices = td_json_find(json, "choices");
    assert_non_null(choices);
    if (choices->items.first != NULL)
        take_choice(stream, choices->items.first);
    usage = td_json_find(json, "usage");
    if (usage != NULL && usage->kind == TD_JSON_OBJECT)
        stream->usage = usage;
    if (td_json_find(json, "tandem") != NULL)
        stream->tandem = td_json_find(json, "tandem");
}

static void take_events(struct test_stream *stream)
{
    const char *next = stream->events.data;
    const char *end;

    while (next != NULL && (end = strstr(next, "\n\n")) != NULL) {
        if (strncmp(next, "data: ", 6) == 0)
            take_event(stream, td_span_over(next + 6, (size_t)(end - next - 6)));
        else if (strncmp(next, ": ping", 6) == 0)
            stream->pings++;
        else
            fail_msg("no event: %.*s", (int)(end - next), next);
        next = end + 2;
    }
}

/* False: the stream ended or broke. */
static bool read_more(int fd, struct td_buf *out)
{
    char bytes[65536];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);

    if (got < 0 && errno == EAGAIN)
        fail_msg("the server says nothing");
    if (got > 0)
        td_buf_append(out, bytes, (size_t)got);
    return got > 0;
}

void test_stream_read(int fd, struct test_stream *stream)
{
    size_t at;

    test_read_until(fd, &stream->raw, "\r\n\r\n");
    assert_int_equal(sscanf(stream->raw.data, "HTTP/1.1 %d ", &stream->status), 1);
    assert_non_null(strstr(stream->raw.data, "Content-Type: text/event-stream"));
    at = (size_t)(strstr(stream->raw.data, "\r\n\r\n") + 4 - stream->raw.data);
    while (!(stream->clean = take_chunks(stream, &at)) && read_more(fd, &stream->raw))
        continue;
    take_events(stream);
}

void test_stream_is(const struct test_stream *stream, const char *text, const char *finish)
{
    assert_int_equal(stream->status, 200);
    if (stream->text.length != strlen(text) ||
        memcmp(stream->text.length > 0 ? stream->text.data : "", text, strlen(text)) != 0)
        fail_msg("expected \"%s\", got \"%s\"", text,
                 stream->text.data != NULL ? stream->text.data : "");
    assert_string_equal(stream->finish, finish);
    assert_true(stream->done && stream->clean);
    assert_null(stream->error);
}

/* ---- JSON ---- */

static const struct td_json *at(const struct td_json *json, va_list keys)
{
    const char *key;

    while (json != NULL && (key = va_arg(keys, const char *)) != NULL) {
        if (json->kind == TD_JSON_ARRAY && strcmp(key, "0") == 0)
            json = json->items.first;
        else
            json = json->kind == TD_JSON_OBJECT ? td_json_find(json, key) : NULL;
    }
    return json;
}

const struct td_json *test_at(const struct td_json *json, ...)
{
    va_list keys;
    const struct td_json *value;

    va_start(keys, json);
    value = at(json, keys);
    va_end(keys);
    return value;
}

int64_t test_int(const struct td_json *json, ...)
{
    va_list keys;
    const struct td_json *value;

    va_start(keys, json);
    value = at(json, keys);
    va_end(keys);
    if (value == NULL || value->kind != TD_JSON_INTEGER)
        fail_msg("there is no such integer");
    return value->integer;
}
