/* local.c: see local.h. */
#include "cli/local.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/await.h"
#include "cli/runtime_folder.h"
#include "cli/say.h"
#include "cli/starting.h"
#include "lib/base/cpus.h"
#include "lib/base/time.h"
#include "lib/net/address.h"
#include "lib/net/program.h"

#define PLAN_BYTES_MAX ((size_t)4 << 20)
#define ORIGIN_BYTES   (NET_ADDRESS_BYTES_MAX + 8)

/* A supervised process has its own drain time; this much more and it is killed. */
#define DRAIN_SLACK_MS 5000

static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP};

#define STOP_SIGNALS (sizeof stop_signals / sizeof stop_signals[0])

struct cli_local {
    const struct cli_local_config *config;
    struct td_arena arena;
    char folder[CLI_RUNTIME_FOLDER_BYTES]; /* "": none */
    struct cli_cluster cluster;
    struct net_loop *loop;
    struct net_signal *signals[STOP_SIGNALS];
    struct cli_supervisor *supervisor;
    struct cli_starting starting;
    struct cli_await await;
    char origin[ORIGIN_BYTES];
    uint64_t started_ns;
    bool is_stopping;
    int exit_status;
};

/* ---- stopping ---- */

static void begin_stopping(struct cli_local *local)
{
    local->is_stopping = true;
    cli_starting_fini(&local->starting);
    cli_await_fini(&local->await);
}

void cli_local_stop(struct cli_local *local)
{
    if (local->is_stopping)
        return;
    begin_stopping(local);
    cli_supervisor_stop(local->supervisor);
}

static void on_signal(void *ctx)
{
    struct cli_local *local = ctx;

    if (local->is_stopping) {
        cli_say("stopping at once");
        cli_supervisor_stop(local->supervisor);
        return;
    }
    cli_starting_hide(&local->starting);
    cli_say("finishing what runs (at most %.0f s); once more stops at once",
            (double)local->config->options->drain_ms / 1e3);
    cli_local_stop(local);
}

static void on_interrupt(void *ctx)
{
    struct cli_local *local = ctx;
    const struct cli_local_config *config = local->config;

    if (config->on_interrupt == NULL || !config->on_interrupt(config->ctx))
        on_signal(local);
}

static void on_ended(void *ctx, bool clean)
{
    struct cli_local *local = ctx;

    if (!clean)
        local->exit_status = NET_EXIT_FAILURE;
    net_loop_stop(local->loop);
}

static void fail(struct cli_local *local, const char *reason)
{
    fprintf(stderr, "%s: %s\n", local->config->program, reason);
    local->exit_status = NET_EXIT_FAILURE;
}

static void on_failed(void *ctx, const char *reason)
{
    struct cli_local *local = ctx;

    begin_stopping(local); /* the supervisor stops by itself */
    fail(local, reason);
    if (strstr(reason, local->config->model) != NULL)
        cli_say("what is in the file: tandem inspect %s", local->config->model);
}

/* ---- starting ---- */

static double seconds_since_start(const struct cli_local *local)
{
    return (double)(td_now_ns() - local->started_ns) / 1e9;
}

/* A port that the kernel chose stays the router's when it is started again. */
static void keep_port(struct cli_local *local, const char *address)
{
    if (strlen(address) < sizeof local->cluster.router_address)
        strcpy(local->cluster.router_address, address);
}

static void on_child_ready(void *ctx, size_t i, const char *address)
{
    struct cli_local *local = ctx;
    const struct cli_child *child = cli_supervisor_child(local->supervisor, i);
    bool is_http = address[0] != '\0' && !net_address_is_unix(address);

    cli_starting_forget(&local->starting, i);
    cli_starting_hide(&local->starting);
    cli_say("%s listens%s%s (pid %d, %.1f s)", local->cluster.plans[i].name,
            is_http ? " at http://" : "", is_http ? address : "", (int)cli_child_pid(child),
            seconds_since_start(local));
    if (i == CLI_CLUSTER_ROUTER)
        keep_port(local, address);
}

static void on_child_progress(void *ctx, size_t i, const char *what, uint64_t done, uint64_t total)
{
    struct cli_local *local = ctx;
    const struct cli_starting_member amount = {done, total};

    cli_starting_report(&local->starting, i, local->cluster.plans[i].name, &amount, what);
}

/* Where this host reaches a listener: 0.0.0.0 is no address to connect to. */
static void set_origin(struct cli_local *local, const char *address)
{
    static const char any4[] = "0.0.0.0:";
    static const char any6[] = "[::]:";
    const char *host = "";

    if (strncmp(address, any4, sizeof any4 - 1) == 0) {
        host = "127.0.0.1:";
        address += sizeof any4 - 1;
    } else if (strncmp(address, any6, sizeof any6 - 1) == 0) {
        host = "[::1]:";
        address += sizeof any6 - 1;
    }
    snprintf(local->origin, sizeof local->origin, "http://%s%.270s", host, address);
}

static void on_answerable(void *ctx, td_status_t status, const char *reason)
{
    struct cli_local *local = ctx;

    cli_starting_fini(&local->starting);
    if (status != TD_OK) {
        fail(local, reason);
        cli_local_stop(local);
        return;
    }
    if (!local->config->quiet_ready) {
        printf("ready %s\n", local->origin);
        fflush(stdout);
    }
    if (local->config->on_ready != NULL)
        local->config->on_ready(local->config->ctx, local, local->origin);
}

static void on_started(void *ctx)
{
    struct cli_local *local = ctx;
    struct td_error error = {0};
    const struct cli_await_config await = {
        .loop = local->loop,
        .origin = local->origin,
        .workers_ready = local->config->options->prefill + local->config->options->decode,
        .deadline_ms = local->config->options->start_ms,
        .ctx = local,
        .on_end = on_answerable,
    };

    set_origin(local, cli_supervisor_address(local->supervisor, CLI_CLUSTER_ROUTER));
    if (cli_await_init(&local->await, &await, &error) != TD_OK) {
        fail(local, error.text);
        cli_local_stop(local);
    }
}

/* ---- opening and closing ---- */

static td_status_t check_model(const char *path, struct td_error *error)
{
    if (access(path, R_OK) == 0)
        return TD_OK;
    return td_fail(
        error, TD_NOT_FOUND, "cannot read the model %.120s: %s; %s", path, strerror(errno),
        errno == EACCES ? "who may read it? ls -l" : "tandem help start tells where to get one");
}

static td_status_t check_programs(const char *folder, struct td_error *error)
{
    static const char *const names[] = {"tandem-scheduler", "tandem-router", "tandem-prefill",
                                        "tandem-decode"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_MAX];

        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (access(path, X_OK) != 0)
            return td_fail(error, TD_NOT_FOUND,
                           "cannot run %.120s: %s; all programs of Tandem belong in one folder",
                           path, strerror(errno));
    }
    return TD_OK;
}

static void say_plan(const struct cli_local *local, uint32_t cpus)
{
    const struct cli_cluster_options *options = local->config->options;
    char where[64];

    if (options->gpu)
        snprintf(where, sizeof where, "one GPU, %.0f %% of its memory each",
                 cli_cluster_gpu_fraction(options) * 100);
    else
        snprintf(where, sizeof where, "%u CPUs", cpus);
    cli_say("starting a scheduler, a router, %u prefill and %u decode (%s); loading %s",
            options->prefill, options->decode, where, local->config->model);
}

static td_status_t plan(struct cli_local *local, struct td_error *error)
{
    struct cli_cluster_surroundings surroundings = {.runtime_folder = local->folder,
                                                    .cpus = td_cpus_usable()};
    const struct cli_cluster_options *options = local->config->options;
    td_status_t status = cli_program_folder(&local->arena, &surroundings.program_folder, error);

    if (status == TD_OK)
        status = check_programs(surroundings.program_folder, error);
    if (status == TD_OK)
        status = cli_runtime_folder_make(local->folder, error);
    if (status == TD_OK)
        status = cli_cluster_plan(local->config->model, options, &surroundings, &local->arena,
                                  &local->cluster, error);
    if (status == TD_OK)
        say_plan(local, surroundings.cpus);
    return status;
}

static td_status_t watch_signals(struct cli_local *local, struct td_error *error)
{
    for (size_t i = 0; i < STOP_SIGNALS; i++) {
        net_fn fn = stop_signals[i] == SIGINT ? on_interrupt : on_signal;
        td_status_t status =
            net_signal_open(local->loop, stop_signals[i], fn, local, &local->signals[i]);

        if (status != TD_OK)
            return td_fail(error, status, "cannot watch signals");
    }
    return TD_OK;
}

/* "models/x.gguf" -> "x.gguf" */
static const char *last_word(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static td_status_t supervise(struct cli_local *local, struct td_error *error)
{
    char what[TD_PROGRESS_WHAT_BYTES];
    const struct cli_cluster_options *options = local->config->options;
    const struct cli_supervisor_config config = {
        .loop = local->loop,
        .plans = local->cluster.plans,
        .count = local->cluster.count,
        .times = {.start_ms = options->start_ms,
                  .back_off_first_ms = 250,
                  .back_off_max_ms = 10000,
                  .calm_ms = 30000,
                  .drain_ms = options->drain_ms + DRAIN_SLACK_MS},
        .stdout_fd = STDERR_FILENO, /* stdout is for results */
        .ctx = local,
        .on_child_ready = on_child_ready,
        .on_child_progress = on_child_progress,
        .on_started = on_started,
        .on_failed = on_failed,
        .on_ended = on_ended,
    };

    snprintf(what, sizeof what, "loading %.80s", last_word(local->config->model));
    cli_starting_init(&local->starting, local->loop, local->config->program, what);
    return cli_supervisor_open(&config, &local->supervisor, error);
}

static td_status_t open_all(struct cli_local *local, struct td_error *error)
{
    td_status_t status = check_model(local->config->model, error);

    if (status == TD_OK && (status = net_loop_open(&local->loop)) != TD_OK)
        td_fail(error, status, "cannot open an event loop");
    if (status == TD_OK)
        status = watch_signals(local, error); /* before there is anything to clean up */
    if (status == TD_OK)
        status = plan(local, error);
    if (status == TD_OK)
        status = supervise(local, error);
    return status;
}

static void close_all(struct cli_local *local)
{
    if (local->config->on_closing != NULL)
        local->config->on_closing(local->config->ctx);
    cli_starting_fini(&local->starting);
    cli_await_fini(&local->await);
    cli_supervisor_close(local->supervisor);
    for (size_t i = 0; i < STOP_SIGNALS; i++)
        if (local->signals[i] != NULL)
            net_signal_close(local->signals[i]);
    if (local->loop != NULL)
        net_loop_close(local->loop);
    if (local->folder[0] != '\0')
        cli_runtime_folder_remove(local->folder);
    td_arena_fini(&local->arena);
}

int cli_local_run(const struct cli_local_config *config)
{
    struct cli_local local = {.config = config, .started_ns = td_now_ns()};
    struct td_error error = {0};

    td_arena_init(&local.arena, PLAN_BYTES_MAX);
    signal(SIGPIPE, SIG_IGN);
    if (cli_cluster_check(config->options, &error) != TD_OK) {
        fail(&local, error.text);
        local.exit_status = NET_EXIT_USAGE;
    } else if (open_all(&local, &error) == TD_OK) {
        net_loop_run(local.loop);
    } else {
        fail(&local, error.text);
    }
    close_all(&local);
    return local.exit_status;
}

struct net_loop *cli_local_loop(struct cli_local *local)
{
    return local->loop;
}
