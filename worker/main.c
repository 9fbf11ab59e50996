/* main.c: command line, life and end of a worker process, see main.h. */
#include "worker/main.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/cuda/gpu/gpu.h"
#include "kvtransfer/ucx.h"
#include "lib/base/log.h"
#include "lib/net/program.h"
#include "model/map.h"
#include "worker/interrupt.h"
#include "worker/runtime.h"

struct worker_program {
    const struct worker_role *role;
    struct worker_options options;
    struct net_program_options common;
    struct api_limits limits;
    struct td_arena arena;
    struct net_program *program;
    struct worker_runtime *runtime;
};

static const char statuses[] =
    "  0   it was asked to end, and did\n"
    "  1   it could not start, or had to give up; stderr says why\n"
    "  2   the command line or the environment is wrong; stderr names the flag\n"
    "  3   its GPU is lost or a step hung: start it again\n";

/* Returns -1 to go on, or the status to exit with. */
static int parse(struct worker_program *worker, int argc, char **argv)
{
    struct td_flag_table tables[WORKER_TABLES + 2];
    struct td_flags flags = {.program = worker->role->program,
                             .summary = worker->role->summary,
                             .usage = "MODEL [flags]",
                             .examples = worker->role->examples,
                             .purpose = worker->role->purpose,
                             .about = worker->role->about,
                             .statuses = statuses,
                             .see_also = worker->role->see_also,
                             .tables = tables,
                             .table_count = WORKER_TABLES + 2};
    struct td_flags_result result;
    struct td_error error = {0};
    int status;

    worker_option_tables(&worker->options, tables);
    tables[WORKER_TABLES] = api_limits_table(&worker->limits);
    tables[WORKER_TABLES + 1] = net_program_table(&worker->common);
    status = net_program_flags(&flags, argc, argv, &worker->arena, &result);
    if (status >= 0)
        return status;
    if (worker->options.model == NULL && result.positionals.count == 1)
        worker->options.model = result.positionals.items[0];
    else if (worker->options.model == NULL || result.positionals.count > 0) {
        fprintf(stderr, "%s: name one model file; see '%s --help'.\n", worker->role->program,
                worker->role->program);
        return NET_EXIT_USAGE;
    }
    if (worker->options.listen == NULL)
        worker->options.listen = worker->role->listen;
    if (worker->options.http_listen == NULL)
        worker->options.http_listen = worker->role->http_listen;
    if (worker_options_check(&worker->options, &error) != TD_OK) {
        net_program_report_failure(worker->role->program, error.text);
        return NET_EXIT_USAGE;
    }
    return -1;
}

static void on_drain(void *ctx)
{
    struct worker_program *worker = ctx;

    worker_runtime_drain(worker->runtime);
}

static void on_stop(void *ctx)
{
    struct worker_program *worker = ctx;

    worker_runtime_stop(worker->runtime);
}

static void on_stopped(void *ctx, int exit_status)
{
    struct worker_program *worker = ctx;

    net_program_finish(worker->program, exit_status);
}

/* Memory of ours that a peer still reads goes with the process, as when it is killed. */
static void on_hung(void *ctx)
{
    (void)ctx;
    _exit(NET_EXIT_LOST);
}

static td_status_t open_runtime(struct worker_program *worker, struct td_error *error)
{
    struct worker_runtime_config config = {
        .loop = net_program_loop(worker->program),
        .rpc = net_program_rpc(worker->program),
        .insecure = worker->common.insecure,
        .has_certificates = net_program_tls(worker->program) != NULL,
        .drain_ms = worker->common.drain_ms,
        .options = &worker->options,
        .limits = &worker->limits,
        .policy = worker->role->policy,
        .open_gpu = gpu_open,
        .open_gpu_pool = kvt_cuda_open,
        .stopped = on_stopped,
        .hung = on_hung,
        .ctx = worker,
    };

    if (worker->options.import_tokens_min > config.policy.import_tokens_min)
        config.policy.import_tokens_min = worker->options.import_tokens_min;
    return worker_runtime_open(&config, &worker->runtime, error);
}

/* What holds for a whole process, before any thread is started. */
static td_status_t prepare_process(const struct worker_program *worker, struct td_error *error)
{
    td_status_t status = model_map_install_sigbus(error);

    if (status != TD_OK || worker->options.kv_transport == WORKER_KV_MAP)
        return status;
    status = kvt_ucx_prepare_process();
    return status == TD_OK ? TD_OK : td_fail(error, status, "ucx: %s", td_status_text(status));
}

static int run(struct worker_program *worker)
{
    bool is_decode = worker->role->policy.role == TD__ROLE__ROLE_DECODE;
    struct net_program_config config = {.name = worker->role->name,
                                        .role = is_decode ? NET_ROLE_DECODE : NET_ROLE_PREFILL,
                                        .options = worker->common,
                                        .ctx = worker,
                                        .drain = on_drain,
                                        .stop = on_stop};
    struct td_error error = {0};
    int status = NET_EXIT_FAILURE;

    if (prepare_process(worker, &error) != TD_OK ||
        net_program_open(&config, &worker->program, &error) != TD_OK)
        goto fail;
    if (open_runtime(worker, &error) != TD_OK)
        goto close_program;
    td_log(TD_LOG_INFO, "main", "listening rpc %s http %s",
           worker_runtime_rpc_address(worker->runtime),
           worker_runtime_http_address(worker->runtime));
    net_program_report_ready(worker_runtime_http_address(worker->runtime));
    status = net_program_run(worker->program);
    worker_runtime_close(worker->runtime);
close_program:
    net_program_close(worker->program);
fail:
    if (error.text[0] != '\0')
        net_program_report_failure(worker->role->program, error.text);
    if (error.status == TD_TIMEOUT)
        _exit(status); /* a GPU may hang, and exit() wait for it in its library */
    return status;
}

int worker_main(const struct worker_role *role, int argc, char **argv)
{
    struct worker_program worker = {.role = role};
    int status;

    worker_interrupt_hold(); /* worker_engines_open lets them come */
    status = parse(&worker, argc, argv);
    if (status < 0)
        status = run(&worker);
    td_arena_fini(&worker.arena);
    return status;
}
