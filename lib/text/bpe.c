/* bpe.c: byte pair encoding, see bpe.h. */
#include "lib/text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"

#define RANK_NONE UINT32_MAX

/* Up to here scanning all pairs for the lowest rank is faster than the heap (they meet at about 100). */
#define SCAN_BYTES_MAX 64

struct text_bpe_place {
    uint64_t pair;
    uint32_t rank;
    uint32_t id;
};

/* What merging two neighbours would give; rank RANK_NONE: they do not merge. */
struct merge {
    uint32_t rank;
    uint32_t id;
};

static const struct merge no_merge = {RANK_NONE, TEXT_TOKEN_NONE};

#define PAIR_NONE UINT64_MAX /* an empty place; ids are far smaller */

static uint64_t pair_of(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

/* The seed keeps whoever makes the merges from choosing where they collide. */
static size_t home_of(const struct text_bpe *bpe, uint64_t pair)
{
    uint64_t mixed = (pair ^ bpe->seed) * UINT64_C(0x9E3779B97F4A7C15);

    mixed ^= mixed >> 32;
    mixed *= UINT64_C(0xD6E8FEB86659FD93);
    return (size_t)(mixed >> 32) & bpe->mask;
}

static struct merge merge_find(const struct text_bpe *bpe, uint32_t left, uint32_t right)
{
    uint64_t pair = pair_of(left, right);

    for (size_t at = home_of(bpe, pair);; at = (at + 1) & bpe->mask) {
        const struct text_bpe_place *place = &bpe->places[at];

        if (place->pair == pair)
            return (struct merge){place->rank, place->id};
        if (place->pair == PAIR_NONE)
            return no_merge;
    }
}

static void merge_add(struct text_bpe *bpe, struct text_merge rule, struct merge merge)
{
    uint64_t pair = pair_of(rule.left, rule.right);
    size_t at = home_of(bpe, pair);

    while (bpe->places[at].pair != PAIR_NONE && bpe->places[at].pair != pair)
        at = (at + 1) & bpe->mask;
    if (bpe->places[at].pair == PAIR_NONE) /* a repeated rule keeps its first rank */
        bpe->places[at] = (struct text_bpe_place){pair, merge.rank, merge.id};
}

/* ------------------------------------------------------------------------------------------- */
/* Encoding */

/* One symbol per byte that has a token; the others are dropped, as Hugging Face does. */
static uint32_t symbols_of(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                           uint32_t *symbols, struct text_tokens *tokens)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < length; i++) {
        uint32_t id = bpe->vocab->byte_ids[(uint8_t)bytes[i]];

        if (id == TEXT_TOKEN_NONE)
            tokens->dropped_bytes++;
        else
            symbols[count++] = id;
    }
    return count;
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

static void encode_long(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                        struct text_tokens *tokens)
{
    struct long_piece piece = {.bpe = bpe};

    piece.nodes = malloc((size_t)length * sizeof *piece.nodes);
    piece.heap = malloc((size_t)length * 2 * sizeof *piece.heap);
    if (piece.nodes == NULL || piece.heap == NULL) {
        tokens->status = TD_NO_MEMORY;
        goto free_piece;
    }
    for (uint32_t i = 0; i < length; i++) {
        uint32_t id = bpe->vocab->byte_ids[(uint8_t)bytes[i]];

        if (id == TEXT_TOKEN_NONE) {
            tokens->dropped_bytes++;
            continue;
        }
        piece.nodes[piece.count] = (struct node){id, piece.count - 1, piece.count + 1};
        piece.count++;
    }
    for (uint32_t i = 0; i < piece.count; i++)
        offer(&piece, i);
    while (piece.heap_count > 0)
        merge_at(&piece, heap_pop(&piece));
    for (uint32_t i = 0; i < piece.count; i = piece.nodes[i].next)
        text_tokens_push(tokens, piece.nodes[i].id);

free_piece:
    free(piece.heap);
    free(piece.nodes);
}

void text_bpe_encode(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                     struct text_tokens *tokens)
{
    uint32_t symbols[SCAN_BYTES_MAX];
    uint32_t whole = text_token_map_find(&bpe->whole, bytes, length);
    uint32_t count;

    if (whole != TEXT_TOKEN_NONE) {
        text_tokens_push(tokens, whole);
        return;
    }
    if (length > SCAN_BYTES_MAX) {
        encode_long(bpe, bytes, length, tokens);
        return;
    }
    count = symbols_of(bpe, bytes, length, symbols, tokens);
    count = merge_short(bpe, symbols, count);
    for (uint32_t i = 0; i < count; i++)
        text_tokens_push(tokens, symbols[i]);
}

/* ------------------------------------------------------------------------------------------- */
/* Making the tables */

/* Ordinary and user-defined tokens by their bytes: what a merge may make. */
static td_status_t makeable_tokens(const struct text_vocab *vocab, struct text_token_map *map)
{
    td_status_t status = text_token_map_init(map, vocab->count);

    if (status != TD_OK)
        return status;
    for (uint32_t id = 0; id < vocab->count; id++)
        if (vocab->types[id] == TEXT_TOKEN_NORMAL || vocab->types[id] == TEXT_TOKEN_USER_DEFINED)
            text_token_map_add(map, text_vocab_bytes(vocab, id), id);
    return TD_OK;
}

static td_status_t add_rule(struct text_bpe *bpe, const struct text_token_map *makeable,
                            const struct text_source *source, uint32_t rank, struct td_error *error)
{
    struct text_merge rule = source->merges[rank];
    struct td_span left = text_vocab_bytes(bpe->vocab, rule.left);
    struct td_span right = text_vocab_bytes(bpe->vocab, rule.right);
    char joined[2 * TEXT_TOKEN_BYTES_MAX];
    size_t length = left.length + right.length;
    uint32_t id;

    memcpy(joined, left.bytes, left.length);
    memcpy(joined + left.length, right.bytes, right.length);
    id = text_token_map_find(makeable, joined, length);
    if (id != TEXT_TOKEN_NONE)
        merge_add(bpe, rule, (struct merge){rank, id});
    else if (text_vocab_find_special(bpe->vocab, joined, length) == TEXT_TOKEN_NONE)
        return td_fail(error, TD_INVALID, "merge %u: '%.*s' and '%.*s' make no token", rank,
                       (int)(left.length < 50 ? left.length : 50), left.bytes,
                       (int)(right.length < 50 ? right.length : 50), right.bytes);
    return TD_OK;
}

static td_status_t add_rules(struct text_bpe *bpe, const struct text_source *source,
                             struct td_error *error)
{
    struct text_token_map makeable;
    size_t capacity = 16;
    td_status_t status;

    while (capacity < (size_t)source->merge_count * 2)
        capacity *= 2;
    bpe->places = malloc(capacity * sizeof *bpe->places);
    if (bpe->places == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the merges");
    memset(bpe->places, 0xFF, capacity * sizeof *bpe->places);
    bpe->mask = capacity - 1;
    status = makeable_tokens(bpe->vocab, &makeable);
    if (status != TD_OK)
        return td_fail(error, status, "no memory for the merges");
    for (uint32_t rank = 0; rank < source->merge_count && status == TD_OK; rank++)
        status = add_rule(bpe, &makeable, source, rank, error);
    text_token_map_fini(&makeable);
    return status;
}

/* Fills `whole` with the ordinary tokens that merging arrives at, or with all if merging is not asked. */
static td_status_t add_whole_tokens(struct text_bpe *bpe, bool ignore_merges)
{
    const struct text_vocab *vocab = bpe->vocab;
    struct text_token_map whole;
    struct text_tokens made;
    td_status_t status = text_token_map_init(&whole, vocab->count);

    if (status != TD_OK)
        return status;
    text_tokens_init(&made, TEXT_TOKEN_BYTES_MAX);
    for (uint32_t id = 0; id < vocab->count && made.status == TD_OK; id++) {
        struct td_span token = text_vocab_bytes(vocab, id);

        if (vocab->types[id] != TEXT_TOKEN_NORMAL)
            continue;
        made.count = 0;
        if (!ignore_merges)
            text_bpe_encode(bpe, token.bytes, (uint32_t)token.length, &made);
        if (ignore_merges || (made.count == 1 && made.ids[0] == id))
            text_token_map_add(&whole, token, id);
    }
    status = made.status;
    text_tokens_fini(&made);
    text_token_map_fini(&bpe->whole);
    bpe->whole = whole;
    return status;
}

td_status_t text_bpe_init(struct text_bpe *bpe, const struct text_vocab *vocab,
                          const struct text_source *source, struct td_error *error)
{
    td_status_t status;

    *bpe = (struct text_bpe){.vocab = vocab, .seed = td_random_u64()};
    status = text_token_map_init(&bpe->whole, 0);
    if (status != TD_OK)
        return td_fail(error, status, "no memory for the merges");
    status = add_rules(bpe, source, error);
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
    free(bpe->places);
    bpe->places = NULL;
    text_token_map_fini(&bpe->whole);
}
