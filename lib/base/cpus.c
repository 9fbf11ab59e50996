/* cpus.c: affinity and control groups, see cpus.h. */
#include "lib/base/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

#include "lib/base/cgroup.h"

#define CPUS_MAX 4096

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

/* Keeps the smallest quota that is set. */
static void take_quota(void *ctx, const char *folder)
{
    uint32_t *least = ctx;
    uint32_t quota = group_quota(folder);

    if (quota != 0 && (*least == 0 || quota < *least))
        *least = quota;
}

uint32_t td_cpus_quota(const char *root)
{
    uint32_t least = 0;

    td_cgroup_walk(root, "cpu", take_quota, &least);
    return least;
}

uint32_t td_cpus_allowed(void)
{
    uint32_t count = 1;
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);

    if (set != NULL) {
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(CPUS_MAX), set) == 0)
            count = (uint32_t)CPU_COUNT_S(CPU_ALLOC_SIZE(CPUS_MAX), set);
        CPU_FREE(set);
    }
    return count > 0 ? count : 1;
}

uint32_t td_cpus_usable(void)
{
    uint32_t quota = td_cpus_quota("");
    uint32_t count = td_cpus_allowed();

    return quota != 0 && quota < count ? quota : count;
}

uint32_t td_cpus_share(uint32_t cpus, uint32_t count, uint32_t i)
{
    uint32_t share = cpus / count + (i < cpus % count);

    return share > 0 ? share : 1;
}
