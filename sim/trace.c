/* trace.c: what happened, as a running hash, as the last lines, and as a file if one is wanted. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "sim/world.h"

static const char *name_of(const struct sim_event *event)
{
    return event->node != NULL ? event->node->name : "-";
}

static void line_out(struct sim *sim, const char *line)
{
    struct sim_report *report = sim->report;

    report->trace_hash = td_hash128_chain(report->trace_hash, line, strlen(line));
    if (sim->options.trace != NULL)
        fprintf(sim->options.trace, "%s\n", line);
    if (sim->options.verbose)
        fprintf(stderr, "%s\n", line);
}

static char *line_next(struct sim *sim)
{
    return sim->lines[sim->line_count++ % SIM_TAIL_LINES];
}

void sim_trace(struct sim *sim, const struct sim_event *event)
{
    char *line = line_next(sim);
    uint64_t us = sim->now_ns / TD_NS_PER_US;
    unsigned digest =
        event->length > 0 ? (unsigned)(td_hash128(event->bytes, event->length).lo & 0xffffff) : 0;

    snprintf(line, SIM_LINE_BYTES, "%llu %llu.%06llu %s %s %llu %zu %06x",
             (unsigned long long)sim->report->figures.events, (unsigned long long)(us / 1000000),
             (unsigned long long)(us % 1000000), name_of(event), event->what,
             (unsigned long long)event->number, event->length, digest);
    line_out(sim, line);
}

void sim_note(struct sim *sim, const char *format, ...)
{
    char *line = line_next(sim);
    va_list arguments;

    memcpy(line, "    ", 4);
    va_start(arguments, format);
    vsnprintf(line + 4, SIM_LINE_BYTES - 4, format, arguments);
    va_end(arguments);
    line_out(sim, line);
}

void sim_fail(struct sim *sim, const char *oracle, const char *format, ...)
{
    struct sim_report *report = sim->report;
    va_list arguments;

    if (sim->failed)
        return;
    sim->failed = true;
    report->oracle = oracle;
    report->step = report->figures.events;
    va_start(arguments, format);
    vsnprintf(report->reason, sizeof report->reason, format, arguments);
    va_end(arguments);
}

void sim_trace_tail(struct sim *sim)
{
    struct sim_report *report = sim->report;
    uint64_t first = sim->line_count > SIM_TAIL_LINES ? sim->line_count - SIM_TAIL_LINES : 0;

    report->tail_count = (uint32_t)(sim->line_count - first);
    for (uint32_t i = 0; i < report->tail_count; i++)
        memcpy(report->tail[i], sim->lines[(first + i) % SIM_TAIL_LINES], SIM_LINE_BYTES);
}
