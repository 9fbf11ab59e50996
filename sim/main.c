/* main.c: the command `tandem sim`. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/flags.h"
#include "lib/base/json_write.h"
#include "lib/base/log.h"
#include "lib/base/progress.h"
#include "lib/base/time.h"
#include "sim/sim.h"

#define ARENA_BYTES ((size_t)1 << 20)
#define JSON_BYTES  ((size_t)1 << 20)

struct words {
    int64_t seed;
    uint32_t seeds;
    uint32_t steps;
    uint32_t requests;
    uint32_t prefill;
    uint32_t decode;
    uint32_t schedulers;
    uint32_t routers;
    struct td_flag_list faults;
    const char *break_what;
    const char *trace;
    bool json;
    bool verbose;
};

static const struct td_flag run_flags[] = {
    {TD_FLAG_AS_INT64(struct words, seed), .name = "seed", .value = "N", .fallback = "1", .min = 0,
     .max = INT64_MAX, .help = "The seed of the first run. Equal seeds give equal runs."},
    {TD_FLAG_AS_UINT32(struct words, seeds), .name = "seeds", .value = "COUNT", .fallback = "1",
     .min = 1, .max = 100000000, .help = "How many runs, each with the next seed."},
    {TD_FLAG_AS_UINT32(struct words, steps), .name = "steps", .value = "S", .fallback = "20000",
     .min = 1, .max = 1000000000,
     .help = "Events after which the faults end, if requests have not all ended before."},
    {TD_FLAG_AS_UINT32(struct words, requests), .name = "requests", .value = "R", .fallback = "40",
     .min = 1, .max = 100000, .help = "Requests that come while faults strike."},
    {TD_FLAG_AS_LIST(struct words, faults), .name = "faults", .value = "LIST", .fallback = "all",
     .help = "What may happen: all, none, or some of delay, reorder, duplicate, drop, corrupt, "
             "crash, restart, freeze, step, leave, pressure, hang."},
    {TD_FLAG_AS_UINT32(struct words, prefill), .name = "prefill", .value = "N", .fallback = "2",
     .min = 0, .max = 6, .help = "Prefill workers; with 0 decode workers prefill themselves."},
    {TD_FLAG_AS_UINT32(struct words, decode), .name = "decode", .value = "M", .fallback = "2",
     .min = 1, .max = 6, .help = "Decode workers."},
    {TD_FLAG_AS_UINT32(struct words, schedulers), .name = "schedulers", .value = "N",
     .fallback = "1", .min = 1, .max = 2, .help = "Schedulers."},
    {TD_FLAG_AS_UINT32(struct words, routers), .name = "routers", .value = "N", .fallback = "1",
     .min = 1, .max = 2, .help = "Routers; clients use any of them."},
    {TD_FLAG_AS_TEXT(struct words, break_what), .name = "break", .value = "NAME",
     .fallback = "none",
     .help = "Break the cluster on purpose, to see that an oracle notices: see docs/sim.md."},
};

static const struct td_flag output_flags[] = {
    {TD_FLAG_AS_BOOL(struct words, json), .name = "json",
     .help = "Print one JSON object per run instead of text."},
    {TD_FLAG_AS_BOOL(struct words, verbose), .name = "verbose",
     .help = "Print every event, and the logs of the processes, to stderr."},
    {TD_FLAG_AS_TEXT(struct words, trace), .name = "trace", .value = "FILE",
     .help =
         "Write every event to a file: its number, the virtual time in seconds, process, event, "
         "a number, and the length and a digest of a message."},
};

/* --- the replay of a run that ended in an assertion --- */

static struct sim_options running; /* of the present run, for the handler */
static const char *program_name = "tandem sim";

static const char *fault_list(uint32_t faults, char out[static 160])
{
    static const char *const names[] = {
#define X(name, text, help) text,
        SIM_FAULTS_MAP(X)
#undef X
    };

    out[0] = '\0';
    if (faults == 0 || faults == SIM_FAULTS_ALL)
        return faults == 0 ? "none" : "all";
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if (!(faults >> i & 1))
            continue;
        if (out[0] != '\0')
            strcat(out, ",");
        strcat(out, names[i]);
    }
    return out;
}

static const char *break_name(enum sim_break what)
{
    static const char *const names[] = {
#define X(name, text, help) text,
        SIM_BREAKS_MAP(X)
#undef X
    };

    return names[what];
}

static void replay_line(const struct sim_options *options, char *out, size_t capacity)
{
    char faults[160];

    snprintf(out, capacity,
             "%s --seed %llu --steps %u --requests %u --faults %s --prefill %u --decode %u "
             "--schedulers %u --routers %u%s%s",
             program_name, (unsigned long long)options->seed, options->steps_max, options->requests,
             fault_list(options->faults, faults), options->prefill, options->decode,
             options->schedulers, options->routers,
             options->break_what != SIM_BREAK_NONE ? " --break " : "",
             options->break_what != SIM_BREAK_NONE ? break_name(options->break_what) : "");
}

/* The core that asserted has said why. What runs here is our own synchronous abort, nothing else. */
static void on_abort(int signal_number)
{
    char line[512];

    (void)signal_number;
    replay_line(&running, line, sizeof line);
    dprintf(STDERR_FILENO, "FAILED seed %llu: an assertion in a core\nreplay: %s --trace FILE\n",
            (unsigned long long)running.seed, line);
}

/* --- reports --- */

static void put_figures(struct td_json_writer *json, const struct sim_figures *figures)
{
#define X(name, help) td_json_put_uint(json, #name, figures->name);
    SIM_FIGURES_MAP(X)
#undef X
}

static void print_json(const struct sim_options *options, const struct sim_report *report)
{
    char hex[TD_U128_HEX_BYTES];
    char faults[160];
    char replay[512];
    struct td_buf buf;
    struct td_json_writer json;

    td_buf_init(&buf, JSON_BYTES);
    json = td_json_writer_to(&buf);
    td_json_begin_object(&json, NULL);
    td_json_put_uint(&json, "seed", options->seed);
    td_json_put_bool(&json, "passed", report->passed);
    td_json_put_text(&json, "faults", fault_list(report->faults, faults));
    td_json_put_text(&json, "trace_hash", td_u128_hex(report->trace_hash, hex));
    td_json_put_double(&json, "virtual_s", (double)report->virtual_ns / 1e9);
    put_figures(&json, &report->figures);
    if (!report->passed) {
        replay_line(options, replay, sizeof replay);
        td_json_put_text(&json, "oracle", report->oracle);
        td_json_put_uint(&json, "step", report->step);
        td_json_put_text(&json, "reason", report->reason);
        td_json_put_text(&json, "replay", replay);
    }
    td_json_end(&json);
    puts(buf.data != NULL ? buf.data : "{}");
    td_buf_fini(&buf);
}

static void print_failure(const struct sim_options *options, const struct sim_report *report)
{
    char replay[512];

    replay_line(options, replay, sizeof replay);
    for (uint32_t i = 0; i < report->tail_count; i++)
        fprintf(stderr, "  %s\n", report->tail[i]);
    fprintf(stderr, "FAILED seed %llu at event %llu, oracle \"%s\": %s\nreplay: %s --trace FILE\n",
            (unsigned long long)options->seed, (unsigned long long)report->step, report->oracle,
            report->reason, replay);
}

static void print_text(const struct sim_options *options, const struct sim_report *report)
{
    const struct sim_figures *f = &report->figures;
    char hex[TD_U128_HEX_BYTES];

    printf("seed %llu %s trace %s events %llu virtual %.1f s: %llu requests, %llu answered, "
           "%llu stopped, %llu left, %llu refused, %llu failed, %llu lost; KV %llu landed, "
           "%llu fell back; %llu crashes, %llu freezes, %llu broken streams\n",
           (unsigned long long)options->seed, report->passed ? "passed" : "FAILED",
           td_u128_hex(report->trace_hash, hex), (unsigned long long)f->events,
           (double)report->virtual_ns / 1e9, (unsigned long long)f->requests,
           (unsigned long long)f->answered, (unsigned long long)f->stopped,
           (unsigned long long)f->left, (unsigned long long)f->refused,
           (unsigned long long)f->failed, (unsigned long long)f->lost,
           (unsigned long long)f->imports_landed, (unsigned long long)f->imports_fallback,
           (unsigned long long)f->crashes, (unsigned long long)f->freezes,
           (unsigned long long)f->stream_breaks);
}

static void print_total(const struct sim_figures *total, uint32_t runs, uint32_t failures)
{
    printf("%u runs, %u failed\n", runs, failures);
#define X(name, help) printf("  %-18s %12llu  %s\n", #name, (unsigned long long)total->name, help);
    SIM_FIGURES_MAP(X)
#undef X
}

static void add_figures(struct sim_figures *total, const struct sim_figures *figures)
{
#define X(name, help) total->name += figures->name;
    SIM_FIGURES_MAP(X)
#undef X
}

/* --- running --- */

static int run_all(const struct words *words, struct sim_options *options)
{
    struct sim_figures total = {0};
    struct sim_report *report = malloc(sizeof *report);
    struct td_progress progress;
    uint32_t failures = 0;

    if (report == NULL)
        return 2;
    td_progress_begin(&progress, program_name, "running seeds");
    for (uint32_t i = 0; i < words->seeds; i++, options->seed++) {
        running = *options;
        td_progress_update(&progress, i, words->seeds);
        sim_run(options, report);
        if (words->json || !report->passed)
            td_progress_hide(&progress);
        add_figures(&total, &report->figures);
        failures += !report->passed;
        if (words->json)
            print_json(options, report);
        else if (words->seeds == 1 || !report->passed)
            print_text(options, report);
        if (!report->passed)
            print_failure(options, report);
    }
    td_progress_hide(&progress);
    free(report);
    if (!words->json)
        print_total(&total, words->seeds, failures);
    return failures > 0 ? 1 : 0;
}

static td_status_t fill_options(const struct words *words, struct sim_options *options,
                                struct td_error *error)
{
    td_status_t status = TD_OK;

    *options = (struct sim_options){.seed = (uint64_t)words->seed,
                                    .steps_max = words->steps,
                                    .requests = words->requests,
                                    .prefill = words->prefill,
                                    .decode = words->decode,
                                    .schedulers = words->schedulers,
                                    .routers = words->routers,
                                    .verbose = words->verbose};
    for (size_t i = 0; i < words->faults.count && status == TD_OK; i++) {
        uint32_t faults;

        status = sim_faults_parse(words->faults.items[i], &faults, error);
        if (status == TD_OK)
            options->faults |= faults;
    }
    if (status == TD_OK)
        status = sim_break_parse(words->break_what, &options->break_what, error);
    if (status == TD_OK && words->trace != NULL) {
        options->trace = fopen(words->trace, "w");
        if (options->trace == NULL)
            status = td_fail(error, TD_IO, "trace: cannot write %.200s", words->trace);
    }
    return status;
}

static int run(const struct words *words)
{
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};
    struct sim_options options;
    struct td_error error = {0};
    int status = 2;

    if (fill_options(words, &options, &error) != TD_OK) {
        fprintf(stderr, "%s: %s\n", program_name, error.text);
        return 2;
    }
    td_log_set_name("sim");
    /* what the cores say in a run full of faults is of interest only to who looks at one run */
    td_log_set_level(words->verbose ? TD_LOG_DEBUG : (enum td_log_level) - 1);
    sigaction(SIGABRT, &action, NULL);
    status = run_all(words, &options);
    if (options.trace != NULL && fclose(options.trace) != 0)
        status = 2;
    return status;
}

int sim_main(int argc, char **argv)
{
    struct words words = {0};
    const struct td_flag_table tables[] = {{.group = "The run",
                                            .flags = run_flags,
                                            .count = sizeof run_flags / sizeof run_flags[0],
                                            .options = &words},
                                           {.group = "Output",
                                            .flags = output_flags,
                                            .count = sizeof output_flags / sizeof output_flags[0],
                                            .options = &words}};
    const struct td_flags flags = {
        .program = program_name = argv[0],
        .summary = "Runs a whole cluster in one process under a seed, with faults, and checks it.",
        .usage = "[flags]",
        .purpose = "runs a whole cluster in one process under a seed, with faults",
        .about =
            "Clock, network and engines are simulated, the rest is what runs in production. Every "
            "answer is compared with the right one, and at the end nothing may be left over. A run "
            "that fails prints its seed, and the same seed fails again in the same way.",
        .statuses = "  0   all runs went well\n"
                    "  1   a run failed; its seed is printed\n"
                    "  2   the command line is wrong\n",
        .see_also = "tandem(1)",
        .examples = "  tandem sim --seed 7\n"
                    "  tandem sim --seeds 1000 --faults crash,freeze\n"
                    "  tandem sim --seed 7 --trace run.txt\n",
        .tables = tables,
        .table_count = 2};
    const struct td_flag_list list = {.items = argv + 1, .count = (size_t)argc - 1};
    struct td_flags_result result;
    struct td_error error = {0};
    struct td_arena arena;
    struct td_buf text;
    td_status_t status;
    int code = 2;

    td_arena_init(&arena, ARENA_BYTES);
    td_buf_init(&text, ARENA_BYTES);
    if (td_flags_answer(&flags, list, TANDEM_VERSION, &text)) {
        fputs(text.data != NULL ? text.data : "", stdout);
        code = 0;
        goto fini;
    }
    status = td_flags_parse(&flags, &arena, list, &result, &error);
    if (status == TD_OK && result.positionals.count > 0)
        status = td_fail(&error, TD_INVALID, "\"%.80s\" is no flag", result.positionals.items[0]);
    if (status != TD_OK) {
        fprintf(stderr, "%s: %s\n", program_name, error.text);
    } else if (result.help) {
        td_flags_print_help(&flags, &text);
        fputs(text.data != NULL ? text.data : "", stdout);
        code = 0;
    } else {
        code = run(&words);
    }
fini:
    td_buf_fini(&text);
    td_arena_fini(&arena);
    return code;
}
