/* serve.c: `tandem serve`: a cluster on this host until a signal comes. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/local.h"
#include "cli/tables.h"
#include "lib/net/program.h"

#define OPTIONS struct cli_cluster_options

static const struct td_flag serve_flags[] = {
    {TD_FLAG_AS_UINT32(OPTIONS, port), .name = "port", .value = "PORT", .fallback = "8000",
     .max = 65535, .help = "Port of the OpenAI API; 0: any that is free."},
    {TD_FLAG_AS_CHOICE(OPTIONS, kv_transport), .name = "kv-transport", .fallback = "auto",
     .choices = cli_kv_transports,
     .help = "How KV travels between workers: ucx, map (one copy out of mapped memory), or auto, "
             "which is map on one host."},
    {TD_FLAG_AS_CHOICE(OPTIONS, log_level), .name = "log-level", .fallback = "info",
     .choices = cli_log_levels, .help = "Log lines of all processes above this are not written."},
};

static const char examples[] =
    "  tandem serve model.gguf\n"
    "  tandem serve model.gguf --prefill 2 --decode 2 --kv-transport ucx --port 9000\n"
    "  TANDEM_REMOTE_TOKENS_MIN=256 tandem serve model.gguf    a flag of a process that it "
    "starts\n";

struct td_flag_table cli_serve_table(struct cli_cluster_options *options)
{
    return (struct td_flag_table){.group = "Serving",
                                  .flags = serve_flags,
                                  .count = sizeof serve_flags / sizeof serve_flags[0],
                                  .options = options};
}

int cli_serve(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table tables[] = {
        cli_cluster_table(&options),
        cli_serve_table(&options),
    };
    const struct td_flags flags = {
        .program = "tandem serve",
        .summary =
            "Starts router, scheduler, prefill and decode workers on this host, starts again what "
            "ends\nby itself, and says 'ready http://...' on stdout when requests are answered.\n"
            "Ctrl-C finishes what runs and ends; a second one stops at once.",
        .usage = "MODEL [flags]",
        .purpose = "serves a model on this host: router, scheduler, prefill and decode workers",
        .about = "MODEL is a GGUF file, or a folder with config.json and safetensors; `tandem "
                 "check MODEL` says "
                 "beforehand whether it will work here. Any OpenAI client can then talk to "
                 "http://HOST:PORT/v1; /ready, /health and /metrics are at the same port.\n\n"
                 "The processes talk to each other through sockets in a private folder. One that "
                 "ends by "
                 "itself is started again after a pause that doubles from 0.25 s to 10 s.",
        .environment = "  XDG_RUNTIME_DIR   where the folder for sockets is made; else /tmp\n",
        .statuses = "  0   it was asked to end, and everything ended well\n"
                    "  1   a process could not start, had to be killed, or failed while it was "
                    "stopping\n"
                    "  2   the command line or the environment is wrong; stderr names the flag\n",
        .see_also = "tandem(1), tandem-chat(1), tandem-check(1), tandem-router(1), "
                    "tandem-scheduler(1), tandem-prefill(1), tandem-decode(1)",
        .examples = examples,
        .tables = tables,
        .table_count = sizeof tables / sizeof tables[0],
    };
    struct cli_local_config local = {.program = flags.program, .options = &options};
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0 && result.positionals.count != 1) {
        fprintf(stderr, "tandem serve: one model is wanted: tandem serve MODEL.gguf, or a folder; "

                        "tandem help start tells where to get one\n");
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0) {
        local.model = result.positionals.items[0];
        exit_status = cli_local_run(&local);
    }
    td_arena_fini(&arena);
    return exit_status;
}
