/*
 * fuzz_http_sse.c: the reader of server-sent events: pieces of any size give the same events, and no
 * event is longer than its limit.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/http_sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EVENT_MAX 64 /* small, so that the limit is met */

static void collect(void *ctx, const char *data, size_t length)
{
    assert(length <= EVENT_MAX);
    assert(data[length] == '\0');
    td_buf_append(ctx, &length, sizeof length);
    td_buf_append(ctx, data, length);
}

static td_status_t read_in_pieces(const uint8_t *data, size_t size, size_t piece,
                                  struct td_buf *events)
{
    td_status_t status = TD_OK;
    struct http_sse sse;

    http_sse_init(&sse, EVENT_MAX, collect, events);
    for (size_t used = 0; used < size && status == TD_OK; used += piece) {
        size_t length = size - used < piece ? size - used : piece;
        uint8_t *copy = malloc(length); /* of exact size, so that ASan sees one byte too far */

        assert(copy != NULL);
        memcpy(copy, data + used, length);
        status = http_sse_feed(&sse, copy, length);
        free(copy);
    }
    http_sse_fini(&sse);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t pieces[] = {1, 2, 7};
    struct td_buf whole;
    struct td_buf split;
    td_status_t status;

    if (size > 1u << 16)
        return 0;
    td_buf_init(&whole, (size_t)1 << 24);
    td_buf_init(&split, (size_t)1 << 24);
    status = read_in_pieces(data, size, size + 1, &whole);
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        td_buf_clear(&split);
        assert(read_in_pieces(data, size, pieces[i], &split) == status);
        assert(split.length == whole.length);
        assert(split.length == 0 || memcmp(split.data, whole.data, split.length) == 0);
    }
    td_buf_fini(&whole);
    td_buf_fini(&split);
    return 0;
}
