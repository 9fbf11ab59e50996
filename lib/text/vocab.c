/* vocab.c: tokens as raw bytes, see vocab.h. */
#include "lib/text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/utf8.h"
#include "lib/text/normalize.h"
#include "lib/text/unicode.h"

/* A text that nearly has a special token everywhere is searched in its length times that of the token. */
#define SPECIAL_BYTES_MAX 256

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

/* Writes the raw bytes of a byte-level token (never more than it has now); false: not the alphabet. */
static bool translate_alphabet(const struct text_token *token, char *out, uint32_t *length_out)
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

#define SPACE_MARK       "\xE2\x96\x81" /* U+2581, SentencePiece's space */
#define SPACE_MARK_BYTES 3

/* The same for a token of SentencePiece; false: not UTF-8. */
static bool translate_spaces(const struct text_token *token, char *out, uint32_t *length_out)
{
    uint32_t length = 0;

    for (size_t at = 0; at < token->length;) {
        size_t bytes = td_utf8_character(token->bytes + at, token->length - at);

        if (bytes == 0)
            return false;
        if (bytes == SPACE_MARK_BYTES && memcmp(token->bytes + at, SPACE_MARK, bytes) == 0) {
            out[length++] = ' ';
        } else {
            memcpy(out + length, token->bytes + at, bytes);
            length += (uint32_t)bytes;
        }
        at += bytes;
    }
    *length_out = length;
    return true;
}

/* "<0x0A>" */
static bool translate_byte(const struct text_token *token, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *high;
    const char *low;

    if (token->length != 6 || memcmp(token->bytes, "<0x", 3) != 0 || token->bytes[5] != '>')
        return false;
    high = memchr(digits, token->bytes[3], 16);
    low = memchr(digits, token->bytes[4], 16);
    if (high == NULL || low == NULL)
        return false;
    *out = (char)(uint8_t)((high - digits) << 4 | (low - digits));
    return true;
}

static td_status_t allocate(struct text_vocab *vocab, const struct text_source *source)
{
    size_t bytes = 0;
    uint32_t specials = 0;
    td_status_t status;

    for (uint32_t i = 0; i < source->token_count; i++) {
        bytes += source->tokens[i].length;
        specials += source->tokens[i].type != TEXT_TOKEN_NORMAL;
    }
    if (bytes > TEXT_SOURCE_BYTES_MAX)
        return TD_LIMIT;
    vocab->bytes = malloc(bytes + 1);
    vocab->offsets = calloc((size_t)source->token_count + 1, sizeof *vocab->offsets);
    vocab->types = malloc(source->token_count);
    vocab->makeable = calloc((size_t)source->token_count / 8 + 1, 1);
    if (vocab->bytes == NULL || vocab->offsets == NULL || vocab->types == NULL ||
        vocab->makeable == NULL)
        return TD_NO_MEMORY;
    status = text_specials_init(&vocab->specials, specials);
    return status == TD_OK ? text_specials_init(&vocab->normalized_specials, specials) : status;
}

/* Writes the raw bytes of a token; false: the error says why there are none. */
static bool translate(const struct text_vocab *vocab, const struct text_token *token, char *out,
                      uint32_t *length_out, struct td_error *error)
{
    bool sentencepiece = vocab->algorithm == TEXT_SENTENCEPIECE;

    *length_out = token->length;
    if (token->type == TEXT_TOKEN_BYTE && sentencepiece) {
        *length_out = 1;
        if (!translate_byte(token, out)) {
            td_fail(error, TD_INVALID, "token %u: a byte is written \"<0x0A>\"", vocab->count);
            return false;
        }
    } else if (token->type != TEXT_TOKEN_NORMAL) {
        memcpy(out, token->bytes, token->length);
    } else if (sentencepiece && !translate_spaces(token, out, length_out)) {
        td_fail(error, TD_INVALID, "token %u: not UTF-8", vocab->count);
        return false;
    } else if (!sentencepiece && !translate_alphabet(token, out, length_out)) {
        td_fail(error, TD_INVALID, "token %u: a character outside the byte alphabet", vocab->count);
        return false;
    }
    return true;
}

/* Text of SentencePiece never has a plain space in it: a token with one is not made. */
static bool is_makeable(const struct text_vocab *vocab, const struct text_token *token)
{
    return token->type == TEXT_TOKEN_NORMAL
               ? vocab->algorithm == TEXT_BYTE_LEVEL ||
                     memchr(token->bytes, ' ', token->length) == NULL
               : token->type == TEXT_TOKEN_USER_DEFINED && vocab->algorithm == TEXT_BYTE_LEVEL;
}

static void add_byte(struct text_vocab *vocab, uint8_t byte, uint32_t id)
{
    if (vocab->byte_ids[byte] != TEXT_TOKEN_NONE)
        return;
    vocab->byte_ids[byte] = id;
    vocab->byte_id_count++;
}

static bool is_special(const struct text_token *token)
{
    return token->type == TEXT_TOKEN_CONTROL || token->type == TEXT_TOKEN_UNKNOWN ||
           token->type == TEXT_TOKEN_USER_DEFINED;
}

/* The bytes of the token are in place, and it is not counted yet. */
static void classify(struct text_vocab *vocab, const struct text_token *token, uint32_t length)
{
    uint32_t id = vocab->count;
    const char *bytes = vocab->bytes + vocab->offsets[id];
    uint8_t byte_type = vocab->algorithm == TEXT_BYTE_LEVEL ? TEXT_TOKEN_NORMAL : TEXT_TOKEN_BYTE;
    struct text_special special = {{bytes, length}, id, token->flags};

    if (is_makeable(vocab, token))
        vocab->makeable[id / 8] |= (uint8_t)(1u << (id % 8));
    if (is_special(token) && (token->flags & TEXT_TOKEN_NORMALIZED) != 0)
        text_specials_add(&vocab->normalized_specials, special);
    else if (is_special(token))
        text_specials_add(&vocab->specials, special);
    else if (token->type == byte_type && length == 1)
        add_byte(vocab, (uint8_t)bytes[0], id);
    if (length > vocab->longest)
        vocab->longest = length;
}

static td_status_t add_token(struct text_vocab *vocab, const struct text_source *source,
                             struct td_error *error)
{
    uint32_t id = vocab->count;
    struct text_token token = source->tokens[id];
    char *out = vocab->bytes + vocab->offsets[id];
    uint32_t length;

    if (!translate(vocab, &token, out, &length, error))
        return TD_INVALID;
    if (is_special(&token) && length > SPECIAL_BYTES_MAX)
        return td_fail(error, TD_LIMIT, "token %u: %u bytes, at most %d for a special token", id,
                       length, SPECIAL_BYTES_MAX);
    if (!source->normalize_nfc) /* normalised text is the text: one search finds them all */
        token.flags &= (uint8_t)~TEXT_TOKEN_NORMALIZED;
    else if ((token.flags & TEXT_TOKEN_NORMALIZED) != 0 && !text_nfc_is_plain(out, 0, length))
        return td_fail(error, TD_UNSUPPORTED,
                       "token %u: it is to be found in normalised text, but is not normal itself",
                       id);
    vocab->types[id] = token.type;
    vocab->offsets[id + 1] = vocab->offsets[id] + length;
    classify(vocab, &token, length);
    vocab->count++;
    return TD_OK;
}

static td_status_t check_bytes(const struct text_vocab *vocab, struct td_error *error)
{
    if (vocab->algorithm == TEXT_BYTE_LEVEL || vocab->byte_id_count == 256)
        return TD_OK;
    for (unsigned byte = 0; byte < 256; byte++)
        if (vocab->byte_ids[byte] == TEXT_TOKEN_NONE)
            return td_fail(
                error, TD_UNSUPPORTED,
                "tokens: no \"<0x%02X>\"; SentencePiece is served with byte fallback only", byte);
    return TD_OK;
}

td_status_t text_vocab_init(struct text_vocab *vocab, const struct text_source *source,
                            struct td_error *error)
{
    td_status_t status;

    *vocab = (struct text_vocab){.algorithm = source->algorithm};
    for (size_t i = 0; i < 256; i++)
        vocab->byte_ids[i] = TEXT_TOKEN_NONE;
    status = allocate(vocab, source);
    if (status != TD_OK)
        td_fail(error, status, "tokens: no memory, or over the limit");
    while (vocab->count < source->token_count && status == TD_OK)
        status = add_token(vocab, source, error);
    if (status == TD_OK)
        status = check_bytes(vocab, error);
    if (status != TD_OK) {
        text_vocab_fini(vocab);
        return status;
    }
    text_specials_sort(&vocab->specials);
    text_specials_sort(&vocab->normalized_specials);
    return TD_OK;
}

void text_vocab_fini(struct text_vocab *vocab)
{
    free(vocab->bytes);
    free(vocab->offsets);
    free(vocab->types);
    free(vocab->makeable);
    text_specials_fini(&vocab->specials);
    text_specials_fini(&vocab->normalized_specials);
    *vocab = (struct text_vocab){.count = 0};
}

uint32_t text_vocab_find_special(const struct text_vocab *vocab, struct td_span bytes)
{
    uint32_t id = text_specials_find(&vocab->specials, bytes);

    return id != TEXT_TOKEN_NONE ? id : text_specials_find(&vocab->normalized_specials, bytes);
}
