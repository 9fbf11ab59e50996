/*
 * question.h: sends one chat request to an OpenAI server and hands on the answer as it comes. Loop
 * thread.
 */
#ifndef TANDEM_CLI_QUESTION_H
#define TANDEM_CLI_QUESTION_H

#include "cli/answer.h"
#include "lib/base/span.h"
#include "lib/net/http_client.h"
#include "lib/net/loop.h"

struct cli_question_config {
    struct net_loop *loop;
    const char *base;    /* "http://127.0.0.1:8000/v1" */
    const char *api_key; /* NULL: none */
    struct td_span body; /* of the request, JSON; needed during the call only */
    uint32_t silence_ms; /* the longest time in which nothing comes */
    void *ctx;
    cli_piece_fn on_piece;
    /* Once. The answer lives until cli_question_fini, which may be called here. */
    void (*on_end)(void *ctx, const struct cli_answer *answer);
};

/* The caller's storage. */
struct cli_question {
    struct cli_question_config config;
    struct http_client *client;
    struct cli_answer_reader reader;
    struct net_defer end; /* of an answer that is given up in the middle */
};

/* Sends the request. After an error nothing is called, and there is nothing to close. */
td_status_t cli_question_init(struct cli_question *question,
                              const struct cli_question_config *config,
                              struct td_error *error) TD_MUST_USE;

/* Breaks the request off if it still runs; nothing is called any more. Harmless on zeroed storage. */
void cli_question_fini(struct cli_question *question);

/*
 * "Bearer KEY" for the field Authorization; the result lives in the buffer. A key of printable ASCII
 * always fits CLI_AUTHORIZATION_BYTES.
 */
#define CLI_API_KEY_BYTES_MAX   4096
#define CLI_AUTHORIZATION_BYTES (CLI_API_KEY_BYTES_MAX + 8)
const char *cli_question_authorization(const char *api_key,
                                       char out[static CLI_AUTHORIZATION_BYTES]);

#endif
