/* roff.c: see roff.h. */
#include "lib/base/roff.h"

#include <ctype.h>
#include <stdbool.h>

/* One character that roff takes as it is: hyphens as minus signs, so that they can be pasted. */
static void put_character(char c, bool starts_line, struct td_buf *out)
{
    if (starts_line && (c == '.' || c == '\''))
        td_buf_append_text(out, "\\&");
    if (c == '\\')
        td_buf_append_text(out, "\\e");
    else if (c == '-')
        td_buf_append_text(out, "\\-");
    else
        td_buf_append_char(out, c);
}

static void put_word(const char *text, struct td_buf *out)
{
    for (const char *c = text; *c != '\0'; c++)
        put_character(*c, c == text, out);
}

/* An argument of a macro. */
static void put_quoted(const char *text, struct td_buf *out)
{
    td_buf_append_char(out, '"');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"')
            td_buf_append_char(out, '"');
        put_character(*c, false, out);
    }
    td_buf_append_char(out, '"');
}

void td_roff_begin(const char *page, const char *version, const char *purpose, const char *program,
                   const char *usage, struct td_buf *out)
{
    td_buf_append_text(out, ".TH ");
    for (const char *c = page; *c != '\0'; c++)
        put_character((char)toupper((unsigned char)*c), false, out);
    td_buf_printf(out, " 1 \"\" \"Tandem %s\" \"Tandem\"\n.nh\n.SH NAME\n", version);
    put_word(page, out);
    td_buf_append_text(out, " \\- ");
    put_word(purpose, out);
    td_buf_append_text(out, "\n.SH SYNOPSIS\n.B ");
    put_word(program, out);
    td_buf_append_char(out, '\n');
    if (usage[0] != '\0')
        put_word(usage, out);
    td_buf_append_char(out, '\n');
}

void td_roff_section(int level, const char *name, struct td_buf *out)
{
    td_buf_append_text(out, level == 1 ? ".SH " : ".SS ");
    put_quoted(name, out);
    td_buf_append_char(out, '\n');
}

void td_roff_text(const char *text, struct td_buf *out)
{
    bool starts_line = true;
    bool is_bold = false;

    for (const char *c = text; *c != '\0'; c++) {
        if (c[0] == '\n' && c[1] == '\n') {
            td_buf_append_text(out, "\n.PP\n");
            starts_line = true;
            c++;
        } else if (*c == '`') {
            is_bold = !is_bold;
            td_buf_append_text(out, is_bold ? "\\fB" : "\\fR");
            starts_line = false;
        } else {
            put_character(*c == '\n' ? ' ' : *c, starts_line, out);
            starts_line = false;
        }
    }
    td_buf_append_text(out, is_bold ? "\\fR\n" : "\n");
}

void td_roff_lines(const char *lines, struct td_buf *out)
{
    bool starts_line = true;

    td_buf_append_text(out, ".nf\n");
    for (const char *c = lines; *c != '\0'; c++) {
        if (*c == '\n')
            td_buf_append_char(out, '\n');
        else
            put_character(*c, starts_line, out);
        starts_line = *c == '\n';
    }
    td_buf_append_text(out, starts_line ? ".fi\n" : "\n.fi\n");
}

void td_roff_entry(const char *term, const char *value, const char *text, struct td_buf *out)
{
    td_buf_append_text(out, ".TP\n.BI ");
    put_quoted(term, out);
    if (value[0] != '\0') {
        td_buf_append_text(out, " \" ");
        put_word(value, out);
        td_buf_append_char(out, '"');
    }
    td_buf_append_char(out, '\n');
    td_roff_text(text, out);
}
