/* models.c: see models.h. */
#include "cli/chat/models.h"

#include "cli/question.h"
#include "lib/base/json.h"

#define BODY_BYTES_MAX ((size_t)4 << 20)
#define DEADLINE_MS    20000

static const struct td_json_limits limits = {
    .bytes_max = BODY_BYTES_MAX, .nodes_max = 200 * CHAT_MODELS_MAX, .depth_max = 32};

static td_status_t take_names(struct chat_models *models, const struct td_json *data,
                              struct td_error *error)
{
    models->names = td_arena_array(&models->arena, data->items.count + 1, sizeof *models->names);
    if (models->names == NULL)
        return td_fail(error, models->arena.status, "no memory for the list of models");
    td_json_for_each(item, data)
    {
        const struct td_json *id = item->kind == TD_JSON_OBJECT ? td_json_find(item, "id") : NULL;

        if (id == NULL || id->kind != TD_JSON_STRING || id->string.length == 0 ||
            id->string.length > CHAT_MODEL_BYTES_MAX || models->count >= CHAT_MODELS_MAX)
            continue;
        models->names[models->count] =
            td_arena_text(&models->arena, id->string.bytes, id->string.length);
        if (models->names[models->count] == NULL)
            return td_fail(error, models->arena.status, "no memory for the list of models");
        models->count++;
    }
    if (models->count == 0)
        return td_fail(error, TD_NOT_FOUND, "the server lists no model");
    return TD_OK;
}

td_status_t chat_models_read(struct chat_models *models, const char *json, size_t length,
                             struct td_error *error)
{
    const struct td_json *root = NULL;
    const struct td_json *data = NULL;
    struct td_arena arena;
    td_status_t status;

    td_arena_init(&models->arena, BODY_BYTES_MAX);
    models->names = NULL;
    models->count = 0;
    td_arena_init(&arena, td_json_arena_bytes(&limits));
    status = td_json_parse(&arena, td_span_over(json, length), &limits, &root, error);
    if (status == TD_OK && root->kind == TD_JSON_OBJECT)
        data = td_json_find(root, "data");
    if (status != TD_OK || data == NULL || data->kind != TD_JSON_ARRAY)
        status = td_fail(error, TD_INVALID, "the list of models is not one of an OpenAI API");
    else
        status = take_names(models, data, error);
    td_arena_fini(&arena);
    return status;
}

void chat_models_fini(struct chat_models *models)
{
    td_arena_fini(&models->arena);
    models->names = NULL;
    models->count = 0;
}

/* ---- the request ---- */

static void on_head(void *ctx, int status)
{
    struct chat_models_request *request = ctx;

    request->http_status = status;
}

static void on_body(void *ctx, const void *bytes, size_t length)
{
    struct chat_models_request *request = ctx;

    td_buf_append(&request->body, bytes, length);
}

static void on_end(void *ctx, td_status_t status, const char *reason)
{
    struct chat_models_request *request = ctx;
    struct td_error error = {0};

    if (status != TD_OK)
        td_fail(&error, status, "%s", reason);
    else if (request->http_status != 200)
        td_fail(&error, TD_REFUSED, "asked for its models, the server answers with status %d",
                request->http_status);
    else if (request->body.status != TD_OK || request->body.length == 0)
        td_fail(&error, TD_INVALID, "the list of models is empty or too long");
    else
        status =
            chat_models_read(&request->models, request->body.data, request->body.length, &error);
    request->config.on_end(request->config.ctx, &request->models, request->http_status, &error);
}

td_status_t chat_models_ask(struct chat_models_request *request,
                            const struct chat_models_config *config, struct td_error *error)
{
    static const struct http_client_callbacks callbacks = {on_head, on_body, on_end};
    char authorization[CLI_AUTHORIZATION_BYTES];
    struct http_header header = {"Authorization", ""};
    const struct http_client_request ask = {
        .method = HTTP_GET,
        .path = "/models",
        .headers = &header,
        .header_count = config->api_key != NULL,
        .deadline_ms = DEADLINE_MS,
        .body_bytes_max = BODY_BYTES_MAX,
    };
    td_status_t status;

    *request = (struct chat_models_request){.config = *config};
    td_buf_init(&request->body, BODY_BYTES_MAX);
    if (config->api_key != NULL)
        header.value = cli_question_authorization(config->api_key, authorization);
    status = http_client_open(config->loop, config->base, &request->client, error);
    if (status == TD_OK && (status = http_client_ask(request->client, &ask, &callbacks, request)))
        td_fail(error, status, "cannot ask for the models: %s", td_status_text(status));
    if (status != TD_OK)
        chat_models_close(request);
    return status;
}

void chat_models_close(struct chat_models_request *request)
{
    http_client_close(request->client);
    request->client = NULL;
    td_buf_fini(&request->body);
    chat_models_fini(&request->models);
}
