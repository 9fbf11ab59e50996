/* shortlist.c: radix selection on a list of tokens; see shortlist.h. */
#include "engine/shortlist.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RADIX_BITS 8
#define RADIX_BINS (1 << RADIX_BITS)

/* An integer that is ordered as the float is. */
static uint32_t order_of(float value)
{
    uint32_t bits;

    value += 0.0f; /* -0 and 0 are equal */
    memcpy(&bits, &value, sizeof bits);
    return bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
}

/* What is summed up from the greatest value downwards until it reaches the goal. */
struct selection {
    const float *values;
    const uint64_t *weights; /* NULL: each counts as 1 */
    uint32_t count;
    uint64_t goal; /* at least 1, at most the sum of all */
};

/* Where a sum reaches its goal: at the value of this order, and with so many of those that are equal. */
struct limit {
    uint32_t order;
    uint32_t ties;
};

static uint64_t measure(const struct selection *selection, uint32_t i)
{
    return selection->weights != NULL ? selection->weights[i] : 1;
}

/* How many of equal rank it takes to make up for what is left of the goal. */
static uint32_t ties_for(const struct selection *selection, uint32_t order, uint64_t left)
{
    uint32_t i = 0;
    uint64_t each;

    while (order_of(selection->values[i]) != order)
        i++;
    each = measure(selection, i);
    assert(each > 0);
    return (uint32_t)((left + each - 1) / each);
}

/*
 * Each pass looks at the next RADIX_BITS of the distance from the least order and narrows the search to one
 * bin. The bits that no two orders differ in are not looked at.
 */
static struct limit select_limit(const struct selection *selection)
{
    uint64_t left = selection->goal;
    uint32_t least = UINT32_MAX;
    uint32_t greatest = 0;
    uint64_t prefix = 0; /* what is known of the distance wanted */
    uint32_t open = 0;   /* how many bits of it are not known */

    for (uint32_t i = 0; i < selection->count; i++) {
        uint32_t order = order_of(selection->values[i]);

        least = order < least ? order : least;
        greatest = order > greatest ? order : greatest;
    }
    while (open < 32 && (uint64_t)(greatest - least) >> open > 0)
        open++;
    while (open > 0) {
        uint64_t bins[RADIX_BINS] = {0};
        uint32_t bits = open < RADIX_BITS ? open : RADIX_BITS;
        uint32_t bin = (1U << bits) - 1;

        for (uint32_t i = 0; i < selection->count; i++) {
            uint64_t distance = order_of(selection->values[i]) - least;

            if (distance >> open == prefix)
                bins[distance >> (open - bits) & ((1U << bits) - 1)] += measure(selection, i);
        }
        while (bins[bin] < left) {
            assert(bin > 0); /* the goal is at most the sum of all */
            left -= bins[bin--];
        }
        prefix = prefix << bits | bin;
        open -= bits;
    }
    return (struct limit){.order = least + (uint32_t)prefix,
                          .ties = ties_for(selection, least + (uint32_t)prefix, left)};
}

/* Moves an entry to a place at or before its own. */
static void move(struct engine_shortlist *list, uint32_t to, uint32_t from)
{
    list->ids[to] = list->ids[from];
    list->values[to] = list->values[from];
    list->weights[to] = list->weights[from];
}

/*
 * Keeps what is within the limit; returns the sum of its weights. Every entry is moved and only those kept
 * count: which they are nobody could predict, and a wrong guess costs more than a move.
 */
static uint64_t cut(struct engine_shortlist *list, struct limit limit)
{
    uint64_t total = 0;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t order = order_of(list->values[i]);
        uint64_t is_kept = order > limit.order;

        if (order == limit.order && limit.ties > 0) {
            limit.ties--;
            is_kept = 1;
        }
        total += list->weights[i] & (0 - is_kept);
        move(list, kept, i);
        kept += (uint32_t)is_kept;
    }
    list->count = kept;
    return total;
}

float engine_shortlist_kth(const float *values, uint32_t count, uint32_t k)
{
    struct selection selection = {.values = values, .count = count, .goal = k};
    uint32_t order = select_limit(&selection).order;
    uint32_t bits = order & UINT32_C(0x80000000) ? order & UINT32_C(0x7fffffff) : ~order;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

void engine_shortlist_keep_first(struct engine_shortlist *list, uint32_t k)
{
    struct selection selection = {.values = list->values, .count = list->count, .goal = k};

    if (k < list->count)
        cut(list, select_limit(&selection));
}

uint64_t engine_shortlist_keep_heavy(struct engine_shortlist *list, uint64_t least)
{
    uint64_t total = 0;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        if (list->weights[i] < least)
            continue;
        total += list->weights[i];
        move(list, kept++, i);
    }
    list->count = kept;
    return total;
}

uint64_t engine_shortlist_keep_share(struct engine_shortlist *list, uint64_t goal)
{
    struct selection selection = {
        .values = list->values, .weights = list->weights, .count = list->count, .goal = goal};

    return cut(list, select_limit(&selection));
}

uint32_t engine_shortlist_at(const struct engine_shortlist *list, uint64_t point)
{
    uint32_t i = 0;

    while (point >= list->weights[i]) {
        point -= list->weights[i++];
        assert(i < list->count);
    }
    return list->ids[i];
}

td_status_t engine_shortlist_init(struct engine_shortlist *list, uint32_t room)
{
    *list = (struct engine_shortlist){
        .ids = calloc(room, sizeof *list->ids),
        .values = calloc(room, sizeof *list->values),
        .weights = calloc(room, sizeof *list->weights),
    };
    if (list->ids != NULL && list->values != NULL && list->weights != NULL)
        return TD_OK;
    engine_shortlist_fini(list);
    return TD_NO_MEMORY;
}

void engine_shortlist_fini(struct engine_shortlist *list)
{
    free(list->ids);
    free(list->values);
    free(list->weights);
    *list = (struct engine_shortlist){0};
}
