/* rules.c: see rules.h. */
#include "lib/text/rules.h"

#include <stdlib.h>
#include <string.h>

#include "lib/text/unicode.h"

/* Bounds the work for tokens that somebody made long: it grows with the square of the length. */
#define SCORED_BYTES_MAX 256

td_status_t text_rules_makeable(const struct text_vocab *vocab, struct text_token_map *map_out)
{
    struct text_token_map map;
    td_status_t status = text_token_map_init(&map, vocab->count);

    if (status != TD_OK)
        return status;
    for (uint32_t id = 0; id < vocab->count; id++)
        if (text_vocab_is_makeable(vocab, id))
            text_token_map_add(&map, text_vocab_bytes(vocab, id), id);
    *map_out = map;
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */
/* From merges */

static td_status_t add_merge(const struct text_vocab *vocab, const struct text_token_map *makeable,
                             const struct text_source *source, uint32_t rank,
                             struct text_pair_map *rules, struct td_error *error)
{
    struct text_merge merge = source->merges[rank];
    struct td_span left = text_vocab_bytes(vocab, merge.left);
    struct td_span right = text_vocab_bytes(vocab, merge.right);
    char joined[2 * TEXT_TOKEN_BYTES_MAX];
    size_t length = left.length + right.length;
    uint32_t id;

    memcpy(joined, left.bytes, left.length);
    memcpy(joined + left.length, right.bytes, right.length);
    id = text_token_map_find(makeable, joined, length);
    if (id == TEXT_TOKEN_NONE) {
        if (text_vocab_find_special(vocab, td_span_over(joined, length)) != TEXT_TOKEN_NONE)
            return TD_OK;
        return td_fail(error, TD_INVALID, "merge %u: '%.*s' and '%.*s' make no token", rank,
                       (int)(left.length < 50 ? left.length : 50), left.bytes,
                       (int)(right.length < 50 ? right.length : 50), right.bytes);
    }
    if (text_pair_map_add(rules, text_pair(merge.left, merge.right), text_pair(rank, id)) != TD_OK)
        return td_fail(error, TD_NO_MEMORY, "no memory for the merges");
    return TD_OK; /* a repeated rule keeps its first rank */
}

td_status_t text_rules_from_merges(const struct text_vocab *vocab,
                                   const struct text_token_map *makeable,
                                   const struct text_source *source, struct text_pair_map *rules,
                                   struct td_error *error)
{
    td_status_t status = TD_OK;

    for (uint32_t rank = 0; rank < source->merge_count && status == TD_OK; rank++)
        status = add_merge(vocab, makeable, source, rank, rules, error);
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* From scores */

static int compare_scores(const void *left, const void *right)
{
    float a = *(const float *)left;
    float b = *(const float *)right;

    return (a < b) - (a > b); /* falling */
}

/* The scores of all tokens, highest first, each once; count_out is how many. NULL: no memory. */
static float *sorted_scores(const struct text_source *source, size_t *count_out)
{
    float *scores = malloc((size_t)source->token_count * sizeof *scores);
    size_t count = 0;

    if (scores == NULL)
        return NULL;
    for (uint32_t i = 0; i < source->token_count; i++)
        scores[i] = source->tokens[i].score;
    qsort(scores, source->token_count, sizeof *scores, compare_scores);
    for (uint32_t i = 0; i < source->token_count; i++)
        if (count == 0 || scores[count - 1] != scores[i])
            scores[count++] = scores[i];
    *count_out = count;
    return scores;
}

static uint32_t rank_of(const float *scores, size_t count, float score)
{
    const float *place = bsearch(&score, scores, count, sizeof *scores, compare_scores);

    return (uint32_t)(place - scores); /* it is there: finite scores have a total order */
}

/* The symbol of a part of a token: a token itself, or one character. */
static uint32_t symbol_of(const struct text_characters *characters,
                          const struct text_token_map *makeable, const char *bytes, size_t length)
{
    size_t taken;
    uint32_t character = text_utf8_decode((const uint8_t *)bytes, length, &taken);

    return taken == length ? text_characters_symbol(characters, character)
                           : text_token_map_find(makeable, bytes, length);
}

/*
 * Adds a rule for each way to make a token of two symbols. Tokens that are each other's parts have hundreds of ways
 * each: TD_LIMIT where there are more rules than a file may have merges, long before they fill the memory.
 */
static td_status_t add_token(const struct text_characters *characters,
                             const struct text_token_map *makeable, uint32_t id, uint32_t rank,
                             struct text_pair_map *rules)
{
    struct td_span token = text_vocab_bytes(characters->vocab, id);
    td_status_t status = TD_OK;

    for (size_t at = 1; at < token.length && status == TD_OK; at++) {
        uint32_t left;
        uint32_t right;

        if (((uint8_t)token.bytes[at] & 0xC0) == 0x80)
            continue; /* inside a character */
        left = symbol_of(characters, makeable, token.bytes, at);
        right = symbol_of(characters, makeable, token.bytes + at, token.length - at);
        if (left != TEXT_TOKEN_NONE && right != TEXT_TOKEN_NONE)
            status = text_pair_map_add(rules, text_pair(left, right), text_pair(rank, id));
    }
    return status == TD_OK && rules->count > TEXT_MERGES_MAX ? TD_LIMIT : status;
}

td_status_t text_rules_from_scores(const struct text_characters *characters,
                                   const struct text_token_map *makeable,
                                   const struct text_source *source, struct text_pair_map *rules,
                                   struct td_error *error)
{
    const struct text_vocab *vocab = characters->vocab;
    size_t score_count;
    float *scores = sorted_scores(source, &score_count);
    td_status_t status = scores == NULL ? TD_NO_MEMORY : TD_OK;

    for (uint32_t id = 0; id < vocab->count && status == TD_OK; id++) {
        struct td_span token = text_vocab_bytes(vocab, id);

        if (text_token_map_find(makeable, token.bytes, token.length) != id)
            continue; /* not makeable, or the same text as an earlier one */
        if (token.length > SCORED_BYTES_MAX) {
            free(scores);
            return td_fail(error, TD_LIMIT, "token %u: %zu bytes, at most %d for SentencePiece", id,
                           token.length, SCORED_BYTES_MAX);
        }
        status = add_token(characters, makeable, id,
                           rank_of(scores, score_count, source->tokens[id].score), rules);
    }
    free(scores);
    if (status == TD_LIMIT)
        return td_fail(error, status, "tokens: more than %u ways to merge them", TEXT_MERGES_MAX);
    return status == TD_OK ? TD_OK : td_fail(error, status, "no memory for the merges");
}
