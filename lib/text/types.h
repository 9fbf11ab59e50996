/*
 * types.h: the small types that all of lib/text speaks in.
 *
 * Text is bytes with a length (struct td_span where it is borrowed). Where it matters who wrote the
 * bytes, text also has runs: stretches that are trusted (they stand in the chat template) or not
 * (they came with a request). Control tokens are recognised in trusted bytes only, so a role mark
 * typed by a user stays ordinary text.
 */
#ifndef TANDEM_LIB_TEXT_TYPES_H
#define TANDEM_LIB_TEXT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/span.h"

/* "No such token": for special ids that a model does not have. */
#define TEXT_TOKEN_NONE UINT32_MAX

/* The longest text that one call takes. Positions in text fit 32 bits. */
#define TEXT_BYTES_MAX ((size_t)32 << 20)

/* One stretch of a text. The runs of a text cover it from its start to its end, in order. */
struct text_run {
    uint32_t length;
    bool trusted;
};

#endif
