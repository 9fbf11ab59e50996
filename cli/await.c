/* await.c: see await.h. */
#include "cli/await.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/list.h"
#include "lib/base/time.h"

#define PAUSE_MS       50
#define ASK_MS         5000
#define BODY_BYTES_MAX ((size_t)4 << 20)

static const char workers_gauge[] = "tandem_router_workers_ready";

static void ask(struct cli_await *await);

double cli_await_gauge(const char *page, const char *name)
{
    size_t length = strlen(name);

    for (const char *line = page; line != NULL; line = strchr(line, '\n')) {
        line += line[0] == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            return strtod(line + length + 1, NULL);
    }
    return -1.0;
}

static void end(struct cli_await *await, td_status_t status)
{
    struct cli_await_config config = await->config;
    char missing[sizeof await->missing];

    memcpy(missing, await->missing, sizeof missing);
    cli_await_fini(await);
    config.on_end(config.ctx, status, missing);
}

static void again(struct cli_await *await)
{
    if (td_now_ns() >= await->deadline_ns)
        end(await, TD_TIMEOUT);
    else
        net_timer_set_in(&await->timer, PAUSE_MS);
}

static void on_timer(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    ask(td_container_of(timer, struct cli_await, timer));
}

static void on_head(void *ctx, int status)
{
    struct cli_await *await = ctx;

    await->status = status;
}

static void on_body(void *ctx, const void *bytes, size_t length)
{
    struct cli_await *await = ctx;

    td_buf_append(&await->body, bytes, length);
}

/* Whether the router knows all workers; else says what is missing. */
static bool fleet_is_whole(struct cli_await *await)
{
    double ready = await->body.data != NULL ? cli_await_gauge(await->body.data, workers_gauge) : -1;

    snprintf(await->missing, sizeof await->missing, "the router knows %.0f of %u workers as ready",
             ready, await->config.workers_ready);
    return ready >= await->config.workers_ready;
}

static void on_end(void *ctx, td_status_t status, const char *reason)
{
    struct cli_await *await = ctx;

    if (status != TD_OK) {
        snprintf(await->missing, sizeof await->missing, "the router does not answer: %s", reason);
        again(await);
    } else if (await->status != 200) {
        snprintf(await->missing, sizeof await->missing, "the router is not ready: %.100s",
                 await->body.data != NULL ? await->body.data : "");
        again(await);
    } else if (!await->asks_fleet) {
        await->asks_fleet = true;
        ask(await);
    } else if (fleet_is_whole(await)) {
        end(await, TD_OK);
    } else {
        again(await);
    }
}

static void ask(struct cli_await *await)
{
    static const struct http_client_callbacks callbacks = {on_head, on_body, on_end};
    const struct http_client_request request = {
        .method = HTTP_GET,
        .path = await->asks_fleet ? "/metrics" : "/ready",
        .deadline_ms = ASK_MS,
        .body_bytes_max = BODY_BYTES_MAX,
    };

    td_buf_clear(&await->body);
    await->status = 0;
    if (http_client_ask(await->client, &request, &callbacks, await) != TD_OK) {
        snprintf(await->missing, sizeof await->missing, "the router cannot be asked");
        again(await);
    }
}

td_status_t cli_await_init(struct cli_await *await, const struct cli_await_config *config,
                           struct td_error *error)
{
    td_status_t status;

    *await = (struct cli_await){
        .config = *config,
        .deadline_ns = td_now_ns() + config->deadline_ms * TD_NS_PER_MS,
    };
    status = http_client_open(config->loop, config->origin, &await->client, error);
    if (status != TD_OK)
        return status;
    td_buf_init(&await->body, BODY_BYTES_MAX);
    net_timer_init(&await->timer, config->loop, on_timer);
    net_timer_set_in(&await->timer, 0);
    return TD_OK;
}

void cli_await_fini(struct cli_await *await)
{
    if (await->client == NULL)
        return;
    net_timer_cancel(&await->timer);
    http_client_close(await->client);
    await->client = NULL;
    td_buf_fini(&await->body);
}
