/*
 * test_page.c: the table of names in docs/text.md is that of the code.
 *
 * After a change: TANDEM_WRITE_DOCS=1 test_text_page, from the root of the source, writes it anew.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/text/template_builtins.h"
#include "tests/support/page.h"
#include "tests/support/support.h"

#define NAMES_MAX 128

struct names {
    const char *items[NAMES_MAX];
    size_t count;
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In order, each once: strings and dicts may have a method of one name. */
static void print_names(const char *what, struct names *names, const char *more, struct td_buf *out)
{
    qsort(names->items, names->count, sizeof names->items[0], compare);
    td_buf_printf(out, "| %s |", what);
    for (size_t i = 0; i < names->count; i++)
        if (i == 0 || strcmp(names->items[i - 1], names->items[i]) != 0)
            td_buf_printf(out, " `%s`", names->items[i]);
    td_buf_printf(out, "%s |\n", more);
}

static void take(struct names *names, enum text_builtin_table table)
{
    const struct text_builtin *each;

    for (size_t i = 0; (each = text_builtin_at(table, i)) != NULL; i++) {
        assert_true(names->count < NAMES_MAX);
        names->items[names->count++] = each->name;
    }
}

static void print_template_names(struct td_buf *out)
{
    struct names filters = {.count = 0};
    struct names tests = {.count = 0};
    struct names methods = {.count = 0};
    struct names functions = {.items = {"dict", "namespace"}, .count = 2}; /* the parser's */

    take(&filters, TEXT_FILTERS);
    take(&tests, TEXT_TESTS);
    take(&methods, TEXT_METHODS);
    take(&functions, TEXT_FUNCTIONS);
    td_buf_append_text(out, "| names of | |\n|---|---|\n");
    print_names("filters", &filters, "", out);
    print_names("tests", &tests, "", out);
    print_names("methods", &methods, "; of loops, `cycle`", out);
    print_names("functions", &functions, "", out);
}

static void the_table_of_the_page_is_that_of_the_code(void **state)
{
    static const struct test_page_block blocks[] = {{"template-names", print_template_names}};

    (void)state;
    test_page_check("docs/text.md", blocks, sizeof blocks / sizeof blocks[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_the_page_is_that_of_the_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
