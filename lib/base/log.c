/* log.c: formats and writes log lines, see log.h. */
#include "lib/base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/time.h"

#define LOG_LINE_BYTES       1024
#define LOG_LINES_PER_SECOND 20

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static _Atomic(const char *) process_name = "tandem";
static _Atomic int level_max = TD_LOG_INFO;

void td_log_set_name(const char *name)
{
    atomic_store(&process_name, name);
}

void td_log_set_level(enum td_log_level level)
{
    atomic_store(&level_max, (int)level);
}

int td_log_enabled(enum td_log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

/* False if this line must be dropped; *suppressed_out is what to report before this line. */
static int site_admits(struct td_log_site *site, uint32_t *suppressed_out)
{
    uint64_t now = td_now_ns();
    uint64_t window = atomic_load(&site->window_ns);

    *suppressed_out = 0;
    if (now - window >= TD_NS_PER_SEC &&
        atomic_compare_exchange_strong(&site->window_ns, &window, now)) {
        atomic_store(&site->lines, 0);
        *suppressed_out = atomic_exchange(&site->suppressed, 0);
    }
    if (atomic_fetch_add(&site->lines, 1) < LOG_LINES_PER_SECOND)
        return 1;
    atomic_fetch_add(&site->suppressed, 1);
    return 0;
}

static size_t write_prefix(char *line, size_t size, enum td_log_level level, const char *room)
{
    struct timespec now;
    struct tm parts;
    size_t used;
    int more;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    used = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &parts);
    more = snprintf(line + used, size - used, ".%03dZ %s %s/%s: ", (int)(now.tv_nsec / 1000000),
                    level_names[level], atomic_load(&process_name), room);
    used += more > 0 ? (size_t)more : 0;
    return used < size ? used : size - 1; /* snprintf says what it would have written */
}

void td_log_write(struct td_log_site *site, enum td_log_level level, const char *room,
                  const char *format, ...)
{
    char line[LOG_LINE_BYTES];
    va_list arguments;
    uint32_t suppressed;
    size_t used;
    int more;

    if (!site_admits(site, &suppressed))
        return;
    used = write_prefix(line, sizeof line, level, room);
    va_start(arguments, format);
    more = vsnprintf(line + used, sizeof line - used, format, arguments);
    va_end(arguments);
    if (more > 0)
        used += (size_t)more;
    if (suppressed > 0 && used < sizeof line) {
        more = snprintf(line + used, sizeof line - used, " (suppressed %u)", suppressed);
        used += more > 0 ? (size_t)more : 0;
    }
    if (used > sizeof line - 1)
        used = sizeof line - 1;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' '; /* one event, one line, whatever a peer put into a name */
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0)
        return; /* nobody left to tell */
}
