/*
 * printable.h: text from outside, made safe for a terminal.
 *
 * What a model or a server says may hold escape sequences that move the cursor, rename the window or
 * type into it, and marks that turn the order of writing around. Here each control character but tab
 * and newline becomes its picture (U+241B for ESC), which is seen and does nothing; the C1 range, marks
 * of direction that enclose text, line and paragraph separators, and bytes that are no UTF-8 become U+FFFD.
 * CR LF is a newline. Pure: any split of the same bytes gives the same text.
 */
#ifndef TANDEM_CLI_PRINTABLE_H
#define TANDEM_CLI_PRINTABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/buf.h"
#include "lib/base/utf8.h"

/* Zeroed: nothing came yet. */
struct cli_printable {
    char held[TD_UTF8_BYTES_MAX]; /* the start of a character, or a CR */
    size_t held_count;
};

/* Appends what can be shown of the next bytes. */
void cli_printable_feed(struct cli_printable *printable, const char *bytes, size_t length,
                        struct td_buf *out);

/* Appends what was held back, at the end of the text. */
void cli_printable_end(struct cli_printable *printable, struct td_buf *out);

/*
 * One line for messages: safe, and newlines and tabs become spaces. Cut to fit size, at whole characters;
 * returns out.
 */
const char *cli_printable_line(const char *text, char *out, size_t size);

#endif
