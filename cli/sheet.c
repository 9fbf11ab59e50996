/* sheet.c: see sheet.h. */
#include "cli/sheet.h"

#include <inttypes.h>
#include <string.h>

#include "cli/printable.h"

#define SHEET_BYTES_MAX ((size_t)64 << 20)
#define COLUMNS         80

void cli_sheet_init(struct cli_sheet *sheet, bool is_json)
{
    *sheet = (struct cli_sheet){.is_json = is_json};
    td_buf_init(&sheet->out, SHEET_BYTES_MAX);
    sheet->json = td_json_writer_to(&sheet->out);
    if (is_json)
        td_json_begin_object(&sheet->json, NULL);
}

void cli_sheet_fini(struct cli_sheet *sheet)
{
    td_buf_fini(&sheet->out);
}

/* ---- text ---- */

const char *cli_show_count(uint64_t count, char out[static CLI_AMOUNT_BYTES])
{
    char digits[CLI_AMOUNT_BYTES];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t used = 0;

    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

const char *cli_show_bytes(uint64_t bytes, char out[static CLI_AMOUNT_BYTES])
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB", "TB", "PB", "EB"};
    double amount = (double)bytes;
    size_t unit = 0;

    while (amount >= 999.95 && unit + 1 < sizeof units / sizeof units[0]) {
        amount /= 1000.0;
        unit++;
    }
    snprintf(out, CLI_AMOUNT_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", amount, units[unit]);
    return out;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\t';
}

/* Columns of the next word, and its bytes; a word ends before a blank. */
static size_t word_length(const char *bytes, size_t length, size_t *columns_out)
{
    size_t i = 0;
    size_t columns = 0;

    for (; i < length && !is_blank(bytes[i]); i++)
        columns += ((unsigned char)bytes[i] & 0xc0) != 0x80; /* not in the middle of a character */
    *columns_out = columns;
    return i;
}

static void append_printable(struct td_buf *out, const char *bytes, size_t length)
{
    struct cli_printable printable = {0};

    cli_printable_feed(&printable, bytes, length, out);
    cli_printable_end(&printable, out);
}

void cli_fold(struct td_buf *out, struct td_span text, unsigned column)
{
    size_t at = column;
    size_t i = 0;

    while (i < text.length) {
        size_t columns;
        size_t length = word_length(text.bytes + i, text.length - i, &columns);

        if (at > column && at + 1 + columns > COLUMNS - 1) {
            td_buf_printf(out, "\n%*s", (int)column, "");
            at = column;
        } else if (i > 0) {
            td_buf_append_char(out, ' ');
            at++;
        }
        append_printable(out, text.bytes + i, length);
        at += columns;
        i += length + 1;
    }
    td_buf_append_char(out, '\n');
}

void cli_quote(struct td_buf *out, struct td_span text, size_t most)
{
    size_t length = text.length < most ? text.length : most;

    while (length > 0 && length < text.length && ((unsigned char)text.bytes[length] & 0xc0) == 0x80)
        length--; /* whole characters */
    td_json_write_string(out, (struct td_span){text.bytes, length});
    if (length < text.length)
        td_buf_append_text(out, "...");
}

static void put_label(struct cli_sheet *sheet, const char *label)
{
    td_buf_printf(&sheet->out, "  %-*s ", CLI_SHEET_LABEL_COLUMNS, label);
}

static void put_line(struct cli_sheet *sheet, const char *label, struct td_span text)
{
    put_label(sheet, label);
    cli_fold(&sheet->out, text, CLI_SHEET_LABEL_COLUMNS + 3);
}

/* ---- facts ---- */

void cli_sheet_begin(struct cli_sheet *sheet, const char *key, const char *title)
{
    if (sheet->is_json)
        td_json_begin_object(&sheet->json, key);
    else
        td_buf_printf(&sheet->out, "%s%s\n", sheet->out.length > 0 ? "\n" : "", title);
}

void cli_sheet_end(struct cli_sheet *sheet)
{
    if (sheet->is_json)
        td_json_end(&sheet->json);
}

void cli_sheet_span(struct cli_sheet *sheet, const char *key, const char *label,
                    struct td_span text)
{
    if (sheet->is_json)
        td_json_put_span(&sheet->json, key, text);
    else if (label != NULL)
        put_line(sheet, label, text);
}

void cli_sheet_text(struct cli_sheet *sheet, const char *key, const char *label, const char *text)
{
    cli_sheet_span(sheet, key, label, td_span_of(text));
}

void cli_sheet_count(struct cli_sheet *sheet, const char *key, const char *label, uint64_t count)
{
    char text[CLI_AMOUNT_BYTES];

    if (sheet->is_json)
        td_json_put_uint(&sheet->json, key, count);
    else if (label != NULL)
        put_line(sheet, label, td_span_of(cli_show_count(count, text)));
}

void cli_sheet_bytes(struct cli_sheet *sheet, const char *key, const char *label, uint64_t bytes)
{
    char text[CLI_AMOUNT_BYTES];

    if (sheet->is_json)
        td_json_put_uint(&sheet->json, key, bytes);
    else if (label != NULL)
        put_line(sheet, label, td_span_of(cli_show_bytes(bytes, text)));
}

void cli_sheet_number(struct cli_sheet *sheet, const char *key, const char *label, double number)
{
    char text[CLI_AMOUNT_BYTES];

    snprintf(text, sizeof text, "%g", number);
    if (sheet->is_json)
        td_json_put_double(&sheet->json, key, number);
    else if (label != NULL)
        put_line(sheet, label, td_span_of(text));
}

void cli_sheet_yes(struct cli_sheet *sheet, const char *key, const char *label, bool yes)
{
    if (sheet->is_json)
        td_json_put_bool(&sheet->json, key, yes);
    else if (label != NULL)
        put_line(sheet, label, td_span_of(yes ? "yes" : "no"));
}

void cli_sheet_say(struct cli_sheet *sheet, const char *label, const char *format, ...)
{
    va_list arguments;
    char text[1024];

    if (sheet->is_json)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_line(sheet, label, td_span_of(text));
}

void cli_sheet_begin_list(struct cli_sheet *sheet, const char *key)
{
    if (sheet->is_json)
        td_json_begin_array(&sheet->json, key);
}

void cli_sheet_end_list(struct cli_sheet *sheet)
{
    if (sheet->is_json)
        td_json_end(&sheet->json);
}

bool cli_sheet_print(struct cli_sheet *sheet, FILE *out)
{
    if (sheet->is_json) {
        td_json_end(&sheet->json);
        td_buf_append_char(&sheet->out, '\n');
    }
    return sheet->out.status == TD_OK &&
           fwrite(sheet->out.data, 1, sheet->out.length, out) == sheet->out.length &&
           fflush(out) == 0;
}
