/*
 * stop.c: stop strings by the automaton of Knuth, Morris and Pratt, one per string, see stop.h.
 *
 * The text held back is always a prefix of one of the strings, so it need not be stored: the string
 * with the longest match has it.
 */
#include "lib/text/stop.h"

#include <string.h>

static void pattern_init(struct text_stop_pattern *pattern, struct td_span string)
{
    uint16_t border = 0;

    pattern->length = (uint16_t)string.length;
    pattern->matched = 0;
    memcpy(pattern->bytes, string.bytes, string.length);
    pattern->fallback[0] = 0;
    for (uint16_t i = 1; i < pattern->length; i++) {
        while (border > 0 && pattern->bytes[i] != pattern->bytes[border])
            border = pattern->fallback[border - 1];
        if (pattern->bytes[i] == pattern->bytes[border])
            border++;
        pattern->fallback[i] = border;
    }
}

td_status_t text_stop_init(struct text_stop *stop, const struct td_span *strings, uint32_t count,
                           struct td_error *error)
{
    if (count > TEXT_STOPS_MAX)
        return td_fail(error, TD_LIMIT, "stop: %u strings, at most %d", count, TEXT_STOPS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (strings[i].length == 0)
            return td_fail(error, TD_INVALID, "stop[%u]: the string is empty", i);
        if (strings[i].length > TEXT_STOP_BYTES_MAX)
            return td_fail(error, TD_LIMIT, "stop[%u]: %zu bytes, at most %d", i, strings[i].length,
                           TEXT_STOP_BYTES_MAX);
    }
    stop->count = count;
    stop->found = false;
    stop->found_index = 0;
    stop->given = 0;
    for (uint32_t i = 0; i < count; i++)
        pattern_init(&stop->patterns[i], strings[i]);
    return TD_OK;
}

/* Takes one byte; true if the pattern is complete with it. */
static bool pattern_step(struct text_stop_pattern *pattern, char byte)
{
    uint16_t matched = pattern->matched;

    while (matched > 0 && pattern->bytes[matched] != byte)
        matched = pattern->fallback[matched - 1];
    if (pattern->bytes[matched] == byte)
        matched++;
    pattern->matched = matched;
    return matched == pattern->length;
}

/* The pattern of which the most bytes are matched, or NULL if nothing is matched of any. */
static const struct text_stop_pattern *longest(const struct text_stop *stop)
{
    const struct text_stop_pattern *best = NULL;

    for (uint32_t i = 0; i < stop->count; i++)
        if (stop->patterns[i].matched > (best == NULL ? 0 : best->matched))
            best = &stop->patterns[i];
    return best;
}

/* Steps all patterns by one byte; notes the longest of those that are complete. */
static void step(struct text_stop *stop, char byte)
{
    uint16_t found_length = 0;

    for (uint32_t i = 0; i < stop->count; i++) {
        struct text_stop_pattern *pattern = &stop->patterns[i];

        if (pattern_step(pattern, byte) && pattern->length > found_length) {
            stop->found = true;
            stop->found_index = i;
            found_length = pattern->length;
        }
    }
}

bool text_stop_push(struct text_stop *stop, const char *bytes, size_t length, struct td_buf *out)
{
    const struct text_stop_pattern *before = longest(stop);
    size_t held_before = before == NULL ? 0 : before->matched;
    const struct text_stop_pattern *after;
    size_t held_after;
    size_t taken = 0;
    size_t give;

    if (stop->found)
        return true;
    while (taken < length && !stop->found)
        step(stop, bytes[taken++]);
    after = stop->found ? &stop->patterns[stop->found_index] : longest(stop);
    held_after = after == NULL ? 0 : after->matched;
    give = held_before + taken - held_after;
    if (held_before > 0)
        td_buf_append(out, before->bytes, give < held_before ? give : held_before);
    if (give > held_before)
        td_buf_append(out, bytes, give - held_before);
    stop->given += give;
    return stop->found;
}

void text_stop_finish(struct text_stop *stop, struct td_buf *out)
{
    const struct text_stop_pattern *held = stop->found ? NULL : longest(stop);

    if (held == NULL)
        return;
    td_buf_append(out, held->bytes, held->matched);
    stop->given += held->matched;
    for (uint32_t i = 0; i < stop->count; i++)
        stop->patterns[i].matched = 0;
}
