/* timers.c: pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986) ordered by (at_ns, order). */
#include "lib/base/timers.h"

#include <assert.h>
#include <stddef.h>

#include "lib/base/time.h"

void td_timers_init(struct td_timers *timers)
{
    *timers = (struct td_timers){0};
}

void td_timer_init(struct td_timer *timer, td_timer_fn fn)
{
    *timer = (struct td_timer){.fn = fn};
}

static bool is_before(const struct td_timer *a, const struct td_timer *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

/* Joins two heaps; the later root becomes the first child of the earlier one. */
static struct td_timer *meld(struct td_timer *a, struct td_timer *b)
{
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (is_before(b, a)) {
        struct td_timer *swap = a;

        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL)
        a->child->prev = b;
    a->child = b;
    a->next = NULL;
    a->prev = NULL;
    return a;
}

/* Melds a list of siblings into one heap: in pairs from the left, then all from the right. */
static struct td_timer *meld_siblings(struct td_timer *first)
{
    struct td_timer *pairs = NULL; /* a stack through next */
    struct td_timer *heap = NULL;

    while (first != NULL) {
        struct td_timer *a = first;
        struct td_timer *b = a->next;
        struct td_timer *pair;

        first = b != NULL ? b->next : NULL;
        a->next = a->prev = NULL;
        if (b != NULL)
            b->next = b->prev = NULL;
        pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs != NULL) {
        struct td_timer *pair = pairs;

        pairs = pair->next;
        pair->next = NULL;
        heap = meld(heap, pair);
    }
    return heap;
}

static void heap_remove(struct td_timers *timers, struct td_timer *timer)
{
    struct td_timer *below = meld_siblings(timer->child);

    if (timers->root == timer) {
        timers->root = below;
    } else {
        if (timer->prev->child == timer)
            timer->prev->child = timer->next;
        else
            timer->prev->next = timer->next;
        if (timer->next != NULL)
            timer->next->prev = timer->prev;
        timers->root = meld(timers->root, below);
    }
    timer->child = timer->next = timer->prev = NULL;
    timer->armed = false;
}

void td_timer_set(struct td_timers *timers, struct td_timer *timer, uint64_t at_ns)
{
    assert(timer->fn != NULL);
    if (timer->armed)
        heap_remove(timers, timer);
    timer->at_ns = at_ns;
    timer->order = timers->order++;
    timer->armed = true;
    timers->root = meld(timers->root, timer);
}

void td_timer_cancel(struct td_timers *timers, struct td_timer *timer)
{
    if (timer->armed)
        heap_remove(timers, timer);
}

uint64_t td_timers_next(const struct td_timers *timers)
{
    return timers->root == NULL ? TD_TIME_NEVER : timers->root->at_ns;
}

void td_timers_run(struct td_timers *timers, uint64_t now_ns)
{
    while (timers->root != NULL && timers->root->at_ns <= now_ns) {
        struct td_timer *due = timers->root;

        heap_remove(timers, due);
        due->fn(due, now_ns);
    }
}
