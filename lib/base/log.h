/*
 * log.h: one line per event on stderr, cheap to leave on and unable to flood a disk.
 *
 *     td_log(TD_LOG_WARN, "import", "prefill lost; prefilling here request %s peer %s", ...);
 *     2026-11-21T12:00:00.123Z warn decode/import: prefill lost; prefilling here request ... peer ...
 *
 * Lower case, "key value" pairs without '='. Log once, where the cause is known. Prompt text, keys
 * and addresses of memory are never logged. Each call site may write 20 lines per second; the next
 * line after a silence says how many were suppressed. Any thread may call it: a line is one write.
 */
#ifndef TANDEM_LIB_BASE_LOG_H
#define TANDEM_LIB_BASE_LOG_H

#include <stdatomic.h>
#include <stdint.h>

#include "lib/base/status.h"

enum td_log_level {
    TD_LOG_ERROR = 0,
    TD_LOG_WARN = 1,
    TD_LOG_INFO = 2,
    TD_LOG_DEBUG = 3,
};

/* Per call site, static: a token bucket shared by all threads. */
struct td_log_site {
    _Atomic uint64_t window_ns;
    _Atomic uint32_t lines;
    _Atomic uint32_t suppressed;
};

/* The process's name in every line ("decode", "router"); the string must live for ever. */
void td_log_set_name(const char *name);

/* Lines above this level are dropped. Default TD_LOG_INFO. */
void td_log_set_level(enum td_log_level level);

int td_log_enabled(enum td_log_level level);

void td_log_write(struct td_log_site *site, enum td_log_level level, const char *room,
                  const char *format, ...) TD_PRINTF(4, 5);

#define td_log(level, room, ...)                                       \
    do {                                                               \
        static struct td_log_site td_log_site_here;                    \
        if (td_log_enabled(level))                                     \
            td_log_write(&td_log_site_here, level, room, __VA_ARGS__); \
    } while (0)

#endif
