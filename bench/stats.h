/*
 * stats.h: a handful of measurements of one quantity, reported as min, median and max.
 */
#ifndef TANDEM_BENCH_STATS_H
#define TANDEM_BENCH_STATS_H

#include <stdint.h>

#include "lib/base/json_write.h"

#define BENCH_SAMPLES_MAX 64

struct bench_stats {
    double samples[BENCH_SAMPLES_MAX]; /* in no order */
    uint32_t count;
};

/* At most BENCH_SAMPLES_MAX are kept. */
void bench_stats_add(struct bench_stats *stats, double value);

/* The value below which the given share (0 to 1) of the samples lies; 0 without samples. */
double bench_stats_at(const struct bench_stats *stats, double share);

double bench_stats_median(const struct bench_stats *stats);

/* {"min": .., "median": .., "max": ..} under key. */
void bench_stats_put(struct td_json_writer *writer, const char *key,
                     const struct bench_stats *stats);

#endif
