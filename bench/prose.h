/*
 * prose.h: text to measure tokenizers with: never the same twice, and much like what people send.
 */
#ifndef TANDEM_BENCH_PROSE_H
#define TANDEM_BENCH_PROSE_H

#include "lib/base/buf.h"
#include "lib/base/random.h"

enum bench_prose {
    BENCH_PROSE_ENGLISH,
    BENCH_PROSE_CODE,
    BENCH_PROSE_SCRIPTS, /* a dozen of them */
    BENCH_PROSE_DIGITS,
    BENCH_PROSE_EMOJI,
    BENCH_PROSE_MIXED, /* all of these */
    BENCH_PROSE_COUNT,
};

/* "English", "code": the head of a row. */
const char *bench_prose_name(enum bench_prose kind);

/* Appends text of a kind until the buffer has length_max bytes, whole characters. Failure sticks in out. */
void bench_prose_append(enum bench_prose kind, struct td_rng *rng, size_t length_max,
                        struct td_buf *out);

#endif
