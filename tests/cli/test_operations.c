/*
 * test_operations.c: the tables of docs/operations.md, and what commands take for defaults of other programs,
 * are those of the code.
 *
 * After a change: TANDEM_WRITE_DOCS=1 test_operations, from the root of the source, writes them anew.
 */
#include "cli/child.h"
#include "cli/model_needs.h"
#include "cli/tables.h"
#include "engine/cpu/cpu.h"
#include "front/metrics.h"
#include "lib/api/limits.h"
#include "lib/net/program.h"
#include "router/metrics.h"
#include "router/options.h"
#include "scheduler/metrics.h"
#include "scheduler/options.h"
#include "tests/support/page.h"
#include "tests/support/support.h"
#include "worker/options.h"
#include "worker/runtime.h"

static void print_all(const struct td_flag_table *tables, size_t count, struct td_buf *out)
{
    for (size_t i = 0; i < count; i++)
        td_flags_print_markdown(&tables[i], out);
}

static void common(struct td_buf *out)
{
    struct net_program_options options;
    const struct td_flag_table table = net_program_table(&options);

    print_all(&table, 1, out);
}

static void limits(struct td_buf *out)
{
    struct api_limits options;
    const struct td_flag_table table = api_limits_table(&options);

    print_all(&table, 1, out);
}

static void tandem(struct td_buf *out)
{
    struct cli_demo_options demo;
    struct cli_chat_options chat;
    struct cli_check_options check;
    struct cli_inspect_options inspect;
    struct cli_certs_options certs;
    struct cli_cache_options cache;
    const struct td_flag_table tables[] = {
        cli_cluster_table(&demo.cluster),
        cli_serve_table(&demo.cluster),
        cli_demo_table(&demo),
        cli_chat_table(&chat),
        cli_chat_cluster_table(&chat),
        cli_check_table(&check),
        cli_inspect_table(&inspect),
        cli_certs_table(&certs),
        cli_cache_table(&cache),
    };

    print_all(tables, sizeof tables / sizeof tables[0], out);
}

static void router(struct td_buf *out)
{
    struct router_options options;
    struct td_flag_table tables[ROUTER_TABLES];

    router_options_tables(&options, tables);
    print_all(tables, ROUTER_TABLES, out);
}

static void scheduler(struct td_buf *out)
{
    struct sched_options options;
    struct td_flag_table tables[SCHED_TABLES];

    sched_options_tables(&options, tables);
    print_all(tables, SCHED_TABLES, out);
}

static void workers(struct td_buf *out)
{
    struct worker_options options;
    struct td_flag_table tables[WORKER_TABLES];

    worker_option_tables(&options, tables);
    print_all(tables, WORKER_TABLES, out);
}

static void child(struct td_buf *out)
{
    td_fsm_print_states(&child_fsm, out);
}

static void the_tables_of_the_page_are_those_of_the_code(void **state)
{
    static const struct test_page_block blocks[] = {
        {"common", common},
        {"tandem", tandem},
        {"router", router},
        {"scheduler", scheduler},
        {"workers", workers},
        {"limits", limits},
        {"child", child},
        {"front-metrics", front_metrics_print_markdown},
        {"router-metrics", router_metrics_print_markdown},
        {"scheduler-metrics", sched_metrics_print_markdown},
        {"worker-metrics", worker_metrics_print_markdown},
    };

    (void)state;
    test_page_check("docs/operations.md", blocks, sizeof blocks / sizeof blocks[0]);
}

static void what_a_model_needs_is_reckoned_with_the_defaults_of_workers(void **state)
{
    struct worker_options options;
    struct td_flag_table tables[WORKER_TABLES];
    const struct td_flags flags = {
        .program = "tandem-decode", .tables = tables, .table_count = WORKER_TABLES};
    struct td_flags_result result = {0};
    struct td_error error = {0};
    struct td_arena arena;

    (void)state;
    worker_option_tables(&options, tables);
    td_arena_init(&arena, 4096);
    assert_int_equal(td_flags_parse(&flags, &arena, (struct td_flag_list){0}, &result, &error),
                     TD_OK);
    td_arena_fini(&arena);
    assert_int_equal(options.kv_bytes, 0);
    assert_int_equal(WORKER_KV_BYTES_CPU, CLI_KV_BYTES);
    assert_int_equal(options.block_tokens, CLI_BLOCK_TOKENS);
    assert_int_equal(options.step_tokens, CPU_ROWS_DEFAULT);
    assert_int_equal(options.sequences_max, CPU_OUTPUTS_DEFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_model_needs_is_reckoned_with_the_defaults_of_workers),
        cmocka_unit_test(the_tables_of_the_page_are_those_of_the_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
