/* special.c: see special.h. */
#include "lib/text/special.h"

#include <stdlib.h>
#include <string.h>

#include "lib/text/source.h"
#include "lib/text/unicode.h"

td_status_t text_specials_init(struct text_specials *specials, uint32_t count_max)
{
    *specials = (struct text_specials){.count = 0};
    specials->items = calloc((size_t)count_max + 1, sizeof *specials->items);
    return specials->items == NULL ? TD_NO_MEMORY : TD_OK;
}

void text_specials_fini(struct text_specials *specials)
{
    free(specials->items);
    *specials = (struct text_specials){.count = 0};
}

void text_specials_add(struct text_specials *specials, struct text_special special)
{
    specials->items[specials->count++] = special;
    specials->starts[(uint8_t)special.bytes.bytes[0]] = true;
}

static int compare_bytes(struct td_span a, struct td_span b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = memcmp(a.bytes, b.bytes, shorter);

    if (order != 0)
        return order;
    return (a.length > b.length) - (a.length < b.length);
}

static int compare_specials(const void *left, const void *right)
{
    const struct text_special *a = left;
    const struct text_special *b = right;
    int order = compare_bytes(a->bytes, b->bytes);

    return order != 0 ? order : (a->id > b->id) - (a->id < b->id);
}

void text_specials_sort(struct text_specials *specials)
{
    qsort(specials->items, specials->count, sizeof *specials->items, compare_specials);
}

uint32_t text_specials_find(const struct text_specials *specials, struct td_span bytes)
{
    uint32_t low = 0;
    uint32_t high = specials->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare_bytes(specials->items[middle].bytes, bytes) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < specials->count && td_span_equal(specials->items[low].bytes, bytes)
               ? specials->items[low].id
               : TEXT_TOKEN_NONE;
}

/* Narrows items [*low, *high), which agree in their first `depth` bytes, to those that go on with byte. */
static void narrow(const struct text_specials *specials, uint32_t depth, uint8_t byte,
                   uint32_t *low, uint32_t *high)
{
    uint32_t bounds[2]; /* of those that have at least byte, and more than byte, at depth */

    for (uint32_t i = 0; i < 2; i++) {
        uint32_t from = *low;
        uint32_t to = *high;

        while (from < to) {
            uint32_t middle = from + (to - from) / 2;
            struct td_span bytes = specials->items[middle].bytes;

            if (bytes.length <= depth || (uint8_t)bytes.bytes[depth] < byte + i)
                from = middle + 1;
            else
                to = middle;
        }
        bounds[i] = from;
    }
    *low = bounds[0];
    *high = bounds[1];
}

/* The longest token that bytes[0..length) starts with, or NULL. */
static const struct text_special *match(const struct text_specials *specials, const char *bytes,
                                        size_t length)
{
    const struct text_special *best = NULL;
    uint32_t low = 0;
    uint32_t high = specials->count;

    for (uint32_t depth = 0; depth < length && low < high; depth++) {
        narrow(specials, depth, (uint8_t)bytes[depth], &low, &high);
        /* Shorter sorts first, so a token that ends here is the first of those left. */
        if (low < high && specials->items[low].bytes.length == depth + 1)
            best = &specials->items[low];
    }
    return best;
}

/* ------------------------------------------------------------------------------------------- */
/* Runs */

struct text_run_place text_run_place_first(const struct text_run *runs, uint32_t run_count)
{
    return (struct text_run_place){
        .runs = runs, .run_count = run_count, .run_end = run_count > 0 ? runs[0].length : 0};
}

void text_run_place_move(struct text_run_place *place, size_t at)
{
    place->at = at;
    while (place->run < place->run_count && place->run_end <= at) {
        place->run++;
        if (place->run < place->run_count)
            place->run_end += place->runs[place->run].length;
    }
}

/* ------------------------------------------------------------------------------------------- */
/* The walk */

static bool is_space_at(struct td_span text, size_t at, size_t *length_out)
{
    enum text_class class =
        text_class_at((const uint8_t *)text.bytes + at, text.length - at, length_out);

    return class == TEXT_CLASS_SPACE || class == TEXT_CLASS_NEWLINE;
}

/* The start of the character that ends at `end`; limit < end. */
static size_t character_before(struct td_span text, size_t limit, size_t end)
{
    size_t at = end - 1;

    while (at > limit && end - at < 4 && ((uint8_t)text.bytes[at] & 0xC0) == 0x80)
        at--;
    return at;
}

static size_t spaces_before(struct td_span text, size_t limit, size_t end)
{
    while (end > limit) {
        size_t at = character_before(text, limit, end);
        size_t length;

        if (!is_space_at(text, at, &length) || at + length != end)
            break;
        end = at;
    }
    return end;
}

static size_t spaces_behind(struct td_span text, size_t at)
{
    size_t length;

    while (at < text.length && is_space_at(text, at, &length))
        at += length;
    return at;
}

static bool is_word_at(struct td_span text, size_t at)
{
    size_t length;

    return text_is_word(
        text_utf8_decode((const uint8_t *)text.bytes + at, text.length - at, &length));
}

static bool stands_alone(struct td_span text, size_t start, size_t end)
{
    return (start == 0 || !is_word_at(text, character_before(text, 0, start))) &&
           (end == text.length || !is_word_at(text, end));
}

struct text_special_walk text_special_walk_over(const struct text_specials *specials,
                                                struct td_span text, const struct text_run *runs,
                                                uint32_t run_count)
{
    struct text_run_place first = text_run_place_first(runs, run_count);

    text_run_place_move(&first, 0); /* over empty runs */
    return (struct text_special_walk){
        .specials = specials, .text = text, .place = first, .stretch = first};
}

/* The next place at which a token begins in the run that the walk is in; false: none does. */
static const struct text_special *match_in_run(struct text_special_walk *walk)
{
    const char *bytes = walk->text.bytes;
    size_t run_end = walk->place.run_end;

    for (size_t at = walk->place.at; at < run_end; at++) {
        const struct text_special *found;

        if (!walk->specials->starts[(uint8_t)bytes[at]])
            continue;
        found = match(walk->specials, bytes + at, run_end - at);
        if (found != NULL) {
            text_run_place_move(&walk->place, at);
            return found;
        }
    }
    return NULL;
}

/* What a token at the walk's place cuts out; false: it does not stand there as a word of its own. */
static bool cut(const struct text_special_walk *walk, const struct text_special *special,
                struct text_special_hit *hit_out)
{
    struct text_special_hit hit = {special->id, walk->place.at,
                                   walk->place.at + special->bytes.length};

    if ((special->flags & TEXT_TOKEN_SINGLE_WORD) != 0 &&
        !stands_alone(walk->text, hit.start, hit.end))
        return false;
    if ((special->flags & TEXT_TOKEN_LSTRIP) != 0)
        hit.start = spaces_before(walk->text, walk->stretch.at, hit.start);
    if ((special->flags & TEXT_TOKEN_RSTRIP) != 0)
        hit.end = spaces_behind(walk->text, hit.end);
    *hit_out = hit;
    return true;
}

bool text_special_walk_next(struct text_special_walk *walk, struct text_special_hit *hit_out)
{
    struct text_run_place *place = &walk->place;

    while (walk->specials->count > 0 && place->run < place->run_count) {
        const struct text_special *found =
            place->runs[place->run].trusted ? match_in_run(walk) : NULL;

        if (found == NULL)
            text_run_place_move(place, place->run_end);
        else if (cut(walk, found, hit_out))
            return true;
        else
            text_run_place_move(place, place->at + found->bytes.length);
    }
    return false;
}

void text_special_walk_pass(struct text_special_walk *walk, const struct text_special_hit *hit)
{
    text_run_place_move(&walk->place, hit->end);
    walk->stretch = walk->place;
}
