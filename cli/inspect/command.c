/*
 * command.c: `tandem inspect`: what is in a model file, whether it is served, and what it needs.
 *
 * The file is read in a process of its own, so that whoever waits for a large one sees for how long.
 */
#include "cli/inspect/parts.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/command.h"
#include "cli/probe.h"
#include "lib/net/program.h"
#include "lib/text/model.h"
#include "model/map.h"

#define OPTIONS struct cli_inspect_options

#define DEADLINE_MS (24 * UINT64_C(3600000)) /* it ends by itself; a disk may be slow */

static const struct td_flag inspect_flags[] = {
    {TD_FLAG_AS_BOOL(OPTIONS, tensors), .name = "tensors", .help = "Lists all tensors."},
    {TD_FLAG_AS_BOOL(OPTIONS, json), .name = "json", .help = "Writes one JSON object."},
};

static const char examples[] = "  tandem inspect model.gguf\n"
                               "  tandem inspect models/Qwen3-0.6B/ --tensors\n"
                               "  tandem inspect model.gguf --json | jq .shape\n";

struct work {
    const char *path;
    const OPTIONS *options;
};

struct td_flag_table cli_inspect_table(struct cli_inspect_options *options)
{
    return (struct td_flag_table){.group = "Inspection",
                                  .flags = inspect_flags,
                                  .count = sizeof inspect_flags / sizeof inspect_flags[0],
                                  .options = options};
}

/* As a worker opens it; what is open stays with the process, which ends soon. */
static td_status_t open_as_worker(const char *path, struct model **model_out,
                                  struct text_model **text_out, struct td_error *error)
{
    td_status_t status = model_open(path, model_out, error);

    if (status != TD_OK)
        return status;
    if (!(*model_out)->has_text)
        return td_fail(error, TD_UNSUPPORTED, "the model file has no tokenizer");
    status = text_model_open(&(*model_out)->text, text_out, error);
    if (status != TD_OK)
        td_fail_wrap(error, "its tokenizer or chat template");
    return status;
}

static int inspect(void *ctx)
{
    const struct work *work = ctx;
    struct model *model = NULL;
    struct text_model *text = NULL;
    struct td_error error = {0};
    struct cli_sheet sheet;
    bool is_served;
    bool is_printed;

    if (model_map_install_sigbus(&error) != TD_OK)
        return NET_EXIT_FAILURE;
    is_served = open_as_worker(work->path, &model, &text, &error) == TD_OK;
    cli_sheet_init(&sheet, work->options->json);
    if (is_served)
        inspect_put_model(&sheet, work->path, model, text, work->options);
    else
        inspect_put_unserved(&sheet, work->path, error.text, work->options);
    is_printed = cli_sheet_print(&sheet, stdout);
    cli_sheet_fini(&sheet);
    text_model_close(text);
    model_close(model);
    if (!is_printed)
        fprintf(stderr, "tandem inspect: the result cannot be written\n");
    return is_served && is_printed ? NET_EXIT_OK : NET_EXIT_FAILURE;
}

static int run(const char *path, const OPTIONS *options)
{
    struct work work = {path, options};
    const char *slash = strrchr(path, '/');
    char what[64];
    char how[256];
    struct stat status;
    struct td_error error = {0};
    struct cli_probe_end end;
    const struct cli_probe probe = {.program = "tandem inspect",
                                    .what = what,
                                    .deadline_ms = DEADLINE_MS,
                                    .is_shown = true,
                                    .run = inspect,
                                    .ctx = &work};

    if (stat(path, &status) != 0) {
        fprintf(stderr, "tandem inspect: %s: %s\n", path, strerror(errno));
        return NET_EXIT_FAILURE;
    }
    snprintf(what, sizeof what, "reading %.50s",
             slash != NULL && slash[1] != '\0' ? slash + 1 : path);
    if (cli_probe_run(&probe, &end, &error) != TD_OK) {
        fprintf(stderr, "tandem inspect: %s\n", error.text);
        return NET_EXIT_FAILURE;
    }
    cli_probe_describe(&probe, &end, how, sizeof how);
    if (how[0] != '\0')
        fprintf(stderr, "tandem inspect: reading %s %s\n", path, how);
    return end.exit_status >= 0 ? end.exit_status : NET_EXIT_FAILURE;
}

int cli_inspect(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table table = cli_inspect_table(&options);
    const struct td_flags flags = {
        .program = "tandem inspect",
        .summary =
            "Shows what is in a model file or folder: architecture, tensors, tokenizer, chat "
            "template,\nthe memory it needs, and what this machine would use; or precisely why "
            "it is not served.",
        .usage = "MODEL [flags]",
        .purpose = "shows what is in a model file and what it needs",
        .statuses = "  0   the model is served\n"
                    "  1   it is not; the line NOT SERVED says why\n"
                    "  2   the command line or the environment is wrong; stderr names the flag\n",
        .see_also = "tandem(1), tandem-check(1), tandem-serve(1)",
        .examples = examples,
        .tables = &table,
        .table_count = 1,
    };
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0 && result.positionals.count != 1) {
        fprintf(stderr, "tandem inspect: one model is wanted: tandem inspect MODEL\n");
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0)
        exit_status = run(result.positionals.items[0], &options);
    td_arena_fini(&arena);
    return exit_status;
}
