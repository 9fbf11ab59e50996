/* test_docs.c: the tables of docs/router.md are those of the code, see tests/support/page.h. */
#include "router/journey.h"
#include "router/metrics.h"
#include "router/options.h"
#include "tests/support/page.h"
#include "tests/support/support.h"

static void print_states(struct td_buf *out)
{
    td_fsm_print_states(&journey_fsm, out);
}

static void print_flags(struct td_buf *out)
{
    struct router_options options;
    struct td_flag_table tables[ROUTER_TABLES];

    router_options_tables(&options, tables);
    for (int i = 0; i < ROUTER_TABLES; i++)
        td_flags_print_markdown(&tables[i], out);
}

static void the_page_s_tables_are_the_code_s(void **state)
{
    static const struct test_page_block blocks[] = {{"states", print_states},
                                                    {"flags", print_flags},
                                                    {"metrics", router_metrics_print_markdown}};

    (void)state;
    test_page_check("docs/router.md", blocks, sizeof blocks / sizeof blocks[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_s_tables_are_the_code_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
