/* table.c: see table.h. */
#include "cli/check/table.h"

#include <stdarg.h>
#include <string.h>

#include "cli/sheet.h"
#include "lib/base/json_write.h"

#define FIGURE_COLUMN 31

static const char *const result_words[] = {
#define X(name, word, text) word,
    CHECK_RESULTS_MAP(X)
#undef X
};

struct check_row *check_add(struct check_table *table, const char *area, const char *what)
{
    struct check_row *row =
        &table->rows[table->count < CHECK_ROWS_MAX ? table->count++ : CHECK_ROWS_MAX - 1];

    *row = (struct check_row){.area = area};
    snprintf(row->what, sizeof row->what, "%s", what);
    return row;
}

void check_figure(struct check_row *row, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(row->figure, sizeof row->figure, format, arguments);
    va_end(arguments);
}

void check_mark(struct check_row *row, enum check_result result, const char *advice, ...)
{
    va_list arguments;

    row->result = result;
    va_start(arguments, advice);
    vsnprintf(row->advice, sizeof row->advice, advice, arguments);
    va_end(arguments);
}

void check_value(struct check_row *row, const char *name, double value)
{
    if (row->value_count < CHECK_VALUES_MAX)
        row->values[row->value_count++] = (struct check_value){name, value};
}

uint32_t check_count(const struct check_table *table, enum check_result result)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < table->count; i++)
        count += table->rows[i].result == result;
    return count;
}

/* ---- text ---- */

static const char *heading(const char *area)
{
    static const struct {
        const char *area;
        const char *heading;
    } headings[] = {
        {"machine", "This machine"},
        {"gpu", "GPUs"},
        {"network", "Ports and certificates"},
        {"transports", "Transports of KV, between two processes"},
        {"model", "The model"},
    };

    for (size_t i = 0; i < sizeof headings / sizeof headings[0]; i++)
        if (strcmp(headings[i].area, area) == 0)
            return headings[i].heading;
    return area;
}

static void print_row(const struct check_row *row, struct td_buf *out)
{
    char advice[CHECK_ADVICE_BYTES + 4];

    td_buf_printf(out, "  %-8s %-18.18s  ", result_words[row->result], row->what);
    cli_fold(out, td_span_of(row->figure), FIGURE_COLUMN);
    if (row->advice[0] == '\0')
        return;
    snprintf(advice, sizeof advice, "-> %s", row->advice);
    td_buf_printf(out, "%*s", FIGURE_COLUMN, "");
    cli_fold(out, td_span_of(advice), FIGURE_COLUMN);
}

void check_print(const struct check_table *table, uint32_t first, struct td_buf *out)
{
    for (uint32_t i = first; i < table->count; i++) {
        const struct check_row *row = &table->rows[i];

        if (i == 0 || strcmp(row->area, table->rows[i - 1].area) != 0)
            td_buf_printf(out, "%s%s\n", i > 0 ? "\n" : "", heading(row->area));
        print_row(row, out);
    }
}

/* ---- JSON ---- */

static void write_row(const struct check_row *row, struct td_json_writer *json)
{
    td_json_begin_object(json, NULL);
    td_json_put_text(json, "area", row->area);
    td_json_put_text(json, "what", row->what);
    td_json_put_text(json, "result", result_words[row->result]);
    td_json_put_text(json, "figure", row->figure);
    if (row->advice[0] != '\0')
        td_json_put_text(json, "advice", row->advice);
    else
        td_json_put_null(json, "advice");
    td_json_begin_object(json, "values");
    for (uint32_t i = 0; i < row->value_count; i++)
        td_json_put_double(json, row->values[i].name, row->values[i].value);
    td_json_end(json);
    td_json_end(json);
}

void check_write_json(const struct check_table *table, struct td_buf *out)
{
    struct td_json_writer json = td_json_writer_to(out);

    td_json_begin_object(&json, NULL);
    td_json_put_bool(&json, "ok", check_count(table, CHECK_PROBLEM) == 0);
    td_json_put_uint(&json, "problems", check_count(table, CHECK_PROBLEM));
    td_json_put_uint(&json, "notes", check_count(table, CHECK_NOTE));
    td_json_begin_array(&json, "checks");
    for (uint32_t i = 0; i < table->count; i++)
        write_row(&table->rows[i], &json);
    td_json_end(&json);
    td_json_end(&json);
}
