/*
 * fuzz_nfc.c: any bytes brought into NFC, in runs of trusted and untrusted text.
 *
 * What is UTF-8 becomes what utf8proc makes of it as a whole; what is not changes nothing when it is
 * normalised again. Trust never grows: a text without trusted bytes gives none. The first byte of the
 * input seeds the runs.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "lib/base/utf8.h"
#include "lib/text/normalize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX 4096 /* utf8proc sorts marks in quadratic time */

static void divide(struct text_prompt *prompt, const char *text, size_t length, uint32_t seed)
{
    for (size_t at = 0, piece; at < length; at += piece) {
        seed = seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        piece = 1 + (seed >> 16) % 8;
        if (piece > length - at)
            piece = length - at;
        text_prompt_append(prompt, text + at, piece, seed >> 31);
    }
}

static void normalize(const struct text_prompt *in, struct text_prompt *out)
{
    struct text_run_place first = text_run_place_first(in->runs, in->run_count);
    size_t covered = 0;

    text_prompt_init(out, 16 * TEXT_MAX);
    text_nfc_append(in->text.data, first, in->text.length, out);
    assert(out->text.status == TD_OK);
    for (uint32_t i = 0; i < out->run_count; i++)
        covered += out->runs[i].length;
    assert(covered == out->text.length);
}

static void check_trust(const char *text, size_t length)
{
    struct text_prompt in;
    struct text_prompt out;

    text_prompt_init(&in, TEXT_MAX);
    text_prompt_append(&in, text, length, false);
    normalize(&in, &out);
    assert(out.run_count <= 1 && (out.run_count == 0 || !out.runs[0].trusted));
    text_prompt_fini(&out);
    text_prompt_fini(&in);
}

static void check_text(const struct text_prompt *in, const struct text_prompt *once)
{
    struct text_prompt twice;
    utf8proc_uint8_t *expected;
    utf8proc_ssize_t length;

    normalize(once, &twice);
    assert(twice.text.length == once->text.length &&
           memcmp(twice.text.data, once->text.data, once->text.length) == 0);
    text_prompt_fini(&twice);
    if (td_utf8_valid_prefix(in->text.data, in->text.length) < in->text.length)
        return;
    length =
        utf8proc_map((const utf8proc_uint8_t *)in->text.data, (utf8proc_ssize_t)in->text.length,
                     &expected, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    assert(length >= 0 && (size_t)length == once->text.length &&
           memcmp(expected, once->text.data, once->text.length) == 0);
    free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_prompt in;
    struct text_prompt once;

    if (size < 2 || size > TEXT_MAX)
        return 0;
    text_prompt_init(&in, TEXT_MAX);
    divide(&in, (const char *)data + 1, size - 1, data[0]);
    normalize(&in, &once);
    check_text(&in, &once);
    check_trust((const char *)data + 1, size - 1);
    text_prompt_fini(&once);
    text_prompt_fini(&in);
    return 0;
}
