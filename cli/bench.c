/* bench.c: `tandem bench`: the measurements of bench/ under one name. */
#include "bench/bench.h"

#include "cli/command.h"

static const struct cli_command measurements[] = {
    {"engine", "MODEL.gguf [flags]", "prompt and decode speed beside what the machine could do",
     bench_engine},
    {"tokenizer", "MODEL [flags]", "text to token ids, beside checking the same bytes for UTF-8",
     bench_tokenizer},
    {"sampling", "[flags]", "one draw of a token, beside reading the logits once", bench_sampling},
    {"steps", "[flags]", "what a step costs beside the model", bench_steps},
    {"transfer", "[flags]", "KV between two processes by each transport, beside memcpy",
     bench_transfer},
    {"index", "[flags]", "the scheduler's prefix index, beside the memory's random reads",
     bench_index},
};

int cli_bench(int argc, char **argv)
{
    const struct cli_menu menu = {
        .program = "tandem bench",
        .purpose = "measures parts of Tandem on this machine",
        .summary = "Measures parts of Tandem on this machine; --json gives one object.",
        .examples = "  tandem bench engine model.gguf --json\n"
                    "  tandem bench transfer\n",
        .commands = measurements,
        .count = sizeof measurements / sizeof measurements[0],
    };

    return cli_menu_run(&menu, argc, argv);
}
