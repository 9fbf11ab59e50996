/*
 * question.h: asks a model one question over the OpenAI API, streaming, and reads what the answer says
 * about where its time went. Loop thread.
 */
#ifndef TANDEM_CLI_QUESTION_H
#define TANDEM_CLI_QUESTION_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/net/http_client.h"
#include "lib/net/http_sse.h"
#include "lib/net/loop.h"

/* name in the trace, name for people, what it is. In the order in which they happen. */
#define CLI_STAGES_MAP(X)                                                          \
    X(queue, "queue", "waiting in the router")                                     \
    X(tokenize, "tokenize", "chat template and tokenizer")                         \
    X(place, "place", "asking the scheduler where to run")                         \
    X(wait, "wait", "waiting in the worker")                                       \
    X(ask, "ask", "reserving memory, pairing, asking a prefill worker")            \
    X(prefill, "prefill", "computing the prompt")                                  \
    X(wire, "wire", "KV on its way, from the first chunk to the last")             \
    X(land, "land", "checking and taking in what arrived last")                    \
    X(first_token, "first token", "from the KV being complete to the first token") \
    X(decode, "decode", "from the first token to the last")

enum cli_stage {
#define X(name, label, text) CLI_STAGE_##name,
    CLI_STAGES_MAP(X)
#undef X
        CLI_STAGE_COUNT
};

/* The name of a stage in the trace. */
const char *cli_stage_name(enum cli_stage stage);

#define CLI_ANSWER_TEXT_MAX ((size_t)4 << 20)
#define CLI_TRACE_BYTES     160

struct cli_answer {
    struct td_buf text;
    char model[CLI_TRACE_BYTES];
    uint64_t prompt_tokens;
    uint64_t completion_tokens;
    bool is_complete; /* finish reason, usage and the end of the stream were there */
    bool has_finish;
    bool has_usage;
    bool has_trace;
    double stages_ms[CLI_STAGE_COUNT];
    uint64_t kv_bytes;
    uint64_t remote_blocks;
    char transport[CLI_TRACE_BYTES]; /* "": no KV crossed */
    char fallback[CLI_TRACE_BYTES];  /* "": none; else why decode prefilled after it had asked */
    char failure[256];               /* "": none */
};

struct cli_question_config {
    struct net_loop *loop;
    const char *origin;
    const char *system; /* NULL: the model's own default */
    const char *user;
    uint32_t max_tokens;
    void *ctx;
    /* A piece of the answer. */
    void (*on_text)(void *ctx, const char *text, size_t length);
    /* Once. The answer lives until cli_question_fini. */
    void (*on_end)(void *ctx, const struct cli_answer *answer);
};

/* The caller's storage. */
struct cli_question {
    struct cli_question_config config;
    struct http_client *client;
    struct http_sse sse;
    struct td_buf error_body; /* of an answer that is no stream */
    struct td_arena arena;    /* of one event */
    int status;
    bool saw_done;
    struct cli_answer answer;
};

td_status_t cli_question_init(struct cli_question *question,
                              const struct cli_question_config *config,
                              struct td_error *error) TD_MUST_USE;

/* Breaks the request off if it still runs; nothing is called any more. Harmless on zeroed storage. */
void cli_question_fini(struct cli_question *question);

/* One event of the stream, for the question and for tests: adds to the answer. */
void cli_question_on_event(struct cli_question *question, const char *data, size_t length);

#endif
