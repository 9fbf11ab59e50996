/*
 * table.h: the rows that `tandem check` makes: what was looked at, how it is, and what to do.
 *
 * A table has a fixed size and no pointers but to literals, so that a probe's process can fill it in
 * shared memory.
 */
#ifndef TANDEM_CLI_CHECK_TABLE_H
#define TANDEM_CLI_CHECK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/base/buf.h"
#include "lib/base/status.h"

#define CHECK_ROWS_MAX     96
#define CHECK_VALUES_MAX   4
#define CHECK_WHAT_BYTES   48
#define CHECK_FIGURE_BYTES 320
#define CHECK_ADVICE_BYTES 320

#define CHECK_RESULTS_MAP(X)                                          \
    X(OK, "ok", "as it should be")                                    \
    X(NOTE, "note", "works, and there is something to know about it") \
    X(PROBLEM, "problem", "will not work; the exit status is 1 then")

enum check_result {
#define X(name, word, text) CHECK_##name,
    CHECK_RESULTS_MAP(X)
#undef X
};

/* A number of a row, for programs. */
struct check_value {
    const char *name;
    double value;
};

struct check_row {
    const char *area; /* "machine", "gpu", "network", "transports", "model" */
    enum check_result result;
    char what[CHECK_WHAT_BYTES];
    char figure[CHECK_FIGURE_BYTES];
    char advice[CHECK_ADVICE_BYTES]; /* what to do; "" where nothing is */
    struct check_value values[CHECK_VALUES_MAX];
    uint32_t value_count;
};

struct check_table {
    struct check_row rows[CHECK_ROWS_MAX];
    uint32_t count;
};

/* Appends a row, which stays good until the next. Beyond the maximum the last one is written over. */
struct check_row *check_add(struct check_table *table, const char *area, const char *what);

/* What was found: a figure or a sentence; takes the place of an earlier one. */
void check_figure(struct check_row *row, const char *format, ...) TD_PRINTF(2, 3);

/* A result other than ok, with what to do. */
void check_mark(struct check_row *row, enum check_result result, const char *advice, ...)
    TD_PRINTF(3, 4);

/* A number for programs; name is a literal. */
void check_value(struct check_row *row, const char *name, double value);

/* How many rows have this result. */
uint32_t check_count(const struct check_table *table, enum check_result result);

/* Appends rows from `first` on as text: a heading where a new area begins. */
void check_print(const struct check_table *table, uint32_t first, struct td_buf *out);

/* The whole as one JSON object. */
void check_write_json(const struct check_table *table, struct td_buf *out);

#endif
