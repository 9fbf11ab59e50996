/* bpe.c: byte pair encoding, see bpe.h. */
#include "lib/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "lib/text/rules.h"

#define RANK_NONE UINT32_MAX

/* Up to here scanning all pairs for the lowest rank is faster than the heap (they meet at about 100). */
#define SCAN_BYTES_MAX 64

/* What merging two neighbours would give; rank RANK_NONE: they do not merge. */
struct merge {
    uint32_t rank;
    uint32_t id;
};

static struct merge merge_find(const struct text_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t rule = text_pair_map_find(&bpe->rules, text_pair(left, right));

    return (struct merge){(uint32_t)(rule >> 32), (uint32_t)rule}; /* no rule: all ones */
}

/* ------------------------------------------------------------------------------------------- */
/* Encoding */

/* The first symbols of a piece. Bytes that have no token are dropped, as Hugging Face does. */
static uint32_t symbols_of(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                           uint32_t *symbols, struct text_tokens *tokens)
{
    uint32_t count = 0;

    if (bpe->vocab->algorithm == TEXT_SENTENCEPIECE)
        return text_characters_spell(&bpe->characters, bytes, length, symbols);
    for (uint32_t i = 0; i < length; i++) {
        uint32_t id = bpe->vocab->byte_ids[(uint8_t)bytes[i]];

        if (id == TEXT_TOKEN_NONE)
            tokens->dropped_bytes++;
        else
            symbols[count++] = id;
    }
    return count;
}

static void push_symbol(const struct text_bpe *bpe, uint32_t symbol, struct text_tokens *tokens)
{
    if (bpe->vocab->algorithm == TEXT_SENTENCEPIECE)
        text_characters_push(&bpe->characters, symbol, tokens);
    else
        text_tokens_push(tokens, symbol);
}

/* Merges in place by scanning; returns how many symbols are left. count <= SCAN_BYTES_MAX. */
static uint32_t merge_short(const struct text_bpe *bpe, uint32_t *symbols, uint32_t count)
{
    struct merge merges[SCAN_BYTES_MAX]; /* merges[i]: of symbols i and i + 1 */

    for (uint32_t i = 0; i + 1 < count; i++)
        merges[i] = merge_find(bpe, symbols[i], symbols[i + 1]);
    while (count > 1) {
        uint32_t best = 0;

        for (uint32_t i = 1; i + 1 < count; i++)
            if (merges[i].rank < merges[best].rank)
                best = i;
        if (merges[best].rank == RANK_NONE)
            break;
        symbols[best] = merges[best].id;
        count--;
        memmove(symbols + best + 1, symbols + best + 2, (count - best - 1) * sizeof *symbols);
        memmove(merges + best, merges + best + 1, (count - best - 1) * sizeof *merges);
        if (best + 1 < count)
            merges[best] = merge_find(bpe, symbols[best], symbols[best + 1]);
        if (best > 0)
            merges[best - 1] = merge_find(bpe, symbols[best - 1], symbols[best]);
    }
    return count;
}

/* A symbol of a long piece, in a list by index. A symbol that was merged away has id NONE. */
struct node {
    uint32_t id;
    uint32_t prev;
    uint32_t next; /* the count of all nodes: there is none */
};

/*
 * A long piece. The heap orders (rank << 32 | index of the left symbol), so equal ranks go left to
 * right. An entry whose pair has changed since is recognised by its rank when it comes up, and skipped.
 */
struct long_piece {
    const struct text_bpe *bpe;
    struct node *nodes;
    uint64_t *heap;
    uint32_t count;
    uint32_t heap_count; /* at most twice count: a merge takes one entry and adds two */
};

static void heap_push(struct long_piece *piece, uint64_t entry)
{
    uint32_t at = piece->heap_count++;

    while (at > 0 && piece->heap[(at - 1) / 2] > entry) {
        piece->heap[at] = piece->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    piece->heap[at] = entry;
}

static uint64_t heap_pop(struct long_piece *piece)
{
    uint64_t *heap = piece->heap;
    uint64_t top = heap[0];
    uint64_t last = heap[--piece->heap_count];
    uint32_t count = piece->heap_count;
    uint32_t at = 0;

    for (uint32_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* Offers the pair that starts at a symbol, if it merges. */
static void offer(struct long_piece *piece, uint32_t left)
{
    uint32_t right = piece->nodes[left].next;
    struct merge merge;

    if (right == piece->count)
        return;
    merge = merge_find(piece->bpe, piece->nodes[left].id, piece->nodes[right].id);
    if (merge.rank != RANK_NONE)
        heap_push(piece, (uint64_t)merge.rank << 32 | left);
}

static void merge_at(struct long_piece *piece, uint64_t entry)
{
    struct node *nodes = piece->nodes;
    uint32_t left = (uint32_t)entry;
    uint32_t right = nodes[left].next;
    struct merge merge;

    if (nodes[left].id == TEXT_TOKEN_NONE || right == piece->count)
        return;
    merge = merge_find(piece->bpe, nodes[left].id, nodes[right].id);
    if (merge.rank != (uint32_t)(entry >> 32))
        return;
    nodes[left].id = merge.id;
    nodes[left].next = nodes[right].next;
    nodes[right].id = TEXT_TOKEN_NONE;
    if (nodes[left].next != piece->count)
        nodes[nodes[left].next].prev = left;
    offer(piece, left);
    if (left != 0)
        offer(piece, nodes[left].prev);
}

/* Whether a piece must give more ids than there is room for: no token is longer than the longest. */
static bool is_hopeless(const struct text_bpe *bpe, uint32_t length,
                        const struct text_tokens *tokens)
{
    return bpe->vocab->byte_id_count == 256 &&
           length / bpe->vocab->longest > tokens->count_max - tokens->count;
}

static void encode_long(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                        struct text_tokens *tokens)
{
    struct long_piece piece = {.bpe = bpe};
    uint32_t *symbols;

    if (is_hopeless(bpe, length, tokens)) {
        tokens->status = TD_LIMIT;
        return;
    }
    piece.nodes = malloc((size_t)length * sizeof *piece.nodes);
    piece.heap = malloc((size_t)length * 2 * sizeof *piece.heap);
    if (piece.nodes == NULL || piece.heap == NULL) {
        tokens->status = TD_NO_MEMORY;
        goto free_piece;
    }
    symbols = (uint32_t *)(void *)piece.heap; /* empty yet, and large enough */
    piece.count = symbols_of(bpe, bytes, length, symbols, tokens);
    for (uint32_t i = 0; i < piece.count; i++)
        piece.nodes[i] = (struct node){symbols[i], i - 1, i + 1};
    for (uint32_t i = 0; i < piece.count; i++)
        offer(&piece, i);
    while (piece.heap_count > 0)
        merge_at(&piece, heap_pop(&piece));
    for (uint32_t i = 0; i < piece.count; i = piece.nodes[i].next)
        push_symbol(bpe, piece.nodes[i].id, tokens);

free_piece:
    free(piece.heap);
    free(piece.nodes);
}

/* A piece that the cache does not know: its ids go there too. */
static void encode_new(const struct text_bpe *bpe, uint64_t hash, const char *bytes,
                       uint32_t length, struct text_tokens *tokens)
{
    uint32_t symbols[SCAN_BYTES_MAX];
    uint32_t dropped = tokens->dropped_bytes;
    uint32_t first = tokens->count;
    uint32_t whole = text_token_map_find_hashed(&bpe->whole, hash, bytes, length);
    uint32_t count;

    if (whole != TEXT_TOKEN_NONE) {
        text_tokens_push(tokens, whole);
    } else {
        count = symbols_of(bpe, bytes, length, symbols, tokens);
        count = merge_short(bpe, symbols, count);
        for (uint32_t i = 0; i < count; i++)
            push_symbol(bpe, symbols[i], tokens);
    }
    if (tokens->status == TD_OK && tokens->dropped_bytes == dropped)
        text_piece_cache_put(&bpe->cache, hash, bytes, length, tokens->ids + first,
                             tokens->count - first);
}

void text_bpe_encode(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                     struct text_tokens *tokens)
{
    uint64_t hash;
    uint32_t whole;

    if (length <= SCAN_BYTES_MAX) {
        hash = text_token_hash(&bpe->whole, bytes, length);
        if (!text_piece_cache_find(&bpe->cache, hash, bytes, length, tokens))
            encode_new(bpe, hash, bytes, length, tokens);
        return;
    }
    whole = text_token_map_find(&bpe->whole, bytes, length);
    if (whole != TEXT_TOKEN_NONE)
        text_tokens_push(tokens, whole);
    else
        encode_long(bpe, bytes, length, tokens);
}

/* ------------------------------------------------------------------------------------------- */
/* Making the tables */

static td_status_t make_rules(struct text_bpe *bpe, const struct text_source *source,
                              struct td_error *error)
{
    struct text_token_map makeable;
    td_status_t status = text_rules_makeable(bpe->vocab, &makeable);

    if (status != TD_OK)
        return td_fail(error, status, "no memory for the merges");
    if (source->algorithm == TEXT_SENTENCEPIECE) {
        status = text_characters_init(&bpe->characters, bpe->vocab, &makeable);
        if (status != TD_OK)
            td_fail(error, status,
                    status == TD_LIMIT ? "tokens: too many different pairs of characters"
                                       : "no memory for the characters");
    }
    if (status == TD_OK && source->algorithm == TEXT_SENTENCEPIECE && source->merge_count == 0)
        status = text_rules_from_scores(&bpe->characters, &makeable, source, &bpe->rules, error);
    else if (status == TD_OK)
        status = text_rules_from_merges(bpe->vocab, &makeable, source, &bpe->rules, error);
    text_token_map_fini(&makeable);
    return status;
}

/* Whether encoding the token's bytes gives the token. Long ones are not asked: no piece is worth it. */
static bool is_whole(const struct text_bpe *bpe, uint32_t id)
{
    struct td_span token = text_vocab_bytes(bpe->vocab, id);
    uint32_t symbols[SCAN_BYTES_MAX];
    struct text_tokens dropped = {.count_max = 0};
    uint32_t count;

    if (token.length > SCAN_BYTES_MAX)
        return false;
    count = symbols_of(bpe, token.bytes, (uint32_t)token.length, symbols, &dropped);
    count = merge_short(bpe, symbols, count);
    return count == 1 && symbols[0] == id && dropped.dropped_bytes == 0;
}

/* Fills `whole` with the ordinary tokens that merging arrives at, or with all if merging is not asked. */
static td_status_t add_whole_tokens(struct text_bpe *bpe, bool ignore_merges)
{
    const struct text_vocab *vocab = bpe->vocab;
    td_status_t status = text_token_map_init(&bpe->whole, vocab->count);

    for (uint32_t id = 0; id < vocab->count && status == TD_OK; id++)
        if (vocab->types[id] == TEXT_TOKEN_NORMAL && (ignore_merges || is_whole(bpe, id)))
            text_token_map_add(&bpe->whole, text_vocab_bytes(vocab, id), id);
    return status;
}

td_status_t text_bpe_init(struct text_bpe *bpe, const struct text_vocab *vocab,
                          const struct text_source *source, struct td_error *error)
{
    td_status_t status;

    *bpe = (struct text_bpe){.vocab = vocab};
    status = text_pair_map_init(&bpe->rules, source->merge_count);
    if (status == TD_OK)
        status = text_piece_cache_init(&bpe->cache);
    if (status != TD_OK)
        td_fail(error, status, "no memory for the merges");
    if (status == TD_OK)
        status = make_rules(bpe, source, error);
    if (status == TD_OK) {
        status = add_whole_tokens(bpe, source->ignore_merges);
        if (status != TD_OK)
            td_fail(error, status, "no memory for the tokens");
    }
    if (status != TD_OK)
        text_bpe_fini(bpe);
    return status;
}

void text_bpe_fini(struct text_bpe *bpe)
{
    text_pair_map_fini(&bpe->rules);
    text_token_map_fini(&bpe->whole);
    text_characters_fini(&bpe->characters);
    text_piece_cache_fini(&bpe->cache);
}
