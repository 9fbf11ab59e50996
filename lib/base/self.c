/* self.c: see self.h. */
#include "lib/base/self.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

static double read_descriptors(void *context)
{
    DIR *folder = opendir("/proc/self/fd");
    double count = -1; /* opening the folder took one */

    (void)context;
    if (folder == NULL)
        return 0;
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        if (entry->d_name[0] != '.')
            count++;
    closedir(folder);
    return count;
}

static double read_resident(void *context)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;

    (void)context;
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
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
