/*
 * test_docs.c: the tables of docs/scheduler.md are those of the code.
 *
 * After a change: TANDEM_WRITE_DOCS=1 test_sched_docs, from the root of the source, writes them anew.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"
#include "scheduler/feed.h"
#include "scheduler/fleet.h"
#include "scheduler/metrics.h"
#include "scheduler/options.h"
#include "tests/support/support.h"

#define PAGE           "docs/scheduler.md"
#define PAGE_BYTES_MAX ((size_t)1 << 20)

static void print_states(const struct td_fsm *fsm, struct td_buf *out)
{
    td_buf_printf(out, "%s\n\n| state | bounded by | meaning |\n|---|---|---|\n", fsm->text);
    for (uint8_t i = 0; i < fsm->state_count; i++)
        td_buf_printf(out, "| %s | `%s` | %s |\n", fsm->states[i].name, fsm->states[i].deadline,
                      fsm->states[i].text);
    td_buf_append_char(out, '\n');
}

static void states(struct td_buf *out)
{
    print_states(&sched_worker_fsm, out);
    print_states(&sched_feed_fsm, out);
}

static void flags(struct td_buf *out)
{
    struct sched_options options;
    struct td_flag_table tables[SCHED_TABLES];

    sched_options_tables(&options, tables);
    for (int i = 0; i < SCHED_TABLES; i++)
        td_flags_print_markdown(&tables[i], out);
}

/* Copies the page with what is between the block's marks replaced. */
static char *replace(const char *page, const char *name, void (*print)(struct td_buf *out))
{
    char mark[64];
    const char *begin;
    const char *end;
    struct td_buf out;
    size_t length;

    snprintf(mark, sizeof mark, "<!-- %s:begin -->\n", name);
    begin = strstr(page, mark);
    assert_non_null(begin);
    begin += strlen(mark);
    snprintf(mark, sizeof mark, "<!-- %s:end -->\n", name);
    end = strstr(begin, mark);
    assert_non_null(end);
    td_buf_init(&out, PAGE_BYTES_MAX);
    td_buf_append(&out, page, (size_t)(begin - page));
    print(&out);
    td_buf_append_text(&out, end);
    assert_int_equal(out.status, TD_OK);
    return td_buf_take(&out, &length);
}

static void write_page(const char *text)
{
    FILE *file = fopen(PAGE, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void the_page_s_tables_are_the_code_s(void **state)
{
    static const struct {
        const char *name;
        void (*print)(struct td_buf *out);
    } blocks[] = {{"states", states}, {"metrics", sched_metrics_print_markdown}, {"flags", flags}};
    size_t length;
    char *before = test_read_file(PAGE, &length);
    char *after = strdup(before);

    (void)state;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        char *next = replace(after, blocks[i].name, blocks[i].print);

        free(after);
        after = next;
    }
    if (getenv("TANDEM_WRITE_DOCS") != NULL)
        write_page(after);
    else if (strcmp(before, after) != 0)
        fail_msg(PAGE " is out of date: TANDEM_WRITE_DOCS=1 test_sched_docs writes it anew");
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_s_tables_are_the_code_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
