/* memory.c: see memory.h. */
#include "cli/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cgroup.h"

#define UNLIMITED ((uint64_t)1 << 60) /* v1 writes a number of about 2^63 where there is no limit */

/* The number behind a word at the beginning of a line; false: there is no such line. */
static bool read_field(const char *path, const char *word, uint64_t *value_out)
{
    FILE *file = fopen(path, "re");
    size_t length = strlen(word);
    char line[256];
    bool found = false;

    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, word, length) == 0)
            found = sscanf(line + length, " %" SCNu64, value_out) == 1;
    fclose(file);
    return found;
}

/* A file of a group with one number; false: it is not there, or says "max". */
static bool read_number(const char *folder, const char *name, uint64_t *value_out)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_field(path, "", value_out);
}

/* Page cache that nobody maps at present, which the kernel gives up first. */
static uint64_t reclaimable(const char *folder)
{
    char path[PATH_MAX + 64];
    uint64_t bytes = 0;

    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (!read_field(path, "total_inactive_file ", &bytes) &&
        !read_field(path, "inactive_file ", &bytes))
        bytes = 0;
    return bytes;
}

static void take_group(void *ctx, const char *folder)
{
    struct cli_memory *memory = ctx;
    uint64_t limit;
    uint64_t used = 0;
    uint64_t cache = reclaimable(folder);
    bool is_v2 = read_number(folder, "memory.max", &limit);

    if (!is_v2 && !read_number(folder, "memory.limit_in_bytes", &limit))
        return;
    if (limit >= UNLIMITED)
        return;
    if (!read_number(folder, is_v2 ? "memory.current" : "memory.usage_in_bytes", &used))
        used = 0;
    used -= cache < used ? cache : used;
    if (limit < memory->limit)
        memory->limit = limit;
    if (limit - (used < limit ? used : limit) < memory->below)
        memory->below = limit - (used < limit ? used : limit);
}

struct cli_memory cli_memory_look(const char *root)
{
    struct cli_memory memory = {.limit = UINT64_MAX, .below = UINT64_MAX};
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (read_field(path, "MemTotal:", &memory.total))
        memory.total *= 1024;
    if (read_field(path, "MemAvailable:", &memory.available))
        memory.available *= 1024;
    td_cgroup_walk(root, "memory", take_group, &memory);
    return memory;
}

uint64_t cli_memory_free(const struct cli_memory *memory)
{
    return memory->below < memory->available ? memory->below : memory->available;
}
