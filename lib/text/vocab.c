/* vocab.c: tokens as raw bytes, see vocab.h. */
#include "lib/text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "lib/text/unicode.h"

/*
 * The byte that a character of GPT-2's alphabet stands for, or -1. Printable bytes stand for
 * themselves; the other 68, in rising order, are U+0100 and up.
 */
static int alphabet_byte(uint32_t character)
{
    if ((character >= 33 && character <= 126) || (character >= 161 && character <= 172) ||
        (character >= 174 && character <= 255))
        return (int)character;
    if (character < 0x100 || character > 0x100 + 67)
        return -1;
    character -= 0x100;
    if (character < 33)
        return (int)character;
    return character < 67 ? (int)(character - 33 + 127) : 173;
}

/* Writes the raw bytes of an ordinary token (never more than it has now); false: not the alphabet. */
static bool translate(const struct text_token *token, char *out, uint32_t *length_out)
{
    const uint8_t *bytes = (const uint8_t *)token->bytes;
    uint32_t length = 0;

    for (size_t at = 0; at < token->length;) {
        size_t taken;
        int byte = alphabet_byte(text_utf8_decode(bytes + at, token->length - at, &taken));

        if (byte < 0)
            return false;
        out[length++] = (char)(uint8_t)byte;
        at += taken;
    }
    *length_out = length;
    return true;
}

static td_status_t allocate(struct text_vocab *vocab, const struct text_source *source)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < source->token_count; i++)
        bytes += source->tokens[i].length;
    if (bytes > TEXT_SOURCE_BYTES_MAX)
        return TD_LIMIT;
    vocab->bytes = malloc(bytes + 1);
    vocab->offsets = calloc((size_t)source->token_count + 1, sizeof *vocab->offsets);
    vocab->types = malloc(source->token_count);
    vocab->specials = calloc(source->token_count, sizeof *vocab->specials);
    if (vocab->bytes == NULL || vocab->offsets == NULL || vocab->types == NULL ||
        vocab->specials == NULL)
        return TD_NO_MEMORY;
    return TD_OK;
}

static bool is_special(const struct text_vocab *vocab, uint32_t id)
{
    uint8_t type = vocab->types[id];

    return type == TEXT_TOKEN_CONTROL || type == TEXT_TOKEN_UNKNOWN ||
           type == TEXT_TOKEN_USER_DEFINED;
}

static td_status_t add_token(struct text_vocab *vocab, const struct text_token *token,
                             struct td_error *error)
{
    uint32_t id = vocab->count;
    uint32_t length = token->length;
    char *out = vocab->bytes + vocab->offsets[id];

    if (token->type != TEXT_TOKEN_NORMAL)
        memcpy(out, token->bytes, token->length);
    else if (!translate(token, out, &length))
        return td_fail(error, TD_INVALID, "token %u: a character outside the byte alphabet", id);
    vocab->types[id] = token->type;
    vocab->offsets[id + 1] = vocab->offsets[id] + length;
    vocab->count++;
    if (is_special(vocab, id)) {
        vocab->specials[vocab->special_count++] = id;
        vocab->special_starts[(uint8_t)out[0]] = true;
    } else if (token->type == TEXT_TOKEN_NORMAL && length == 1 &&
               vocab->byte_ids[(uint8_t)out[0]] == TEXT_TOKEN_NONE) {
        vocab->byte_ids[(uint8_t)out[0]] = id;
    }
    return TD_OK;
}

static int compare_bytes(struct td_span a, struct td_span b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = memcmp(a.bytes, b.bytes, shorter);

    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}

static int compare_specials(const void *left, const void *right, void *context)
{
    const struct text_vocab *vocab = context;
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    int order = compare_bytes(text_vocab_bytes(vocab, a), text_vocab_bytes(vocab, b));

    return order != 0 ? order : (a > b) - (a < b);
}

td_status_t text_vocab_init(struct text_vocab *vocab, const struct text_source *source,
                            struct td_error *error)
{
    td_status_t status;

    *vocab = (struct text_vocab){.count = 0};
    for (size_t i = 0; i < 256; i++)
        vocab->byte_ids[i] = TEXT_TOKEN_NONE;
    status = allocate(vocab, source);
    if (status != TD_OK)
        td_fail(error, status, "tokens: no memory, or over the limit");
    for (uint32_t i = 0; i < source->token_count && status == TD_OK; i++)
        status = add_token(vocab, &source->tokens[i], error);
    if (status != TD_OK) {
        text_vocab_fini(vocab);
        return status;
    }
    qsort_r(vocab->specials, vocab->special_count, sizeof *vocab->specials, compare_specials,
            vocab);
    return TD_OK;
}

void text_vocab_fini(struct text_vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->offsets);
    free(vocab->types);
    free(vocab->specials);
    *vocab = (struct text_vocab){.count = 0};
}

/* The first special token that is not less than these bytes. */
static uint32_t lower_bound(const struct text_vocab *vocab, struct td_span bytes)
{
    uint32_t low = 0;
    uint32_t high = vocab->special_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare_bytes(text_vocab_bytes(vocab, vocab->specials[middle]), bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t text_vocab_find_special(const struct text_vocab *vocab, const char *bytes, size_t length)
{
    struct td_span wanted = {bytes, length};
    uint32_t place;

    if (length > TEXT_TOKEN_BYTES_MAX)
        return TEXT_TOKEN_NONE;
    place = lower_bound(vocab, wanted);
    if (place == vocab->special_count ||
        compare_bytes(text_vocab_bytes(vocab, vocab->specials[place]), wanted) != 0)
        return TEXT_TOKEN_NONE;
    return vocab->specials[place];
}

/* Narrows specials [*low, *high), which agree in their first `depth` bytes, to those that go on with byte. */
static void narrow(const struct text_vocab *vocab, uint32_t depth, uint8_t byte, uint32_t *low,
                   uint32_t *high)
{
    uint32_t bounds[2]; /* of those that have at least byte, and more than byte, at depth */

    for (uint32_t i = 0; i < 2; i++) {
        uint32_t from = *low;
        uint32_t to = *high;

        while (from < to) {
            uint32_t middle = from + (to - from) / 2;
            struct td_span token = text_vocab_bytes(vocab, vocab->specials[middle]);

            if (token.length <= depth || (uint8_t)token.bytes[depth] < byte + i)
                from = middle + 1;
            else
                to = middle;
        }
        bounds[i] = from;
    }
    *low = bounds[0];
    *high = bounds[1];
}

uint32_t text_vocab_match_special(const struct text_vocab *vocab, const char *bytes, size_t length)
{
    uint32_t low = 0;
    uint32_t high = vocab->special_count;
    uint32_t best = TEXT_TOKEN_NONE;

    for (uint32_t depth = 0; depth < length && low < high; depth++) {
        narrow(vocab, depth, (uint8_t)bytes[depth], &low, &high);
        /* Shorter sorts first, so a token that ends here is the first of those left. */
        if (low < high && text_vocab_bytes(vocab, vocab->specials[low]).length == depth + 1)
            best = vocab->specials[low];
    }
    return best;
}
