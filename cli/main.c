/* main.c: the `tandem` command: a table of commands. */
#include <stdio.h>

#include "cli/command.h"
#include "lib/net/program.h"
#include "sim/sim.h"

static const struct cli_command commands[] = {
    {"serve", "MODEL [flags]", "serves a model: router, scheduler, prefill and decode workers",
     cli_serve},
    {"demo", "MODEL [flags]", "the same, asks one question, and shows where the time went",
     cli_demo},
    {"chat", "[URL|MODEL] [flags]",
     "talks with a model in the terminal: any OpenAI server, or a file", cli_chat},
    {"check", "[MODEL] [flags]", "looks at this machine, and at a model, before they are needed",
     cli_check},
    {"inspect", "MODEL [flags]", "shows what is in a model file and what it needs", cli_inspect},
    {"certs", "DIR [flags]", "makes the certificates of a cluster", cli_certs},
    {"cache", "[list|remove|clear]", "shows and removes the packed weights that workers keep",
     cli_cache},
    {"completion", "bash|zsh|fish", "prints what makes bash, zsh or fish complete these commands",
     cli_completion},
    {"bench", "WHAT [flags]", "measures engine, tokenizer, KV transfer and prefix index here",
     cli_bench},
    {"sim", "[flags]", "runs a whole cluster under a seed, with faults, and checks it", cli_sim},
    {"version", "", "says which version this is", cli_version},
};

static const char examples[] =
    "  tandem demo model.gguf                      a cluster on this host answers a question\n"
    "  tandem demo model.gguf --once \"Why?\"        the same, and ends afterwards\n"
    "  tandem chat model.gguf                      talks with a model in the terminal\n"
    "  tandem check model.gguf                     will it work here?\n"
    "  tandem serve model.gguf --port 8000         serves the OpenAI API at http://127.0.0.1:8000\n"
    "  tandem serve model.gguf --prefill 0         one process reads and writes: no KV crosses\n"
    "  tandem certs /etc/tandem/certs              for workers on several hosts\n";

int main(int argc, char **argv)
{
    const struct cli_menu menu = {
        .program = "tandem",
        .purpose = "serves large language models, prefill and decode apart",
        .summary = "Serves large language models with prefill and decode in separate processes;\n"
                   "the KV cache travels between them.",
        .examples = examples,
        .commands = commands,
        .count = sizeof commands / sizeof commands[0],
        .topics = cli_topics,
        .topic_count = cli_topic_count,
    };

    return cli_menu_run(&menu, argc, argv);
}

int cli_sim(int argc, char **argv)
{
    static char name[] = "tandem sim"; /* how its messages begin */

    argv[0] = name;
    return sim_main(argc, argv);
}

int cli_version(int argc, char **argv)
{
    const struct td_flags flags = {.program = "tandem version",
                                   .summary = "Says which version this is.",
                                   .usage = "",
                                   .see_also = "tandem(1)"};
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0)
        exit_status = net_program_no_words(&flags, &result);
    if (exit_status < 0) {
        puts("tandem " TANDEM_VERSION);
        exit_status = NET_EXIT_OK;
    }
    td_arena_fini(&arena);
    return exit_status;
}
