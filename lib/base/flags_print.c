/* flags_print.c: flags as help text and as Markdown, see flags.h. */
#include <string.h>

#include "lib/base/flags.h"
#include "lib/base/flags_value.h"

#define HELP_COLUMN 28 /* where the explanations start */
#define HELP_WIDTH  96

/* Appends text in lines of at most HELP_WIDTH, each starting at the column where the first one does. */
static void print_wrapped(const char *text, size_t start, struct td_buf *out)
{
    size_t column = start;

    while (*text != '\0') {
        size_t word = strcspn(text, " \n");

        if (column > start && column + 1 + word > HELP_WIDTH) {
            td_buf_printf(out, "\n%*s", (int)start, "");
            column = start;
        } else if (column > start) {
            td_buf_append_char(out, ' ');
            column++;
        }
        td_buf_append(out, text, word);
        column += word;
        text += word + strspn(text + word, " \n");
    }
    td_buf_append_char(out, '\n');
}

/* "Port of the API. (default 8000; 1 to 65535)" */
static void print_explanation(const struct td_flag *flag, struct td_buf *out)
{
    struct td_buf text;

    td_buf_init(&text, 4096);
    td_buf_append_text(&text, flag->help);
    if (flag->fallback != NULL)
        td_buf_printf(&text, " (default %s", flag->fallback);
    if (td_flag_has_range(flag)) {
        td_buf_append_text(&text, flag->fallback != NULL ? "; " : " (");
        td_flag_print_range(flag, &text);
    }
    if (flag->fallback != NULL || td_flag_has_range(flag))
        td_buf_append_char(&text, ')');
    print_wrapped(text.data != NULL ? text.data : "", HELP_COLUMN, out);
    td_buf_fini(&text);
}

static void print_flag(const struct td_flag *flag, struct td_buf *out)
{
    size_t start = out->length;
    size_t used;

    if (flag->kind == TD_FLAG_BOOL)
        td_buf_printf(out, "  --%s", flag->name);
    else
        td_buf_printf(out, "  --%s %s", flag->name, td_flag_placeholder(flag));
    used = out->length - start;
    if (used + 2 > HELP_COLUMN)
        td_buf_printf(out, "\n%*s", HELP_COLUMN, "");
    else
        td_buf_printf(out, "%*s", (int)(HELP_COLUMN - used), "");
    print_explanation(flag, out);
}

void td_flags_print_help(const struct td_flags *flags, struct td_buf *out)
{
    td_buf_printf(out, "Usage: %s %s\n\n", flags->program, flags->usage);
    print_wrapped(flags->summary, 0, out);
    for (size_t t = 0; t < flags->table_count; t++) {
        td_buf_printf(out, "\n%s:\n", flags->tables[t].group);
        for (size_t i = 0; i < flags->tables[t].count; i++)
            print_flag(&flags->tables[t].flags[i], out);
    }
    if (flags->examples != NULL)
        td_buf_printf(out, "\nExamples:\n%s", flags->examples);
    td_buf_append_text(out,
                       "\nEvery flag is also an environment variable: --log-level is "
                       "TANDEM_LOG_LEVEL. Flags win.\nA switch --x is turned off by --no-x.\n");
}

void td_flags_print_markdown(const struct td_flag_table *table, struct td_buf *out)
{
    td_buf_printf(out,
                  "### %s\n\n| flag | environment | default | range | meaning |\n"
                  "|---|---|---|---|---|\n",
                  table->group);
    for (size_t i = 0; i < table->count; i++) {
        const struct td_flag *flag = &table->flags[i];
        char environment[80];

        td_flag_environment_name(flag, environment, sizeof environment);
        td_buf_printf(out, "| `--%s` | `%s` | ", flag->name, environment);
        if (flag->fallback != NULL)
            td_buf_printf(out, "`%s`", flag->fallback);
        td_buf_append_text(out, " | ");
        td_flag_print_range(flag, out);
        td_buf_printf(out, " | %s |\n", flag->help);
    }
    td_buf_append_text(out, "\n");
}
