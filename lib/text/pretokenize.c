/*
 * pretokenize.c: matchers for the regular expressions of byte-level BPE tokenizers.
 *
 *   G (gpt-2)      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   smollm         every \p{N} alone, then G on each stretch between them
 *   L (llama-bpe)  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}
 *                  | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 *   Q (qwen2)      L with \p{N} in place of \p{N}{1,3}
 *
 * The order of the alternatives is that of the code below. Of (?i:) under Unicode only one thing is
 * left: U+017F (long s) counts as an s, as in Oniguruma, which Hugging Face's tokenizers use.
 */
#include "lib/text/pretokenize.h"

#include <string.h>

#include "lib/text/unicode.h"

/* One character of the text: where it ends and what it is. At the end of the text: END. */
struct glyph {
    size_t end;
    int class;
};

#define END (-1)

static struct glyph glyph_at(const uint8_t *text, size_t length, size_t at)
{
    size_t bytes;
    int class;

    if (at >= length)
        return (struct glyph){at, END};
    class = (int)text_class_at(text + at, length - at, &bytes);
    return (struct glyph){at + bytes, class};
}

static bool is_space(int class)
{
    return class == TEXT_CLASS_SPACE || class == TEXT_CLASS_NEWLINE;
}

/* The end of the longest run of one class from `at`, with at most `most` characters. */
static size_t run_end(const uint8_t *text, size_t length, size_t at, int class, size_t most)
{
    for (; most > 0; most--) {
        struct glyph glyph = glyph_at(text, length, at);

        if (glyph.class != class)
            break;
        at = glyph.end;
    }
    return at;
}

/* The length of 's, 't, 're, 've, 'm, 'll or 'd at `at` (which holds the '), or 0. */
static size_t contraction(const uint8_t *text, size_t length, size_t at, bool any_case)
{
    uint8_t fold = any_case ? 0x20 : 0;
    size_t left = length - at;
    uint8_t first;
    uint8_t second;

    if (left < 2)
        return 0;
    if (any_case && left >= 3 && memcmp(text + at + 1, "\xC5\xBF", 2) == 0)
        return 3;
    first = text[at + 1] | fold;
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return 2;
    if (left < 3)
        return 0;
    second = text[at + 2] | fold;
    if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
        (first == 'l' && second == 'l'))
        return 3;
    return 0;
}

/* A run of whitespace: where it ends, where its last character and its last newline begin and end. */
struct space_run {
    size_t end;
    size_t last;        /* start of the last character */
    size_t newline_end; /* end of the last CR or LF; 0: there is none */
    int next_class;     /* what stands behind the run */
};

static struct space_run space_run(const uint8_t *text, size_t length, size_t at)
{
    struct space_run run = {.end = at, .last = at};

    for (;;) {
        struct glyph glyph = glyph_at(text, length, run.end);

        run.next_class = glyph.class;
        if (!is_space(glyph.class))
            return run;
        run.last = run.end;
        run.end = glyph.end;
        if (glyph.class == TEXT_CLASS_NEWLINE)
            run.newline_end = glyph.end;
    }
}

/* \s+(?!\S)|\s+ : leaves the last character to what follows, unless it is the only one. */
static size_t space_end(struct space_run run, size_t at)
{
    return run.next_class == END || run.last == at ? run.end : run.last;
}

/* G from `at`. With digits_end, a number counts as the end of the text: the stretches of smollm. */
static size_t next_gpt2(const uint8_t *text, size_t length, size_t at, bool digits_end)
{
    struct glyph first = glyph_at(text, length, at);
    struct glyph body = first;
    struct space_run run;

    if (digits_end && first.class == TEXT_CLASS_NUMBER)
        return first.end;
    if (text[at] == '\'') {
        size_t bytes = contraction(text, length, at, false);

        if (bytes > 0)
            return at + bytes;
    }
    if (text[at] == ' ')
        body = glyph_at(text, length, first.end);
    if (body.class == TEXT_CLASS_LETTER || body.class == TEXT_CLASS_OTHER ||
        (body.class == TEXT_CLASS_NUMBER && !digits_end))
        return run_end(text, length, body.end, body.class, SIZE_MAX);
    run = space_run(text, length, at);
    if (digits_end && run.next_class == TEXT_CLASS_NUMBER)
        run.next_class = END;
    return space_end(run, at);
}

/* L and Q from `at`. */
static size_t next_llama(const uint8_t *text, size_t length, size_t at, size_t digits_max)
{
    struct glyph first = glyph_at(text, length, at);
    struct glyph body = first;
    struct space_run run;

    if (text[at] == '\'') {
        size_t bytes = contraction(text, length, at, true);

        if (bytes > 0)
            return at + bytes;
    }
    if (first.class == TEXT_CLASS_NUMBER)
        return run_end(text, length, first.end, first.class, digits_max - 1);
    if (first.class == TEXT_CLASS_SPACE || first.class == TEXT_CLASS_OTHER)
        body = glyph_at(text, length, first.end);
    if (body.class == TEXT_CLASS_LETTER)
        return run_end(text, length, body.end, body.class, SIZE_MAX);
    if (first.class == TEXT_CLASS_OTHER || (text[at] == ' ' && body.class == TEXT_CLASS_OTHER)) {
        size_t end = run_end(text, length, first.end, TEXT_CLASS_OTHER, SIZE_MAX);

        return run_end(text, length, end, TEXT_CLASS_NEWLINE, SIZE_MAX);
    }
    run = space_run(text, length, at);
    return run.newline_end > 0 ? run.newline_end : space_end(run, at);
}

static size_t gpt2(const uint8_t *text, size_t length, size_t at)
{
    return next_gpt2(text, length, at, false);
}

static size_t smollm(const uint8_t *text, size_t length, size_t at)
{
    return next_gpt2(text, length, at, true);
}

static size_t llama_bpe(const uint8_t *text, size_t length, size_t at)
{
    return next_llama(text, length, at, 3);
}

static size_t qwen2(const uint8_t *text, size_t length, size_t at)
{
    return next_llama(text, length, at, 1);
}

static const struct text_pretokenizer pretokenizers[] = {
    {.name = "gpt-2", .next = gpt2},
    {.name = "smollm", .next = smollm},
    {.name = "starcoder", .next = smollm},
    {.name = "refact", .next = smollm},
    {.name = "llama-bpe", .next = llama_bpe, .adds_bos = true, .ignores_merges = true},
    {.name = "llama3", .next = llama_bpe, .adds_bos = true, .ignores_merges = true},
    {.name = "llama-v3", .next = llama_bpe, .adds_bos = true, .ignores_merges = true},
    {.name = "qwen2", .next = qwen2, .normalizes_nfc = true},
    {.name = "deepseek-r1-qwen", .next = qwen2, .normalizes_nfc = true},
};

#define PRETOKENIZER_COUNT (sizeof pretokenizers / sizeof pretokenizers[0])

const struct text_pretokenizer *text_pretokenizer_at(size_t index)
{
    return index < PRETOKENIZER_COUNT ? &pretokenizers[index] : NULL;
}

td_status_t text_pretokenizer_find(struct td_span name,
                                   const struct text_pretokenizer **pretokenizer_out,
                                   struct td_error *error)
{
    for (size_t i = 0; i < PRETOKENIZER_COUNT; i++) {
        const struct text_pretokenizer *candidate = &pretokenizers[i];

        if (strlen(candidate->name) == name.length &&
            (name.length == 0 || memcmp(candidate->name, name.bytes, name.length) == 0)) {
            *pretokenizer_out = candidate;
            return TD_OK;
        }
    }
    return td_fail(error, TD_UNSUPPORTED, "pre-tokenizer '%.*s' is not known", (int)name.length,
                   name.length > 0 ? name.bytes : "");
}
