/* options.c: the shared fields of requests, see options.h. */
#include "lib/api/options.h"

#include <float.h>

#include "lib/api/reader.h"

static td_status_t read_max_tokens(struct api_reader *reader, const struct td_json *object,
                                   struct api_options *options)
{
    /* the newer name wins: it is read last */
    static const char *const names[] = {"max_tokens", "max_completion_tokens"};
    int64_t value = 0;

    for (size_t i = 0; i < 2; i++) {
        td_status_t status =
            api_read_int(reader, object, (struct api_int_field){names[i], 1, INT32_MAX}, &value);

        if (status != TD_OK)
            return status;
    }
    options->max_tokens = (uint32_t)value;
    return TD_OK;
}

/* Where there is no default of a model's to look for, given is 0. */
static td_status_t read_fractions(struct api_reader *reader, const struct td_json *object,
                                  struct api_options *options)
{
    const struct {
        struct api_number_field field;
        double neutral;
        unsigned given;
        float *value;
    } rows[] = {
        {{"temperature", 0, 2}, 1, API_GIVEN_TEMPERATURE, &options->temperature},
        {{"top_p", 0, 1}, 1, API_GIVEN_TOP_P, &options->top_p},
        {{"min_p", 0, 1}, 0, API_GIVEN_MIN_P, &options->min_p},
        {{"repetition_penalty", 0, API_REPETITION_PENALTY_MAX},
         1,
         API_GIVEN_REPETITION_PENALTY,
         &options->repetition_penalty},
        {{"presence_penalty", -2, 2}, 0, 0, &options->presence_penalty},
        {{"frequency_penalty", -2, 2}, 0, 0, &options->frequency_penalty},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double value = rows[i].neutral;
        td_status_t status = api_read_number(reader, object, rows[i].field, &value);

        if (status != TD_OK)
            return status;
        *rows[i].value = (float)value;
        if (td_json_get(object, rows[i].field.name).value != NULL)
            options->given |= rows[i].given;
    }
    return TD_OK;
}

static td_status_t read_sampling(struct api_reader *reader, const struct td_json *object,
                                 struct api_options *options)
{
    int64_t top_k = 0;
    td_status_t status = read_fractions(reader, object, options);

    if (status == TD_OK)
        status =
            api_read_int(reader, object, (struct api_int_field){"top_k", -1, INT32_MAX}, &top_k);
    if (status != TD_OK)
        return status;
    if (td_json_get(object, "top_k").value != NULL)
        options->given |= API_GIVEN_TOP_K;
    options->top_k = top_k < 0 ? 0 : (uint32_t)top_k; /* -1 is vLLM's "off" */
    if (options->top_p < FLT_MIN)
        options->top_p = FLT_MIN; /* 0: the smallest nucleus */
    if (options->repetition_penalty < FLT_MIN)
        return api_refuse(reader, TD_INVALID, "repetition_penalty",
                          "'repetition_penalty' must be above 0");
    return TD_OK;
}

/* A decimal number without a sign or a leading zero, so that no token has two names. */
static bool read_token_id(struct td_span key, uint32_t *token_out)
{
    uint64_t token = 0;

    if (key.length == 0 || key.length > 10 || (key.bytes[0] == '0' && key.length > 1))
        return false;
    for (size_t i = 0; i < key.length; i++) {
        if (key.bytes[i] < '0' || key.bytes[i] > '9')
            return false;
        token = token * 10 + (uint64_t)(key.bytes[i] - '0');
    }
    if (token > INT32_MAX)
        return false;
    *token_out = (uint32_t)token;
    return true;
}

static td_status_t read_bias(struct api_reader *reader, const struct td_json *item,
                             struct api_bias *bias_out)
{
    const struct td_json_field field = {item, "logit_bias"};
    double value = 0;

    if (!read_token_id(item->key, &bias_out->token))
        return api_refuse(reader, TD_INVALID, "logit_bias",
                          "a key of 'logit_bias' must be a token id");
    if (item->kind == TD_JSON_NULL || td_json_number(field, -100, 100, &value, NULL) != TD_OK)
        return api_refuse(reader, TD_INVALID, "logit_bias",
                          "a value in 'logit_bias' must be a number from -100 to 100");
    bias_out->value = (float)value;
    return TD_OK;
}

static td_status_t read_biases(struct api_reader *reader, const struct td_json *object,
                               struct api_options *options)
{
    const struct td_json *value = td_json_get(object, "logit_bias").value;
    struct api_bias *biases;
    uint32_t count = 0;

    if (value == NULL)
        return TD_OK;
    if (value->kind != TD_JSON_OBJECT)
        return api_refuse(reader, TD_INVALID, "logit_bias", "'logit_bias' must be an object");
    if (value->items.count == 0)
        return TD_OK;
    if (value->items.count > reader->limits->logit_biases)
        return api_refuse(reader, TD_INVALID, "logit_bias",
                          "'logit_bias' must have at most %u tokens", reader->limits->logit_biases);
    biases = td_arena_array(reader->arena, value->items.count, sizeof *biases);
    if (biases == NULL)
        return api_refuse_memory(reader);
    td_json_for_each(item, value)
    {
        td_status_t status = read_bias(reader, item, &biases[count++]);

        if (status != TD_OK)
            return status;
    }
    options->biases = biases;
    options->bias_count = count;
    return TD_OK;
}

static td_status_t read_choices(struct api_reader *reader, const struct td_json *object,
                                struct api_options *options)
{
    int64_t choices = 1;
    td_status_t status = api_read_int(
        reader, object, (struct api_int_field){"n", 1, reader->limits->choices}, &choices);

    (void)options;
    if (status == TD_OK && choices > 1)
        return api_refuse(reader, TD_UNSUPPORTED, "n", "'n' is not supported here, except as 1");
    return status;
}

static td_status_t read_seed(struct api_reader *reader, const struct td_json *object,
                             struct api_options *options)
{
    int64_t seed = 0;
    td_status_t status =
        api_read_int(reader, object, (struct api_int_field){"seed", INT64_MIN, INT64_MAX}, &seed);

    options->has_seed = td_json_get(object, "seed").value != NULL;
    options->seed = (uint64_t)seed;
    return status;
}

static td_status_t read_stop(struct api_reader *reader, const struct td_json *value,
                             struct td_span *stop_out)
{
    if (value->kind != TD_JSON_STRING)
        return api_refuse(reader, TD_INVALID, "stop",
                          "'stop' must be a string or an array of strings");
    if (value->string.length == 0 || value->string.length > reader->limits->stop_bytes)
        return api_refuse(reader, TD_INVALID, "stop",
                          "a string in 'stop' must have 1 to %llu bytes",
                          (unsigned long long)reader->limits->stop_bytes);
    *stop_out = value->string;
    return TD_OK;
}

/* One string, or an array of them. */
static td_status_t read_stops(struct api_reader *reader, const struct td_json *object,
                              struct api_options *options)
{
    const struct td_json *value = td_json_get(object, "stop").value;
    const struct td_json *item = value;
    size_t count = 1;
    struct td_span *stops;

    if (value != NULL && value->kind == TD_JSON_ARRAY) {
        item = value->items.first;
        count = value->items.count;
    }
    if (item == NULL)
        return TD_OK;
    if (count > reader->limits->stop_strings)
        return api_refuse(reader, TD_INVALID, "stop", "'stop' must have at most %u strings",
                          reader->limits->stop_strings);
    stops = td_arena_array(reader->arena, count, sizeof *stops);
    if (stops == NULL)
        return api_refuse_memory(reader);
    for (size_t i = 0; i < count; i++, item = item->next) {
        td_status_t status = read_stop(reader, item, &stops[i]);

        if (status != TD_OK)
            return status;
    }
    options->stops = stops;
    options->stop_count = (uint32_t)count;
    return TD_OK;
}

static td_status_t read_streaming(struct api_reader *reader, const struct td_json *object,
                                  struct api_options *options)
{
    struct td_json_field field = td_json_get(object, "stream_options");
    struct td_error error = {0};
    const struct td_json *stream_options = NULL;
    td_status_t status = api_read_bool(reader, object, "stream", &options->stream);

    if (status != TD_OK)
        return status;
    if (td_json_object(field, &stream_options, &error) != TD_OK)
        return api_refuse(reader, TD_INVALID, field.name, "%s", error.text);
    if (stream_options == NULL)
        return TD_OK;
    field = td_json_get(stream_options, "include_usage");
    if (td_json_bool(field, &options->include_usage, &error) != TD_OK)
        return api_refuse(reader, TD_INVALID, "stream_options.include_usage", "%s", error.text);
    /* official clients send stream_options without stream: then there is nothing to include it in */
    options->include_usage = options->include_usage && options->stream;
    return TD_OK;
}

static td_status_t read_labels(struct api_reader *reader, const struct td_json *object,
                               struct api_options *options)
{
    const struct api_limits *limits = reader->limits;
    td_status_t status;

    status = api_read_string(reader, object, "model", limits->label_bytes, &options->model);
    if (status == TD_OK)
        status = api_read_string(reader, object, "user", limits->label_bytes, &options->user);
    if (status == TD_OK)
        status =
            api_read_string(reader, object, "cache_salt", limits->salt_bytes, &options->cache_salt);
    if (status == TD_OK && options->cache_salt.bytes != NULL && options->cache_salt.length == 0)
        status = api_refuse(reader, TD_INVALID, "cache_salt", "'cache_salt' must not be empty");
    return status;
}

td_status_t api_options_read(struct api_reader *reader, const struct td_json *object,
                             struct api_options *options_out)
{
    static td_status_t (*const steps[])(struct api_reader *, const struct td_json *,
                                        struct api_options *) = {
        read_labels, read_choices, read_max_tokens, read_sampling,
        read_biases, read_seed,    read_stops,      read_streaming,
    };
    struct api_options options = {.top_p = 1};

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        td_status_t status = steps[i](reader, object, &options);

        if (status != TD_OK)
            return status;
    }
    *options_out = options;
    return TD_OK;
}
