/*
 * options.h: the flags of tandem-router, in tables that also make its help and the documentation.
 */
#ifndef TANDEM_ROUTER_OPTIONS_H
#define TANDEM_ROUTER_OPTIONS_H

#include "lib/api/limits.h"
#include "lib/base/flags.h"
#include "router/core.h"

#define ROUTER_TABLES 2

/* core.h says what the times and counts are. */
struct router_options {
    const char *listen;
    struct td_flag_list schedulers;
    uint32_t ping_ms;
    unsigned generation; /* enum front_generation */
#define X(name, flag, count, unit, text) uint32_t name;
    ROUTER_TIMES_MAP(X)
#undef X
#define X(name, flag, value, max, text) uint32_t name;
    ROUTER_COUNTS_MAP(X)
#undef X
};

/* The groups: listening, requests and workers. */
void router_options_tables(struct router_options *options,
                           struct td_flag_table tables_out[static ROUTER_TABLES]);

/* What no single flag's range can say. TD_INVALID with the names of the flags. */
td_status_t router_options_check(const struct router_options *options,
                                 struct td_error *error) TD_MUST_USE;

/* The core's numbers; the queue is one of the API's limits. */
struct router_limits router_options_limits(const struct router_options *options,
                                           const struct api_limits *api);

#endif
