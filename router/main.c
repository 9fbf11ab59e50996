/*
 * main.c: tandem-router: one process, one loop.
 *
 * Stopping: the first signal drains (no new connections, what runs goes on), the end of the drain's
 * time or a second one fails what is left. Either way the process waits, for a moment, until its
 * workers have heard of the cancels.
 */
#include <stdio.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/net/program.h"
#include "router/options.h"
#include "router/runtime.h"

#define IDLE_CHECK_MS 10
#define STOP_MS       1000 /* how long cancels may take to be confirmed after a stop */

struct router {
    struct net_program_options program_options;
    struct router_options options;
    struct api_limits limits;
    struct net_program *program;
    struct router_runtime *runtime;
    struct front *front;
    struct net_timer idle; /* while draining or stopping */
    uint64_t give_up_ns;   /* idle or not */
};

static int parse(struct router *router, int argc, char **argv, struct td_arena *arena)
{
    struct td_flag_table tables[ROUTER_TABLES + 2];
    const struct td_flags flags = {
        .program = "tandem-router",
        .summary = "Serves the OpenAI API: tokenizes, asks a scheduler where each request should "
                   "run, and streams the tokens of decode workers to clients.",
        .usage = "[flags]",
        .purpose = "serves the OpenAI API and hands requests to workers",
        .about =
            "It needs no model file: tokenizers and chat templates come from the workers. Without "
            "a scheduler it places requests by what it knows. The HTTP port has no TLS of its "
            "own: put it behind whatever ends TLS for you.\n\n"
            "/v1/models, /v1/chat/completions and /v1/completions are the API; /ready, /health and "
            "/metrics are for operators.",
        .see_also = "tandem(1), tandem-serve(1), tandem-scheduler(1), tandem-decode(1)",
        .examples = "  tandem-router --scheduler 127.0.0.1:7100\n"
                    "  tandem-router --listen 0.0.0.0:8000 --scheduler a:7100 --scheduler b:7100 "
                    "--certs certs/router\n"
                    "  curl http://127.0.0.1:8000/ready\n",
        .tables = tables,
        .table_count = ROUTER_TABLES + 2,
    };
    struct td_flags_result result;
    struct td_error error = {0};
    int exit_status;

    router_options_tables(&router->options, tables);
    tables[ROUTER_TABLES] = api_limits_table(&router->limits);
    tables[ROUTER_TABLES + 1] = net_program_table(&router->program_options);
    exit_status = net_program_flags(&flags, argc, argv, arena, &result);
    if (exit_status < 0)
        exit_status = net_program_no_words(&flags, &result);
    if (exit_status < 0 && router_options_check(&router->options, &error) != TD_OK) {
        net_program_report_failure("tandem-router", error.text);
        return NET_EXIT_USAGE;
    }
    return exit_status;
}

/* --- stopping --- */

static void on_front_closed(void *ctx)
{
    struct router *router = ctx;

    router->front = NULL;
    net_program_finish(router->program, NET_EXIT_OK);
}

static void check_idle(struct net_timer *timer, uint64_t now_ns)
{
    struct router *router = td_container_of(timer, struct router, idle);
    bool idle = front_idle(router->front) && router_runtime_idle(router->runtime);

    if (idle || now_ns >= router->give_up_ns)
        front_close(router->front, on_front_closed, router);
    else
        net_timer_set_in(timer, IDLE_CHECK_MS);
}

static void on_drain(void *ctx)
{
    struct router *router = ctx;

    front_drain(router->front);
    net_timer_set_in(&router->idle, 0);
}

static void on_stop(void *ctx)
{
    struct router *router = ctx;

    if (router->front == NULL || !net_timer_armed(&router->idle))
        return; /* it is closing already */
    router_runtime_fail_all(router->runtime, "the router is stopping");
    router->give_up_ns = td_now_ns() + STOP_MS * TD_NS_PER_MS;
}

/* --- starting --- */

static td_status_t open_runtime(struct router *router, struct td_error *error)
{
    const struct router_runtime_config config = {
        .loop = net_program_loop(router->program),
        .rpc = net_program_rpc(router->program),
        .schedulers = (const char *const *)router->options.schedulers.items,
        .scheduler_count = router->options.schedulers.count,
        .limits = router_options_limits(&router->options, &router->limits),
        .client = {.tokens = front_exchange_tokens, .end = front_exchange_end},
    };

    return router_runtime_open(&config, &router->runtime, error);
}

static td_status_t open_all(struct router *router, struct td_error *error)
{
    const struct net_program_config program = {.name = "router",
                                               .role = NET_ROLE_ROUTER,
                                               .options = router->program_options,
                                               .ctx = router,
                                               .drain = on_drain,
                                               .stop = on_stop};
    struct front_config front = {.listen = router->options.listen,
                                 .limits = router->limits,
                                 .generation = router->options.generation,
                                 .ping_ms = router->options.ping_ms};
    td_status_t status = net_program_open(&program, &router->program, error);

    if (status != TD_OK)
        return status;
    net_timer_init(&router->idle, net_program_loop(router->program), check_idle);
    router->give_up_ns = TD_TIME_NEVER;
    status = open_runtime(router, error);
    if (status != TD_OK)
        return status;
    front.loop = net_program_loop(router->program);
    front.backend = router_runtime_backend(router->runtime);
    return front_open(&front, &router->front, error);
}

int main(int argc, char **argv)
{
    static struct router router;
    struct td_error error = {0};
    struct td_arena arena;
    int exit_status = parse(&router, argc, argv, &arena);

    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_FAILURE;
    if (open_all(&router, &error) == TD_OK) {
        td_log(TD_LOG_INFO, "main", "listening http %s", front_address(router.front));
        net_program_report_ready(front_address(router.front));
        exit_status = net_program_run(router.program);
    } else {
        net_program_report_failure("tandem-router", error.text);
    }
    router_runtime_close(router.runtime);
    net_program_close(router.program);
fini_arena:
    td_arena_fini(&arena);
    return exit_status;
}
