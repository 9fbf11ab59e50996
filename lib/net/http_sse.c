/* http_sse.c: see http_sse.h. */
#include "lib/net/http_sse.h"

#include <string.h>

#define FIELD_BYTES 16 /* room for the name of a field beside the data */

static const char byte_order_mark[] = "\xef\xbb\xbf";

void http_sse_init(struct http_sse *sse, size_t event_bytes_max, http_sse_fn fn, void *ctx)
{
    *sse = (struct http_sse){.fn = fn, .ctx = ctx};
    td_buf_init(&sse->line, event_bytes_max + FIELD_BYTES);
    td_buf_init(&sse->data, event_bytes_max + 1); /* the last LF is taken off at the end */
}

void http_sse_fini(struct http_sse *sse)
{
    td_buf_fini(&sse->line);
    td_buf_fini(&sse->data);
}

static void end_event(struct http_sse *sse)
{
    if (!sse->has_data)
        return;
    sse->data.data[--sse->data.length] = '\0';
    sse->fn(sse->ctx, sse->data.data, sse->data.length);
    td_buf_clear(&sse->data);
    sse->has_data = false;
}

static void take_field(struct http_sse *sse, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    size_t name_length = colon != NULL ? (size_t)(colon - line) : length;
    size_t skip = colon != NULL ? name_length + 1 : length;

    if (name_length != 4 || memcmp(line, "data", 4) != 0)
        return;
    if (skip < length && line[skip] == ' ')
        skip++;
    td_buf_append(&sse->data, line + skip, length - skip);
    td_buf_append_char(&sse->data, '\n');
    sse->has_data = true;
}

static void end_line(struct http_sse *sse)
{
    const char *line = sse->line.data;
    size_t length = sse->line.length;

    if (!sse->past_start && length >= 3 && memcmp(line, byte_order_mark, 3) == 0) {
        line += 3;
        length -= 3;
    }
    sse->past_start = true;
    if (length == 0)
        end_event(sse);
    else
        take_field(sse, line, length);
    td_buf_clear(&sse->line);
}

static size_t line_length(const char *text, size_t length)
{
    size_t i = 0;

    while (i < length && text[i] != '\n' && text[i] != '\r')
        i++;
    return i;
}

td_status_t http_sse_feed(struct http_sse *sse, const void *bytes, size_t length)
{
    const char *text = bytes;

    while (length > 0) {
        size_t piece = line_length(text, length);
        bool is_second_half = piece == 0 && sse->saw_cr && text[0] == '\n'; /* of a CRLF */

        sse->saw_cr = false;
        td_buf_append(&sse->line, text, piece);
        if (sse->line.status != TD_OK)
            return sse->line.status;
        if (piece < length) {
            sse->saw_cr = text[piece] == '\r';
            if (!is_second_half)
                end_line(sse);
            if (sse->data.status != TD_OK)
                return sse->data.status;
            piece++;
        }
        text += piece;
        length -= piece;
    }
    return TD_OK;
}
