/* stats.c: see stats.h. */
#include "bench/stats.h"

#include <stdlib.h>
#include <string.h>

void bench_stats_add(struct bench_stats *stats, double value)
{
    if (stats->count < BENCH_SAMPLES_MAX)
        stats->samples[stats->count++] = value;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

double bench_stats_at(const struct bench_stats *stats, double share)
{
    double sorted[BENCH_SAMPLES_MAX];
    double place;
    uint32_t below;

    if (stats->count == 0)
        return 0.0;
    memcpy(sorted, stats->samples, stats->count * sizeof *sorted);
    qsort(sorted, stats->count, sizeof *sorted, compare);
    place = share * (stats->count - 1);
    below = (uint32_t)place;
    if (below + 1 >= stats->count)
        return sorted[stats->count - 1];
    return sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]);
}

double bench_stats_median(const struct bench_stats *stats)
{
    return bench_stats_at(stats, 0.5);
}

void bench_stats_put(struct td_json_writer *writer, const char *key,
                     const struct bench_stats *stats)
{
    td_json_begin_object(writer, key);
    td_json_put_double(writer, "min", bench_stats_at(stats, 0.0));
    td_json_put_double(writer, "median", bench_stats_median(stats));
    td_json_put_double(writer, "max", bench_stats_at(stats, 1.0));
    td_json_end(writer);
}
