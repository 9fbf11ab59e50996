/*
 * http_sse.h: reads a stream of server-sent events as a client gets it. Pure: bytes in, events out.
 *
 * Any split of the same bytes gives the same events. Line ends are LF, CR or CRLF; several data
 * lines of an event are joined by LF; comments and the other fields (event, id, retry) are passed
 * over, because the streams we read do not use them. An event that the end of the stream cuts off does not
 * count. (HTML Living Standard, 9.2.6.)
 */
#ifndef TANDEM_LIB_NET_HTTP_SSE_H
#define TANDEM_LIB_NET_HTTP_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/status.h"

/* One event's data, NUL-terminated; valid during the call, which must not fini the reader. */
typedef void (*http_sse_fn)(void *ctx, const char *data, size_t length);

struct http_sse {
    struct td_buf line;
    struct td_buf data;
    bool has_data;
    bool saw_cr;
    bool past_start; /* the first line, which may begin with a byte order mark, is over */
    http_sse_fn fn;
    void *ctx;
};

/* An empty reader; lines and events of more than event_bytes_max are TD_LIMIT. */
void http_sse_init(struct http_sse *sse, size_t event_bytes_max, http_sse_fn fn, void *ctx);
void http_sse_fini(struct http_sse *sse);

/* Reads on. After TD_LIMIT or TD_NO_MEMORY the stream cannot be read any more. */
td_status_t http_sse_feed(struct http_sse *sse, const void *bytes, size_t length) TD_MUST_USE;

#endif
