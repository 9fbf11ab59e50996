/* limits.c: the table of limits, see limits.h. */
#include "lib/api/limits.h"

#include "lib/base/bytes.h"
#include "lib/text/stop.h"

#define LIMITS struct api_limits
#define MiB    ((int64_t)1 << 20)
#define GiB    ((int64_t)1 << 30)
#define HOUR   ((int64_t)3600 * 1000)

static const struct td_flag flags[] = {
    {TD_FLAG_AS_UINT32(LIMITS, connections), .name = "limit-connections", .fallback = "10000",
     .min = 1, .max = 1000000, .help = "Open client connections; more are answered 503."},
    {TD_FLAG_AS_UINT32(LIMITS, connections_per_address), .name = "limit-connections-per-address",
     .fallback = "256", .min = 1, .max = 1000000, .help = "Open connections of one address."},
    {TD_FLAG_AS_DURATION(LIMITS, head_ms), .name = "limit-head-time", .fallback = "10s", .min = 100,
     .max = HOUR, .help = "A request's head must be complete after this."},
    {TD_FLAG_AS_DURATION(LIMITS, body_ms), .name = "limit-body-time", .fallback = "60s", .min = 100,
     .max = HOUR, .help = "A request's body must be complete after this: 408."},
    {TD_FLAG_AS_DURATION(LIMITS, idle_ms), .name = "limit-idle-time", .fallback = "75s", .min = 100,
     .max = HOUR, .help = "A connection without a request is closed after this."},
    {TD_FLAG_AS_DURATION(LIMITS, stall_ms), .name = "limit-stall-time", .fallback = "30s",
     .min = 100, .max = HOUR,
     .help = "A client that takes nothing of its answer is cut off after this."},
    {TD_FLAG_AS_BYTES(LIMITS, backlog_bytes), .name = "limit-backlog-bytes", .fallback = "256KiB",
     .min = 4096, .max = GiB, .help = "Streamed and not yet taken by the client."},
    {TD_FLAG_AS_BYTES(LIMITS, body_bytes), .name = "limit-body-bytes", .fallback = "8MiB",
     .min = 1024, .max = 32 * MiB, .help = "One request body; a larger one is answered 413."},
    {TD_FLAG_AS_BYTES(LIMITS, bodies_bytes), .name = "limit-bodies-bytes", .fallback = "1GiB",
     .min = MiB, .max = 1024 * GiB, .help = "All request bodies held at a time; then 503."},
    {TD_FLAG_AS_UINT32(LIMITS, queue_entries), .name = "limit-queue-entries", .fallback = "5000",
     .min = 1, .max = 1000000, .help = "Requests waiting for capacity; more are answered 429."},
    {TD_FLAG_AS_UINT32(LIMITS, json_depth), .name = "limit-json-depth", .fallback = "64", .min = 4,
     .max = TD_JSON_DEPTH_MAX, .help = "Nesting of a body."},
    {TD_FLAG_AS_UINT32(LIMITS, json_nodes), .name = "limit-json-nodes", .fallback = "200000",
     .min = 100, .max = 10000000, .help = "Values in a body; each token id of a prompt is one."},
    {TD_FLAG_AS_UINT32(LIMITS, messages), .name = "limit-messages", .fallback = "4096", .min = 1,
     .max = 1000000, .help = "Messages of a chat."},
    {TD_FLAG_AS_UINT32(LIMITS, content_parts), .name = "limit-content-parts", .fallback = "1024",
     .min = 1, .max = 1000000, .help = "Parts of one message's content."},
    {TD_FLAG_AS_UINT32(LIMITS, tools), .name = "limit-tools", .fallback = "128", .min = 1,
     .max = 10000, .help = "Tools of a request, and tool calls of one message."},
    {TD_FLAG_AS_UINT32(LIMITS, stop_strings), .name = "limit-stop-strings", .fallback = "4",
     .min = 1, .max = TEXT_STOPS_MAX, .help = "Stop strings of a request."},
    {TD_FLAG_AS_BYTES(LIMITS, stop_bytes), .name = "limit-stop-bytes", .fallback = "256B", .min = 1,
     .max = TEXT_STOP_BYTES_MAX, .help = "Bytes of one stop string."},
    {TD_FLAG_AS_UINT32(LIMITS, logit_biases), .name = "limit-logit-biases", .fallback = "1024",
     .min = 1, .max = API_LOGIT_BIASES_MAX, .help = "Tokens in the logit_bias of a request."},
    {TD_FLAG_AS_UINT32(LIMITS, prompts), .name = "limit-prompts", .fallback = "128", .min = 1,
     .max = 10000, .help = "Prompts of one completions call."},
    {TD_FLAG_AS_UINT32(LIMITS, choices), .name = "limit-choices", .fallback = "16", .min = 1,
     .max = 128, .help = "n: answers to one prompt."},
    {TD_FLAG_AS_BYTES(LIMITS, label_bytes), .name = "limit-label-bytes", .fallback = "512B",
     .min = 1, .max = MiB, .help = "Bytes of a model name, user, name or id."},
    {TD_FLAG_AS_BYTES(LIMITS, salt_bytes), .name = "limit-salt-bytes", .fallback = "1KiB", .min = 1,
     .max = MiB, .help = "Bytes of cache_salt."},
};

void api_limits_init(struct api_limits *limits)
{
    struct td_flag_table table = api_limits_table(limits);

    td_flags_defaults(&table);
}

struct td_flag_table api_limits_table(struct api_limits *limits)
{
    return (struct td_flag_table){.group = "Limits of the OpenAI port",
                                  .flags = flags,
                                  .count = sizeof flags / sizeof flags[0],
                                  .options = limits};
}

struct td_json_limits api_json_limits(const struct api_limits *limits)
{
    return (struct td_json_limits){.bytes_max = (size_t)limits->body_bytes,
                                   .nodes_max = limits->json_nodes,
                                   .depth_max = limits->json_depth};
}
