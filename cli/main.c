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
    {"bench", "WHAT [flags]", "measures engine, KV transfer and prefix index on this machine",
     cli_bench},
    {"sim", "[flags]", "runs a whole cluster under a seed, with faults, and checks it", cli_sim},
    {"version", "", "says which version this is", cli_version},
};

static const char examples[] =
    "  tandem demo model.gguf                      a cluster on this host answers a question\n"
    "  tandem demo model.gguf --once \"Why?\"        the same, and ends afterwards\n"
    "  tandem serve model.gguf --port 8000         serves the OpenAI API at http://127.0.0.1:8000\n"
    "  tandem serve model.gguf --prefill 0         one process reads and writes: no KV crosses\n"
    "  tandem certs /etc/tandem/certs              for workers on several hosts\n";

int main(int argc, char **argv)
{
    const struct cli_menu menu = {
        .program = "tandem",
        .summary = "Serves large language models with prefill and decode in separate processes;\n"
                   "the KV cache travels between them.",
        .examples = examples,
        .commands = commands,
        .count = sizeof commands / sizeof commands[0],
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
    (void)argc;
    (void)argv;
    puts("tandem " TANDEM_VERSION);
    return NET_EXIT_OK;
}
