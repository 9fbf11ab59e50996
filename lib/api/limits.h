/*
 * limits.h: the limits of the public surface, in one table: default, flag, documentation.
 *
 * Every program with an OpenAI port takes these flags. Those of connections and bodies are handed to
 * the HTTP server, that of the queue to admission; the rest bounds what the request readers of this
 * room accept. The head of an HTTP request (16 KiB, 64 fields) is fixed in lib/net.
 */
#ifndef TANDEM_LIB_API_LIMITS_H
#define TANDEM_LIB_API_LIMITS_H

#include <stdint.h>

#include "lib/base/flags.h"
#include "lib/base/json.h"

#define API_LOGIT_BIASES_MAX 1024

struct api_limits {
    uint32_t connections;
    uint32_t connections_per_address;
    uint64_t head_ms;  /* from the first byte of a request to its whole head */
    uint64_t body_ms;  /* from the head to the whole body */
    uint64_t idle_ms;  /* between requests */
    uint64_t stall_ms; /* a client takes nothing of what waits for it */
    uint64_t backlog_bytes;
    uint64_t body_bytes;
    uint64_t bodies_bytes; /* of all requests together */
    uint32_t queue_entries;

    uint32_t json_depth;
    uint32_t json_nodes;
    uint32_t messages;
    uint32_t content_parts; /* of one message */
    uint32_t tools;         /* of one request; also tool calls of one message */
    uint32_t stop_strings;
    uint64_t stop_bytes; /* of one stop string */
    uint32_t logit_biases;
    uint32_t prompts;
    uint32_t choices;     /* n */
    uint64_t label_bytes; /* model, user, names, ids */
    uint64_t salt_bytes;  /* cache_salt */
};

/* Sets the defaults. */
void api_limits_init(struct api_limits *limits);

/* The table over limits, for td_flags and for docs/operations.md. */
struct td_flag_table api_limits_table(struct api_limits *limits);

/* What the JSON reader is given for a request body. */
struct td_json_limits api_json_limits(const struct api_limits *limits);

/* What an arena must hold so that no request within limits is refused for lack of room. */
size_t api_arena_bytes(const struct api_limits *limits);

#endif
