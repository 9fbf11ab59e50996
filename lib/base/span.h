/*
 * span.h: bytes that belong to somebody else, with their length. May contain NUL; may be empty.
 */
#ifndef TANDEM_LIB_BASE_SPAN_H
#define TANDEM_LIB_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct td_span {
    const char *bytes; /* may be NULL if length is 0 */
    size_t length;
};

static inline struct td_span td_span_over(const char *bytes, size_t length)
{
    return (struct td_span){.bytes = bytes, .length = length};
}

/* The span of a NUL-terminated text, without the NUL. */
static inline struct td_span td_span_of(const char *text)
{
    return td_span_over(text, strlen(text));
}

static inline bool td_span_equal(struct td_span a, struct td_span b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

static inline bool td_span_is(struct td_span span, const char *text)
{
    return td_span_equal(span, td_span_of(text));
}

#endif
