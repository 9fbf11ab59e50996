/* flags_print.c: flags as help text and as Markdown, see flags.h. */
#include "lib/base/flags.h"

#include <string.h>

#include "lib/base/flags_value.h"

#define HELP_COLUMN 28 /* where the explanations start */
#define HELP_WIDTH  96

const char td_flags_statuses[] =
    "  0   it did what it was asked to do\n"
    "  1   it could not start, or had to give up; stderr says why\n"
    "  2   the command line or the environment is wrong; stderr names the flag\n";

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

static void print_paragraphs(const char *text, struct td_buf *out)
{
    while (text != NULL) {
        const char *end = strstr(text, "\n\n");
        size_t length = end != NULL ? (size_t)(end - text) : strlen(text);
        struct td_buf paragraph;

        td_buf_init(&paragraph, 4096);
        td_buf_append(&paragraph, text, length);
        td_buf_append_char(out, '\n');
        print_wrapped(paragraph.data != NULL ? paragraph.data : "", 0, out);
        td_buf_fini(&paragraph);
        text = end != NULL ? end + 2 : NULL;
    }
}

bool td_flags_have_kind(const struct td_flags *flags, enum td_flag_kind first,
                        enum td_flag_kind last)
{
    for (size_t t = 0; t < flags->table_count; t++)
        for (size_t i = 0; i < flags->tables[t].count; i++)
            if (flags->tables[t].flags[i].kind >= first && flags->tables[t].flags[i].kind <= last)
                return true;
    return false;
}

static void print_units(const struct td_flags *flags, struct td_buf *out)
{
    if (td_flags_have_kind(flags, TD_FLAG_BYTES, TD_FLAG_BYTES))
        td_buf_printf(out, "A SIZE is %s.\n", TD_FLAGS_SIZE_TEXT);
    if (td_flags_have_kind(flags, TD_FLAG_DURATION, TD_FLAG_DURATION32))
        td_buf_printf(out, "A TIME is %s.\n", TD_FLAGS_TIME_TEXT);
    if (td_flags_have_kind(flags, TD_FLAG_LIST, TD_FLAG_LIST))
        td_buf_append_text(out, "What takes several values takes them with commas, or repeated.\n");
    td_buf_append_text(out, "A switch --x is turned off by --no-x. A word -- ends the flags.\n");
}

void td_flags_print_help(const struct td_flags *flags, struct td_buf *out)
{
    td_buf_printf(out, "Usage: %s%s%s\n\n", flags->program, flags->usage[0] != '\0' ? " " : "",
                  flags->usage);
    print_wrapped(flags->summary, 0, out);
    print_paragraphs(flags->about, out);
    for (size_t t = 0; t < flags->table_count; t++) {
        td_buf_printf(out, "\n%s:\n", flags->tables[t].group);
        for (size_t i = 0; i < flags->tables[t].count; i++)
            print_flag(&flags->tables[t].flags[i], out);
    }
    if (flags->examples != NULL)
        td_buf_printf(out, "\nExamples:\n%s", flags->examples);
    if (flags->table_count > 0) {
        td_buf_append_text(out, "\nValues:\n");
        print_units(flags, out);
    }
    td_buf_printf(
        out, "\nEnvironment:\n%s%s", flags->environment != NULL ? flags->environment : "",
        "Every flag is also an environment variable: --log-level is TANDEM_LOG_LEVEL. Flags "
        "win.\n");
    td_buf_printf(out, "\nExit status:\n%s",
                  flags->statuses != NULL ? flags->statuses : td_flags_statuses);
    if (flags->see_also != NULL) {
        static const char see_also[] = "See also: ";

        td_buf_printf(out, "\n%s", see_also);
        print_wrapped(flags->see_also, sizeof see_also - 1, out);
    }
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
