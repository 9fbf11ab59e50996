/* placement.c: fitness, cost and choice, see placement.h. */
#include "scheduler/placement.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/base/time.h"

#define TERM_MAX_US   (UINT64_C(3600) * 1000000) /* caps each term, so that no product overflows */
#define SEQUENCES_CAP (UINT32_C(1) << 20)        /* the same, for counts that workers report */
#define RETRY_MIN_MS  100
#define RETRY_MAX_MS  10000
#define RETRY_MS      1000 /* until a worker may be ready, when nothing better is known */

/* Why a worker cannot take a request; the first that holds. */
enum fitness { FIT, OTHER_MODEL, EXCLUDED, UNREADY, FROZEN, TOO_SMALL, FULL, FITNESS_COUNT };

/* What is taken for a worker that has not measured yet: as good as the best, so that it gets work. */
struct assumed {
    uint64_t prefill_tokens_per_s;
    uint64_t decode_step_us;
};

struct survey {
    const struct sched_config *config;
    const struct sched_prompt *prompt;
    struct assumed assumed;
    uint32_t counts[FITNESS_COUNT]; /* of the workers looked at for serving */
    uint64_t soonest_us;            /* among the FULL ones */
};

/* Expected times in microseconds; docs/scheduler.md says how each is come by. */
struct cost {
    uint64_t queue_us;
    uint64_t prefill_us;
    uint64_t places_us;
    uint64_t memory_us;
    uint64_t decode_us;
};

static uint64_t at_most(uint64_t value, uint64_t max)
{
    return value < max ? value : max;
}

/* --- estimates ----------------------------------------------------------------------------- */

static struct assumed assume(const struct sched_fleet *fleet, const struct sched_config *config,
                             const char *model)
{
    struct assumed best = {0, 0};

    sched_fleet_for_each(worker, fleet)
    {
        const struct sched_load *load = &worker->load;

        if (!sched_identity_serves(&worker->identity, model))
            continue;
        if (load->prefill_tokens_per_s > best.prefill_tokens_per_s)
            best.prefill_tokens_per_s = load->prefill_tokens_per_s;
        if (load->decode_step_us > 0 &&
            (best.decode_step_us == 0 || load->decode_step_us < best.decode_step_us))
            best.decode_step_us = load->decode_step_us;
    }
    if (best.prefill_tokens_per_s == 0)
        best.prefill_tokens_per_s = config->prefill_tokens_per_s;
    if (best.decode_step_us == 0)
        best.decode_step_us = config->decode_step_us;
    return best;
}

static uint64_t prefill_us(const struct survey *survey, const struct sched_worker *worker,
                           uint64_t tokens)
{
    uint64_t rate = worker->load.prefill_tokens_per_s > 0 ? worker->load.prefill_tokens_per_s
                                                          : survey->assumed.prefill_tokens_per_s;

    return at_most(at_most(tokens, UINT32_MAX) * 1000000 / rate, TERM_MAX_US);
}

/*
 * Prompt tokens that are computed there before or beside those of a new request: reported as waiting, placed since, and
 * what is left of the prompts that are being computed. With those ours shares the steps (engine/share.h): the oldest gets
 * half of the rows, the rest goes to the shortest, so each takes about as many rows as ours needs, if it has as many left.
 */
static uint64_t ahead_tokens(const struct sched_worker *worker, uint32_t uncached)
{
    const struct sched_load *load = &worker->load;

    return load->waiting_tokens + worker->guesses.tokens +
           at_most(load->prefilling_tokens, (uint64_t)load->prefilling * uncached);
}

static uint64_t queue_us(const struct survey *survey, const struct sched_place *place)
{
    return prefill_us(survey, place->worker, ahead_tokens(place->worker, place->uncached));
}

/* Requests that the worker has or is about to get. */
static uint64_t crowd(const struct sched_worker *worker)
{
    return at_most(worker->load.running, SEQUENCES_CAP) +
           at_most(worker->load.waiting, SEQUENCES_CAP) + worker->guesses.count;
}

static uint64_t output_tokens(const struct survey *survey)
{
    uint64_t mean = survey->config->output_tokens_mean;
    uint32_t wanted = survey->prompt->new_tokens_max;

    return wanted > 0 ? at_most(wanted, mean) : mean;
}

static uint64_t steps_us(const struct survey *survey, const struct sched_worker *worker,
                         uint64_t steps)
{
    uint64_t step_us = worker->load.decode_step_us > 0 ? worker->load.decode_step_us
                                                       : survey->assumed.decode_step_us;

    return at_most(steps * step_us, TERM_MAX_US);
}

/* Until a sequence ends and leaves its place, for those that have to wait for one. */
static uint64_t places_us(const struct survey *survey, const struct sched_worker *worker)
{
    uint64_t places = worker->identity.max_sequences;
    uint64_t wanted = crowd(worker) + 1;

    if (wanted <= places)
        return 0;
    return steps_us(survey, worker, survey->config->output_tokens_mean) * (wanted - places) /
           places;
}

static uint64_t memory_us(const struct survey *survey, const struct sched_place *place)
{
    const struct sched_worker *worker = place->worker;
    uint64_t taken = worker->guesses.blocks;
    uint64_t left = worker->load.blocks_free > taken ? worker->load.blocks_free - taken : 0;

    if (place->blocks <= left)
        return 0;
    return steps_us(survey, worker, survey->config->output_tokens_mean) * (place->blocks - left) /
           place->blocks;
}

static struct cost serving_cost(const struct survey *survey, const struct sched_place *place)
{
    const struct sched_worker *worker = place->worker;
    uint64_t own_us = steps_us(survey, worker, output_tokens(survey));

    return (struct cost){
        .queue_us = queue_us(survey, place),
        .prefill_us = prefill_us(survey, worker, place->uncached),
        .places_us = places_us(survey, worker),
        .memory_us = memory_us(survey, place),
        .decode_us = own_us + own_us * crowd(worker) / worker->identity.max_sequences,
    };
}

static uint64_t cost_ms(const struct cost *cost)
{
    return (cost->queue_us + cost->prefill_us + cost->places_us + cost->memory_us +
            cost->decode_us) /
           1000;
}

/* --- one worker ---------------------------------------------------------------------------- */

static uint32_t blocks_of(const struct sched_worker *worker, uint64_t tokens)
{
    uint32_t block_tokens = worker->identity.block_tokens;

    return (uint32_t)((tokens + block_tokens - 1) / block_tokens);
}

static struct sched_place place_on(const struct survey *survey, struct sched_worker *worker,
                                   uint64_t output)
{
    const struct sched_prompt *prompt = survey->prompt;
    uint32_t block_tokens = worker->identity.block_tokens;
    uint32_t depth = worker->feed.owner != SCHED_OWNER_NONE ? prompt->depth[worker->feed.owner] : 0;
    uint32_t matched = (uint32_t)at_most(depth, prompt->tokens / block_tokens);
    uint32_t left = prompt->tokens - matched * block_tokens;
    struct td_u128 both = {.hi = prompt->request.hi,
                           .lo = prompt->request.lo ^ worker->identity.epoch};

    return (struct sched_place){
        .worker = worker,
        .matched_blocks = matched,
        .uncached = left > 0 ? left : 1, /* the last token is always computed */
        .blocks = blocks_of(worker, prompt->tokens + output) - matched,
        .tie = td_u128_mix(both),
    };
}

/* Lower cost first, then more cached, then by a draw that differs from request to request. */
static bool is_better(const struct sched_place *a, const struct sched_place *b)
{
    if (a->cost_ms != b->cost_ms)
        return a->cost_ms < b->cost_ms;
    if (a->uncached != b->uncached)
        return a->uncached < b->uncached;
    return a->tie < b->tie;
}

static bool is_excluded(const struct sched_prompt *prompt, const struct sched_worker *worker)
{
    for (size_t i = 0; i < prompt->exclude_count; i++)
        if (prompt->exclude[i] == worker->identity.epoch)
            return true;
    return false;
}

/* Whether the worker can take a prompt at all and now, the model apart. */
static enum fitness fitness(const struct survey *survey, const struct sched_worker *worker)
{
    const struct sched_identity *identity = &worker->identity;
    uint32_t tokens = survey->prompt->tokens;

    if (is_excluded(survey->prompt, worker))
        return EXCLUDED;
    if (worker->state != SCHED_WORKER_READY)
        return UNREADY;
    if (worker->load.step_age_ms > survey->config->frozen_ms)
        return FROZEN;
    if (tokens >= identity->max_context || blocks_of(worker, tokens) > identity->block_count)
        return TOO_SMALL;
    if (crowd(worker) >= (uint64_t)identity->max_sequences + identity->max_waiting)
        return FULL;
    return FIT;
}

/* --- the serving worker -------------------------------------------------------------------- */

static bool serve_by_role(const struct sched_fleet *fleet, struct survey *survey, Td__Role role,
                          struct sched_place *best_out)
{
    bool found = false;

    sched_fleet_for_each(worker, fleet)
    {
        struct sched_place place;
        struct cost cost;
        enum fitness fit;

        if (worker->identity.role != role)
            continue;
        fit = sched_identity_serves(&worker->identity, survey->prompt->model)
                  ? fitness(survey, worker)
                  : OTHER_MODEL;
        survey->counts[fit]++;
        if (fit != FIT && fit != FULL)
            continue;
        place = place_on(survey, worker, output_tokens(survey));
        cost = serving_cost(survey, &place);
        place.cost_ms = cost_ms(&cost);
        if (fit == FULL)
            survey->soonest_us = at_most(survey->soonest_us, cost.queue_us + cost.places_us);
        else if (!found || is_better(&place, best_out))
            *best_out = place;
        found = found || fit == FIT;
    }
    return found;
}

/*
 * Decode workers serve. Prefill workers serve whole requests only where no decode worker could do so
 * at all; where the decode workers are merely full, requests are turned away instead, or the
 * prefill workers would be drawn into the same overload.
 */
static bool choose_serving(const struct sched_fleet *fleet, struct survey *survey,
                           struct sched_place *best_out)
{
    if (serve_by_role(fleet, survey, TD__ROLE__ROLE_DECODE, best_out))
        return true;
    return survey->counts[FULL] == 0 &&
           serve_by_role(fleet, survey, TD__ROLE__ROLE_PREFILL, best_out);
}

/* --- prefill candidates -------------------------------------------------------------------- */

/* Keeps the list sorted and short. */
static void insert(struct sched_placement *placement, const struct sched_place *place)
{
    uint32_t at = placement->prefill_count;

    while (at > 0 && is_better(place, &placement->prefill[at - 1]))
        at--;
    if (at == SCHED_CANDIDATES_MAX)
        return;
    if (placement->prefill_count < SCHED_CANDIDATES_MAX)
        placement->prefill_count++;
    for (uint32_t i = placement->prefill_count - 1; i > at; i--)
        placement->prefill[i] = placement->prefill[i - 1];
    placement->prefill[at] = *place;
}

/* Prefill workers of the same model with other weights or numerics: no KV of theirs is of use. */
static uint32_t count_unlike(const struct sched_fleet *fleet, const struct sched_identity *serving)
{
    uint32_t count = 0;

    sched_fleet_for_each(worker, fleet)
    {
        count += sched_identity_is_unlike(&worker->identity, serving);
    }
    return count;
}

/* Those that could prefill for the serving worker: the same content_id, fit, and not overloaded. */
static void choose_prefill(const struct sched_fleet *fleet, const struct survey *survey,
                           struct sched_placement *placement)
{
    const struct sched_identity *serving = &placement->serving.worker->identity;
    uint64_t wait_max_us = (uint64_t)survey->config->prefill_wait_max_ms * 1000;

    sched_fleet_for_each(worker, fleet)
    {
        struct sched_place place;
        uint64_t wait_us;

        if (worker->identity.role != TD__ROLE__ROLE_PREFILL ||
            !td_u128_equal(worker->identity.content_id, serving->content_id) ||
            fitness(survey, worker) != FIT)
            continue;
        place = place_on(survey, worker, 0);
        wait_us = queue_us(survey, &place);
        if (wait_us > wait_max_us)
            continue;
        place.cost_ms = (wait_us + prefill_us(survey, worker, place.uncached)) / 1000;
        insert(placement, &place);
    }
}

/* --- words --------------------------------------------------------------------------------- */

static void refuse(const struct sched_fleet *fleet, const struct survey *survey,
                   struct sched_placement *placement)
{
    const uint32_t *counts = survey->counts;
    uint32_t serving =
        counts[EXCLUDED] + counts[UNREADY] + counts[FROZEN] + counts[TOO_SMALL] + counts[FULL];

    placement->status = TD_EXHAUSTED;
    placement->retry_after_ms = RETRY_MS;
    if (serving == 0) {
        if (sched_fleet_count(fleet) > 0 && !survey->prompt->warming) {
            placement->status = TD_NOT_FOUND;
            placement->retry_after_ms = 0;
        }
        snprintf(placement->message, sizeof placement->message,
                 "none of %zu workers serves this model", sched_fleet_count(fleet));
        return;
    }
    if (counts[FULL] > 0) {
        uint64_t soonest_ms = at_most(survey->soonest_us / 1000, RETRY_MAX_MS);

        placement->retry_after_ms = soonest_ms > RETRY_MIN_MS ? (uint32_t)soonest_ms : RETRY_MIN_MS;
    } else if (counts[TOO_SMALL] == serving) {
        placement->status = TD_LIMIT;
        placement->retry_after_ms = 0;
    }
    snprintf(placement->message, sizeof placement->message,
             "of %u workers with this model %u are full, %u not ready, %u frozen, %u excluded, %u "
             "too small for %u tokens",
             serving, counts[FULL], counts[UNREADY], counts[FROZEN], counts[EXCLUDED],
             counts[TOO_SMALL], survey->prompt->tokens);
}

static void explain(const struct survey *survey, struct sched_placement *placement,
                    const char *prefill)
{
    const struct sched_place *place = &placement->serving;
    const struct sched_identity *identity = &place->worker->identity;
    struct cost cost = serving_cost(survey, place);

    snprintf(placement->reason, sizeof placement->reason,
             "%s %s: %u of %u tokens cached, %" PRIu64 " ms expected (queue %" PRIu64
             ", prefill %" PRIu64 ", places %" PRIu64 ", memory %" PRIu64 ", decode %" PRIu64
             "), best of %u; %s",
             identity->role == TD__ROLE__ROLE_DECODE ? "decode" : "prefill worker alone",
             identity->rpc_target, survey->prompt->tokens - place->uncached, survey->prompt->tokens,
             place->cost_ms, cost.queue_us / 1000, cost.prefill_us / 1000, cost.places_us / 1000,
             cost.memory_us / 1000, cost.decode_us / 1000, survey->counts[FIT], prefill);
}

/* ------------------------------------------------------------------------------------------- */

void sched_placement_choose(const struct sched_fleet *fleet, const struct sched_config *config,
                            const struct sched_prompt *prompt, uint64_t now_ns,
                            struct sched_placement *placement_out)
{
    struct survey survey = {.config = config, .prompt = prompt, .soonest_us = UINT64_MAX};
    char prefill[80];

    placement_out->prefill_count = 0;
    sched_fleet_for_each(worker, fleet)
    {
        sched_guess_expire(&worker->guesses, now_ns, config->guess_ms * TD_NS_PER_MS);
    }
    survey.assumed = assume(fleet, config, prompt->model);
    if (!choose_serving(fleet, &survey, &placement_out->serving)) {
        refuse(fleet, &survey, placement_out);
        return;
    }
    placement_out->status = TD_OK;
    if (placement_out->serving.worker->identity.role != TD__ROLE__ROLE_DECODE) {
        snprintf(prefill, sizeof prefill, "no decode worker");
    } else if (placement_out->serving.uncached < config->remote_tokens_min) {
        snprintf(prefill, sizeof prefill, "prefill here: %u tokens are fewer than %u",
                 placement_out->serving.uncached, config->remote_tokens_min);
    } else {
        uint32_t unlike = count_unlike(fleet, &placement_out->serving.worker->identity);
        int length;

        choose_prefill(fleet, &survey, placement_out);
        length = snprintf(prefill, sizeof prefill, "%s: %u prefill workers fit",
                          placement_out->prefill_count > 0 ? "prefill there" : "prefill here",
                          placement_out->prefill_count);
        if (unlike > 0)
            snprintf(prefill + length, sizeof prefill - (size_t)length,
                     ", %u have another content_id", unlike);
    }
    explain(&survey, placement_out, prefill);
}

void sched_placement_commit(const struct sched_placement *placement, uint64_t now_ns)
{
    const struct sched_place *serving = &placement->serving;
    const struct sched_place *first = &placement->prefill[0];
    bool is_remote = placement->prefill_count > 0;

    sched_guess_add(&serving->worker->guesses,
                    (struct sched_guess){.at_ns = now_ns,
                                         .tokens = is_remote ? 0 : serving->uncached,
                                         .blocks = serving->blocks});
    if (is_remote)
        sched_guess_add(&first->worker->guesses, (struct sched_guess){.at_ns = now_ns,
                                                                      .tokens = first->uncached,
                                                                      .blocks = first->blocks});
}
