/* test_docs.c: the tables of docs/api.md are those of the code, see tests/support/page.h. */
#include "lib/api/errors.h"
#include "lib/api/limits.h"
#include "lib/api/refusals.h"
#include "tests/support/page.h"
#include "tests/support/support.h"

static void print_limits(struct td_buf *out)
{
    struct api_limits limits;
    struct td_flag_table table = api_limits_table(&limits);

    td_flags_print_markdown(&table, out);
}

static void the_page_s_tables_are_the_code_s(void **state)
{
    static const struct test_page_block blocks[] = {{"refusals", api_refusals_print_markdown},
                                                    {"errors", api_errors_print_markdown},
                                                    {"limits", print_limits}};

    (void)state;
    test_page_check("docs/api.md", blocks, sizeof blocks / sizeof blocks[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_s_tables_are_the_code_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
