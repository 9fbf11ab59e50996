/*
 * await.h: asks a router again and again until it can answer requests with the workers that it should
 * have. Loop thread.
 */
#ifndef TANDEM_CLI_AWAIT_H
#define TANDEM_CLI_AWAIT_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/net/http_client.h"
#include "lib/net/loop.h"

struct cli_await_config {
    struct net_loop *loop;
    const char *origin;     /* "127.0.0.1:8000" */
    uint32_t workers_ready; /* how many workers the router must know as ready */
    uint64_t deadline_ms;
    void *ctx;
    /* Once, unless it is closed before. TD_OK, or TD_TIMEOUT with what was still missing. */
    void (*on_end)(void *ctx, td_status_t status, const char *reason);
};

/* The caller's storage. */
struct cli_await {
    struct cli_await_config config;
    struct http_client *client;
    struct net_timer timer;
    struct td_buf body;
    uint64_t deadline_ns;
    int status;      /* of the answer that is being read */
    bool asks_fleet; /* /ready has said yes; now /metrics is read */
    char missing[160];
};

td_status_t cli_await_init(struct cli_await *await, const struct cli_await_config *config,
                           struct td_error *error) TD_MUST_USE;

/* Nothing is called any more. Harmless after the end, and on zeroed storage. */
void cli_await_fini(struct cli_await *await);

/* The value of a gauge without labels in a page of metrics; -1 if it is not there. For tests. */
double cli_await_gauge(const char *page, const char *name);

#endif
