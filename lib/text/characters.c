/* characters.c: see characters.h. */
#include "lib/text/characters.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/utf8.h"
#include "lib/text/unicode.h"

/* Of characters side by side. Vocabularies have fewer than two a token; a file made for it has twenty. */
#define PAIRS_MAX (2 * TEXT_TOKENS_MAX)

/* ------------------------------------------------------------------------------------------- */
/* Making the tables */

static td_status_t stray_add(struct text_characters *characters, uint32_t character,
                             uint32_t *symbol_out)
{
    uint32_t count = characters->stray_count;

    if ((count & (count - 1)) == 0) { /* full: grow to the next power of two */
        size_t capacity = count == 0 ? 1 : (size_t)count * 2;
        uint32_t *strays = realloc(characters->strays, capacity * sizeof *strays);

        if (strays == NULL)
            return TD_NO_MEMORY;
        characters->strays = strays;
    }
    characters->strays[characters->stray_count++] = character;
    *symbol_out = characters->vocab->count + count;
    return TD_OK;
}

/* A character of a token: bytes[0..length). */
static td_status_t symbol_add(struct text_characters *characters,
                              const struct text_token_map *makeable, uint32_t character,
                              struct td_span bytes)
{
    uint32_t symbol;

    if (text_pair_map_find(&characters->symbols, character) != TEXT_PAIR_NONE)
        return TD_OK;
    symbol = text_token_map_find(makeable, bytes.bytes, bytes.length);
    if (symbol == TEXT_TOKEN_NONE) {
        td_status_t status = stray_add(characters, character, &symbol);

        if (status != TD_OK)
            return status;
    }
    if (character < 128)
        characters->ascii_symbols[character] = symbol;
    return text_pair_map_add(&characters->symbols, character, symbol);
}

static td_status_t pair_add(struct text_characters *characters, uint32_t left, uint32_t right)
{
    td_status_t status;

    if (left < 128 && right < 128) {
        characters->ascii_pairs[left][right / 64] |= UINT64_C(1) << (right % 64);
        return TD_OK;
    }
    status = text_pair_map_add(&characters->pairs, text_pair(left, right), 1);
    return status == TD_OK && characters->pairs.count > PAIRS_MAX ? TD_LIMIT : status;
}

static td_status_t token_add(struct text_characters *characters,
                             const struct text_token_map *makeable, struct td_span token)
{
    const uint8_t *bytes = (const uint8_t *)token.bytes;
    uint32_t before = TEXT_NOT_UTF8;
    td_status_t status = TD_OK;

    for (size_t at = 0, taken; at < token.length && status == TD_OK; at += taken) {
        uint32_t character = text_utf8_decode(bytes + at, token.length - at, &taken);

        status = symbol_add(characters, makeable, character, td_span_over(token.bytes + at, taken));
        if (status == TD_OK && before != TEXT_NOT_UTF8)
            status = pair_add(characters, before, character);
        before = character;
    }
    return status;
}

td_status_t text_characters_init(struct text_characters *characters, const struct text_vocab *vocab,
                                 const struct text_token_map *makeable)
{
    td_status_t status;

    *characters = (struct text_characters){.vocab = vocab};
    memset(characters->ascii_symbols, 0xFF, sizeof characters->ascii_symbols);
    status = text_pair_map_init(&characters->symbols, 0);
    if (status == TD_OK)
        status = text_pair_map_init(&characters->pairs, 0);
    for (uint32_t id = 0; id < vocab->count && status == TD_OK; id++)
        if (text_vocab_is_makeable(vocab, id))
            status = token_add(characters, makeable, text_vocab_bytes(vocab, id));
    if (status != TD_OK)
        text_characters_fini(characters);
    return status;
}

void text_characters_fini(struct text_characters *characters)
{
    text_pair_map_fini(&characters->symbols);
    text_pair_map_fini(&characters->pairs);
    free(characters->strays);
    characters->strays = NULL;
}

/* ------------------------------------------------------------------------------------------- */
/* Using them */

uint32_t text_characters_symbol(const struct text_characters *characters, uint32_t character)
{
    if (character < 128)
        return characters->ascii_symbols[character];
    return (uint32_t)text_pair_map_find(&characters->symbols, character); /* NONE stays NONE */
}

/* Whether some token has these two side by side. What is no character stands beside nothing. */
static bool are_joined(const struct text_characters *characters, uint32_t left, uint32_t right)
{
    if (left < 128 && right < 128)
        return (characters->ascii_pairs[left][right / 64] >> (right % 64) & 1) != 0;
    return text_pair_map_find(&characters->pairs, text_pair(left, right)) != TEXT_PAIR_NONE;
}

size_t text_characters_next(const struct text_characters *characters, const uint8_t *text,
                            size_t length, size_t at)
{
    size_t taken;
    uint32_t left = text_utf8_decode(text + at, length - at, &taken);
    size_t end = at + taken;

    while (end < length) {
        uint32_t right = text_utf8_decode(text + end, length - end, &taken);

        if (!are_joined(characters, left, right))
            break;
        left = right;
        end += taken;
    }
    return end;
}

uint32_t text_characters_spell(const struct text_characters *characters, const char *bytes,
                               uint32_t length, uint32_t *symbols)
{
    const uint8_t *text = (const uint8_t *)bytes;
    uint32_t count = 0;

    for (size_t at = 0, taken; at < length; at += taken) {
        uint32_t character = text_utf8_decode(text + at, length - at, &taken);
        uint32_t symbol = text_characters_symbol(characters, character);

        if (symbol != TEXT_TOKEN_NONE) {
            symbols[count++] = symbol;
            continue;
        }
        for (size_t i = 0; i < taken; i++)
            symbols[count++] = characters->vocab->byte_ids[text[at + i]];
    }
    return count;
}

void text_characters_push(const struct text_characters *characters, uint32_t symbol,
                          struct text_tokens *tokens)
{
    char bytes[TD_UTF8_BYTES_MAX];
    size_t length;

    if (symbol < characters->vocab->count) {
        text_tokens_push(tokens, symbol);
        return;
    }
    length = td_utf8_encode(characters->strays[symbol - characters->vocab->count], bytes);
    for (size_t i = 0; i < length; i++)
        text_tokens_push(tokens, characters->vocab->byte_ids[(uint8_t)bytes[i]]);
}
