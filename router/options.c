/* options.c: the tables, see options.h. Defaults and texts of times and counts are in core.h. */
#include "router/options.h"

#include "router/fleet.h"

#define OPTIONS struct router_options
#define DAY_MS  ((int64_t)24 * 3600 * 1000)

static const char *const generations[] = FRONT_GENERATION_CHOICES;

static const struct td_flag listening[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, listen), .name = "listen", .value = "ADDR",
     .fallback = "127.0.0.1:8000", .help = "Where clients reach the OpenAI API: host:port."},
    {TD_FLAG_AS_LIST(OPTIONS, schedulers), .name = "scheduler", .value = "TARGET",
     .fallback = "127.0.0.1:7100",
     .help = "A scheduler's RPC address: host:port or unix:/path. Name several for fail-over: the "
             "first that is connected places requests, the fleet is what all of them know."},
    {TD_FLAG_AS_DURATION(OPTIONS, ping_ms), .name = "ping-time", .fallback = "15s", .min = 100,
     .max = DAY_MS, .help = "Silence in a stream after which a comment is sent to the client."},
    {TD_FLAG_AS_CHOICE(OPTIONS, generation), .name = "generation-config", .choices = generations,
     .help = FRONT_GENERATION_HELP},
};

static const struct td_flag requests[] = {
#define X(member, flag, count, unit, text) \
    {TD_FLAG_AS_DURATION(OPTIONS, member), \
     .name = (flag),                       \
     .fallback = #count #unit,             \
     .min = 1,                             \
     .max = DAY_MS,                        \
     .help = (text)},
    ROUTER_TIMES_MAP(X)
#undef X
#define X(member, flag, value_, max_, text) \
    {TD_FLAG_AS_UINT32(OPTIONS, member),    \
     .name = (flag),                        \
     .fallback = #value_,                   \
     .min = 1,                              \
     .max = (max_),                         \
     .help = (text)},
        ROUTER_COUNTS_MAP(X)
#undef X
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

void router_options_tables(struct router_options *options,
                           struct td_flag_table tables_out[static ROUTER_TABLES])
{
    tables_out[0] = (struct td_flag_table){"Listening", listening, COUNT(listening), options};
    tables_out[1] =
        (struct td_flag_table){"Requests and workers", requests, COUNT(requests), options};
}

td_status_t router_options_check(const struct router_options *options, struct td_error *error)
{
    if (options->schedulers.count == 0 || options->schedulers.count > ROUTER_SCHEDULERS_MAX)
        return td_fail(error, TD_INVALID, "--scheduler: name one to %d, not %zu",
                       ROUTER_SCHEDULERS_MAX, options->schedulers.count);
    for (size_t i = 0; i < options->schedulers.count; i++)
        if (options->schedulers.items[i][0] == '\0')
            return td_fail(error, TD_INVALID, "--scheduler: an address is empty");
    return TD_OK;
}

struct router_limits router_options_limits(const struct router_options *options,
                                           const struct api_limits *api)
{
    struct router_limits limits = {.queue_max = api->queue_entries};

#define X(name, flag, count, unit, text) limits.name = options->name;
    ROUTER_TIMES_MAP(X)
#undef X
#define X(name, flag, value, max, text) limits.name = options->name;
    ROUTER_COUNTS_MAP(X)
#undef X
    return limits;
}
