/*
 * roff.h: text for man pages, in the macros of man(7). What has a meaning to roff is escaped.
 */
#ifndef TANDEM_LIB_BASE_ROFF_H
#define TANDEM_LIB_BASE_ROFF_H

#include "lib/base/buf.h"

/* The title line and the sections NAME and SYNOPSIS. page: "tandem-serve"; purpose: one sentence. */
void td_roff_begin(const char *page, const char *version, const char *purpose, const char *program,
                   const char *usage, struct td_buf *out);

/* A section (.SH) or, with level 2, a part of one (.SS). */
void td_roff_section(int level, const char *name, struct td_buf *out);

/* Running text; blank lines part paragraphs, `words` become bold. Begins a line, and ends it. */
void td_roff_text(const char *text, struct td_buf *out);

/* Lines as they are, for examples and tables. */
void td_roff_lines(const char *lines, struct td_buf *out);

/* An entry of a list: a bold term, what follows it in italics ("" for nothing), and its text. */
void td_roff_entry(const char *term, const char *value, const char *text, struct td_buf *out);

#endif
