/*
 * time.h: the monotonic clock, and units.
 *
 * All deadlines in a process are nanoseconds of this clock. Between processes only durations
 * travel, never clock values. Pure cores do not call td_now_ns: time is handed to them.
 */
#ifndef TANDEM_LIB_BASE_TIME_H
#define TANDEM_LIB_BASE_TIME_H

#include <stdint.h>

#define TD_NS_PER_US  UINT64_C(1000)
#define TD_NS_PER_MS  UINT64_C(1000000)
#define TD_NS_PER_SEC UINT64_C(1000000000)

#define TD_TIME_NEVER UINT64_MAX

/* CLOCK_MONOTONIC in nanoseconds; never 0. */
uint64_t td_now_ns(void);

/* Seconds since the Unix epoch, for "created" fields and log lines only. */
int64_t td_unix_seconds(void);

/* Nanoseconds as milliseconds with a fraction, for reports. */
static inline double td_ns_to_ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

#endif
