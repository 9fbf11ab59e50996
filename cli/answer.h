/*
 * answer.h: reads the answer of an OpenAI server to a chat request: events of a stream as they come, a
 * whole answer, or a refusal. Pure: bytes in, pieces of text out.
 *
 * Any server is read with patience: comments, unknown members, a missing [DONE] or missing usage are no
 * error. A stream that says neither why the answer ended nor that it is done was broken off, however
 * cleanly its connection ended.
 */
#ifndef TANDEM_CLI_ANSWER_H
#define TANDEM_CLI_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/net/http_sse.h"

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
    bool is_complete; /* nothing failed, and the server has said that the answer ended */
    bool saw_done;    /* the stream's [DONE] */
    bool has_usage;
    bool has_trace;
    char finish[32]; /* "": not said; "stop", "length", ... */
    double stages_ms[CLI_STAGE_COUNT];
    uint64_t kv_bytes;
    uint64_t remote_blocks;
    char transport[CLI_TRACE_BYTES]; /* "": no KV crossed */
    char fallback[CLI_TRACE_BYTES];  /* "": none; else why decode prefilled after it had asked */
    int status;                      /* of HTTP; 0: no answer came */
    char failure[512];               /* "": none; a sentence, in part the server's */
    char code[64];                   /* of the server's error: "context_length_exceeded" */
};

enum cli_piece {
    CLI_PIECE_TEXT,
    CLI_PIECE_REASONING, /* what some models think before they answer; no part of the text */
};

/* A piece of text, whole characters or not; it lives during the call. */
typedef void (*cli_piece_fn)(void *ctx, enum cli_piece piece, const char *text, size_t length);

/* The caller's storage. */
struct cli_answer_reader {
    struct cli_answer answer;
    struct http_sse sse;
    struct td_buf body; /* of an answer that is no stream */
    bool is_stream;
    struct td_arena arena; /* of one event */
    cli_piece_fn on_piece;
    void *ctx;
};

/* A new answer: nothing came yet. */
void cli_answer_init(struct cli_answer_reader *reader, cli_piece_fn on_piece, void *ctx);

/* Harmless on zeroed storage. */
void cli_answer_fini(struct cli_answer_reader *reader);

/* The head: status and content type (NULL: none was given). */
void cli_answer_head(struct cli_answer_reader *reader, int status, const char *content_type);

/* Bytes of the body, in any split. Once the answer has a failure, nothing more is wanted. */
void cli_answer_body(struct cli_answer_reader *reader, const void *bytes, size_t length);

/* The end, once: TD_OK, or why the connection failed. */
void cli_answer_end(struct cli_answer_reader *reader, td_status_t status, const char *reason);

#endif
