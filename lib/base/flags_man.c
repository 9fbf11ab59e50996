/* flags_man.c: a program's flags as a man page, see flags.h. */
#include <ctype.h>
#include <string.h>

#include "lib/base/flags.h"
#include "lib/base/flags_value.h"
#include "lib/base/roff.h"

#define TEXT_BYTES_MAX 8192

/* "tandem bench engine" is the page tandem-bench-engine. */
static void print_begin(const struct td_flags *flags, const char *version, struct td_buf *out)
{
    struct td_buf page;
    struct td_buf purpose;

    td_buf_init(&page, TEXT_BYTES_MAX);
    td_buf_init(&purpose, TEXT_BYTES_MAX);
    td_buf_append_text(&page, flags->program);
    for (char *c = page.data; *c != '\0'; c++)
        if (*c == ' ')
            *c = '-';
    if (flags->purpose != NULL)
        td_buf_append_text(&purpose, flags->purpose);
    else /* up to the end of the sentence; a point inside a word is none */
        for (const char *c = flags->summary;
             *c != '\0' && !(*c == '.' && (c[1] == '\0' || isspace((unsigned char)c[1]))); c++)
            td_buf_append_char(&purpose, *c == '\n' ? ' ' : *c);
    td_roff_begin(page.data, version, purpose.data != NULL ? purpose.data : "", flags->program,
                  flags->usage, out);
    td_buf_fini(&page);
    td_buf_fini(&purpose);
}

static void print_flag(const struct td_flag *flag, struct td_buf *out)
{
    struct td_buf text;
    struct td_buf term;
    char environment[80];

    td_buf_init(&text, TEXT_BYTES_MAX);
    td_buf_init(&term, TEXT_BYTES_MAX);
    td_buf_printf(&term, "--%s", flag->name);
    td_buf_append_text(&text, flag->help);
    if (flag->fallback != NULL)
        td_buf_printf(&text, " Default: %s.", flag->fallback);
    if (td_flag_has_range(flag)) {
        td_buf_append_text(&text, " Allowed: ");
        td_flag_print_range(flag, &text);
        td_buf_append_char(&text, '.');
    }
    td_flag_environment_name(flag, environment, sizeof environment);
    td_buf_printf(&text, " Environment: %s.", environment);
    td_roff_entry(term.data, flag->kind == TD_FLAG_BOOL ? "" : td_flag_placeholder(flag), text.data,
                  out);
    td_buf_fini(&text);
    td_buf_fini(&term);
}

static void print_values(const struct td_flags *flags, struct td_buf *out)
{
    td_roff_section(1, "VALUES", out);
    if (td_flags_have_kind(flags, TD_FLAG_BYTES, TD_FLAG_BYTES))
        td_roff_entry("SIZE", "", TD_FLAGS_SIZE_TEXT, out);
    if (td_flags_have_kind(flags, TD_FLAG_DURATION, TD_FLAG_DURATION32))
        td_roff_entry("TIME", "", TD_FLAGS_TIME_TEXT, out);
    td_roff_entry("--x", "", "A switch; `--no-x` turns it off.", out);
    td_roff_entry("A,B", "", "Several values, with commas or by repeating the flag.", out);
}

void td_flags_print_man(const struct td_flags *flags, const char *version, struct td_buf *out)
{
    print_begin(flags, version, out);
    td_roff_section(1, "DESCRIPTION", out);
    td_roff_text(flags->summary, out);
    if (flags->about != NULL) {
        td_buf_append_text(out, ".PP\n");
        td_roff_text(flags->about, out);
    }
    if (flags->table_count > 0)
        td_roff_section(1, "OPTIONS", out);
    for (size_t t = 0; t < flags->table_count; t++) {
        td_roff_section(2, flags->tables[t].group, out);
        for (size_t i = 0; i < flags->tables[t].count; i++)
            print_flag(&flags->tables[t].flags[i], out);
    }
    if (flags->table_count > 0)
        print_values(flags, out);
    if (flags->examples != NULL) {
        td_roff_section(1, "EXAMPLES", out);
        td_roff_lines(flags->examples, out);
    }
    td_roff_section(1, "ENVIRONMENT", out);
    if (flags->environment != NULL)
        td_roff_lines(flags->environment, out);
    td_roff_text("Every flag is also an environment variable. A flag on the command line wins.",
                 out);
    td_roff_section(1, "EXIT STATUS", out);
    td_roff_lines(flags->statuses != NULL ? flags->statuses : td_flags_statuses, out);
    if (flags->see_also != NULL) {
        td_roff_section(1, "SEE ALSO", out);
        td_roff_text(flags->see_also, out);
    }
}
