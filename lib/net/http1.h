/*
 * http1.h: a strict, bounded parser of HTTP/1.0 and 1.1 requests. Pure: bytes in, events out.
 *
 * Any split of the same bytes gives the same events. The head is kept (at most head_bytes_max);
 * the body is handed on in place and never stored. What two parsers could read differently is
 * refused, because that is how requests are smuggled: several or no Host, both Content-Length and
 * Transfer-Encoding, repeated lengths, folded lines, bare CR or LF, space before a colon, chunk
 * sizes that are not plain hexadecimal, transfer codings other than "chunked" (RFC 9112).
 */
#ifndef TANDEM_LIB_NET_HTTP1_H
#define TANDEM_LIB_NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"

#define HTTP_METHOD_MAP(X) \
    X(GET)                 \
    X(HEAD)                \
    X(POST)                \
    X(PUT)                 \
    X(DELETE)              \
    X(OPTIONS)             \
    X(PATCH)

enum http_method {
#define X(name) HTTP_##name,
    HTTP_METHOD_MAP(X)
#undef X
        HTTP_METHOD_COUNT
};

/* "GET" and so on. */
const char *http_method_name(enum http_method method);

/* A field to be sent, in a request or an answer. */
struct http_header {
    const char *name;
    const char *value;
};

#define HTTP1_HEAD_BYTES_MAX      16384 /* request line and fields with their line ends */
#define HTTP1_FIELDS_MAX          64
#define HTTP1_EXTENSION_BYTES_MAX 16384 /* chunk extensions of one message, ignored */
#define HTTP1_TRAILER_BYTES_MAX   8192  /* checked for form and skipped */

/* Offsets into the head; both texts end with a NUL there. The name is in lower case. */
struct http1_field {
    uint16_t name;
    uint16_t value;
};

struct http1_parser {
    struct td_buf head;

    /* valid from HTTP1_HEAD until http1_reset */
    enum http_method method;
    uint8_t minor_version; /* HTTP/1.x */
    uint16_t path;         /* offset of the path: starts with '/', not decoded, NUL-terminated */
    uint16_t query;        /* offset of what follows '?'; an empty text if there is none */
    uint16_t field_count;
    struct http1_field fields[HTTP1_FIELDS_MAX];
    bool chunked;
    bool has_length;
    uint64_t content_length;
    bool keep_alive;       /* the client allows another request on this connection */
    bool expects_continue; /* it waits for 100 Continue before it sends the body */

    /* valid after HTTP1_BAD */
    int error_status;       /* the HTTP status to answer with */
    const char *error_text; /* one static phrase */

    /* private */
    uint8_t state;
    bool skipped_blank;
    bool has_host;
    bool has_coding;
    bool saw_close;
    bool saw_keep_alive;
    uint8_t size_digits;
    size_t line_start;
    uint64_t left; /* bytes of the body or of the chunk */
    size_t extension_bytes;
    size_t trailer_bytes;
};

enum http1_event {
    HTTP1_MORE, /* all bytes are used; more are needed */
    HTTP1_HEAD, /* the head is complete */
    HTTP1_BODY, /* a piece of the body */
    HTTP1_END,  /* the request is complete; what follows belongs to the next */
    HTTP1_BAD,  /* malformed; the connection cannot be used any more */
};

struct http1_step {
    enum http1_event event;
    size_t used; /* bytes consumed from the front of the input */
    const uint8_t *body;
    size_t body_length;
};

/* An empty parser. Allocates when the first byte comes. */
void http1_init(struct http1_parser *parser);
void http1_fini(struct http1_parser *parser);

/* Gets ready for the next request on the connection. */
void http1_reset(struct http1_parser *parser);

/*
 * Goes on to the next event. Call again with the rest of the input until the answer is HTTP1_MORE,
 * HTTP1_END or HTTP1_BAD (also with no input left: the end of a request without a body is an
 * event of its own). Bodies of any length pass; it is the caller who limits them.
 */
struct http1_step http1_feed(struct http1_parser *parser, const void *bytes, size_t length);

/* Whether any byte of a request has come since the last reset. */
bool http1_started(const struct http1_parser *parser);

static inline const char *http1_text(const struct http1_parser *parser, uint16_t offset)
{
    return parser->head.data + offset;
}

/* The value of the first field of this name (in lower case), or NULL. */
const char *http1_find(const struct http1_parser *parser, const char *name);

/* Whether the text is a token of RFC 9110: what a field's name may be. */
bool http1_is_token(const char *text, size_t length);

/* Whether the text may stand as a field's value: no control characters but tab. */
bool http1_is_value(const char *text, size_t length);

#endif
