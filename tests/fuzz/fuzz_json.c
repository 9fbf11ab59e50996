/*
 * fuzz_json.c: any bytes are read or refused; what was read, written and read again is the same tree.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/json_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct td_json_limits limits = {
    .bytes_max = 1 << 20, .nodes_max = 20000, .depth_max = TD_JSON_DEPTH_MAX};

static void assert_same(const struct td_json *a, const struct td_json *b)
{
    assert(a->kind == b->kind);
    assert(td_span_equal(a->key, b->key));
    switch (a->kind) {
    case TD_JSON_NULL: break;
    case TD_JSON_BOOL: assert(a->boolean == b->boolean); break;
    case TD_JSON_INTEGER: assert(a->integer == b->integer); break;
    case TD_JSON_NUMBER: assert(memcmp(&a->number, &b->number, sizeof a->number) == 0); break;
    case TD_JSON_STRING: assert(td_span_equal(a->string, b->string)); break;
    case TD_JSON_ARRAY:
    case TD_JSON_OBJECT:
        assert(a->items.count == b->items.count);
        for (a = a->items.first, b = b->items.first; a != NULL; a = a->next, b = b->next)
            assert_same(a, b);
    }
}

static void check_tree(const struct td_json *root)
{
    const struct td_json_limits wide = {
        .bytes_max = SIZE_MAX, .nodes_max = limits.nodes_max, .depth_max = limits.depth_max};
    const struct td_json *again = NULL;
    struct td_arena arena;
    struct td_buf text;

    td_buf_init(&text, 8 << 20); /* an escaped control character takes six bytes */
    td_json_write_tree(&text, root);
    assert(text.status == TD_OK);
    td_arena_init(&arena, SIZE_MAX);
    if (td_json_parse(&arena, td_span_over(text.data, text.length), &wide, &again, NULL) != TD_OK)
        abort();
    assert_same(root, again);
    td_arena_fini(&arena);
    td_buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct td_json *root = NULL;
    struct td_error error = {0};
    struct td_arena arena;
    td_status_t status;

    td_arena_init(&arena, td_json_arena_bytes(&limits));
    status = td_json_parse(&arena, td_span_over((const char *)data, size), &limits, &root, &error);
    if (status == TD_OK)
        check_tree(root);
    else
        assert((status == TD_INVALID || status == TD_LIMIT) && error.text[0] != '\0');
    td_arena_fini(&arena);
    return 0;
}
