/* question.c: one request over HTTP, see question.h. */
#include "cli/question.h"

#include <stdio.h>

#include "lib/base/list.h"

static void on_head(void *ctx, int status)
{
    struct cli_question *question = ctx;

    cli_answer_head(&question->reader, status,
                    http_client_header(question->client, "Content-Type"));
}

static void on_body(void *ctx, const void *bytes, size_t length)
{
    struct cli_question *question = ctx;

    cli_answer_body(&question->reader, bytes, length);
    if (question->reader.answer.failure[0] == '\0')
        return;
    /* whatever follows changes nothing any more, and may be endless */
    http_client_cancel(question->client);
    net_defer_post(question->config.loop, &question->end);
}

static void on_given_up(struct net_defer *defer)
{
    struct cli_question *question = td_container_of(defer, struct cli_question, end);

    question->config.on_end(question->config.ctx, &question->reader.answer);
}

static void on_end(void *ctx, td_status_t status, const char *reason)
{
    struct cli_question *question = ctx;

    cli_answer_end(&question->reader, status, reason);
    question->config.on_end(question->config.ctx, &question->reader.answer);
}

const char *cli_question_authorization(const char *api_key,
                                       char out[static CLI_AUTHORIZATION_BYTES])
{
    snprintf(out, CLI_AUTHORIZATION_BYTES, "Bearer %s", api_key);
    return out;
}

static td_status_t send_request(struct cli_question *question, struct td_error *error)
{
    static const struct http_client_callbacks callbacks = {on_head, on_body, on_end};
    const struct cli_question_config *config = &question->config;
    char authorization[CLI_AUTHORIZATION_BYTES];
    struct http_header headers[] = {
        {"Content-Type", "application/json"}, {"x-tandem-trace", "1"}, {"Authorization", ""}};
    const struct http_client_request request = {
        .method = HTTP_POST,
        .path = "/chat/completions",
        .headers = headers,
        .header_count = config->api_key != NULL ? 3 : 2,
        .body = config->body.bytes,
        .body_length = config->body.length,
        .silence_ms = config->silence_ms,
    };
    td_status_t status;

    if (config->api_key != NULL)
        headers[2].value = cli_question_authorization(config->api_key, authorization);
    status = http_client_ask(question->client, &request, &callbacks, question);
    if (status != TD_OK)
        return td_fail(error, status, "cannot ask: %s", td_status_text(status));
    question->config.body = (struct td_span){0}; /* was copied */
    return TD_OK;
}

td_status_t cli_question_init(struct cli_question *question,
                              const struct cli_question_config *config, struct td_error *error)
{
    td_status_t status;

    *question = (struct cli_question){.config = *config};
    net_defer_init(&question->end, on_given_up);
    cli_answer_init(&question->reader, config->on_piece, config->ctx);
    status = http_client_open(config->loop, config->base, &question->client, error);
    if (status == TD_OK)
        status = send_request(question, error);
    if (status != TD_OK)
        cli_question_fini(question);
    return status;
}

void cli_question_fini(struct cli_question *question)
{
    if (question->config.loop == NULL)
        return; /* was never opened */
    net_defer_cancel(&question->end);
    http_client_close(question->client);
    question->client = NULL;
    cli_answer_fini(&question->reader);
}
