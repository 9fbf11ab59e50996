/* buf.c: bounded growable buffer, see buf.h. */
#include "lib/base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_CAPACITY_MIN 64
#define BUF_LENGTH_MAX   (SIZE_MAX / 4) /* keeps the arithmetic of growing from wrapping */

void td_buf_init(struct td_buf *buf, size_t length_max)
{
    *buf = (struct td_buf){.length_max = length_max < BUF_LENGTH_MAX ? length_max : BUF_LENGTH_MAX};
}

void td_buf_fini(struct td_buf *buf)
{
    free(buf->data);
    td_buf_init(buf, buf->length_max);
}

void td_buf_clear(struct td_buf *buf)
{
    buf->length = 0;
    buf->status = TD_OK;
    if (buf->data != NULL)
        buf->data[0] = '\0';
}

char *td_buf_reserve(struct td_buf *buf, size_t length)
{
    size_t capacity = buf->capacity < BUF_CAPACITY_MIN ? BUF_CAPACITY_MIN : buf->capacity;
    size_t needed;
    char *data;

    if (buf->status != TD_OK)
        return NULL;
    if (length > buf->length_max - buf->length) {
        buf->status = TD_LIMIT;
        return NULL;
    }
    needed = buf->length + length + 1; /* and the NUL */
    if (needed <= buf->capacity)
        return buf->data + buf->length;
    while (capacity < needed)
        capacity *= 2;
    data = realloc(buf->data, capacity);
    if (data == NULL) {
        buf->status = TD_NO_MEMORY;
        return NULL;
    }
    buf->data = data;
    buf->capacity = capacity;
    return buf->data + buf->length;
}

void td_buf_commit(struct td_buf *buf, size_t length)
{
    assert(length < buf->capacity - buf->length); /* room for the NUL as well */
    buf->length += length;
    buf->data[buf->length] = '\0';
}

void td_buf_append(struct td_buf *buf, const void *bytes, size_t length)
{
    char *room = td_buf_reserve(buf, length);

    if (room == NULL)
        return;
    if (length > 0)
        memcpy(room, bytes, length);
    td_buf_commit(buf, length);
}

void td_buf_append_char(struct td_buf *buf, char c)
{
    td_buf_append(buf, &c, 1);
}

void td_buf_printf(struct td_buf *buf, const char *format, ...)
{
    char small[256];
    va_list arguments;
    int length;
    char *room;

    va_start(arguments, format);
    length = vsnprintf(small, sizeof small, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    if ((size_t)length < sizeof small) {
        td_buf_append(buf, small, (size_t)length);
        return;
    }
    room = td_buf_reserve(buf, (size_t)length);
    if (room == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(room, (size_t)length + 1, format, arguments);
    va_end(arguments);
    td_buf_commit(buf, (size_t)length);
}

void td_buf_consume(struct td_buf *buf, size_t count)
{
    if (count >= buf->length) {
        buf->length = 0;
    } else {
        memmove(buf->data, buf->data + count, buf->length - count);
        buf->length -= count;
    }
    if (buf->data != NULL)
        buf->data[buf->length] = '\0';
}

char *td_buf_take(struct td_buf *buf, size_t *length_out)
{
    char *data;

    if (td_buf_reserve(buf, 0) == NULL) /* also where nothing was appended yet */
        return NULL;
    buf->data[buf->length] = '\0';
    data = buf->data;
    *length_out = buf->length;
    td_buf_init(buf, buf->length_max);
    return data;
}
