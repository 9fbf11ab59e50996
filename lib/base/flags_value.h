/* flags_value.h: values of flags as text: reading and printing. Inside the flags parser only. */
#ifndef TANDEM_LIB_BASE_FLAGS_VALUE_H
#define TANDEM_LIB_BASE_FLAGS_VALUE_H

#include "lib/base/flags.h"

/*
 * Sets one option from text. name is how errors call it ("--port", "TANDEM_PORT"). A list gets the
 * words of text behind those it has.
 */
td_status_t td_flag_set(const struct td_flag *flag, void *options, const char *text,
                        const char *name, struct td_error *error) TD_MUST_USE;

/* Appends the comma-separated words of text to the list at options. */
td_status_t td_flag_append(const struct td_flag *flag, void *options, const char *text,
                           struct td_arena *arena, struct td_error *error) TD_MUST_USE;

/* Empties the list at options. */
void td_flag_clear(const struct td_flag *flag, void *options);

/* Whether there is more to say about a value than its kind. */
bool td_flag_has_range(const struct td_flag *flag);

/* What a value may be: "1 to 65535", "64KiB to 1GiB", "ucx, map or auto"; nothing if it is free. */
void td_flag_print_range(const struct td_flag *flag, struct td_buf *out);

/* What stands for the value in help. */
const char *td_flag_placeholder(const struct td_flag *flag);

/* ---- for help and man pages ---- */

#define TD_FLAGS_SIZE_TEXT "a number of bytes, or 64KiB, 512MiB, 2GiB (1GB is decimal)"
#define TD_FLAGS_TIME_TEXT "0, or a number with its unit: 250ms, 30s, 5m, 2h"

extern const char td_flags_statuses[];

/* Whether any flag is of a kind from first to last. */
bool td_flags_have_kind(const struct td_flags *flags, enum td_flag_kind first,
                        enum td_flag_kind last);

/* TANDEM_<FLAG>, cut to size. */
void td_flag_environment_name(const struct td_flag *flag, char *out, size_t size);

#endif
