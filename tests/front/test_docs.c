/* test_docs.c: the tables of docs/front.md are those of the code, see tests/support/page.h. */
#include "front/exchange.h"
#include "tests/support/page.h"
#include "tests/support/support.h"

static void print_states(struct td_buf *out)
{
    td_fsm_print_states(&exchange_fsm, out);
}

static void the_page_s_tables_are_the_code_s(void **state)
{
    static const struct test_page_block blocks[] = {{"states", print_states},
                                                    {"metrics", front_metrics_print_markdown}};

    (void)state;
    test_page_check("docs/front.md", blocks, sizeof blocks / sizeof blocks[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_s_tables_are_the_code_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
