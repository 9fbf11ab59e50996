/* events.c: the event queue and the virtual clock. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/world.h"

#define HEAP_CAPACITY_MIN 1024

void *sim_alloc(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);

    assert(memory != NULL);
    return memory;
}

uint8_t *sim_copy(const void *bytes, size_t length)
{
    uint8_t *copy = sim_alloc(length, 1);

    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

uint64_t sim_between(struct td_rng *rng, uint64_t low, uint64_t high)
{
    return low + td_rng_below(rng, high - low + 1);
}

bool sim_chance(struct td_rng *rng, uint32_t per_mille)
{
    return td_rng_below(rng, 1000) < per_mille;
}

/* --- the heap --- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void swap(struct sim_event **heap, size_t a, size_t b)
{
    struct sim_event *other = heap[a];

    heap[a] = heap[b];
    heap[b] = other;
}

static void push(struct sim *sim, struct sim_event *event)
{
    size_t place = sim->heap_count++;

    if (place == sim->heap_capacity) {
        sim->heap_capacity = place == 0 ? HEAP_CAPACITY_MIN : 2 * place;
        sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
        assert(sim->heap != NULL);
    }
    sim->heap[place] = event;
    for (; place > 0 && is_before(event, sim->heap[(place - 1) / 2]); place = (place - 1) / 2)
        swap(sim->heap, place, (place - 1) / 2);
}

static struct sim_event *pop(struct sim *sim)
{
    struct sim_event *first = sim->heap[0];
    size_t place = 0;

    sim->heap[0] = sim->heap[--sim->heap_count];
    for (;;) {
        size_t least = place;

        for (size_t child = 2 * place + 1; child <= 2 * place + 2; child++)
            if (child < sim->heap_count && is_before(sim->heap[child], sim->heap[least]))
                least = child;
        if (least == place)
            return first;
        swap(sim->heap, place, least);
        place = least;
    }
}

/* --- events --- */

struct sim_event *sim_post(struct sim *sim, struct sim_node *node, uint32_t life, uint64_t delay_ns,
                           const char *what, sim_event_fn run)
{
    struct sim_event *event = sim_alloc(1, sizeof *event);

    event->at_ns = sim->now_ns + delay_ns;
    event->order = sim->order++;
    event->node = node;
    event->life = life;
    event->what = what;
    event->run = run;
    td_list_init(&event->in_deferred);
    push(sim, event);
    return event;
}

static void event_free(struct sim_event *event)
{
    free(event->bytes);
    free(event);
}

static void event_drop(struct sim *sim, struct sim_event *event)
{
    if (event->drop != NULL)
        event->drop(sim, event);
    event_free(event);
}

static bool is_for_the_dead(const struct sim_event *event)
{
    const struct sim_node *node = event->node;

    return node != NULL && event->life != SIM_LIFE_ANY && (!node->up || node->life != event->life);
}

static void execute(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;

    if (is_for_the_dead(event)) {
        event_drop(sim, event);
        return;
    }
    sim->report->figures.events++;
    sim_trace(sim, event);
    event->run(sim, event);
    event_free(event);
    if (node != NULL && node->up && !node->frozen)
        sim_node_settle(node);
}

bool sim_step(struct sim *sim)
{
    struct sim_event *event;

    if (sim->heap_count == 0)
        return false;
    event = pop(sim);
    assert(event->at_ns >= sim->now_ns);
    sim->now_ns = event->at_ns;
    if (event->node != NULL && event->node->up && event->node->frozen)
        td_list_push_back(&event->node->deferred, &event->in_deferred);
    else
        execute(sim, event);
    return true;
}

uint64_t sim_next_ns(const struct sim *sim)
{
    return sim->heap_count > 0 ? sim->heap[0]->at_ns : TD_TIME_NEVER;
}

/* What has waited happens now, in order, before anything newer. */
void sim_thaw(struct sim_node *node)
{
    struct td_list *first;

    node->frozen = false;
    while (!node->frozen && (first = td_list_first(&node->deferred)) != NULL) {
        td_list_remove(first);
        execute(node->sim, td_container_of(first, struct sim_event, in_deferred));
    }
}

void sim_events_free(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        td_list_for_each(node, &sim->nodes[i].deferred)
        {
            td_list_remove(node);
            event_drop(sim, td_container_of(node, struct sim_event, in_deferred));
        }
    while (sim->heap_count > 0)
        event_drop(sim, pop(sim));
    free(sim->heap);
    sim->heap = NULL;
}

void sim_alarm_set(struct sim_node *node, struct sim_alarm *alarm, uint64_t deadline_ns,
                   const char *what, sim_event_fn run)
{
    struct sim *sim = node->sim;

    if (deadline_ns == TD_TIME_NEVER || (alarm->at_ns != 0 && alarm->at_ns <= deadline_ns))
        return;
    alarm->at_ns = deadline_ns > sim->now_ns ? deadline_ns : sim->now_ns;
    sim_post(sim, node, node->life, alarm->at_ns - sim->now_ns, what, run)->object = alarm;
}

bool sim_alarm_rings(const struct sim_event *event)
{
    struct sim_alarm *alarm = event->object;

    if (event->at_ns != alarm->at_ns)
        return false;
    alarm->at_ns = 0;
    return true;
}
