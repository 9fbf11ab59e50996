/*
 * template_date.c: the function strftime_now. Names are English whatever the process's locale is, and the
 * directives are spelled out, since a format that comes from a file is nothing to give to the C library.
 */
#include <stdio.h>
#include <time.h>

#include "lib/text/template_builtins.h"
#include "lib/text/template_eval.h"

#define DATE_BYTES_MAX 256
#define PART_BYTES_MAX 24

static const char *const days[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                   "Thursday", "Friday", "Saturday"};
static const char *const months[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

/* Writes one directive; false: not known. */
static bool date_part(const struct tm *date, char directive, char out[static PART_BYTES_MAX])
{
    int year = date->tm_year + 1900;
    int hour12 = date->tm_hour % 12 == 0 ? 12 : date->tm_hour % 12;

    switch (directive) {
    case 'a': snprintf(out, PART_BYTES_MAX, "%.3s", days[date->tm_wday]); break;
    case 'A': snprintf(out, PART_BYTES_MAX, "%s", days[date->tm_wday]); break;
    case 'b': snprintf(out, PART_BYTES_MAX, "%.3s", months[date->tm_mon]); break;
    case 'B': snprintf(out, PART_BYTES_MAX, "%s", months[date->tm_mon]); break;
    case 'd': snprintf(out, PART_BYTES_MAX, "%02d", date->tm_mday); break;
    case 'H': snprintf(out, PART_BYTES_MAX, "%02d", date->tm_hour); break;
    case 'I': snprintf(out, PART_BYTES_MAX, "%02d", hour12); break;
    case 'j': snprintf(out, PART_BYTES_MAX, "%03d", date->tm_yday + 1); break;
    case 'm': snprintf(out, PART_BYTES_MAX, "%02d", date->tm_mon + 1); break;
    case 'M': snprintf(out, PART_BYTES_MAX, "%02d", date->tm_min); break;
    case 'p': snprintf(out, PART_BYTES_MAX, "%s", date->tm_hour < 12 ? "AM" : "PM"); break;
    case 'S': snprintf(out, PART_BYTES_MAX, "%02d", date->tm_sec); break;
    case 'y': snprintf(out, PART_BYTES_MAX, "%02d", year % 100); break;
    case 'Y': snprintf(out, PART_BYTES_MAX, "%d", year); break;
    case '%': snprintf(out, PART_BYTES_MAX, "%%"); break;
    default: return false;
    }
    return true;
}

/* The date by the format, into out; false (and failed) if it cannot be. */
static bool format_date(struct text_eval *eval, uint32_t line, const struct text_string *format,
                        struct td_buf *out)
{
    time_t seconds = (time_t)eval->input->unix_seconds;
    char part[PART_BYTES_MAX];
    struct tm date;

    if (gmtime_r(&seconds, &date) == NULL || date.tm_year < -1900 || date.tm_year > 8099) {
        text_eval_fail(eval, line, TD_INVALID, "the date is out of range");
        return false;
    }
    for (uint32_t i = 0; i < format->length; i++) {
        if (format->bytes[i] != '%') {
            td_buf_append_char(out, format->bytes[i]);
            continue;
        }
        i++;
        if (i == format->length || !date_part(&date, format->bytes[i], part)) {
            text_eval_fail(eval, line, TD_UNSUPPORTED, "the date format '%%%c' is not known",
                           i < format->length ? format->bytes[i] : ' ');
            return false;
        }
        td_buf_append_text(out, part);
    }
    if (out->status != TD_OK)
        text_eval_fail(eval, line, out->status, "the date is over %d bytes", DATE_BYTES_MAX);
    return out->status == TD_OK;
}

struct text_value text_function_strftime_now(struct text_eval *eval,
                                             const struct text_arguments *given)
{
    const struct text_string *format = text_eval_print(eval, given->line, given->values[0]);
    struct text_value result = text_value_undefined();
    struct td_buf out;

    td_buf_init(&out, DATE_BYTES_MAX);
    if (format_date(eval, given->line, format, &out))
        result = text_value_of(text_string_copy(&eval->builder, td_span_over(out.data, out.length),
                                                text_string_is_trusted(format)));
    td_buf_fini(&out);
    return result;
}
