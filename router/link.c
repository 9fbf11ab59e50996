/*
 * link.c: Generate streams to workers: opening, greeting, what is sent in which order, and loss.
 *
 * One stream carries all requests of a worker. What is sent is pulled by the driver, one message at a
 * time: first what is urgent (cancels, attaches, acknowledgements), then one frame of each starting
 * request in turn, so that a long prompt delays nobody's cancel and shares the stream fairly.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/version.h"
#include "router/internal.h"

static void on_timer(struct td_timer *timer, uint64_t now_ns);

/* --- lifetime --- */

static void link_connect(struct router_link *link)
{
    struct router_core *core = link->core;

    link->state = LINK_CONNECTING;
    router_timer_after(core, &link->timer, core->limits.link_open_ms);
    core->env.link_open(core->env.impl, link->number, link->target);
}

static struct router_link *link_by_epoch(const struct router_core *core, uint64_t epoch)
{
    td_list_for_each(node, &core->links)
    {
        struct router_link *link = td_container_of(node, struct router_link, node);

        if (link->epoch == epoch)
            return link;
    }
    return NULL;
}

static struct router_link *link_by_number(struct router_core *core, uint64_t number)
{
    td_list_for_each(node, &core->links)
    {
        struct router_link *link = td_container_of(node, struct router_link, node);

        if (link->number == number)
            return link;
    }
    return NULL;
}

struct router_link *link_for(struct router_core *core, const struct router_worker *worker)
{
    struct router_link *link = link_by_epoch(core, worker->epoch);

    if (link != NULL)
        return link;
    link = calloc(1, sizeof *link);
    if (link == NULL)
        return NULL;
    link->core = core;
    link->number = ++core->last_number;
    link->epoch = worker->epoch;
    snprintf(link->target, sizeof link->target, "%s", worker->rpc_target);
    td_list_init(&link->journeys);
    td_list_init(&link->urgent);
    td_list_init(&link->starting);
    td_timer_init(&link->timer, on_timer);
    td_list_push_back(&core->links, &link->node);
    core->link_count++;
    link_connect(link);
    return link;
}

static void link_free(struct router_link *link)
{
    assert(td_list_empty(&link->journeys));
    td_timer_cancel(&link->core->timers, &link->timer);
    td_list_remove(&link->node);
    link->core->link_count--;
    free(link);
}

void links_close(struct router_core *core)
{
    td_list_for_each(node, &core->links) free(td_container_of(node, struct router_link, node));
}

/* --- journeys on a link --- */

static void ready(struct router_link *link)
{
    if (link->state == LINK_UP || link->state == LINK_GREETING)
        link->core->env.link_ready(link->core->env.impl, link->number);
}

static void adjust_live(struct router_link *link, bool more)
{
    struct router_worker *worker = router_worker_find(link->core, link->epoch);

    if (worker == NULL)
        return;
    if (more)
        worker->live++;
    else if (worker->live > 0)
        worker->live--;
}

/* The timer of a link that stands is about idleness only. */
static void watch_idleness(struct router_link *link)
{
    if (td_list_empty(&link->journeys))
        router_timer_after(link->core, &link->timer, link->core->limits.link_idle_ms);
    else
        td_timer_cancel(&link->core->timers, &link->timer);
}

void link_take(struct router_link *link, struct router_journey *journey)
{
    journey->link = link;
    if (link->state == LINK_DOWN && td_list_empty(&link->journeys))
        router_timer_after(link->core, &link->timer, link->core->limits.link_retry_ms);
    td_list_push_back(&link->journeys, &journey->node);
    if (link->state == LINK_UP)
        watch_idleness(link);
    td_list_push_back(&link->starting, &journey->send_node);
    adjust_live(link, true);
    ready(link);
}

void link_leave(struct router_journey *journey)
{
    struct router_link *link = journey->link;

    td_list_remove(&journey->node);
    td_list_remove(&journey->send_node);
    journey->link = NULL;
    adjust_live(link, false);
    if (link->state == LINK_UP)
        watch_idleness(link);
}

void link_owe(struct router_journey *journey, unsigned what)
{
    journey->owes |= what;
    td_list_remove(&journey->send_node); /* frames that were not sent are not sent any more */
    td_list_push_back(&journey->link->urgent, &journey->send_node);
    ready(journey->link);
}

void link_ended(struct router_link *link, struct td_u128 id)
{
    if (link->ended_count == LINK_ENDED_MAX || link->state != LINK_UP)
        return; /* the worker's own deadline frees the output */
    link->ended[link->ended_count++] = id;
    ready(link);
}

/* --- up and down --- */

/* Every journey of the link hears of the loss; all but those that can be taken up again leave it. */
static void tell_loss(struct router_link *link)
{
    struct td_list told;
    struct td_list *node;

    td_list_init(&told);
    while ((node = td_list_first(&link->journeys)) != NULL) {
        struct router_journey *journey = td_container_of(node, struct router_journey, node);

        td_list_remove(node);
        td_list_push_back(&told, node);
        journey->owes = 0;
        td_list_remove(&journey->send_node);
        journey_link_lost(journey); /* may free it, which takes it out of the list */
    }
    while ((node = td_list_first(&told)) != NULL) {
        td_list_remove(node);
        td_list_push_back(&link->journeys, node);
    }
}

/* Only what waits to be taken up again has to hear it; what came to a link that was down begins anew. */
static void worker_gone(struct router_link *link)
{
    struct td_list *node;

    while ((node = td_list_first(&link->journeys)) != NULL) {
        struct router_journey *journey = td_container_of(node, struct router_journey, node);

        if (journey->state == JOURNEY_REATTACHING)
            journey_step(journey, JOURNEY_ON_WORKER_GONE);
        else
            journey_link_lost(journey);
    }
    link_free(link);
}

static void link_down(struct router_link *link, td_status_t status)
{
    struct router_core *core = link->core;
    bool gone = status == TD_STALE || router_worker_find(core, link->epoch) == NULL;

    if (link->state == LINK_UP)
        core->counters.links_lost++;
    link->state = LINK_DOWN;
    link->hello_owed = false;
    link->ended_count = 0;
    tell_loss(link);
    if (gone)
        worker_gone(link);
    else if (!td_list_empty(&link->journeys))
        router_timer_after(core, &link->timer, core->limits.link_retry_ms);
    else /* nobody waits for it; what is known of the worker is kept for a while */
        router_timer_after(core, &link->timer, core->limits.link_open_ms);
}

bool link_is_down(const struct router_core *core, uint64_t epoch)
{
    const struct router_link *link = link_by_epoch(core, epoch);

    return link != NULL && link->state == LINK_DOWN;
}

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct router_link *link = td_container_of(timer, struct router_link, timer);
    struct router_core *core = link->core;

    (void)now_ns;
    if (link->state == LINK_DOWN && !td_list_empty(&link->journeys)) {
        link_connect(link);
        return;
    }
    if (link->state != LINK_DOWN)
        core->env.link_close(core->env.impl, link->number);
    if (link->state == LINK_CONNECTING || link->state == LINK_GREETING) {
        td_log(TD_LOG_WARN, "link", "a worker did not greet in time target %s", link->target);
        link_down(link, TD_TIMEOUT);
    } else {
        link_free(link); /* nobody needs it */
    }
}

/* A link to a worker that left the fleet stays while it stands: the worker may be draining. */
void link_sweep(struct router_core *core)
{
    td_list_for_each(node, &core->links)
    {
        struct router_link *link = td_container_of(node, struct router_link, node);

        if (link->state == LINK_DOWN && router_worker_find(core, link->epoch) == NULL)
            worker_gone(link);
    }
}

void router_core_on_link_open(struct router_core *core, uint64_t number, uint64_t now_ns)
{
    struct router_link *link = link_by_number(core, number);

    core->now_ns = now_ns;
    if (link == NULL || link->state != LINK_CONNECTING)
        return;
    link->state = LINK_GREETING;
    link->hello_owed = true;
    ready(link);
}

void router_core_on_link_closed(struct router_core *core, uint64_t number, td_status_t status,
                                uint64_t now_ns)
{
    struct router_link *link = link_by_number(core, number);

    core->now_ns = now_ns;
    if (link != NULL && link->state != LINK_DOWN)
        link_down(link, status);
}

/* Closes a link because of what came over it. */
static void break_off(struct router_link *link, td_status_t status, const char *reason)
{
    struct router_core *core = link->core;

    if (status == TD_STALE)
        core->counters.stale_messages++;
    else
        core->counters.invalid_messages++;
    td_log(TD_LOG_WARN, "link", "closing the link to a worker: %s target %s", reason, link->target);
    core->env.link_close(core->env.impl, link->number);
    link_down(link, status);
}

/* --- messages in --- */

static void on_hello_back(struct router_link *link, const Td__HelloBack *hello)
{
    if (link->state != LINK_GREETING || hello->version < TD_PROTOCOL_MIN ||
        hello->version > TD_PROTOCOL_MAX) {
        break_off(link, TD_INVALID, "its greeting is wrong");
        return;
    }
    if (hello->worker_epoch != link->epoch) {
        break_off(link, TD_STALE, "another incarnation answers there");
        return;
    }
    link->state = LINK_UP;
    watch_idleness(link);
    td_list_for_each(node, &link->journeys)
        journey_step(td_container_of(node, struct router_journey, node), JOURNEY_ON_LINK_UP);
    ready(link);
}

static void on_updates(struct router_link *link, const Td__StepUpdates *updates)
{
    struct router_core *core = link->core;

    if (link->state != LINK_UP) {
        break_off(link, TD_INVALID, "updates before a greeting");
        return;
    }
    for (size_t i = 0; i < updates->n_updates; i++) {
        const Td__Update *update = updates->updates[i];
        struct td_u128 id = {.hi = update->request_hi, .lo = update->request_lo};
        struct router_journey *journey = td_map_find(&core->journeys, id);

        if (journey == NULL || journey->link != link) {
            core->counters.stale_messages++; /* of a try that was given up */
            continue;
        }
        if (journey_misses(journey, update)) {
            break_off(link, TD_INVALID, "tokens are missing");
            return;
        }
        journey_on_update(journey, update);
    }
}

void router_core_on_link_message(struct router_core *core, uint64_t number,
                                 const Td__GenerateOut *message, uint64_t now_ns)
{
    struct router_link *link = link_by_number(core, number);

    core->now_ns = now_ns;
    if (link == NULL || link->state == LINK_DOWN)
        return;
    switch (message->kind_case) {
    case TD__GENERATE_OUT__KIND_HELLO: on_hello_back(link, message->hello); break;
    case TD__GENERATE_OUT__KIND_UPDATES: on_updates(link, message->updates); break;
    default: break; /* of a newer version: skipped */
    }
}

/* --- messages out --- */

static const Td__GenerateIn *hello_message(struct router_link *link)
{
    td__hello__init(&link->hello);
    td__versions__init(&link->versions);
    link->versions.min = TD_PROTOCOL_MIN;
    link->versions.max = TD_PROTOCOL_MAX;
    link->hello.versions = &link->versions;
    link->hello.router_epoch = link->core->epoch;
    link->hello.worker_epoch = link->epoch;
    link->hello_owed = false;
    link->out.kind_case = TD__GENERATE_IN__KIND_HELLO;
    link->out.hello = &link->hello;
    return &link->out;
}

static const Td__GenerateIn *ended_message(struct router_link *link)
{
    struct td_u128 id = link->ended[--link->ended_count];

    td__ended__init(&link->ack);
    link->ack.request_hi = id.hi;
    link->ack.request_lo = id.lo;
    link->out.kind_case = TD__GENERATE_IN__KIND_ENDED;
    link->out.ended = &link->ack;
    return &link->out;
}

static const Td__GenerateIn *urgent_message(struct router_link *link,
                                            struct router_journey *journey)
{
    if (journey->owes & JOURNEY_OWES_CANCEL) {
        journey->owes = 0; /* a cancel makes an attach pointless */
        td__cancel__init(&link->cancel);
        link->cancel.request_hi = journey->id.hi;
        link->cancel.request_lo = journey->id.lo;
        link->out.kind_case = TD__GENERATE_IN__KIND_CANCEL;
        link->out.cancel = &link->cancel;
        return &link->out;
    }
    journey->owes = 0;
    td__attach__init(&link->attach);
    link->attach.request_hi = journey->id.hi;
    link->attach.request_lo = journey->id.lo;
    link->attach.next_index = journey->next_index;
    link->out.kind_case = TD__GENERATE_IN__KIND_ATTACH;
    link->out.attach = &link->attach;
    return &link->out;
}

static const Td__GenerateIn *start_message(struct router_link *link, struct router_journey *journey)
{
    struct router_core *core = link->core;
    Td__Start *start = &link->start;
    uint64_t left_ns =
        journey->deadline_ns > core->now_ns ? journey->deadline_ns - core->now_ns : 0;

    td__start__init(start);
    link->sampling = journey->sampling;
    start->request_hi = journey->id.hi;
    start->request_lo = journey->id.lo;
    start->model = journey->model;
    start->prompt_tokens = journey->token_count;
    start->max_new_tokens = journey->max_new_tokens;
    start->sampling = &link->sampling;
    start->salt_hi = journey->salt.hi;
    start->salt_lo = journey->salt.lo;
    start->remaining_ms = (uint32_t)(left_ns / TD_NS_PER_MS) + 1;
    start->text_id_hi = journey->text_id.hi;
    start->text_id_lo = journey->text_id.lo;
    for (uint32_t i = 0; i < journey->candidate_count; i++) {
        td__prefill_candidate__init(&link->prefill[i]);
        link->prefill[i].target = journey->candidates[i].target;
        link->prefill[i].epoch = journey->candidates[i].epoch;
        link->prefill[i].matched_blocks = journey->candidates[i].matched_blocks;
        link->prefill_pointers[i] = &link->prefill[i];
    }
    start->prefill = link->prefill_pointers;
    start->n_prefill = journey->candidate_count;
    journey->start_sent = true;
    link->out.kind_case = TD__GENERATE_IN__KIND_START;
    link->out.start = start;
    return &link->out;
}

static const Td__GenerateIn *frame_message(struct router_link *link, struct router_journey *journey)
{
    uint32_t left = journey->token_count - journey->tokens_sent;
    uint32_t count = left < ROUTER_FRAME_TOKENS ? left : ROUTER_FRAME_TOKENS;

    td__start_tokens__init(&link->frame);
    link->frame.request_hi = journey->id.hi;
    link->frame.request_lo = journey->id.lo;
    link->frame.offset = journey->tokens_sent;
    link->frame.tokens = journey->tokens + journey->tokens_sent;
    link->frame.n_tokens = count;
    journey->tokens_sent += count;
    link->out.kind_case = TD__GENERATE_IN__KIND_TOKENS;
    link->out.tokens = &link->frame;
    return &link->out;
}

/* One frame of the first starting journey, which then goes to the end of the line. */
static const Td__GenerateIn *starting_message(struct router_link *link)
{
    struct td_list *node = td_list_first(&link->starting);
    struct router_journey *journey;
    const Td__GenerateIn *message;

    if (node == NULL)
        return NULL;
    journey = td_container_of(node, struct router_journey, send_node);
    td_list_remove(node);
    message = journey->start_sent ? frame_message(link, journey) : start_message(link, journey);
    if (journey->tokens_sent < journey->token_count)
        td_list_push_back(&link->starting, node);
    return message;
}

const Td__GenerateIn *router_link_next(struct router_core *core, uint64_t number, uint64_t now_ns)
{
    struct router_link *link = link_by_number(core, number);
    struct td_list *node;

    core->now_ns = now_ns;
    if (link == NULL)
        return NULL;
    td__generate_in__init(&link->out);
    if (link->hello_owed)
        return hello_message(link);
    if (link->state != LINK_UP)
        return NULL;
    node = td_list_first(&link->urgent);
    if (node != NULL) {
        td_list_remove(node);
        return urgent_message(link, td_container_of(node, struct router_journey, send_node));
    }
    if (link->ended_count > 0)
        return ended_message(link);
    return starting_message(link);
}
