/*
 * stop.h: finds stop strings in an answer while it is streamed.
 *
 * Only what may be the beginning of a stop string is held back. The string that ends first wins, the longest of
 * those that end together; so the result does not depend on how the text is divided into pieces.
 */
#ifndef TANDEM_LIB_TEXT_STOP_H
#define TANDEM_LIB_TEXT_STOP_H

#include "lib/base/buf.h"
#include "lib/base/status.h"
#include "lib/text/types.h"

#define TEXT_STOPS_MAX      4
#define TEXT_STOP_BYTES_MAX 256

struct text_stop_pattern {
    uint16_t length;
    uint16_t matched;                       /* bytes of it that the text ends with */
    uint16_t fallback[TEXT_STOP_BYTES_MAX]; /* Knuth, Morris, Pratt: the next shorter border */
    char bytes[TEXT_STOP_BYTES_MAX];
};

struct text_stop {
    struct text_stop_pattern patterns[TEXT_STOPS_MAX];
    uint32_t count;
    bool found;
    uint32_t found_index; /* which string, in the caller's order */
    uint64_t given;       /* bytes appended to out so far: once found, where the text is cut */
};

/*
 * Prepares a matcher for count strings (0: everything passes). TD_LIMIT: more than TEXT_STOPS_MAX or a
 * string over TEXT_STOP_BYTES_MAX; TD_INVALID: an empty string. error names which.
 */
td_status_t text_stop_init(struct text_stop *stop, const struct td_span *strings, uint32_t count,
                           struct td_error *error) TD_MUST_USE;

/*
 * Takes the next piece of the answer and appends to out what may be shown. Returns true once a stop
 * string is complete: out then ends right in front of it, and nothing further is ever appended.
 */
bool text_stop_push(struct text_stop *stop, const char *bytes, size_t length, struct td_buf *out);

/* The end of the answer without a stop string: appends what is still held back. */
void text_stop_finish(struct text_stop *stop, struct td_buf *out);

#endif
