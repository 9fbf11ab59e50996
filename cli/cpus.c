/* cpus.c: affinity and control groups, see cpus.h. */
#include "cli/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS_MAX 4096

/* A control group's folder below /sys/fs/cgroup, and how far up it may be followed. */
struct place {
    char path[PATH_MAX];
    size_t top; /* length of the part that belongs to the mount */
};

/* The first number of a file ("max" is none), and the second if there is one. False: no such file. */
static bool read_numbers(const char *path, long long *first_out, long long *second_out)
{
    FILE *file = fopen(path, "re");
    char text[64] = "";

    if (file == NULL)
        return false;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = '\0';
    fclose(file);
    return sscanf(text, "%lld %lld", first_out, second_out) >= 1;
}

static uint32_t whole_cpus(long long quota, long long period)
{
    long long cpus;

    if (quota <= 0 || period <= 0)
        return 0;
    cpus = quota / period + (quota % period != 0);
    return cpus > CPUS_MAX ? CPUS_MAX : (uint32_t)cpus;
}

/* The quota that this one group sets, in whole CPUs; 0: none. */
static uint32_t group_quota(const char *folder)
{
    char path[PATH_MAX + 32];
    long long quota = 0;
    long long period = 0;
    long long unused = 0;

    snprintf(path, sizeof path, "%s/cpu.max", folder); /* v2: both numbers in one file */
    if (read_numbers(path, &quota, &period))
        return whole_cpus(quota, period);
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_numbers(path, &quota, &unused))
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    return read_numbers(path, &period, &unused) ? whole_cpus(quota, period) : 0;
}

/* The smallest quota of a group and all groups above it; 0: none. */
static uint32_t least_quota(struct place *place)
{
    uint32_t least = 0;

    for (;;) {
        uint32_t quota = group_quota(place->path);
        char *slash = strrchr(place->path + place->top, '/');

        if (quota != 0 && (least == 0 || quota < least))
            least = quota;
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

/* Whether the comma-separated list has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);

    while (*list != '\0') {
        size_t item = strcspn(list, ",");

        if (item == length && memcmp(list, word, length) == 0)
            return true;
        list += item + (list[item] == ',');
    }
    return false;
}

/* A line "number:controllers:/path" as a place; false if it says nothing about CPUs. */
static bool find_place(const char *root, char *line, struct place *place_out)
{
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    bool is_v2;
    int top;

    if (path == NULL)
        return false;
    *path++ = '\0';
    controllers++;
    path[strcspn(path, "\n")] = '\0';
    is_v2 = controllers[0] == '\0';
    if (!is_v2 && !has_word(controllers, "cpu"))
        return false;
    if (strcmp(path, "/") == 0)
        path++; /* the mount itself */
    top = snprintf(place_out->path, sizeof place_out->path, "%s/sys/fs/cgroup%s", root,
                   is_v2 ? "" : "/cpu");
    place_out->top = (size_t)top;
    if ((size_t)top + strlen(path) >= sizeof place_out->path)
        return false;
    strcpy(place_out->path + top, path);
    return true;
}

uint32_t cli_cpus_quota(const char *root)
{
    char line[PATH_MAX + 64];
    struct place place;
    uint32_t least = 0;
    FILE *file;

    snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    file = fopen(line, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (find_place(root, line, &place)) {
            uint32_t quota = least_quota(&place);

            if (quota != 0 && (least == 0 || quota < least))
                least = quota;
        }
    fclose(file);
    return least;
}

uint32_t cli_cpus_usable(void)
{
    uint32_t quota = cli_cpus_quota("");
    uint32_t count = 1;
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);

    if (set != NULL) {
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(CPUS_MAX), set) == 0)
            count = (uint32_t)CPU_COUNT_S(CPU_ALLOC_SIZE(CPUS_MAX), set);
        CPU_FREE(set);
    }
    if (quota != 0 && quota < count)
        count = quota;
    return count > 0 ? count : 1;
}

uint32_t cli_cpus_share(uint32_t cpus, uint32_t count, uint32_t i)
{
    uint32_t share = cpus / count + (i < cpus % count);

    return share > 0 ? share : 1;
}
