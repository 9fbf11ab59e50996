/*
 * status.h: the one result type of the project, and the text that goes with it.
 *
 * Operating errors (bad input, lost peers, full queues) are returned as td_status_t; programmer
 * errors are assertions, and assertions stay on in release builds. What a peer, client or file
 * says is never asserted.
 *
 * Set-up and control paths may also fill a struct td_error with a sentence that names the field,
 * offset or file; the token path never does.
 */
#ifndef TANDEM_LIB_BASE_STATUS_H
#define TANDEM_LIB_BASE_STATUS_H

#include <stdarg.h>

/* name, value, text. Positive: not done yet; zero: done; negative: failed. */
#define TD_STATUS_MAP(X)                                             \
    X(OK, 0, "ok")                                                   \
    X(AGAIN, 1, "not now; the owner will say when")                  \
    X(INVALID, -1, "malformed or out-of-range input")                \
    X(LIMIT, -2, "a configured limit was hit")                       \
    X(NO_MEMORY, -3, "memory allocation failed")                     \
    X(TIMEOUT, -4, "the deadline passed")                            \
    X(PEER_LOST, -5, "the peer failed, closed or cannot be reached") \
    X(CANCELED, -6, "canceled by the owner")                         \
    X(REFUSED, -7, "the peer refused")                               \
    X(NOT_FOUND, -8, "no such object")                               \
    X(UNSUPPORTED, -9, "not supported")                              \
    X(EXHAUSTED, -10, "no capacity is free at present")              \
    X(CORRUPT, -11, "content does not match its checksum or key")    \
    X(STALE, -12, "an old epoch or generation")                      \
    X(IO, -13, "an operating system call failed")                    \
    X(STATE, -14, "not possible in the present state")               \
    X(INTERNAL, -15, "internal error")

typedef enum td_status {
#define X(name, value, text) TD_##name = (value),
    TD_STATUS_MAP(X)
#undef X
} td_status_t;

/* The text of a status, for logs and messages. Never NULL. */
const char *td_status_text(td_status_t status);

/* The short name of a status in lower case ("peer_lost"), for metric labels. Never NULL. */
const char *td_status_name(td_status_t status);

#define TD_MUST_USE __attribute__((warn_unused_result))
#define TD_PRINTF(format_index, first_argument) \
    __attribute__((format(printf, format_index, first_argument)))

/* A status with one sentence for a person. Zero-initialised means "no error". */
struct td_error {
    td_status_t status;
    char text[256];
};

/*
 * td_fail: record a failure and return its status, so that callers write
 *     return td_fail(error, TD_INVALID, "tensor %s: offset %zu is past the end", name, offset);
 * error may be NULL. The text is cut to fit, and its control characters become '?'.
 */
td_status_t td_fail(struct td_error *error, td_status_t status, const char *format, ...)
    TD_PRINTF(3, 4);

/* td_fail_wrap: put context in front of what error already says ("model.gguf: tensor x: ..."). */
void td_fail_wrap(struct td_error *error, const char *format, ...) TD_PRINTF(2, 3);

#endif
