/* core.c: the life of workers, placing, and what the clock brings, see core.h. */
#include "scheduler/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "scheduler/internal.h"

#define SWEEP_ENTRIES 16384 /* of the index per turn: 0.2 ms */

/* --- workers ------------------------------------------------------------------------------- */

static uint64_t deadline_ns(const struct sched_core *core, uint8_t state)
{
    const struct sched_config *config = &core->config;
    uint32_t ms = state == SCHED_WORKER_STALE  ? config->gone_ms
                  : state == SCHED_WORKER_LOST ? config->grace_ms
                                               : config->stale_ms;

    return ms * TD_NS_PER_MS;
}

static void remove_worker(struct sched_core *core, struct sched_worker *worker, const char *reason,
                          uint64_t now_ns)
{
    if (worker->link != NULL)
        sched_link_close(worker->link, TD_STALE, reason);
    sched_feed_fini(&worker->feed);
    td_timer_cancel(&core->timers, &worker->deadline);
    sched_fleet_remove(&core->fleet, worker);
    sched_watch_changed(core, now_ns);
}

void sched_worker_step(struct sched_core *core, struct sched_worker *worker,
                       enum sched_worker_event event, uint64_t now_ns)
{
    uint8_t before = worker->state;
    uint8_t action = td_fsm_step(&sched_worker_fsm, &worker->state, (uint8_t)event);

    if (worker->state != before)
        td_log(TD_LOG_INFO, "core", "worker %s, was %s: target %s",
               sched_worker_state_name(worker->state), sched_worker_state_name(before),
               worker->identity.rpc_target);
    if (worker->state == SCHED_WORKER_STALE && before != SCHED_WORKER_STALE)
        core->stats.stale++;
    if (action == SCHED_WORKER_DO_REMOVE) {
        remove_worker(core, worker,
                      event == SCHED_WORKER_ON_REPLACE ? "a newer process has registered"
                                                       : "no report for too long",
                      now_ns);
        return;
    }
    if (action == SCHED_WORKER_DO_SHOW)
        sched_watch_changed(core, now_ns);
    td_timer_set(&core->timers, &worker->deadline, now_ns + deadline_ns(core, worker->state));
}

/* --- time ---------------------------------------------------------------------------------- */

static void on_sweep_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct sched_core *core = td_container_of(timer, struct sched_core, sweep_timer);

    if (sched_index_sweep(core->index, SWEEP_ENTRIES))
        td_timer_set(&core->timers, &core->sweep_timer, now_ns + TD_NS_PER_MS);
}

void sched_core_settle(struct sched_core *core, uint64_t now_ns)
{
    if (!core->sweep_timer.armed && sched_index_needs_sweep(core->index))
        td_timer_set(&core->timers, &core->sweep_timer, now_ns + TD_NS_PER_MS);
}

uint64_t sched_core_next(const struct sched_core *core)
{
    return td_timers_next(&core->timers);
}

void sched_core_run(struct sched_core *core, uint64_t now_ns)
{
    td_timers_run(&core->timers, now_ns);
    sched_core_settle(core, now_ns);
}

/* --- opening and closing ------------------------------------------------------------------- */

td_status_t sched_core_open(const struct sched_config *config, const struct sched_env *env,
                            uint64_t now_ns, struct sched_core **core_out, struct td_error *error)
{
    td_status_t status = sched_config_check(config, error);
    struct sched_core *core;

    if (status != TD_OK)
        return status;
    core = calloc(1, sizeof *core);
    if (core == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the scheduler");
    status = sched_index_open(config->index_bytes_max, config->index_seed, &core->index);
    if (status != TD_OK) {
        free(core);
        return td_fail(error, status, "index of %zu bytes: %s", config->index_bytes_max,
                       td_status_text(status));
    }
    core->config = *config;
    core->env = *env;
    core->started_ns = now_ns;
    core->feeds = (struct sched_feeds){.index = core->index,
                                       .timers = &core->timers,
                                       .config = &core->config,
                                       .ask = sched_link_ask};
    td_timers_init(&core->timers);
    td_timer_init(&core->sweep_timer, on_sweep_timer);
    td_list_init(&core->links);
    sched_fleet_init(&core->fleet);
    sched_watch_init(core);
    *core_out = core;
    return TD_OK;
}

void sched_core_close(struct sched_core *core)
{
    struct sched_worker *worker;

    if (core == NULL)
        return;
    td_list_for_each(node, &core->links)
        sched_link_free(td_container_of(node, struct sched_link, node));
    while ((worker = sched_fleet_first(&core->fleet)) != NULL) {
        sched_feed_fini(&worker->feed);
        td_timer_cancel(&core->timers, &worker->deadline);
        sched_fleet_remove(&core->fleet, worker);
    }
    sched_watch_fini(core);
    sched_fleet_fini(&core->fleet);
    sched_index_close(core->index);
    free(core);
}

/* --- placing ------------------------------------------------------------------------------- */

static td_status_t check_request(const Td__PlaceRequest *request, struct td_error *error)
{
    if (strnlen(request->model, SCHED_TEXT_BYTES_MAX + 1) > SCHED_TEXT_BYTES_MAX)
        return td_fail(error, TD_INVALID, "place: model has more than %d bytes",
                       SCHED_TEXT_BYTES_MAX);
    if (request->prompt_tokens == 0)
        return td_fail(error, TD_INVALID, "place: prompt_tokens is 0");
    if (request->n_keys % 2 != 0 || request->n_keys / 2 > SCHED_PLACE_KEYS_MAX)
        return td_fail(error, TD_INVALID, "place: keys: %zu numbers; pairs, at most %d",
                       request->n_keys, SCHED_PLACE_KEYS_MAX);
    if (request->n_exclude > SCHED_EXCLUDE_MAX)
        return td_fail(error, TD_INVALID, "place: exclude: %zu epochs, %d are possible",
                       request->n_exclude, SCHED_EXCLUDE_MAX);
    return TD_OK;
}

static void count_placement(struct sched_stats *stats, const struct sched_prompt *prompt,
                            const struct sched_placement *placement)
{
    if (placement->status != TD_OK) {
        stats->placed_nowhere++;
        return;
    }
    if (placement->serving.worker->identity.role != TD__ROLE__ROLE_DECODE)
        stats->placed_alone++;
    else if (placement->prefill_count > 0)
        stats->placed_remote++;
    else
        stats->placed_local++;
    stats->prompt_tokens += prompt->tokens;
    stats->matched_tokens += prompt->tokens - placement->serving.uncached;
}

static void fill_candidates(struct sched_answer *answer)
{
    const struct sched_placement *placement = &answer->placement;

    for (uint32_t i = 0; i < placement->prefill_count; i++) {
        const struct sched_place *place = &placement->prefill[i];
        Td__PrefillCandidate *candidate = &answer->candidates[i];

        td__prefill_candidate__init(candidate);
        candidate->target = (char *)(uintptr_t)place->worker->identity.rpc_target;
        candidate->epoch = place->worker->identity.epoch;
        candidate->matched_blocks = place->matched_blocks;
        answer->list[i] = candidate;
    }
    answer->reply.prefill = answer->list;
    answer->reply.n_prefill = placement->prefill_count;
}

static void fill_reply(struct sched_answer *answer)
{
    struct sched_placement *placement = &answer->placement;
    Td__PlaceReply *reply = &answer->reply;

    if (placement->status != TD_OK) {
        reply->code = (uint32_t)-placement->status;
        reply->message = placement->message;
        reply->retry_after_ms = placement->retry_after_ms;
        return;
    }
    reply->worker_epoch = placement->serving.worker->identity.epoch;
    reply->worker_target = (char *)(uintptr_t)placement->serving.worker->identity.rpc_target;
    reply->matched_blocks = placement->serving.matched_blocks;
    reply->reason = placement->reason;
    fill_candidates(answer);
}

static void refuse_request(struct sched_answer *answer, const struct td_error *error)
{
    answer->placement = (struct sched_placement){.status = error->status};
    snprintf(answer->placement.message, sizeof answer->placement.message, "%s", error->text);
    fill_reply(answer);
}

void sched_core_place(struct sched_core *core, const Td__PlaceRequest *request, uint64_t now_ns,
                      struct sched_answer *answer_out)
{
    uint32_t depth[SCHED_OWNERS_MAX];
    struct sched_keys keys = {.pairs = request->keys, .count = request->n_keys / 2};
    struct sched_prompt prompt = {
        .model = request->model,
        .tokens = request->prompt_tokens,
        .new_tokens_max = request->max_new_tokens,
        .exclude = request->exclude,
        .exclude_count = request->n_exclude,
        .request = {.hi = request->request_hi, .lo = request->request_lo},
        .depth = depth,
        .warming = now_ns - core->started_ns < core->config.warm_ms * TD_NS_PER_MS,
    };
    struct td_error error = {0};

    td__place_reply__init(&answer_out->reply);
    if (check_request(request, &error) != TD_OK) {
        core->stats.place_malformed++;
        refuse_request(answer_out, &error);
        return;
    }
    sched_index_match(core->index, keys, depth);
    sched_placement_choose(&core->fleet, &core->config, &prompt, now_ns, &answer_out->placement);
    if (answer_out->placement.status == TD_OK)
        sched_placement_commit(&answer_out->placement, now_ns);
    count_placement(&core->stats, &prompt, &answer_out->placement);
    fill_reply(answer_out);
}

/* --- figures ------------------------------------------------------------------------------- */

struct sched_stats sched_core_stats(const struct sched_core *core)
{
    return core->stats;
}

struct sched_feed_stats sched_core_feed_stats(const struct sched_core *core)
{
    return core->feeds.stats;
}

struct sched_index_stats sched_core_index_stats(const struct sched_core *core)
{
    return sched_index_stats(core->index);
}

const struct sched_fleet *sched_core_fleet(const struct sched_core *core)
{
    return &core->fleet;
}

uint32_t sched_core_worker_count(const struct sched_core *core, enum sched_worker_state state)
{
    uint32_t count = 0;

    sched_fleet_for_each(worker, &core->fleet)
    {
        count += worker->state == (uint8_t)state;
    }
    return count;
}
