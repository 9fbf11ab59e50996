/*
 * http1_oracle.h: http-parser (Debian's libhttp-parser-dev) as a second opinion, for tests only.
 *
 * In a file of its own, because its header and ours both have an enum http_method.
 */
#ifndef TANDEM_TESTS_FUZZ_HTTP1_ORACLE_H
#define TANDEM_TESTS_FUZZ_HTTP1_ORACLE_H

#include <stdbool.h>
#include <string.h>

#include "lib/base/buf.h"

#define HTTP1_TEXTS_BYTES_MAX ((size_t)1 << 22)
#define HTTP1_END_MARK        "\n--end--\n"

/* Requests as text: heads as "METHOD target\nname: value\n...\n", bodies with a mark after each. */
struct http1_texts {
    struct td_buf heads;
    struct td_buf bodies;
    int requests; /* complete ones */
};

static inline void http1_texts_init(struct http1_texts *texts)
{
    texts->requests = 0;
    td_buf_init(&texts->heads, HTTP1_TEXTS_BYTES_MAX);
    td_buf_init(&texts->bodies, HTTP1_TEXTS_BYTES_MAX);
}

static inline void http1_texts_fini(struct http1_texts *texts)
{
    td_buf_fini(&texts->heads);
    td_buf_fini(&texts->bodies);
}

static inline bool http1_text_equal(const struct td_buf *a, const struct td_buf *b)
{
    return a->length == b->length && (a->length == 0 || memcmp(a->data, b->data, a->length) == 0);
}

/*
 * Parses whole requests. False: it has no opinion (no http-parser in this build, or a mistake of its
 * own). Aborts if it finds them malformed.
 */
bool http1_oracle_parse(const uint8_t *data, size_t size, struct http1_texts *texts);

#endif
