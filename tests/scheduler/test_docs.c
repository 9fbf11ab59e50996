/* test_docs.c: the tables of docs/scheduler.md are those of the code, see tests/support/page.h. */
#include "scheduler/feed.h"
#include "scheduler/fleet.h"
#include "scheduler/metrics.h"
#include "scheduler/options.h"
#include "tests/support/page.h"
#include "tests/support/support.h"

static void print_states(struct td_buf *out)
{
    td_buf_printf(out, "%s\n\n", sched_worker_fsm.text);
    td_fsm_print_states(&sched_worker_fsm, out);
    td_buf_printf(out, "%s\n\n", sched_feed_fsm.text);
    td_fsm_print_states(&sched_feed_fsm, out);
}

static void print_flags(struct td_buf *out)
{
    struct sched_options options;
    struct td_flag_table tables[SCHED_TABLES];

    sched_options_tables(&options, tables);
    for (int i = 0; i < SCHED_TABLES; i++)
        td_flags_print_markdown(&tables[i], out);
}

static void the_page_s_tables_are_the_code_s(void **state)
{
    static const struct test_page_block blocks[] = {{"states", print_states},
                                                    {"metrics", sched_metrics_print_markdown},
                                                    {"flags", print_flags}};

    (void)state;
    test_page_check("docs/scheduler.md", blocks, sizeof blocks / sizeof blocks[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_s_tables_are_the_code_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
