/*
 * command.c: `tandem check`: looks at what a cluster on this host will need, before it is needed.
 *
 * Needs no rights beyond those to serve, leaves nothing behind, and ends in a few seconds.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/check/parts.h"
#include "cli/command.h"
#include "lib/base/log.h"
#include "lib/net/program.h"

#define OPTIONS struct cli_check_options

#define OUT_BYTES_MAX ((size_t)1 << 20)

static const struct td_flag check_flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, certs), .name = "certs", .value = "DIR",
     .help = "Looks at the certificates in this folder: of one role, or with a folder for each."},
    {TD_FLAG_AS_LIST(OPTIONS, listen), .name = "listen", .value = "ADDRESS",
     .help = "More addresses that must be free: HOST:PORT or unix:/PATH; may be repeated."},
    {TD_FLAG_AS_UINT32(OPTIONS, cluster.port), .name = "port", .value = "PORT", .fallback = "8000",
     .max = 65535, .help = "Port of the OpenAI API, which must be free; 0: any."},
    {TD_FLAG_AS_CHOICE(OPTIONS, cluster.kv_transport), .name = "kv-transport", .fallback = "auto",
     .choices = cli_kv_transports,
     .help = "The transport that must work; a lane that only others would use is a note."},
    {TD_FLAG_AS_TEXT(OPTIONS, ucx_interface), .name = "ucx-interface", .value = "NAMES",
     .fallback = "lo", .help = "Network devices for UCX over TCP, by commas: eth0."},
    {TD_FLAG_AS_BOOL(OPTIONS, json), .name = "json", .help = "Writes one JSON object."},
};

static const char examples[] =
    "  tandem check                                this machine\n"
    "  tandem check model.gguf                     and a model: it is opened, and writes a few "
    "tokens\n"
    "  tandem check model.gguf --certs /etc/tandem/certs --listen 0.0.0.0:7202\n"
    "  tandem check model.gguf --json | jq '.checks[] | select(.result != \"ok\")'\n";

struct td_flag_table cli_check_table(struct cli_check_options *options)
{
    return (struct td_flag_table){.group = "Checking",
                                  .flags = check_flags,
                                  .count = sizeof check_flags / sizeof check_flags[0],
                                  .options = options};
}

/* Shows the rows that have come since the last time; JSON waits for the end. */
static void show(const struct check_table *table, uint32_t *shown, const OPTIONS *options)
{
    struct td_buf out;

    if (options->json)
        return;
    td_buf_init(&out, OUT_BYTES_MAX);
    check_print(table, *shown, &out);
    if (out.data != NULL)
        fwrite(out.data, 1, out.length, stdout);
    fflush(stdout);
    td_buf_fini(&out);
    *shown = table->count;
}

static void show_end(const struct check_table *table, const OPTIONS *options)
{
    uint32_t problems = check_count(table, CHECK_PROBLEM);
    uint32_t notes = check_count(table, CHECK_NOTE);
    struct td_buf out;

    td_buf_init(&out, OUT_BYTES_MAX);
    if (options->json)
        check_write_json(table, &out);
    else if (problems + notes == 0)
        td_buf_append_text(&out, "\nAll is well.");
    else
        td_buf_printf(&out, "\n%u problem%s, %u note%s.", problems, problems == 1 ? "" : "s", notes,
                      notes == 1 ? "" : "s");
    puts(out.data != NULL ? out.data : "{}");
    td_buf_fini(&out);
}

static int run(const char *model, const OPTIONS *options)
{
    struct check_table *table = calloc(1, sizeof *table);
    uint32_t shown = 0;
    int exit_status;

    if (table == NULL)
        return NET_EXIT_FAILURE;
    td_log_set_level(TD_LOG_ERROR);
    check_machine(table, options, "");
    show(table, &shown, options);
    check_gpu(table, options);
    check_gpu_ways(table, options, NULL);
    show(table, &shown, options);
    check_ports(table, options);
    check_certs(table, options->certs);
    show(table, &shown, options);
    check_transports(table, options);
    show(table, &shown, options);
    if (model != NULL)
        check_model(table, model, options);
    show(table, &shown, options);
    show_end(table, options);
    exit_status = check_count(table, CHECK_PROBLEM) == 0 ? NET_EXIT_OK : NET_EXIT_FAILURE;
    if (fflush(stdout) != 0)
        exit_status = NET_EXIT_FAILURE;
    free(table);
    return exit_status;
}

int cli_check(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table tables[] = {
        cli_check_table(&options),
        cli_cluster_table(&options.cluster),
    };
    const struct td_flags flags = {
        .program = "tandem check",
        .summary =
            "Looks at this machine, the ports, certificates and transports, and at a model, as "
            "`tandem serve`\nwith the same flags would find them; says what to do where "
            "something is wrong.",
        .usage = "[MODEL] [flags]",
        .purpose = "says whether Tandem will work here, and what to do if not",
        .statuses = "  0   it will work\n"
                    "  1   it will not; each problem's line says what to do\n"
                    "  2   the command line or the environment is wrong; stderr names the flag\n",
        .see_also = "tandem(1), tandem-inspect(1), tandem-serve(1), tandem-certs(1)",
        .examples = examples,
        .tables = tables,
        .table_count = sizeof tables / sizeof tables[0],
    };
    struct td_flags_result result = {0};
    struct td_error error = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0 && result.positionals.count > 1) {
        fprintf(stderr, "tandem check: at most one model: tandem check [MODEL]\n");
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0 && cli_cluster_check(&options.cluster, &error) != TD_OK) {
        net_program_report_failure(flags.program, error.text); /* as `tandem serve` would say */
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0)
        exit_status =
            run(result.positionals.count == 1 ? result.positionals.items[0] : NULL, &options);
    td_arena_fini(&arena);
    return exit_status;
}
