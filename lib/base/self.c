/* self.c: see self.h. */
#include "lib/base/self.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

uint64_t td_self_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (folder == NULL)
        return 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (entry->d_name[0] != '.')
            count++;
    closedir(folder);
    return count - 1;
}

uint64_t td_self_resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double read_descriptors(void *context)
{
    (void)context;
    return (double)td_self_descriptors();
}

static double read_resident(void *context)
{
    (void)context;
    return (double)td_self_resident_bytes();
}

void td_self_register(struct td_metrics *metrics)
{
    static const struct td_metric descriptors = {
        .name = "process_open_fds", .kind = TD_METRIC_GAUGE, .help = "Open descriptors."};
    static const struct td_metric resident = {.name = "process_resident_memory_bytes",
                                              .kind = TD_METRIC_GAUGE,
                                              .help = "Resident memory in bytes."};

    td_metrics_callback(metrics, &descriptors, NULL, read_descriptors, NULL);
    td_metrics_callback(metrics, &resident, NULL, read_resident, NULL);
}
