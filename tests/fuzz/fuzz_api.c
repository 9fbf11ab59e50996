/* fuzz_api.c: see fuzz_api.h. */
#include "fuzz_api.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/json_write.h"
#include "lib/base/utf8.h"

#define BODY_BYTES ((size_t)1 << 20)
#define WIDE_BYTES ((size_t)16 << 20) /* an escaped control character takes six bytes */

static uint64_t parse_fresh(struct td_span body, const struct api_limits *limits, fuzz_api_fn parse)
{
    struct td_arena arena;
    uint64_t hash;

    td_arena_init(&arena, api_arena_bytes(limits));
    hash = parse(body, limits, &arena);
    td_arena_fini(&arena);
    return hash;
}

/* The document written anew; false: it is none. */
static bool rewrite(struct td_span body, const struct api_limits *limits, struct td_buf *out)
{
    struct td_json_limits json = api_json_limits(limits);
    const struct td_json *root = NULL;
    struct td_arena arena;
    bool parsed;

    td_arena_init(&arena, td_json_arena_bytes(&json));
    parsed = td_json_parse(&arena, body, &json, &root, NULL) == TD_OK;
    if (parsed)
        td_json_write_tree(out, root);
    assert(out->status == TD_OK);
    td_arena_fini(&arena);
    return parsed;
}

void fuzz_api_run(const uint8_t *data, size_t size, fuzz_api_fn parse)
{
    struct td_span body = td_span_over((const char *)data, size);
    struct api_limits limits;
    struct td_buf again;
    uint64_t hash;

    if (size > BODY_BYTES)
        return;
    api_limits_init(&limits);
    limits.json_nodes = 5000;
    limits.messages = 64;
    limits.content_parts = 16;
    limits.body_bytes = WIDE_BYTES;
    hash = parse_fresh(body, &limits, parse);
    td_buf_init(&again, WIDE_BYTES);
    if (rewrite(body, &limits, &again) &&
        parse_fresh(td_span_over(again.data, again.length), &limits, parse) != hash)
        abort();
    td_buf_fini(&again);
}

static bool is_utf8(struct td_span text)
{
    return td_utf8_valid_prefix(text.bytes, text.length) == text.length;
}

void fuzz_api_check_options(const struct api_options *options, const struct api_limits *limits)
{
    assert(options->temperature >= 0 && options->temperature <= 2);
    assert(options->top_p > 0 && options->top_p <= 1);
    assert(options->min_p >= 0 && options->min_p <= 1);
    assert(options->repetition_penalty > 0 &&
           (double)options->repetition_penalty <= API_REPETITION_PENALTY_MAX);
    assert(options->presence_penalty >= -2 && options->presence_penalty <= 2);
    assert(options->frequency_penalty >= -2 && options->frequency_penalty <= 2);
    assert(options->bias_count <= limits->logit_biases);
    for (uint32_t i = 0; i < options->bias_count; i++)
        assert(options->biases[i].value >= -100 && options->biases[i].value <= 100);
    assert(options->max_tokens <= INT32_MAX && options->top_k <= INT32_MAX);
    assert(options->stop_count <= limits->stop_strings);
    for (uint32_t i = 0; i < options->stop_count; i++) {
        assert(options->stops[i].length > 0 && options->stops[i].length <= limits->stop_bytes);
        assert(is_utf8(options->stops[i]));
    }
    assert(options->stream || !options->include_usage);
    assert(options->model.length <= limits->label_bytes && is_utf8(options->model));
    assert(options->user.length <= limits->label_bytes);
    assert(options->cache_salt.length <= limits->salt_bytes);
}

/* Parses what was written; it must be JSON. */
static const struct td_json *read_back(struct td_arena *arena, struct td_span text)
{
    static const struct td_json_limits limits = {
        .bytes_max = SIZE_MAX, .nodes_max = 1000, .depth_max = 16};
    const struct td_json *json = NULL;

    if (td_json_parse(arena, text, &limits, &json, NULL) != TD_OK)
        abort();
    return json;
}

void fuzz_api_check_error(td_status_t status, const struct api_error *error)
{
    struct td_arena arena;
    struct td_buf out;

    assert(status == TD_INVALID || status == TD_LIMIT || status == TD_UNSUPPORTED);
    assert(api_error_status(error) == 400 || api_error_status(error) == 413);
    assert(error->message[0] != '\0');
    td_buf_init(&out, 16384);
    td_arena_init(&arena, SIZE_MAX);
    api_error_write(error, &out);
    assert(td_json_find(read_back(&arena, td_span_over(out.data, out.length)), "error") != NULL);
    td_arena_fini(&arena);
    td_buf_fini(&out);
}

static const struct td_json *first_choice(const struct td_json *json)
{
    return td_json_find(json, "choices")->items.first;
}

static void check_whole(const struct api_answer *answer, struct td_span text)
{
    const struct api_end end = {.finish = API_FINISH_STOP};
    struct td_arena arena;
    const struct td_json *choice;
    struct td_buf out;

    td_buf_init(&out, WIDE_BYTES * 2);
    td_arena_init(&arena, SIZE_MAX);
    api_answer_write(answer, text, &end, &out);
    choice = first_choice(read_back(&arena, td_span_over(out.data, out.length)));
    if (answer->surface == API_CHAT)
        choice = td_json_find(choice, "message");
    assert(td_span_equal(
        td_json_find(choice, answer->surface == API_CHAT ? "content" : "text")->string, text));
    td_arena_fini(&arena);
    td_buf_fini(&out);
}

static void check_event(const struct api_answer *answer, bool include_usage, struct td_span text)
{
    static const char data[] = "data: ";
    const struct td_json *choice;
    struct api_stream stream;
    struct td_arena arena;
    struct td_buf out;

    if (api_stream_init(&stream, answer, include_usage) != TD_OK)
        abort();
    td_buf_init(&out, WIDE_BYTES * 2);
    td_arena_init(&arena, SIZE_MAX);
    api_stream_delta(&stream, text, &out);
    /* one event: an empty line at its end, and nowhere else */
    assert(strstr(out.data, "\n\n") == out.data + out.length - 2);
    assert(memcmp(out.data, data, sizeof data - 1) == 0);
    choice = first_choice(
        read_back(&arena, td_span_over(out.data + sizeof data - 1, out.length - sizeof data + 1)));
    if (answer->surface == API_CHAT)
        choice = td_json_find(choice, "delta");
    assert(td_span_equal(
        td_json_find(choice, answer->surface == API_CHAT ? "content" : "text")->string, text));
    td_arena_fini(&arena);
    td_buf_fini(&out);
    api_stream_fini(&stream);
}

void fuzz_api_check_answer(enum api_surface surface, const struct api_options *options,
                           struct td_span text)
{
    struct api_answer answer =
        api_answer_of(surface, (struct td_u128){1, 2}, (struct td_u128){3, 4}, options->model, 5);

    assert(is_utf8(text));
    check_whole(&answer, text);
    check_event(&answer, options->include_usage, text);
}

uint64_t fuzz_api_hash(uint64_t hash, const void *bytes, size_t length)
{
    return td_u128_mix(td_hash128_chain((struct td_u128){hash, length}, bytes, length));
}

static uint64_t hash_span(uint64_t hash, struct td_span span)
{
    return fuzz_api_hash(hash, span.bytes != NULL ? span.bytes : "", span.length);
}

uint64_t fuzz_api_hash_options(uint64_t hash, const struct api_options *options)
{
    const uint64_t numbers[] = {options->max_tokens,    options->top_k,      options->has_seed,
                                options->seed,          options->stop_count, options->stream,
                                options->include_usage, options->given};
    const float fractions[] = {options->temperature,
                               options->top_p,
                               options->min_p,
                               options->repetition_penalty,
                               options->presence_penalty,
                               options->frequency_penalty};

    hash = fuzz_api_hash(hash, numbers, sizeof numbers);
    hash = fuzz_api_hash(hash, fractions, sizeof fractions);
    for (uint32_t i = 0; i < options->bias_count; i++) {
        hash = fuzz_api_hash(hash, &options->biases[i].token, sizeof options->biases[i].token);
        hash = fuzz_api_hash(hash, &options->biases[i].value, sizeof options->biases[i].value);
    }
    for (uint32_t i = 0; i < options->stop_count; i++)
        hash = hash_span(hash, options->stops[i]);
    return hash_span(hash_span(hash_span(hash, options->model), options->user),
                     options->cache_salt);
}

/* Offsets in messages differ between two forms of a document, so the text does not count. */
uint64_t fuzz_api_hash_error(td_status_t status, const struct api_error *error)
{
    uint64_t hash = fuzz_api_hash((uint64_t)(int64_t)status, error->param, strlen(error->param));

    return fuzz_api_hash(hash, &error->kind, sizeof error->kind);
}
