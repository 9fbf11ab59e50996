/*
 * main.c: tandem-scheduler: one process, one loop.
 *
 * It keeps nothing on disk. Stopping it ends the streams of workers and routers; they go on without
 * it (or with another one) and tell the next one everything again.
 */
#include <stdio.h>

#include "lib/base/log.h"
#include "lib/net/program.h"
#include "scheduler/ops.h"
#include "scheduler/options.h"
#include "scheduler/service.h"

struct scheduler {
    struct net_program_options program_options;
    struct sched_options options;
    struct net_program *program;
    struct sched_service *service;
    struct sched_ops *ops;
};

static int parse(struct scheduler *scheduler, int argc, char **argv, struct td_arena *arena)
{
    struct td_flag_table tables[SCHED_TABLES + 1];
    const struct td_flags flags = {
        .program = "tandem-scheduler",
        .summary = "Knows the workers, their load and the KV blocks that they cache, and tells "
                   "routers where to run each request.",
        .usage = "[flags]",
        .purpose = "knows all workers and what they cache, and places requests",
        .about =
            "It keeps nothing on disk: after a restart the workers tell it again what they cache. "
            "Several may run side by side; routers and workers are then told of all of them.\n\n"
            "/fleet at --http-listen shows every worker with its state, load and cache as JSON; "
            "/ready, /health and /metrics are there, too.",
        .see_also = "tandem(1), tandem-serve(1), tandem-router(1), tandem-certs(1)",
        .examples = "  tandem-scheduler\n"
                    "  tandem-scheduler --listen 10.0.0.5:7100 --certs certs/scheduler\n"
                    "  curl http://127.0.0.1:7180/fleet\n",
        .tables = tables,
        .table_count = SCHED_TABLES + 1,
    };
    struct td_flags_result result;
    struct td_error error = {0};
    int exit_status;

    sched_options_tables(&scheduler->options, tables);
    tables[SCHED_TABLES] = net_program_table(&scheduler->program_options);
    exit_status = net_program_flags(&flags, argc, argv, arena, &result);
    if (exit_status < 0)
        exit_status = net_program_no_words(&flags, &result);
    if (exit_status < 0 && sched_options_check(&scheduler->options, &error) != TD_OK) {
        net_program_report_failure("tandem-scheduler", error.text);
        return NET_EXIT_USAGE;
    }
    return exit_status;
}

static void on_drained(void *ctx)
{
    struct scheduler *scheduler = ctx;

    net_program_finish(scheduler->program, NET_EXIT_OK);
}

static void on_drain(void *ctx)
{
    struct scheduler *scheduler = ctx;

    sched_service_drain(scheduler->service, on_drained, scheduler);
}

static void on_stop(void *ctx)
{
    struct scheduler *scheduler = ctx;

    net_program_finish(scheduler->program, NET_EXIT_OK);
}

static td_status_t open_all(struct scheduler *scheduler, struct td_error *error)
{
    const struct net_program_config program = {.name = "scheduler",
                                               .role = NET_ROLE_SCHEDULER,
                                               .options = scheduler->program_options,
                                               .ctx = scheduler,
                                               .drain = on_drain,
                                               .stop = on_stop};
    const struct sched_service_config service = {
        .address = scheduler->options.listen,
        .insecure = scheduler->program_options.insecure,
        .core = sched_options_config(&scheduler->options),
    };
    td_status_t status = net_program_open(&program, &scheduler->program, error);

    if (status != TD_OK)
        return status;
    status = sched_service_open(net_program_loop(scheduler->program),
                                net_program_rpc(scheduler->program), &service, &scheduler->service,
                                error);
    if (status != TD_OK)
        return status;
    return sched_ops_open(net_program_loop(scheduler->program), scheduler->options.http_listen,
                          scheduler->service, &scheduler->ops, error);
}

int main(int argc, char **argv)
{
    static struct scheduler scheduler;
    struct td_error error = {0};
    struct td_arena arena;
    int exit_status = parse(&scheduler, argc, argv, &arena);

    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_FAILURE;
    if (open_all(&scheduler, &error) == TD_OK) {
        td_log(TD_LOG_INFO, "main", "listening rpc %s http %s",
               sched_service_address(scheduler.service), sched_ops_address(scheduler.ops));
        net_program_report_ready(sched_service_address(scheduler.service));
        exit_status = net_program_run(scheduler.program);
    } else {
        net_program_report_failure("tandem-scheduler", error.text);
    }
    sched_ops_close(scheduler.ops);
    sched_service_close(scheduler.service);
    net_program_close(scheduler.program);
fini_arena:
    td_arena_fini(&arena);
    return exit_status;
}
