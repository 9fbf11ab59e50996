/*
 * journey.c: one request's way through the router. See journey.h for the table.
 */
#include "router/journey.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/internal.h"

TD_FSM_DEFINE(journey, JOURNEY,
              "One request on a router, from token ids to the end of the answer.");

/* What a passed deadline means for the client. */
static void note_timeout(struct router_journey *journey)
{
    struct router_core *core = journey->core;
    struct front_result *result = &journey->result;
    const char *why = "the request's deadline passed";

    result->status = TD_TIMEOUT;
    if (journey->state == JOURNEY_REATTACHING) {
        result->status = TD_PEER_LOST;
        why = "the worker was lost";
    } else if (journey->state == JOURNEY_QUEUED && core->now_ns < journey->deadline_ns) {
        result->status = admission_capacity(core) > 0 ? TD_EXHAUSTED : TD_AGAIN;
        why = "no worker had room in time";
    }
    snprintf(result->message, sizeof result->message, "%s", why);
}

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct router_journey *journey = td_container_of(timer, struct router_journey, timer);

    (void)now_ns;
    if (journey->result.status == TD_OK && journey->state != JOURNEY_PLACING)
        note_timeout(journey);
    journey_step(journey, JOURNEY_ON_TIMEOUT);
}

/* --- lifetime --- */

void journey_free_memory(struct router_journey *journey)
{
    free(journey->tokens);
    free(journey->sampling.bias_tokens);
    free(journey);
}

/* One allocation for both arrays, which the message borrows. */
static bool take_biases(struct router_journey *journey, const struct router_start *start)
{
    Td__Sampling *sampling = &journey->sampling;
    uint32_t count = start->bias_count;

    if (count == 0)
        return true;
    sampling->bias_tokens = calloc(count, sizeof *sampling->bias_tokens + sizeof(float));
    if (sampling->bias_tokens == NULL)
        return false;
    sampling->bias_values = (float *)(void *)(sampling->bias_tokens + count);
    sampling->n_bias_tokens = sampling->n_bias_values = count;
    for (uint32_t i = 0; i < count; i++) {
        sampling->bias_tokens[i] = start->biases[i].token;
        sampling->bias_values[i] = start->biases[i].value;
    }
    return true;
}

/* Settled here, seed and all, so that every try draws the same tokens. */
static void take_sampling(struct router_journey *journey, const struct front_sampling *from)
{
    struct router_core *core = journey->core;

    td__sampling__init(&journey->sampling);
    journey->sampling.temperature = from->temperature;
    journey->sampling.top_k = from->top_k;
    journey->sampling.top_p = from->top_p;
    journey->sampling.min_p = from->min_p;
    journey->sampling.repetition_penalty = from->repetition_penalty;
    journey->sampling.presence_penalty = from->presence_penalty;
    journey->sampling.frequency_penalty = from->frequency_penalty;
    journey->sampling.seed = from->seed;
    if (!from->has_seed)
        core->env.random(core->env.impl, &journey->sampling.seed, sizeof journey->sampling.seed);
}

static struct router_journey *journey_new(struct router_core *core,
                                          const struct router_start *start)
{
    struct router_journey *journey = calloc(1, sizeof *journey);

    if (journey == NULL)
        return NULL;
    journey->core = core;
    journey->id = start->id;
    if (td_u128_is_zero(journey->id))
        core->env.random(core->env.impl, &journey->id, sizeof journey->id);
    take_sampling(journey, &start->sampling);
    if (!take_biases(journey, start) ||
        td_map_insert(&core->journeys, journey->id, journey) != TD_OK) {
        journey_free_memory(journey);
        return NULL;
    }
    td_list_init(&journey->node);
    td_list_init(&journey->send_node);
    td_timer_init(&journey->timer, on_timer);
    journey->state = JOURNEY_QUEUED;
    journey->started_ns = core->now_ns;
    snprintf(journey->model, sizeof journey->model, "%s", start->model);
    journey->token_count = start->token_count;
    journey->max_new_tokens = start->max_new_tokens;
    journey->salt = start->salt;
    journey->text_id = start->text_id;
    journey->result.stages.tokenize_us = start->tokenize_us;
    return journey;
}

static void place_forget(struct router_journey *journey)
{
    struct router_core *core = journey->core;

    if (td_map_remove(&core->placing, td_u128_from_u64(journey->place_number)) != NULL)
        core->env.place_cancel(core->env.impl, journey->place_number);
    journey->place_number = 0;
}

/* Leaves wherever it is: the queue, a placement, or a link. */
static void leave(struct router_journey *journey)
{
    if (journey->link != NULL)
        link_leave(journey);
    else if (journey->place_number != 0)
        place_forget(journey);
    else if (!td_list_empty(&journey->node))
        admission_remove(journey);
}

void journey_free(struct router_journey *journey)
{
    struct router_core *core = journey->core;
    uint64_t service_ns = core->now_ns - journey->admitted_ns;

    if (journey->counted)
        core->service_ns =
            core->service_ns == 0 ? service_ns : (core->service_ns * 7 + service_ns) / 8;
    leave(journey);
    admission_release(journey);
    td_timer_cancel(&core->timers, &journey->timer);
    td_map_remove(&core->journeys, journey->id);
    journey_free_memory(journey);
    admission_run(core);
}

static uint64_t state_deadline(const struct router_journey *journey)
{
    const struct router_limits *limits = &journey->core->limits;
    uint64_t now_ns = journey->core->now_ns;
    uint64_t at_ns = journey->deadline_ns;

    switch ((enum journey_state)journey->state) {
    case JOURNEY_QUEUED: at_ns = journey->queue_deadline_ns; break;
    case JOURNEY_PLACING: at_ns = now_ns + limits->place_ms * TD_NS_PER_MS; break;
    case JOURNEY_REATTACHING: at_ns = now_ns + limits->grace_ms * TD_NS_PER_MS; break;
    case JOURNEY_STOPPING:
    case JOURNEY_CANCELING: return now_ns + limits->cancel_ms * TD_NS_PER_MS;
    default: break;
    }
    return at_ns < journey->deadline_ns ? at_ns : journey->deadline_ns;
}

/* Without any worker everything may: a fleet that is being restarted comes back. */
static bool may_be_served(const struct router_core *core, const char *model)
{
    for (uint32_t i = 0; i < core->worker_count; i++)
        if (router_worker_serves(&core->workers[i], model))
            return true;
    return core->worker_count == 0;
}

td_status_t router_journey_start(struct router_core *core, struct router_start *start,
                                 void *context, uint64_t now_ns,
                                 struct router_journey **journey_out, uint32_t *retry_after_ms_out)
{
    struct router_journey *journey;
    uint32_t remaining_ms =
        start->remaining_ms != 0 ? start->remaining_ms : core->limits.request_ms;

    core->now_ns = now_ns;
    *retry_after_ms_out = 0;
    if (!may_be_served(core, start->model))
        return TD_NOT_FOUND;
    if (core->queued >= core->limits.queue_max) {
        core->counters.journeys_refused++;
        *retry_after_ms_out = admission_retry_after_ms(core);
        return TD_EXHAUSTED;
    }
    if (start->token_count == 0 || strlen(start->model) >= ROUTER_NAME_BYTES)
        return TD_INVALID;
    journey = journey_new(core, start);
    if (journey == NULL)
        return TD_NO_MEMORY;
    journey->tokens = start->tokens;
    start->tokens = NULL;
    journey->context = context;
    journey->deadline_ns = now_ns + remaining_ms * TD_NS_PER_MS;
    journey->queue_deadline_ns = now_ns + core->limits.queue_ms * TD_NS_PER_MS;
    td_timer_set(&core->timers, &journey->timer, state_deadline(journey));
    core->counters.journeys_started++;
    admission_push(journey, false);
    *journey_out = journey;
    admission_run(core);
    return TD_OK;
}

struct td_u128 router_journey_id(const struct router_journey *journey)
{
    return journey->id;
}

void router_journey_stop(struct router_journey *journey, uint64_t now_ns)
{
    journey->core->now_ns = now_ns;
    journey_step(journey, JOURNEY_ON_STOP);
}

void router_journey_abandon(struct router_journey *journey, uint64_t now_ns)
{
    journey->core->now_ns = now_ns;
    journey->core->counters.journeys_canceled++;
    journey->context = NULL;
    journey_step(journey, JOURNEY_ON_CANCEL);
}

/* --- telling the front --- */

static void report(struct router_journey *journey)
{
    struct router_core *core = journey->core;
    void *context = journey->context;

    if (context == NULL)
        return;
    journey->context = NULL;
    if (journey->result.finish == FRONT_REFUSED || journey->result.finish == FRONT_FAILED)
        core->counters.journeys_failed++;
    else
        core->counters.journeys_finished++;
    core->env.end(core->env.impl, context, &journey->result);
}

/* An end that the router itself made: the tries are used up, a deadline passed, a worker was lost. */
static void fail(struct router_journey *journey)
{
    struct front_result *result = &journey->result;

    result->finish = journey->next_index > 0 ? FRONT_FAILED : FRONT_REFUSED;
    if (result->status == TD_OK)
        result->status = TD_PEER_LOST;
    if (result->message[0] == '\0')
        snprintf(result->message, sizeof result->message, "%s", td_status_text(result->status));
    if ((result->status == TD_EXHAUSTED || result->status == TD_AGAIN) &&
        result->retry_after_ms == 0)
        result->retry_after_ms = admission_retry_after_ms(journey->core);
    report(journey);
}

static void note_failure(struct router_journey *journey, td_status_t status, const char *reason)
{
    journey->result.status = status;
    snprintf(journey->result.message, sizeof journey->result.message, "%s", reason);
}

void journey_fail_with(struct router_journey *journey, td_status_t status, const char *reason)
{
    note_failure(journey, status, reason);
    fail(journey);
    journey_step(journey, JOURNEY_ON_CANCEL);
}

/* --- the worker's account of the end --- */

static void take_stages(struct front_stages *stages, const Td__Stages *from)
{
    if (from == NULL)
        return;
    stages->wait_us = from->queue_us;
    stages->ask_us = from->ask_us;
    stages->prefill_us = from->prefill_us;
    stages->wire_us = from->wire_us;
    stages->land_us = from->land_us;
    stages->first_token_us = from->first_token_us;
    stages->decode_us = from->decode_us;
}

static void take_kv(struct front_kv *kv, const Td__KvTraffic *from)
{
    if (from == NULL)
        return;
    kv->bytes = from->bytes;
    kv->remote_blocks = from->remote_blocks;
    kv->cached_blocks = from->cached_blocks;
    snprintf(kv->transport, sizeof kv->transport, "%s", from->transport);
    snprintf(kv->fallback, sizeof kv->fallback, "%s", from->fallback);
}

/*
 * Codes on the wire are minus the status; one that we do not know is an internal error. A worker
 * that does not find a request has lost it: it was out of reach for longer than the worker's
 * patience. That is no word about the model, which is what "not found" says to a client.
 */
static td_status_t status_of(uint32_t code)
{
    if (code == (uint32_t)-TD_NOT_FOUND)
        return TD_PEER_LOST;
    return code <= (uint32_t)-TD_INTERNAL ? (td_status_t)(-(int)code) : TD_INTERNAL;
}

static void take_end(struct router_journey *journey, const Td__Update *update)
{
    struct front_result *result = &journey->result;

    result->finish =
        update->finish >= TD__FINISH__FINISH_STOP && update->finish <= TD__FINISH__FINISH_FAILED
            ? (enum front_finish)update->finish
            : FRONT_FAILED;
    result->status = status_of(update->code);
    snprintf(result->message, sizeof result->message, "%s", update->message);
    if (result->finish == FRONT_CANCELED) { /* not by us: the client is still there */
        result->finish = FRONT_FAILED;
        result->status = TD_CANCELED;
        snprintf(result->message, sizeof result->message, "the worker gave the request up");
    }
    result->retry_after_ms = update->retry_after_ms;
    result->prompt_tokens = update->prompt_tokens;
    result->cached_tokens = update->cached_tokens;
    result->completion_tokens = update->completion_tokens;
    take_stages(&result->stages, update->stages);
    take_kv(&result->kv, update->kv);
}

/* An answer that ends well is all there; whatever went wrong, half of one is never called whole. */
static void check_end(struct router_journey *journey)
{
    struct front_result *result = &journey->result;

    if ((result->finish != FRONT_STOP && result->finish != FRONT_LENGTH) ||
        result->completion_tokens == journey->next_index)
        return;
    journey->core->counters.invalid_messages++;
    result->finish = FRONT_FAILED;
    result->status = TD_CORRUPT;
    snprintf(result->message, sizeof result->message, "the worker's answer is not complete");
}

/* The worker keeps the output of an ended request until it hears that we have seen the end. */
static void acknowledge(struct router_journey *journey, const Td__Update *update)
{
    if (update != NULL)
        link_ended(journey->link, journey->id);
}

static void settle(struct router_journey *journey, const Td__Update *update)
{
    if (update != NULL)
        take_end(journey, update);
    journey->result.finish = FRONT_STOP;
    journey->result.status = TD_OK;
    journey->result.message[0] = '\0';
    acknowledge(journey, update);
    report(journey);
    journey_free(journey);
}

/* --- trying again --- */

static void requeue(struct router_journey *journey, uint32_t delay_ms)
{
    struct router_core *core = journey->core;

    leave(journey);
    admission_release(journey);
    journey->not_before_ns = core->now_ns + delay_ms * TD_NS_PER_MS;
    admission_push(journey, true);
    admission_run(core);
}

/*
 * Each try has an id of its own: a worker may still have the request of an earlier one when it gets the
 * next. They differ in the lower half, so that logs can be read.
 */
static void renumber(struct router_journey *journey)
{
    struct router_core *core = journey->core;
    td_status_t status;

    td_map_remove(&core->journeys, journey->id);
    do {
        journey->id.lo++;
        status = td_map_insert(&core->journeys, journey->id, journey);
    } while (status == TD_STATE);
    assert(status == TD_OK); /* there is the room that it had */
}

/* Leaves out the worker that failed, and forgets what it was told. */
static void retry(struct router_journey *journey)
{
    struct router_core *core = journey->core;

    core->counters.retries++;
    journey->tries++;
    journey->queue_deadline_ns = core->now_ns + core->limits.queue_ms * TD_NS_PER_MS;
    if (journey->tried_count < ROUTER_TRIES_MAX)
        journey->tried[journey->tried_count++] = journey->link->epoch;
    renumber(journey);
    journey->start_sent = false;
    journey->tokens_sent = 0;
    journey->owes = 0;
    journey->result.status = TD_OK;
    journey->result.message[0] = '\0';
    requeue(journey, 0);
}

static bool has_tries(const struct router_journey *journey)
{
    return journey->tries + 1 < journey->core->limits.tries_max;
}

/* --- the machine --- */

static void pass_tokens(struct router_journey *journey, const uint32_t *tokens, uint32_t count)
{
    struct router_core *core = journey->core;

    journey->next_index += count;
    core->counters.tokens += count;
    if (journey->context != NULL)
        core->env.tokens(core->env.impl, journey->context, tokens, count);
}

static void act(struct router_journey *journey, enum journey_event event, const Td__Update *update)
{
    uint8_t before = journey->state;
    uint8_t action = td_fsm_step(&journey_fsm, &journey->state, (uint8_t)event);

    if (journey->state != before)
        td_timer_set(&journey->core->timers, &journey->timer, state_deadline(journey));
    switch (action) {
    case JOURNEY_DO_IGNORE:
    case JOURNEY_DO_WATCH: break;
    case JOURNEY_DO_PLACE: place_ask(journey); break;
    case JOURNEY_DO_WAIT: requeue(journey, journey->core->limits.retry_ms); break;
    case JOURNEY_DO_START: break; /* the link was taken before the event, and sends by itself */
    case JOURNEY_DO_PASS: break;  /* by the caller, who knows which tokens are new */
    case JOURNEY_DO_END:
        take_end(journey, update);
        check_end(journey);
        acknowledge(journey, update);
        report(journey);
        journey_free(journey);
        break;
    case JOURNEY_DO_FAIL:
        fail(journey);
        journey_free(journey);
        break;
    case JOURNEY_DO_RETRY: retry(journey); break;
    case JOURNEY_DO_ATTACH:
        journey->core->counters.attaches++;
        link_owe(journey, JOURNEY_OWES_ATTACH);
        break;
    case JOURNEY_DO_CANCEL: link_owe(journey, JOURNEY_OWES_CANCEL); break;
    case JOURNEY_DO_CANCEL_FAIL:
        fail(journey);
        link_owe(journey, JOURNEY_OWES_CANCEL);
        break;
    case JOURNEY_DO_DETACH:
        if (journey->state == JOURNEY_DONE)
            journey_free(journey);
        break;
    case JOURNEY_DO_SETTLE: settle(journey, update); break;
    case JOURNEY_DO_DROP: journey_free(journey); break;
    case JOURNEY_DO_FREE:
        acknowledge(journey, update);
        journey_free(journey);
        break;
    default: assert(false && "unknown action");
    }
}

void journey_step(struct router_journey *journey, enum journey_event event)
{
    act(journey, event, NULL);
}

/* Whether another worker may do better: not if the request itself is at fault. */
static bool is_retryable(td_status_t status)
{
    return status != TD_INVALID && status != TD_LIMIT && status != TD_UNSUPPORTED &&
           status != TD_TIMEOUT;
}

static void on_end(struct router_journey *journey, const Td__Update *update)
{
    bool broke = update->finish == TD__FINISH__FINISH_REFUSED ||
                 update->finish == TD__FINISH__FINISH_FAILED ||
                 update->finish == TD__FINISH__FINISH_CANCELED;

    if (journey->state == JOURNEY_STARTING && broke) {
        bool again = has_tries(journey) && is_retryable(status_of(update->code));

        acknowledge(journey, update);
        take_end(journey, update);
        act(journey, again ? JOURNEY_ON_REFUSED_AGAIN : JOURNEY_ON_REFUSED_LAST, NULL);
        return;
    }
    act(journey, JOURNEY_ON_FINISHED, update);
}

/* After a stop or a cancel tokens are not counted any more. */
bool journey_misses(const struct router_journey *journey, const Td__Update *update)
{
    return update->n_tokens > 0 && update->index > journey->next_index &&
           (journey->state == JOURNEY_STARTING || journey->state == JOURNEY_STREAMING);
}

/*
 * The tokens of an update that were not passed on before. A gap is the link's fault (link.c checks);
 * what came twice, after a re-attach, is skipped.
 */
void journey_on_update(struct router_journey *journey, const Td__Update *update)
{
    uint32_t known = journey->next_index - update->index;

    if (update->n_tokens > known) {
        act(journey, JOURNEY_ON_TOKENS, NULL);
        if (journey->state == JOURNEY_STREAMING) /* the front may stop or abandon it in there */
            pass_tokens(journey, update->tokens + known, (uint32_t)(update->n_tokens - known));
    }
    if (update->finish != TD__FINISH__FINISH_NONE)
        on_end(journey, update);
}

void journey_link_lost(struct router_journey *journey)
{
    enum journey_event event = JOURNEY_ON_LINK_LOST;

    if (journey->state == JOURNEY_STARTING) {
        note_failure(journey, TD_PEER_LOST, "the worker was lost");
        event = has_tries(journey) ? JOURNEY_ON_LINK_LOST_AGAIN : JOURNEY_ON_LINK_LOST_LAST;
    }
    journey_step(journey, event);
}
