/*
 * request.c: requests on this worker: submitting, output by index, and their end. See request.h.
 */
#include "worker/request.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/block_key.h"
#include "worker/internal.h"

TD_FSM_DEFINE(request, REQUEST, "One request on a worker, from its Start to the acknowledged end.");

#define OUTPUT_CAPACITY_MIN 64

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_request *request = td_container_of(timer, struct worker_request, timer);

    (void)now_ns;
    request_step(request, REQUEST_ON_TIMEOUT);
}

struct worker_request *request_new(struct worker_core *core, struct td_u128 id,
                                   uint32_t token_count, td_status_t *status_out)
{
    struct worker_request *request = calloc(1, sizeof *request);

    *status_out = TD_NO_MEMORY;
    if (request == NULL)
        return NULL;
    request->submit.tokens = calloc(token_count, sizeof *request->submit.tokens);
    if (request->submit.tokens == NULL)
        goto free_request;
    *status_out = td_map_insert(&core->requests, id, request);
    if (*status_out != TD_OK)
        goto free_tokens;
    request->owner.kind = WORKER_OWNS_REQUEST;
    request->core = core;
    request->id = id;
    request->token_count = token_count;
    request->state = REQUEST_COLLECTING;
    td_list_init(&request->link_node);
    td_list_init(&request->dirty_node);
    td_list_init(&request->import.pair_node);
    td_timer_init(&request->timer, on_timer);
    worker_timer_after(core, &request->timer, core->times.collect_ms);
    return request;

free_tokens:
    free(request->submit.tokens);
free_request:
    free(request);
    return NULL;
}

void request_free(struct worker_request *request)
{
    struct worker_core *core = request->core;

    import_free(&request->import);
    link_detach(request);
    td_timer_cancel(&core->timers, &request->timer);
    td_map_remove(&core->requests, request->id);
    if (request->sequence != 0)
        td_map_remove(&core->sequences, td_u128_from_u64(request->sequence));
    free(request->submit.tokens);
    free(request->submit.sampling.biases);
    free(request->tokens);
    free(request->output);
    free(request);
}

/* --- submitting --- */

static bool wants_import(const struct worker_request *request)
{
    const struct worker_policy *policy = &request->core->policy;

    return policy->imports && request->import.candidate_count > 0 &&
           request->token_count >= policy->import_tokens_min;
}

/* The ask needs the prompt after the engine took it; without memory for a copy, no import. */
static bool keep_tokens(struct worker_request *request)
{
    size_t bytes = request->token_count * sizeof *request->tokens;

    request->tokens = malloc(bytes);
    if (request->tokens != NULL)
        memcpy(request->tokens, request->submit.tokens, bytes);
    return request->tokens != NULL;
}

static void submit(struct worker_request *request)
{
    struct worker_core *core = request->core;
    struct engine_command command = {.kind = ENGINE_SUBMIT};
    bool import = wants_import(request) && keep_tokens(request);

    core->admitted++;
    core->counters.requests_started++;
    request->submit.request = request->id;
    request->submit.goal = import ? ENGINE_IMPORT : ENGINE_GENERATE;
    request->submit.token_count = request->token_count;
    request->submit.deadline_ns = request->deadline_ns;
    command.sequence = request->sequence;
    command.submit = request->submit;
    request->submit.tokens = NULL; /* moved */
    request->submit.sampling.biases = NULL;
    if (import)
        import_start(request);
    core->env.engine(core->env.impl, &command);
}

/* A sequence number must be in the map before anything can answer to it. */
td_status_t request_take_sequence(struct worker_request *request)
{
    struct worker_core *core = request->core;
    uint64_t sequence = worker_number_next(core);
    td_status_t status = td_map_insert(&core->sequences, td_u128_from_u64(sequence), request);

    if (status == TD_OK)
        request->sequence = sequence;
    return status;
}

/* --- ending --- */

static enum front_finish finish_of(enum engine_finish reason)
{
    switch (reason) {
    case ENGINE_FINISH_STOP: return FRONT_STOP;
    case ENGINE_FINISH_LENGTH: return FRONT_LENGTH;
    case ENGINE_FINISH_CANCELED:
    case ENGINE_FINISH_RELEASED: return FRONT_CANCELED;
    case ENGINE_FINISH_REFUSED: return FRONT_REFUSED;
    case ENGINE_FINISH_FAILED: return FRONT_FAILED;
    }
    return FRONT_FAILED;
}

static void count_end(struct worker_counters *counters, enum front_finish finish)
{
    switch (finish) {
    case FRONT_STOP:
    case FRONT_LENGTH: counters->requests_finished++; break;
    case FRONT_CANCELED: counters->requests_canceled++; break;
    case FRONT_REFUSED: counters->requests_refused++; break;
    default: counters->requests_failed++; break;
    }
}

static void fill_result(struct worker_request *request, const struct engine_finished *finished)
{
    struct front_result *result = &request->result;
    bool expired = result->status == TD_TIMEOUT;

    result->finish = expired ? FRONT_FAILED : finish_of(finished->reason);
    if (request->state == REQUEST_CANCELING &&
        !expired) /* tokens after the cancel were not taken */
        result->finish = FRONT_CANCELED;
    if (!expired) {
        result->status = finished->status;
        if (finished->status != TD_OK)
            snprintf(result->message, sizeof result->message, "%s",
                     td_status_text(finished->status));
    }
    if (finished->status == TD_EXHAUSTED)
        result->retry_after_ms = 500;
    result->prompt_tokens = finished->prompt_tokens;
    result->cached_tokens = finished->cached_tokens;
    result->completion_tokens = request->output_count;
    result->stages.wait_us = worker_us(finished->queue_ns);
    if (result->kv.remote_blocks == 0) /* else the candidate's time is in it already */
        result->stages.prefill_us = worker_us(finished->prefill_ns);
    result->stages.first_token_us = worker_us(finished->first_token_ns);
    result->stages.decode_us = worker_us(finished->decode_ns);
    count_end(&request->core->counters, result->finish);
}

/* Nobody will ask for this end: it was canceled and no link is left, or its client is local. */
static bool end_is_unwanted(const struct worker_request *request)
{
    return request->link == NULL &&
           (request->router_epoch == 0 || request->result.finish == FRONT_CANCELED);
}

static void end(struct worker_request *request)
{
    worker_timer_after(request->core, &request->timer, request->core->times.ended_ms);
    if (request->update != NULL)
        request_flush(request);
    else if (request->link != NULL)
        link_dirty(request);
    if (end_is_unwanted(request))
        request_step(request, REQUEST_ON_ACKNOWLEDGED);
}

static void cancel(struct worker_request *request)
{
    td_timer_cancel(&request->core->timers, &request->timer);
    worker_engine_simple(request->core, ENGINE_CANCEL, request->sequence);
    if (request->import.active)
        import_step(&request->import, IMPORT_ON_CANCEL);
}

static void expire(struct worker_request *request)
{
    request->result.status = TD_TIMEOUT;
    snprintf(request->result.message, sizeof request->result.message,
             "the request's deadline passed");
    cancel(request);
}

static void detach(struct worker_request *request)
{
    link_detach(request);
    worker_timer_after(request->core, &request->timer, request->core->times.grace_ms);
}

/* The link was set by link_attach before the event. */
static void relink(struct worker_request *request)
{
    if (request->state == REQUEST_RUNNING)
        td_timer_set(&request->core->timers, &request->timer, request->deadline_ns);
    link_dirty(request);
}

static void reject(struct worker_request *request)
{
    struct front_result *result = &request->result;

    if (result->status == TD_OK) {
        result->status = TD_TIMEOUT;
        snprintf(result->message, sizeof result->message, "the prompt did not arrive in time");
    }
    request->core->counters.requests_refused++;
    if (request->link != NULL)
        link_notice(request->link, request->id, FRONT_REFUSED, result->status, result->message);
    request_free(request);
}

void request_step(struct worker_request *request, enum request_event event)
{
    uint8_t action = td_fsm_step(&request_fsm, &request->state, (uint8_t)event);

    switch (action) {
    case REQUEST_DO_IGNORE: break;
    case REQUEST_DO_SUBMIT:
        td_timer_set(&request->core->timers, &request->timer, request->deadline_ns);
        submit(request);
        break;
    case REQUEST_DO_REJECT: reject(request); break;
    case REQUEST_DO_DISCARD: request_free(request); break;
    case REQUEST_DO_DETACH: detach(request); break;
    case REQUEST_DO_UNLINK:
        link_detach(request);
        if (request->state == REQUEST_ENDED && end_is_unwanted(request))
            request_step(request, REQUEST_ON_ACKNOWLEDGED);
        break;
    case REQUEST_DO_RELINK: relink(request); break;
    case REQUEST_DO_CANCEL: cancel(request); break;
    case REQUEST_DO_EXPIRE: expire(request); break;
    case REQUEST_DO_END: end(request); break;
    case REQUEST_DO_FREE: request_free(request); break;
    default: assert(false && "unknown action");
    }
}

void request_refuse(struct worker_request *request, td_status_t status, const char *reason)
{
    request->result.status = status;
    snprintf(request->result.message, sizeof request->result.message, "%s", reason);
    request_step(request, REQUEST_ON_REFUSE);
}

/* --- from the engine --- */

void request_on_engine(struct worker_request *request, struct engine_event *event)
{
    struct worker_core *core = request->core;

    if (event->kind == ENGINE_RESERVED) {
        import_on_reserved(&request->import, event);
        return;
    }
    assert(event->kind == ENGINE_FINISHED); /* BLOCKS and PREFILLED belong to exports */
    if (request->import.active)
        import_step(&request->import, IMPORT_ON_ENGINE_ENDED);
    td_map_remove(&core->sequences, td_u128_from_u64(request->sequence));
    request->sequence = 0;
    fill_result(request, &event->finished);
    request_step(request, REQUEST_ON_FINISHED);
}

static bool output_grow(struct worker_request *request)
{
    uint32_t capacity =
        request->output_capacity == 0 ? OUTPUT_CAPACITY_MIN : request->output_capacity * 2;
    uint32_t *output = realloc(request->output, capacity * sizeof *output);

    if (output == NULL)
        return false;
    request->output = output;
    request->output_capacity = capacity;
    return true;
}

void request_tokens(struct worker_request *request, const struct engine_token *token)
{
    if (request->state != REQUEST_RUNNING && request->state != REQUEST_DETACHED)
        return; /* canceled: sampled in the step that was running */
    assert(token->index == request->output_count);
    if (request->output_count == request->output_capacity && !output_grow(request)) {
        request->result.status = TD_NO_MEMORY;
        request_step(request, REQUEST_ON_CANCEL);
        return;
    }
    request->output[request->output_count++] = token->token;
    if (request->link != NULL)
        link_dirty(request);
}

void request_flush(struct worker_request *request)
{
    uint32_t first = request->output_sent;
    uint32_t count = request->output_count - first;
    bool ended = request->state == REQUEST_ENDED;

    if (request->update == NULL || (count == 0 && !ended))
        return;
    request->output_sent = request->output_count;
    request->update(request->update_context, count > 0 ? request->output + first : NULL, count,
                    &request->result);
}

/* --- local clients --- */

td_status_t worker_request_start(struct worker_core *core, struct worker_start *start,
                                 worker_update_fn update, void *context, uint64_t now_ns,
                                 struct worker_request **request_out)
{
    struct worker_request *request;
    td_status_t status;
    uint32_t remaining_ms = start->remaining_ms != 0 ? start->remaining_ms : core->times.request_ms;

    core->now_ns = now_ns;
    if (core->draining)
        return TD_EXHAUSTED;
    if (start->token_count == 0 || start->stop_id_count > ENGINE_STOP_IDS_MAX)
        return TD_INVALID;
    request = request_new(core, start->id, start->token_count, &status);
    if (request == NULL)
        return status == TD_LIMIT ? TD_EXHAUSTED : status;
    status = request_take_sequence(request);
    if (status != TD_OK) {
        request_free(request);
        return TD_EXHAUSTED;
    }
    memcpy(request->submit.tokens, start->tokens, start->token_count * sizeof *start->tokens);
    free(start->tokens);
    start->tokens = NULL;
    request->submit.max_new_tokens = start->max_new_tokens;
    request->submit.sampling = start->sampling;
    start->sampling.biases = NULL;
    if (start->stop_id_count > 0)
        memcpy(request->submit.stop_ids, start->stop_ids, start->stop_id_count * sizeof(uint32_t));
    request->submit.stop_id_count = start->stop_id_count;
    request->submit.root_key = td_block_root(core->identity.model.content_id, start->salt);
    request->deadline_ns = now_ns + remaining_ms * TD_NS_PER_MS;
    request->update = update;
    request->update_context = context;
    request_step(request, REQUEST_ON_COMPLETE);
    *request_out = request;
    return TD_OK;
}

void worker_request_stop(struct worker_request *request, uint64_t now_ns)
{
    request->core->now_ns = now_ns;
    request_step(request, REQUEST_ON_CANCEL);
}

void worker_request_abandon(struct worker_request *request, uint64_t now_ns)
{
    request->core->now_ns = now_ns;
    request->update = NULL;
    request_step(request, REQUEST_ON_CANCEL);
}
