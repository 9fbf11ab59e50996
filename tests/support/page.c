/* page.c: see page.h. */
#include "tests/support/page.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define PAGE_BYTES_MAX ((size_t)1 << 20)

/* Where the line with this mark begins; behind it if that is asked for. */
static const char *find_mark(const char *page, const char *name, const char *which, bool behind)
{
    char mark[64];
    const char *found;

    snprintf(mark, sizeof mark, "<!-- %s:%s -->\n", name, which);
    found = strstr(page, mark);
    if (found == NULL)
        fail_msg("the page has no %s", mark);
    return behind ? found + strlen(mark) : found;
}

/* The page with what is between the block's marks replaced. */
static char *replace(const char *page, const struct test_page_block *block)
{
    const char *begin = find_mark(page, block->name, "begin", true);
    const char *end = find_mark(begin, block->name, "end", false);
    struct td_buf out;
    size_t length;

    td_buf_init(&out, PAGE_BYTES_MAX);
    td_buf_append(&out, page, (size_t)(begin - page));
    block->print(&out);
    td_buf_append_text(&out, end);
    assert_int_equal(out.status, TD_OK);
    return td_buf_take(&out, &length);
}

static void write_page(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

void test_page_check(const char *path, const struct test_page_block *blocks, size_t count)
{
    size_t length;
    char *before = test_read_file(path, &length);
    char *after = strdup(before);

    for (size_t i = 0; i < count; i++) {
        char *next = replace(after, &blocks[i]);

        free(after);
        after = next;
    }
    if (getenv("TANDEM_WRITE_DOCS") != NULL)
        write_page(path, after);
    else if (strcmp(before, after) != 0)
        fail_msg("%s is out of date: this test with TANDEM_WRITE_DOCS=1 writes it anew", path);
    free(before);
    free(after);
}
