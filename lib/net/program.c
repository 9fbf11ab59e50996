/* program.c: the beginning and the end of every process, see program.h. */
#include "lib/net/program.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/net/process.h"

#define FLAG_ARENA_BYTES_MAX ((size_t)1 << 20)
#define HELP_BYTES_MAX       ((size_t)1 << 20)
#define HOUR_MS              ((int64_t)3600 * 1000)

#define OPTIONS struct net_program_options

/* ---------------------------------------------------------------------------------------- flags */

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};

static const struct td_flag program_flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, certs), .name = "certs", .value = "DIR",
     .help = "Folder with ca.pem, cert.pem and key.pem: every RPC link then uses mutual TLS. Files "
             "that change are read again. `tandem certs` makes such folders."},
    {TD_FLAG_AS_BOOL(OPTIONS, insecure), .name = "insecure",
     .help = "Listen for RPC beyond this host even without certificates."},
    {TD_FLAG_AS_DURATION(OPTIONS, drain_ms), .name = "drain-timeout", .fallback = "30s", .min = 0,
     .max = 24 * HOUR_MS,
     .help = "After SIGTERM running requests may take this long; then they are broken off."},
    {TD_FLAG_AS_CHOICE(OPTIONS, log_level), .name = "log-level", .fallback = "info",
     .choices = log_levels, .help = "Lines above this level are not written."},
};

struct td_flag_table net_program_table(struct net_program_options *options)
{
    return (struct td_flag_table){.group = "Every process",
                                  .flags = program_flags,
                                  .count = sizeof program_flags / sizeof program_flags[0],
                                  .options = options};
}

static int write_out(struct td_buf *text)
{
    bool good = text->status == TD_OK &&
                fwrite(text->data, 1, text->length, stdout) == text->length && fflush(stdout) == 0;

    td_buf_fini(text);
    return good ? NET_EXIT_OK : NET_EXIT_FAILURE;
}

int net_program_flags(const struct td_flags *flags, int argc, char *const *argv,
                      struct td_arena *arena_out, struct td_flags_result *result_out)
{
    struct td_flag_list words = {argc > 0 ? argv + 1 : argv, argc > 0 ? (size_t)argc - 1 : 0};
    struct td_error error = {0};
    struct td_buf text;
    int status = -1;

    td_arena_init(arena_out, FLAG_ARENA_BYTES_MAX);
    td_buf_init(&text, HELP_BYTES_MAX);
    if (td_flags_answer(flags, words, TANDEM_VERSION, &text)) {
        status = write_out(&text);
    } else if (td_flags_parse(flags, arena_out, words, result_out, &error) != TD_OK) {
        net_program_report_failure(flags->program, error.text);
        status = NET_EXIT_USAGE;
    } else if (result_out->help) {
        td_flags_print_help(flags, &text);
        status = write_out(&text);
    } else if (result_out->version) {
        printf("%s %s\n", flags->program, TANDEM_VERSION);
        status = NET_EXIT_OK;
    }
    if (status >= 0)
        td_arena_fini(arena_out);
    return status;
}

int net_program_no_words(const struct td_flags *flags, const struct td_flags_result *result)
{
    if (result->positionals.count == 0)
        return -1;
    fprintf(stderr, "%s: '%.100s' is no flag, and nothing else is expected; %s --help\n",
            flags->program, result->positionals.items[0], flags->program);
    return NET_EXIT_USAGE;
}

/* -------------------------------------------------------------------------------------- program */

static const int signal_numbers[] = {SIGTERM, SIGINT};
#define SIGNAL_COUNT (sizeof signal_numbers / sizeof signal_numbers[0])

struct net_program {
    struct net_program_config config;
    struct net_loop *loop;
    struct net_tls *tls;
    struct rpc *rpc;
    struct net_signal *signals[SIGNAL_COUNT];
    struct net_timer drain_timer;
    int signal_count;
    bool stopping;
    int exit_status;
};

static void stop_now(struct net_program *program, const char *why)
{
    program->stopping = true;
    net_timer_cancel(&program->drain_timer);
    td_log(TD_LOG_WARN, "program", "stopping at once: %s", why);
    program->config.stop(program->config.ctx);
}

static void on_drain_timeout(struct net_timer *timer, uint64_t now_ns)
{
    struct net_program *program = td_container_of(timer, struct net_program, drain_timer);

    (void)now_ns;
    stop_now(program, "the drain timeout passed");
}

static void on_signal(void *ctx)
{
    struct net_program *program = ctx;

    program->signal_count++;
    if (program->signal_count == 1) {
        td_log(TD_LOG_INFO, "program", "draining timeout_ms %llu",
               (unsigned long long)program->config.options.drain_ms);
        net_timer_set_in(&program->drain_timer, program->config.options.drain_ms);
        program->config.drain(program->config.ctx);
    } else if (!program->stopping) {
        stop_now(program, "asked twice");
    } else {
        _exit(NET_EXIT_FAILURE);
    }
}

/* Nobody would let it call what it needs; a certificate may still be renewed in place. */
static void check_role(const struct net_program *program)
{
    enum net_role role = net_tls_role(program->tls);

    if (program->config.role != NET_ROLE_UNKNOWN && role != program->config.role)
        td_log(TD_LOG_WARN, "program",
               "the certificate in %s is a %s's, and this is a %s: peers will refuse it",
               program->config.options.certs, net_role_name(role),
               net_role_name(program->config.role));
}

static td_status_t open_parts(struct net_program *program, struct td_error *error)
{
    const char *certs = program->config.options.certs;
    td_status_t status = net_loop_open(&program->loop);

    if (status != TD_OK)
        return td_fail(error, status, "event loop: %s", td_status_text(status));
    net_timer_init(&program->drain_timer, program->loop, on_drain_timeout);
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        status = net_signal_open(program->loop, signal_numbers[i], on_signal, program,
                                 &program->signals[i]);
        if (status != TD_OK)
            return td_fail(error, status, "signal handlers: %s", td_status_text(status));
    }
    if (certs != NULL) {
        status = net_tls_open(program->loop, certs, &program->tls, error);
        if (status != TD_OK)
            return status;
        check_role(program);
    }
    status = rpc_open(program->loop, program->tls, &program->rpc);
    if (status != TD_OK)
        return td_fail(error, status, "RPC: %s", td_status_text(status));
    return TD_OK;
}

td_status_t net_program_open(const struct net_program_config *config,
                             struct net_program **program_out, struct td_error *error)
{
    struct net_program *program = calloc(1, sizeof *program);
    td_status_t status;

    if (program == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory");
    program->config = *config;
    td_log_set_name(config->name);
    td_log_set_level((enum td_log_level)config->options.log_level);
    signal(SIGPIPE, SIG_IGN);
    status = open_parts(program, error);
    if (status != TD_OK) {
        net_program_close(program);
        return status;
    }
    *program_out = program;
    return TD_OK;
}

struct net_loop *net_program_loop(struct net_program *program)
{
    return program->loop;
}

struct rpc *net_program_rpc(struct net_program *program)
{
    return program->rpc;
}

struct net_tls *net_program_tls(struct net_program *program)
{
    return program->tls;
}

void net_program_report_ready(const char *address)
{
    char line[NET_READY_LINE_MAX];

    snprintf(line, sizeof line, "ready %s", address);
    if (net_ready_report(line) == TD_IO) /* TD_NOT_FOUND: started by hand */
        td_log(TD_LOG_WARN, "program", "the supervisor does not listen");
}

void net_program_report_progress(const char *what, uint64_t done, uint64_t total)
{
    char line[NET_READY_LINE_MAX];

    snprintf(line, sizeof line, "progress %llu %llu %.200s", (unsigned long long)done,
             (unsigned long long)total, what);
    if (net_ready_report(line) != TD_OK)
        return; /* nobody waits for it */
}

void net_program_report_failure(const char *program, const char *reason)
{
    char line[NET_READY_LINE_MAX];

    snprintf(line, sizeof line, "failed %s", reason);
    for (char *c = line; *c != '\0'; c++)
        if (*c == '\n')
            *c = ' ';
    if (net_ready_report(line) != TD_OK)
        fprintf(stderr, "%s: %s\n", program, reason);
}

int net_program_run(struct net_program *program)
{
    net_loop_run(program->loop);
    return program->exit_status;
}

void net_program_finish(struct net_program *program, int exit_status)
{
    program->exit_status = exit_status;
    net_timer_cancel(&program->drain_timer);
    net_loop_stop(program->loop);
}

void net_program_close(struct net_program *program)
{
    if (program == NULL)
        return;
    rpc_close(program->rpc);
    net_tls_close(program->tls);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        net_signal_close(program->signals[i]);
    if (program->loop != NULL) {
        net_timer_cancel(&program->drain_timer);
        net_loop_close(program->loop);
    }
    free(program);
}
