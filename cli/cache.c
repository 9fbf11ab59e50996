/* cache.c: `tandem cache`: the packed weights that workers keep (engine/cpu/cache.h), shown and removed. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/printable.h"
#include "cli/sheet.h"
#include "cli/tables.h"
#include "engine/cpu/cache.h"
#include "engine/cpu/pack.h"
#include "lib/net/program.h"

#define OPTIONS struct cli_cache_options

/* Fewer digits of a digest could be anything. */
#define DIGITS_MIN 4

static const struct td_flag cache_flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, folder), .name = "weights-cache", .value = "DIR",
     .help = "The folder. Default: tandem/weights in XDG_CACHE_HOME or ~/.cache."},
};

struct td_flag_table cli_cache_table(struct cli_cache_options *options)
{
    return (struct td_flag_table){.group = "Cache",
                                  .flags = cache_flags,
                                  .count = sizeof cache_flags / sizeof cache_flags[0],
                                  .options = options};
}

/* What a command works on. */
struct cache {
    char folder[PATH_MAX];
    struct cpu_cache_info *list;
    size_t count;
};

/* ------------------------------------------------------------------ list */

static const char *state_of(const struct cpu_cache_info *info)
{
    if (info->is_leftover)
        return "half made; goes with the next one made";
    if (!info->is_readable)
        return "damaged; made again when it is wanted";
    return info->layout == CPU_PACK_VERSION ? "" : "of another version of Tandem";
}

static void print_entry(const struct cpu_cache_info *info)
{
    char model[CPU_CACHE_NAME_BYTES];
    char size[CLI_AMOUNT_BYTES];
    char when[32] = "?";
    time_t last_use = (time_t)info->last_use_s;
    struct tm local;

    if (localtime_r(&last_use, &local) != NULL)
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
    cli_printable_line(info->is_readable ? info->model : "?", model, sizeof model);
    printf("%-12.12s  %10s  %-16s  %s", info->file, cli_show_bytes(info->bytes, size), when, model);
    if (state_of(info)[0] != '\0')
        printf(" (%s)", state_of(info));
    putchar('\n');
}

static td_status_t show(const struct cache *cache, struct td_error *error)
{
    char size[CLI_AMOUNT_BYTES];
    uint64_t bytes = 0;

    (void)error;
    if (cache->count == 0) {
        printf("nothing in %s\n", cache->folder);
        return TD_OK;
    }
    printf("%-12s  %10s  %-16s  %s\n", "DIGEST", "SIZE", "LAST USE", "MODEL");
    for (size_t i = 0; i < cache->count; i++) {
        print_entry(&cache->list[i]);
        bytes += cache->list[i].bytes;
    }
    printf("%s in %s\n", cli_show_bytes(bytes, size), cache->folder);
    return TD_OK;
}

/* ------------------------------------------------------------------ remove and clear */

static td_status_t remove_entry(const struct cache *cache, const struct cpu_cache_info *info,
                                struct td_error *error)
{
    td_status_t status = cpu_cache_remove(cache->folder, info, error);

    if (status == TD_OK)
        printf("removed %s\n", info->file);
    return status;
}

/* All files that begin so. One that cannot go, because a worker is making it, does not keep the others. */
static td_status_t remove_all(const struct cache *cache, const char *prefix, struct td_error *error)
{
    td_status_t status = TD_OK;

    for (size_t i = 0; i < cache->count; i++) {
        struct td_error why = {0};

        if (strncmp(cache->list[i].file, prefix, strlen(prefix)) == 0 &&
            remove_entry(cache, &cache->list[i], &why) != TD_OK && status == TD_OK) {
            status = why.status;
            *error = why;
        }
    }
    return status;
}

/* Every file of the one digest that begins so: of all layouts, and half-made ones. */
static td_status_t remove_digest(const struct cache *cache, const char *digits,
                                 struct td_error *error)
{
    const size_t whole = TD_U128_HEX_BYTES - 1;
    size_t length = strlen(digits);
    const char *found = NULL;

    if (length < DIGITS_MIN || length > whole)
        return td_fail(error, TD_INVALID, "'%.40s': give %d to %zu digits of a digest", digits,
                       DIGITS_MIN, whole);
    for (size_t i = 0; i < cache->count; i++) {
        if (strncmp(cache->list[i].file, digits, length) != 0)
            continue;
        if (found != NULL && strncmp(cache->list[i].file, found, whole) != 0)
            return td_fail(error, TD_INVALID, "'%s' begins several digests: give more of it",
                           digits);
        found = cache->list[i].file;
    }
    if (found == NULL)
        return td_fail(error, TD_NOT_FOUND, "nothing of '%s' in %.180s; see 'tandem cache list'",
                       digits, cache->folder);
    return remove_all(cache, digits, error);
}

/* ------------------------------------------------------------------ the command */

static td_status_t carry_out(const struct cache *cache, const struct td_flag_list *words,
                             struct td_error *error)
{
    const char *verb = words->count > 0 ? words->items[0] : "list";

    if (strcmp(verb, "list") == 0 && words->count <= 1)
        return show(cache, error);
    if (strcmp(verb, "clear") == 0 && words->count == 1)
        return remove_all(cache, "", error);
    if (strcmp(verb, "remove") == 0 && words->count == 2)
        return remove_digest(cache, words->items[1], error);
    return td_fail(error, TD_INVALID, "say list, remove DIGEST or clear");
}

static td_status_t open_cache(const OPTIONS *options, struct cache *cache, struct td_error *error)
{
    td_status_t status = TD_OK;

    if (options->folder != NULL && strcmp(options->folder, "none") == 0)
        return td_fail(
            error, TD_INVALID,
            "--weights-cache: none means that workers keep nothing; name a folder to look into");
    if (options->folder == NULL)
        status = cpu_cache_folder(cache->folder, error);
    else if (strlen(options->folder) >= sizeof cache->folder)
        status = td_fail(error, TD_INVALID, "--weights-cache: the path is too long");
    else
        snprintf(cache->folder, sizeof cache->folder, "%s", options->folder);
    if (status == TD_OK)
        status = cpu_cache_list(cache->folder, &cache->list, &cache->count, error);
    return status;
}

static const char examples[] =
    "  tandem cache                     what there is, how large, and when it was used last\n"
    "  tandem cache remove 1dff70ef     one model's\n"
    "  tandem cache clear               all of it\n";

int cli_cache(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table table = cli_cache_table(&options);
    const struct td_flags flags = {
        .program = "tandem cache",
        .summary = "Shows and removes the packed weights that workers keep for each model.",
        .usage = "[list | remove DIGEST | clear] [flags]",
        .purpose = "shows and removes packed weights",
        .about =
            "A worker packs the weights of a model once, in the form that its kernels read, and "
            "keeps them in a file that all workers of the user on this host map. Removing one "
            "costs the next worker a second or so; workers that run keep what they have "
            "mapped. Files that are damaged, or of another version, are never used.",
        .see_also = "tandem(1), tandem-serve(1), tandem-decode(1)",
        .examples = examples,
        .tables = &table,
        .table_count = 1};
    struct td_flags_result result = {0};
    struct td_error error = {0};
    struct cache cache = {.list = NULL};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0) {
        td_status_t status = open_cache(&options, &cache, &error);

        if (status == TD_OK)
            status = carry_out(&cache, &result.positionals, &error);
        if (status != TD_OK)
            fprintf(stderr, "tandem cache: %s\n", error.text);
        exit_status = status == TD_OK        ? NET_EXIT_OK
                      : status == TD_INVALID ? NET_EXIT_USAGE
                                             : NET_EXIT_FAILURE;
    }
    free(cache.list);
    td_arena_fini(&arena);
    return exit_status;
}
