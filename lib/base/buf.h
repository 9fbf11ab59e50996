/*
 * buf.h: a growable byte buffer with a maximum, for text and messages being built.
 *
 * Appending can fail (over the maximum, or no memory); the failure sticks, so that a builder may
 * append many pieces and look at td_buf_status once at the end. The content is always followed by
 * a NUL that is not counted, so a buffer of text can be printed.
 */
#ifndef TANDEM_LIB_BASE_BUF_H
#define TANDEM_LIB_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/status.h"

struct td_buf {
    char *data; /* never NULL after the first append */
    size_t length;
    size_t capacity;
    size_t length_max;
    td_status_t status; /* sticky: TD_OK, TD_LIMIT or TD_NO_MEMORY */
};

/* An empty buffer that will grow to at most length_max bytes. Allocates nothing yet. */
void td_buf_init(struct td_buf *buf, size_t length_max);

/* Frees the content; the buffer may be used again. */
void td_buf_fini(struct td_buf *buf);

/* Empties the buffer and forgets a failure; keeps the memory. */
void td_buf_clear(struct td_buf *buf);

void td_buf_append(struct td_buf *buf, const void *bytes, size_t length);
void td_buf_append_char(struct td_buf *buf, char c);
void td_buf_printf(struct td_buf *buf, const char *format, ...) TD_PRINTF(2, 3);

static inline void td_buf_append_text(struct td_buf *buf, const char *text)
{
    td_buf_append(buf, text, strlen(text));
}

/* Drops the first count bytes (all of them if count is larger). */
void td_buf_consume(struct td_buf *buf, size_t count);

/* Makes room for length more bytes and returns where they go, or NULL; then td_buf_commit. */
char *td_buf_reserve(struct td_buf *buf, size_t length);
void td_buf_commit(struct td_buf *buf, size_t length);

/*
 * Moves the content out (malloc memory, NUL-terminated, caller frees) and empties the buffer.
 * NULL if the buffer has failed or the empty text cannot be allocated; the buffer stays as it is.
 */
char *td_buf_take(struct td_buf *buf, size_t *length_out);

#endif
