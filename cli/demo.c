/*
 * demo.c: `tandem demo`: a cluster on this host answers one question, shows where the time went, and
 * keeps serving, or ends with --once.
 */
#include <stdio.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/printable.h"
#include "cli/question.h"
#include "cli/report.h"
#include "cli/say.h"
#include "cli/tables.h"
#include "lib/base/json_write.h"
#include "lib/net/program.h"

#define REPORT_BYTES_MAX ((size_t)32 << 20) /* the text, escaped */

/* What the scheduler's threshold becomes, so that short prompts cross too. */
#define REMOTE_TOKENS_MIN 1

#define SILENCE_MS 120000 /* the server sends comments while it computes */

static const char default_user[] =
    "I have heard that large language models read a prompt and write an answer in two different "
    "ways. Why is reading bound by arithmetic and writing by memory? Answer in a few sentences.";

struct demo {
    const struct cli_demo_options *options;
    struct cli_local *local;
    const char *origin;
    struct cli_question question;
    struct cli_printable printable;
    struct td_buf text; /* a piece of the answer, as it is shown */
    bool has_succeeded; /* the answer is what the demo promises */
};

#define OPTIONS struct cli_demo_options

static const struct td_flag demo_flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, once), .name = "once", .value = "PROMPT",
     .help = "Asks this, and ends after the answer: with status 0 only if the KV really crossed "
             "between two processes (with --aggregated: if the answer is complete)."},
    {TD_FLAG_AS_BOOL(OPTIONS, aggregated), .name = "aggregated",
     .help = "One worker reads and writes; the same as --prefill 0."},
    {TD_FLAG_AS_BOOL(OPTIONS, json), .name = "json",
     .help = "The last line on stdout is one JSON object; the answer goes to stderr."},
    {TD_FLAG_AS_UINT32(OPTIONS, max_tokens), .name = "max-tokens", .fallback = "160", .min = 1,
     .max = 65536, .help = "How long the answer may become."},
    {TD_FLAG_AS_UINT32(OPTIONS, cluster.port), .name = "port", .value = "PORT", .fallback = "8000",
     .max = 65535, .help = "Port of the OpenAI API; 0, and always with --once: any that is free."},
    {TD_FLAG_AS_CHOICE(OPTIONS, cluster.kv_transport), .name = "kv-transport", .fallback = "ucx",
     .choices = cli_kv_transports,
     .help = "How KV travels between workers: ucx, map (one copy out of mapped memory), or auto, "
             "which is map on one host."},
    {TD_FLAG_AS_CHOICE(OPTIONS, cluster.log_level), .name = "log-level", .fallback = "warn",
     .choices = cli_log_levels, .help = "Log lines of all processes above this are not written."},
};

static const char examples[] = "  tandem demo model.gguf\n"
                               "  tandem demo model.gguf --once \"Why is the sky blue?\" --json\n"
                               "  tandem demo model.gguf --kv-transport map --prefill 2\n";

/* ---- the answer ---- */

/* The stream of the answer: the person's, unless a program reads stdout. */
static FILE *answer_stream(const struct demo *demo)
{
    return demo->options->json ? stderr : stdout;
}

/* A model that thinks aloud does so in the answer. */
static void on_piece(void *ctx, enum cli_piece piece, const char *text, size_t length)
{
    struct demo *demo = ctx;
    FILE *out = answer_stream(demo);

    (void)piece;
    td_buf_clear(&demo->text);
    if (isatty(fileno(out)))
        cli_printable_feed(&demo->printable, text, length, &demo->text);
    else
        td_buf_append(&demo->text, text, length);
    if (demo->text.length > 0)
        fwrite(demo->text.data, 1, demo->text.length, out);
    fflush(out);
}

static void print_report(const struct demo *demo, const struct cli_answer *answer)
{
    struct td_buf report;

    td_buf_init(&report, REPORT_BYTES_MAX);
    cli_report_print(answer, &report);
    fprintf(answer_stream(demo), "\n\n%s\n", report.status == TD_OK ? report.data : "");
    fflush(answer_stream(demo));
    td_buf_fini(&report);
}

static void print_json(const struct cli_answer *answer)
{
    struct td_buf json;

    td_buf_init(&json, REPORT_BYTES_MAX);
    cli_report_write_json(answer, &json);
    printf("%s\n", json.status == TD_OK ? json.data : "{}");
    fflush(stdout);
    td_buf_fini(&json);
}

static void print_invitation(const struct demo *demo, const struct cli_answer *answer)
{
    fprintf(answer_stream(demo),
            "Serving the OpenAI API at %s/v1 until Ctrl-C. Try:\n\n"
            "  curl -N %s/v1/chat/completions -H 'Content-Type: application/json' -d '{\n"
            "    \"model\": \"%s\", \"stream\": true, \"max_tokens\": 100,\n"
            "    \"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}'\n\n",
            demo->origin, demo->origin, answer->model);
    fflush(answer_stream(demo));
}

static bool is_aggregated(const struct cli_demo_options *options)
{
    return options->cluster.prefill == 0;
}

/* Whether the answer is what the demo promises; says so if not. */
static bool check(const struct demo *demo, const struct cli_answer *answer)
{
    const char *why_not;

    if (!answer->is_complete) {
        fprintf(stderr, "tandem demo: %s\n", answer->failure);
        return false;
    }
    if (!answer->saw_done || !answer->has_usage) {
        fprintf(stderr, "tandem demo: the stream ended without its usage or its [DONE]\n");
        return false;
    }
    if (!is_aggregated(demo->options) && !cli_report_kv_crossed(answer, &why_not)) {
        fprintf(stderr, "tandem demo: no KV crossed: %s\n", why_not);
        return false;
    }
    return true;
}

static void on_end(void *ctx, const struct cli_answer *answer)
{
    struct demo *demo = ctx;

    if (answer->is_complete)
        print_report(demo, answer);
    demo->has_succeeded = check(demo, answer);
    if (answer->is_complete && demo->options->once == NULL)
        print_invitation(demo, answer);
    if (answer->is_complete && demo->options->json)
        print_json(answer);
    if (demo->options->once != NULL || !answer->is_complete)
        cli_local_stop(demo->local);
}

static void put_message(struct td_json_writer *writer, const char *role, const char *content)
{
    td_json_begin_object(writer, NULL);
    td_json_put_text(writer, "role", role);
    td_json_put_text(writer, "content", content);
    td_json_end(writer);
}

static void write_request(const char *user, uint32_t max_tokens, struct td_buf *out)
{
    struct td_json_writer writer = td_json_writer_to(out);

    td_json_begin_object(&writer, NULL);
    td_json_begin_array(&writer, "messages");
    put_message(&writer, "user", user);
    td_json_end(&writer);
    td_json_put_uint(&writer, "max_tokens", max_tokens);
    td_json_put_double(&writer, "temperature", 0.0); /* the same answer every time */
    td_json_put_bool(&writer, "stream", true);
    td_json_begin_object(&writer, "stream_options");
    td_json_put_bool(&writer, "include_usage", true);
    td_json_end(&writer);
    td_json_end(&writer);
}

static td_status_t ask(struct demo *demo, const char *user, struct td_error *error)
{
    char base[NET_ADDRESS_BYTES_MAX + 16];
    struct cli_question_config config = {
        .loop = cli_local_loop(demo->local),
        .base = base,
        .silence_ms = SILENCE_MS,
        .ctx = demo,
        .on_piece = on_piece,
        .on_end = on_end,
    };
    struct td_buf body;
    td_status_t status;

    snprintf(base, sizeof base, "%s/v1", demo->origin);
    td_buf_init(&body, REPORT_BYTES_MAX);
    write_request(user, demo->options->max_tokens, &body);
    config.body = td_span_over(body.data, body.length);
    status = body.status;
    if (status == TD_OK)
        status = cli_question_init(&demo->question, &config, error);
    else
        td_fail(error, status, "the question is too long");
    td_buf_fini(&body);
    return status;
}

/* ---- the cluster ---- */

static void on_ready(void *ctx, struct cli_local *local, const char *origin)
{
    struct demo *demo = ctx;
    struct td_error error = {0};
    const char *user = demo->options->once != NULL ? demo->options->once : default_user;

    demo->local = local;
    demo->origin = origin;
    if (!is_aggregated(demo->options))
        cli_say("the scheduler's --remote-tokens-min is %d here, so that short prompts cross too",
                REMOTE_TOKENS_MIN);
    fprintf(answer_stream(demo), "\n> %s\n\n", user);
    if (ask(demo, user, &error) != TD_OK) {
        fprintf(stderr, "tandem demo: %s\n", error.text);
        cli_local_stop(local);
    }
}

static void on_closing(void *ctx)
{
    struct demo *demo = ctx;

    cli_question_fini(&demo->question);
    td_buf_fini(&demo->text);
}

static int run(const char *model, struct cli_demo_options *options)
{
    struct demo demo = {.options = options};
    struct cli_local_config local = {
        .program = "tandem demo",
        .model = model,
        .options = &options->cluster,
        .quiet_ready = true,
        .ctx = &demo,
        .on_ready = on_ready,
        .on_closing = on_closing,
    };
    int exit_status;

    td_buf_init(&demo.text, CLI_ANSWER_TEXT_MAX);
    if (options->aggregated)
        options->cluster.prefill = 0;
    if (options->once != NULL)
        options->cluster.port = 0; /* nobody will ask for the usual one */
    options->cluster.remote_tokens_min = REMOTE_TOKENS_MIN;
    exit_status = cli_local_run(&local);
    return demo.has_succeeded || exit_status == NET_EXIT_USAGE ? exit_status : NET_EXIT_FAILURE;
}

struct td_flag_table cli_demo_table(struct cli_demo_options *options)
{
    return (struct td_flag_table){.group = "Demo",
                                  .flags = demo_flags,
                                  .count = sizeof demo_flags / sizeof demo_flags[0],
                                  .options = options};
}

int cli_demo(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table tables[] = {
        cli_demo_table(&options),
        cli_cluster_table(&options.cluster),
    };
    const struct td_flags flags = {
        .program = "tandem demo",
        .summary = "Starts a cluster on this host, asks it one question, streams the answer, shows "
                   "where the time\nwent and how much KV crossed by which transport, and keeps "
                   "serving until Ctrl-C.",
        .usage = "MODEL [flags]",
        .purpose = "answers one question, and shows how prefill and decode worked on it",
        .about =
            "The scheduler is told to have every prompt prefilled elsewhere, however short, so "
            "that there is something to see. The text is the same with --aggregated, where one "
            "process does everything.",
        .statuses = "  0   it was answered, and KV crossed (with --aggregated: it was answered)\n"
                    "  1   no answer came, or no KV crossed; stderr says why\n"
                    "  2   the command line or the environment is wrong; stderr names the flag\n",
        .see_also = "tandem(1), tandem-serve(1), tandem-chat(1), tandem-bench(1)",
        .examples = examples,
        .tables = tables,
        .table_count = sizeof tables / sizeof tables[0],
    };
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0 && result.positionals.count != 1) {
        fprintf(stderr, "tandem demo: one model is wanted: tandem demo MODEL.gguf, or a folder; "
                        "tandem help start tells where to get one\n");
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0)
        exit_status = run(result.positionals.items[0], &options);
    td_arena_fini(&arena);
    return exit_status;
}
