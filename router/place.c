/*
 * place.c: where a journey runs: asking a scheduler, and choosing alone when none answers.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/block_key.h"
#include "router/internal.h"

#define PLACE_KEYS_MAX 16384

/*
 * The keys of the prompt's full blocks as the model's workers compute them. Workers of one model name
 * agree on content and block size, or the scheduler's index simply does not match.
 */
static uint64_t *prompt_keys(const struct router_journey *journey, size_t *count_out)
{
    const struct router_worker *worker = router_core_model(journey->core, journey->model);
    uint32_t blocks;
    struct td_u128 *keys;

    *count_out = 0;
    if (worker == NULL)
        return NULL;
    blocks = journey->token_count / worker->block_tokens;
    if (blocks > PLACE_KEYS_MAX)
        blocks = PLACE_KEYS_MAX;
    if (blocks == 0)
        return NULL;
    keys = calloc(blocks, sizeof *keys);
    if (keys == NULL)
        return NULL; /* a hint that is missing costs a hit, nothing else */
    td_block_keys(td_block_root(worker->content_id, journey->salt), journey->tokens,
                  blocks * worker->block_tokens, worker->block_tokens, keys);
    *count_out = blocks;
    return &keys->hi; /* pairs (hi, lo), as on the wire */
}

void place_ask(struct router_journey *journey)
{
    struct router_core *core = journey->core;
    Td__PlaceRequest request;
    size_t key_count;
    uint64_t *keys = prompt_keys(journey, &key_count);

    journey->placing_ns = core->now_ns;
    journey->result.stages.queue_us = router_us(core->now_ns - journey->started_ns);
    journey->place_number = ++core->last_number;
    /* cannot fail for fullness: there are as many places as journeys */
    if (td_map_insert(&core->placing, td_u128_from_u64(journey->place_number), journey) != TD_OK) {
        free(keys);
        journey->place_number = 0;
        journey_step(journey, JOURNEY_ON_UNPLACED);
        return;
    }
    td__place_request__init(&request);
    request.model = journey->model;
    request.prompt_tokens = journey->token_count;
    request.max_new_tokens = journey->max_new_tokens;
    request.keys = keys;
    request.n_keys = 2 * key_count;
    request.exclude = journey->tried;
    request.n_exclude = journey->tried_count;
    request.request_hi = journey->id.hi;
    request.request_lo = journey->id.lo;
    core->env.place(core->env.impl, journey->place_number, &request, core->limits.place_ms);
    free(keys);
}

static bool was_tried(const struct router_journey *journey, uint64_t epoch)
{
    for (uint32_t i = 0; i < journey->tried_count; i++)
        if (journey->tried[i] == epoch)
            return true;
    return false;
}

/* Whether a is the better choice: within reach, decode before prefill, less loaded. */
static bool is_better(const struct router_core *core, const struct router_worker *a,
                      const struct router_worker *b)
{
    bool a_down = link_is_down(core, a->epoch);
    bool b_down = link_is_down(core, b->epoch);

    if (a_down != b_down)
        return b_down;
    if (a->role != b->role)
        return a->role == TD__ROLE__ROLE_DECODE;
    return a->live < b->live;
}

/*
 * Whether a worker reads the journey's tokens as whoever made them. Two workers of one name may not: a model is
 * being replaced, or only its template or defaults are.
 */
static bool reads(const struct router_worker *worker, const struct router_journey *journey)
{
    return td_u128_equal(worker->text_id, journey->text_id);
}

/* Without a scheduler: the best of the ready workers of the model. */
static const struct router_worker *choose_alone(const struct router_journey *journey)
{
    const struct router_core *core = journey->core;
    const struct router_worker *best = NULL;

    for (uint32_t i = 0; i < core->worker_count; i++) {
        const struct router_worker *worker = &core->workers[i];

        if (!router_worker_serves(worker, journey->model) || !worker->ready || worker->draining ||
            !reads(worker, journey) || was_tried(journey, worker->epoch))
            continue;
        if (best == NULL || is_better(core, worker, best))
            best = worker;
    }
    return best;
}

static void take_candidates(struct router_journey *journey, const Td__PlaceReply *reply)
{
    journey->candidate_count = 0;
    for (size_t i = 0; reply != NULL && i < reply->n_prefill; i++) {
        const Td__PrefillCandidate *from = reply->prefill[i];
        struct router_candidate *to = &journey->candidates[journey->candidate_count];

        if (journey->candidate_count == ROUTER_CANDIDATES_MAX ||
            strlen(from->target) >= sizeof to->target)
            continue;
        snprintf(to->target, sizeof to->target, "%s", from->target);
        to->epoch = from->epoch;
        to->matched_blocks = from->matched_blocks;
        journey->candidate_count++;
    }
}

/* Hands the journey to the worker's link; false if there can be none. */
static bool start_on(struct router_journey *journey, const struct router_worker *worker)
{
    struct router_link *link = worker == NULL ? NULL : link_for(journey->core, worker);

    if (link == NULL)
        return false;
    link_take(link, journey);
    journey_step(journey, JOURNEY_ON_PLACED);
    return true;
}

static void on_no_place(struct router_journey *journey, const Td__PlaceReply *reply)
{
    bool hopeless = reply->retry_after_ms == 0;

    journey->tried_count = 0; /* rather one that has failed it before than none */
    journey->result.retry_after_ms = reply->retry_after_ms;
    if (hopeless) {
        journey->result.status =
            reply->code == (uint32_t)-TD_NOT_FOUND ? TD_NOT_FOUND : TD_EXHAUSTED;
        snprintf(journey->result.message, sizeof journey->result.message, "%s", reply->message);
    }
    journey_step(journey, hopeless ? JOURNEY_ON_UNPLACEABLE : JOURNEY_ON_UNPLACED);
}

void router_core_on_placed(struct router_core *core, uint64_t number, const Td__PlaceReply *reply,
                           uint64_t now_ns)
{
    struct router_journey *journey = td_map_remove(&core->placing, td_u128_from_u64(number));
    const struct router_worker *worker = NULL;

    core->now_ns = now_ns;
    if (journey == NULL)
        return; /* it went on without the answer */
    journey->place_number = 0;
    journey->result.stages.place_us += router_us(now_ns - journey->placing_ns);
    if (reply != NULL && reply->worker_epoch == 0) {
        on_no_place(journey, reply);
        return;
    }
    if (reply != NULL)
        worker = router_worker_find(core, reply->worker_epoch);
    /* no scheduler; one that knows a worker which we do not know yet; or one that knows nothing of text */
    if (worker == NULL || !reads(worker, journey)) {
        core->counters.placed_alone++;
        worker = choose_alone(journey);
        reply = NULL;
    }
    take_candidates(journey, reply);
    if (start_on(journey, worker))
        return;
    journey->tried_count = 0;
    journey_step(journey, JOURNEY_ON_UNPLACED);
}
