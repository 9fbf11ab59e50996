/*
 * sheet.h: facts in sections, once for people and once for programs.
 *
 * A command says each fact once, with a key for JSON and a label for people; the sheet writes it as
 * one or the other. Text is plain, without colour, and folds at 80 columns; what comes out of files
 * cannot move the cursor. JSON is one object with an object for each section.
 */
#ifndef TANDEM_CLI_SHEET_H
#define TANDEM_CLI_SHEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/json_write.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

#define CLI_SHEET_LABEL_COLUMNS 20

struct cli_sheet {
    bool is_json;
    struct td_buf out; /* its sticky status is the sheet's */
    struct td_json_writer json;
};

/* An empty sheet; fini is wanted in any case. */
void cli_sheet_init(struct cli_sheet *sheet, bool is_json);
void cli_sheet_fini(struct cli_sheet *sheet);

/* A section: the key of its object, and the line above it. They do not nest. */
void cli_sheet_begin(struct cli_sheet *sheet, const char *key, const char *title);
void cli_sheet_end(struct cli_sheet *sheet);

/* One fact each. A label of NULL is for programs only. */
void cli_sheet_text(struct cli_sheet *sheet, const char *key, const char *label, const char *text);
void cli_sheet_span(struct cli_sheet *sheet, const char *key, const char *label,
                    struct td_span text);
void cli_sheet_count(struct cli_sheet *sheet, const char *key, const char *label, uint64_t count);
void cli_sheet_bytes(struct cli_sheet *sheet, const char *key, const char *label, uint64_t bytes);
void cli_sheet_number(struct cli_sheet *sheet, const char *key, const char *label, double number);
void cli_sheet_yes(struct cli_sheet *sheet, const char *key, const char *label, bool yes);

/* A line for people only: a label, or an empty one, and text. */
void cli_sheet_say(struct cli_sheet *sheet, const char *label, const char *format, ...)
    TD_PRINTF(3, 4);

/* A list of objects for programs, whose members are put with td_json_put_...; see is_json. */
void cli_sheet_begin_list(struct cli_sheet *sheet, const char *key);
void cli_sheet_end_list(struct cli_sheet *sheet);

/* Ends the document and writes it; false: it could not be made or written. */
bool cli_sheet_print(struct cli_sheet *sheet, FILE *out);

/* ------------------------------------------------------------------------------------------- */

#define CLI_AMOUNT_BYTES 32

/* 1234567 -> "1,234,567" */
const char *cli_show_count(uint64_t count, char out[static CLI_AMOUNT_BYTES]);

/* 93000000 -> "93.0 MB"; decimal units, as files and memory are sold. */
const char *cli_show_bytes(uint64_t bytes, char out[static CLI_AMOUNT_BYTES]);

/*
 * Appends text with words folded at 80 columns, first and further lines from the given column on; a
 * newline at the end. Newlines and tabs in it are spaces, and nothing in it steers a terminal
 * (printable.h).
 */
void cli_fold(struct td_buf *out, struct td_span text, unsigned column);

/*
 * A text out of a file as one printable line: control characters and quotes escaped as in JSON, cut to
 * at most `most` bytes with "..." behind it.
 */
void cli_quote(struct td_buf *out, struct td_span text, size_t most);

#endif
