/*
 * link.c: Generate streams of routers: taking messages in, and making one message of all news.
 *
 * Output is pulled: a request with news is in its link's dirty list, the driver is told once, and
 * worker_link_next packs as many requests into a message as fit. A slow router therefore costs no
 * memory here but the output of its own requests, which is kept anyway until they are acknowledged.
 */
#include <assert.h>
#include <math.h> /* isfinite */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sample.h"
#include "lib/base/block_key.h"
#include "worker/internal.h"

_Static_assert((int)FRONT_RUNNING == (int)TD__FINISH__FINISH_NONE &&
                   (int)FRONT_STOP == (int)TD__FINISH__FINISH_STOP &&
                   (int)FRONT_LENGTH == (int)TD__FINISH__FINISH_LENGTH &&
                   (int)FRONT_CANCELED == (int)TD__FINISH__FINISH_CANCELED &&
                   (int)FRONT_REFUSED == (int)TD__FINISH__FINISH_REFUSED &&
                   (int)FRONT_FAILED == (int)TD__FINISH__FINISH_FAILED,
               "the wire's ends are the front's");

static struct td_u128 id_of(uint64_t hi, uint64_t lo)
{
    return (struct td_u128){.hi = hi, .lo = lo};
}

td_status_t worker_link_open(struct worker_core *core, void *handle, struct worker_link **link_out)
{
    struct worker_link *link;

    if (core->link_count >= core->counts.links_max)
        return TD_LIMIT;
    link = calloc(1, sizeof *link);
    if (link == NULL)
        return TD_NO_MEMORY;
    link->core = core;
    link->handle = handle;
    td_list_init(&link->requests);
    td_list_init(&link->dirty);
    td_list_push_back(&core->links, &link->node);
    core->link_count++;
    *link_out = link;
    return TD_OK;
}

static void link_free(struct worker_link *link)
{
    td_list_remove(&link->node);
    link->core->link_count--;
    free(link);
}

/* Every request of the link hears of the loss; some of them free themselves. */
static void link_orphan(struct worker_link *link)
{
    struct td_list *node;

    while ((node = td_list_first(&link->requests)) != NULL)
        request_step(td_container_of(node, struct worker_request, link_node), REQUEST_ON_LINK_LOST);
}

void worker_link_closed(struct worker_link *link, uint64_t now_ns)
{
    link->core->now_ns = now_ns;
    if (!td_list_empty(&link->requests))
        link->core->counters.links_lost++;
    link_orphan(link);
    link_free(link);
}

static void violation(struct worker_link *link, td_status_t status, const char *reason)
{
    struct worker_core *core = link->core;

    if (status == TD_STALE)
        core->counters.stale_messages++;
    else
        core->counters.invalid_messages++;
    td_log(TD_LOG_WARN, "link", "closing a router's link: %s", reason);
    core->env.link_close(core->env.impl, link->handle, status, reason);
    link_orphan(link);
    link_free(link);
}

/* --- what requests do with their link --- */

static void link_ready(struct worker_link *link)
{
    link->core->env.link_ready(link->core->env.impl, link->handle);
}

void link_dirty(struct worker_request *request)
{
    if (!td_list_empty(&request->dirty_node))
        return; /* announced already */
    td_list_push_back(&request->link->dirty, &request->dirty_node);
    link_ready(request->link);
}

void link_attach(struct worker_link *link, struct worker_request *request)
{
    link_detach(request);
    request->link = link;
    request->router_epoch = link->router_epoch;
    td_list_push_back(&link->requests, &request->link_node);
}

void link_detach(struct worker_request *request)
{
    td_list_remove(&request->link_node);
    td_list_remove(&request->dirty_node);
    request->link = NULL;
}

void link_notice(struct worker_link *link, struct td_u128 id, enum front_finish finish,
                 td_status_t status, const char *message)
{
    struct worker_notice *notice;

    if (link->notice_count == LINK_NOTICES_MAX)
        return; /* a router that does not read: its own deadline ends the request */
    notice = &link->notices[link->notice_count++];
    *notice = (struct worker_notice){.id = id, .finish = finish, .status = status};
    if (status == TD_EXHAUSTED || status == TD_LIMIT)
        notice->retry_after_ms = 500;
    snprintf(notice->message, sizeof notice->message, "%s", message);
    link_ready(link);
}

/* --- messages in --- */

static void on_hello(struct worker_link *link, const Td__Hello *hello)
{
    const struct worker_core *core = link->core;

    if (link->router_epoch != 0 || hello->router_epoch == 0) {
        violation(link, TD_INVALID, "hello: sent twice, or without a router epoch");
    } else if (hello->worker_epoch != core->identity.epoch) {
        violation(link, TD_STALE, "hello: meant for another incarnation of this worker");
    } else if (hello->versions == NULL || hello->versions->min > WORKER_PROTOCOL_VERSION ||
               hello->versions->max < WORKER_PROTOCOL_VERSION) {
        violation(link, TD_UNSUPPORTED, "hello: no common protocol version");
    } else {
        link->router_epoch = hello->router_epoch;
        link->hello_owed = true;
        link_ready(link);
    }
}

static struct engine_sampling sampling_of(const Td__Sampling *from)
{
    return (struct engine_sampling){.temperature = from->temperature,
                                    .top_k = from->top_k,
                                    .top_p = from->top_p,
                                    .min_p = from->min_p,
                                    .repetition_penalty = from->repetition_penalty,
                                    .presence_penalty = from->presence_penalty,
                                    .frequency_penalty = from->frequency_penalty,
                                    .seed = from->seed,
                                    .choice = from->choice};
}

static bool is_good_sampling(const Td__Sampling *from)
{
    struct engine_sampling sampling;

    if (from == NULL)
        return false;
    sampling = sampling_of(from);
    return engine_sampling_check(&sampling) == TD_OK;
}

static bool are_good_biases(const Td__Sampling *from, uint32_t vocab)
{
    if (from->n_bias_tokens != from->n_bias_values || from->n_bias_tokens > ENGINE_BIASES_MAX)
        return false;
    for (size_t i = 0; i < from->n_bias_tokens; i++)
        if (from->bias_tokens[i] >= vocab || !isfinite(from->bias_values[i]))
            return false;
    return true;
}

static bool take_biases(struct engine_sampling *sampling, const Td__Sampling *from)
{
    if (from->n_bias_tokens == 0)
        return true;
    sampling->biases = calloc(from->n_bias_tokens, sizeof *sampling->biases);
    if (sampling->biases == NULL)
        return false;
    for (size_t i = 0; i < from->n_bias_tokens; i++)
        sampling->biases[i] = (struct engine_bias){from->bias_tokens[i], from->bias_values[i]};
    sampling->bias_count = (uint32_t)from->n_bias_tokens;
    return true;
}

/* NULL, or what is wrong with the start. */
static const char *check_start(const struct worker_core *core, const Td__Start *start)
{
    const struct engine_model_info *model = &core->identity.model;
    bool known = start->model != NULL && start->model[0] == '\0';

    for (uint32_t i = 0; i < core->identity.model_count && start->model != NULL; i++)
        known = known || strcmp(start->model, core->identity.models[i]) == 0;
    if (!known)
        return "model: not served here";
    if (start->prompt_tokens == 0 || start->prompt_tokens > model->max_context)
        return "prompt_tokens: empty, or longer than the context";
    if (start->n_stop_ids > ENGINE_STOP_IDS_MAX)
        return "stop_ids: too many";
    if (!is_good_sampling(start->sampling))
        return "sampling: missing, or a value out of range";
    if (!are_good_biases(start->sampling, model->vocab))
        return "sampling: biases that do not fit together, too many, or out of range";
    if (start->text_id_hi != core->identity.text_id.hi ||
        start->text_id_lo != core->identity.text_id.lo)
        return "text_id: the router used another tokenizer";
    return NULL;
}

static void take_candidates(struct worker_request *request, const Td__Start *start)
{
    struct worker_import *import = &request->import;

    for (size_t i = 0; i < start->n_prefill && import->candidate_count < WORKER_CANDIDATES_MAX;
         i++) {
        const Td__PrefillCandidate *from = start->prefill[i];
        struct worker_candidate *candidate = &import->candidates[import->candidate_count];

        if (from->target[0] == '\0' || strlen(from->target) >= sizeof candidate->target)
            continue;
        snprintf(candidate->target, sizeof candidate->target, "%s", from->target);
        candidate->matched_blocks = from->matched_blocks;
        import->candidate_count++;
    }
}

static void take_start(struct worker_request *request, const Td__Start *start)
{
    struct worker_core *core = request->core;
    struct engine_submit *submit = &request->submit;
    uint32_t remaining_ms = start->remaining_ms != 0 ? start->remaining_ms : core->times.request_ms;

    submit->max_new_tokens = start->max_new_tokens;
    submit->sampling = sampling_of(start->sampling);
    for (size_t i = 0; i < start->n_stop_ids; i++)
        submit->stop_ids[i] = start->stop_ids[i];
    submit->stop_id_count = (uint32_t)start->n_stop_ids;
    submit->ignore_model_stops = start->ignore_model_stops;
    submit->root_key =
        td_block_root(core->identity.model.content_id, id_of(start->salt_hi, start->salt_lo));
    request->deadline_ns = core->now_ns + remaining_ms * TD_NS_PER_MS;
    take_candidates(request, start);
}

static void refuse_start(struct worker_link *link, struct td_u128 id, td_status_t status,
                         const char *reason)
{
    link->core->counters.requests_refused++;
    link_notice(link, id, FRONT_REFUSED, status, reason);
}

static void on_start(struct worker_link *link, const Td__Start *start)
{
    struct worker_core *core = link->core;
    struct td_u128 id = id_of(start->request_hi, start->request_lo);
    const char *fault = check_start(core, start);
    struct worker_request *request;
    td_status_t status;

    if (fault != NULL) {
        core->counters.invalid_messages++;
        refuse_start(link, id, TD_INVALID, fault);
        return;
    }
    if (core->draining) {
        refuse_start(link, id, TD_EXHAUSTED, "the worker is draining");
        return;
    }
    request = request_new(core, id, start->prompt_tokens, &status);
    if (request == NULL) {
        refuse_start(link, id, status == TD_LIMIT ? TD_EXHAUSTED : status,
                     status == TD_STATE ? "the request id is in use" : td_status_text(status));
        return;
    }
    link_attach(link, request);
    take_start(request, start);
    if (!take_biases(&request->submit.sampling, start->sampling))
        request_refuse(request, TD_NO_MEMORY, "no memory for the biases");
}

static struct worker_request *find(struct worker_link *link, uint64_t hi, uint64_t lo)
{
    struct worker_request *request = td_map_find(&link->core->requests, id_of(hi, lo));

    /* a request belongs to the router that started it, whatever link it comes over */
    return request != NULL && request->router_epoch == link->router_epoch ? request : NULL;
}

/* Frames come in order; one that does not fit ends the request, not the link. */
static void on_tokens(struct worker_link *link, const Td__StartTokens *frame)
{
    struct worker_request *request = find(link, frame->request_hi, frame->request_lo);
    uint32_t vocab = link->core->identity.model.vocab;

    if (request == NULL || request->state != REQUEST_COLLECTING)
        return; /* refused or canceled while frames were on their way */
    if (frame->offset != request->tokens_received || frame->n_tokens == 0 ||
        frame->n_tokens > request->token_count - request->tokens_received) {
        request_refuse(request, TD_INVALID, "tokens: a frame is out of order or too long");
        return;
    }
    for (size_t i = 0; i < frame->n_tokens; i++) {
        if (frame->tokens[i] >= vocab) {
            request_refuse(request, TD_INVALID, "tokens: an id is outside the vocabulary");
            return;
        }
        request->submit.tokens[request->tokens_received++] = frame->tokens[i];
    }
    if (request->tokens_received < request->token_count)
        return;
    if (request_take_sequence(request) != TD_OK)
        request_refuse(request, TD_EXHAUSTED, "too many sequences");
    else
        request_step(request, REQUEST_ON_COMPLETE);
}

static void on_cancel(struct worker_link *link, const Td__Cancel *cancel)
{
    struct worker_request *request = find(link, cancel->request_hi, cancel->request_lo);
    struct td_u128 id = id_of(cancel->request_hi, cancel->request_lo);

    if (request == NULL) {
        link_notice(link, id, FRONT_CANCELED, TD_NOT_FOUND, "no such request");
        return;
    }
    if (request->state == REQUEST_COLLECTING) { /* freed at once: the answer cannot come from it */
        link_notice(link, id, FRONT_CANCELED, TD_OK, "");
        request_step(request, REQUEST_ON_CANCEL);
        return;
    }
    if (request->link != link)
        link_attach(link, request); /* the answer goes to where the cancel came from */
    request_step(request, REQUEST_ON_CANCEL);
    if (request->state == REQUEST_ENDED) { /* it may have been lost with an earlier link */
        request->end_sent = false;
        link_dirty(request);
    }
}

static void on_attach(struct worker_link *link, const Td__Attach *attach)
{
    struct worker_request *request = find(link, attach->request_hi, attach->request_lo);

    if (request == NULL || attach->next_index > request->output_count) {
        link_notice(link, id_of(attach->request_hi, attach->request_lo), FRONT_FAILED, TD_NOT_FOUND,
                    "no such request");
        return;
    }
    link->core->counters.attaches++;
    link_attach(link, request);
    request->output_sent = attach->next_index;
    request->end_sent = false;
    request_step(request, REQUEST_ON_ATTACH);
}

static void on_ended(struct worker_link *link, const Td__Ended *ended)
{
    struct worker_request *request = find(link, ended->request_hi, ended->request_lo);

    if (request != NULL)
        request_step(request, REQUEST_ON_ACKNOWLEDGED);
}

void worker_link_on_message(struct worker_link *link, const Td__GenerateIn *message,
                            uint64_t now_ns)
{
    link->core->now_ns = now_ns;
    if (link->router_epoch == 0 && message->kind_case != TD__GENERATE_IN__KIND_HELLO) {
        violation(link, TD_INVALID, "a message before hello");
        return;
    }
    switch (message->kind_case) {
    case TD__GENERATE_IN__KIND_HELLO: on_hello(link, message->hello); break;
    case TD__GENERATE_IN__KIND_START: on_start(link, message->start); break;
    case TD__GENERATE_IN__KIND_TOKENS: on_tokens(link, message->tokens); break;
    case TD__GENERATE_IN__KIND_CANCEL: on_cancel(link, message->cancel); break;
    case TD__GENERATE_IN__KIND_ATTACH: on_attach(link, message->attach); break;
    case TD__GENERATE_IN__KIND_ENDED: on_ended(link, message->ended); break;
    default: break; /* of a newer version: skipped */
    }
}

/* --- messages out --- */

static void fill_end(struct worker_link *link, size_t place, const struct front_result *result)
{
    Td__Update *update = &link->update[place];
    Td__Stages *stages = &link->stages[place];
    Td__KvTraffic *kv = &link->kv[place];

    td__stages__init(stages);
    td__kv_traffic__init(kv);
    stages->queue_us = result->stages.wait_us;
    stages->ask_us = result->stages.ask_us;
    stages->prefill_us = result->stages.prefill_us;
    stages->wire_us = result->stages.wire_us;
    stages->land_us = result->stages.land_us;
    stages->first_token_us = result->stages.first_token_us;
    stages->decode_us = result->stages.decode_us;
    kv->bytes = result->kv.bytes;
    kv->remote_blocks = result->kv.remote_blocks;
    kv->cached_blocks = result->kv.cached_blocks;
    kv->transport = (char *)(uintptr_t)result->kv.transport;
    kv->fallback = (char *)(uintptr_t)result->kv.fallback;
    update->finish = (Td__Finish)result->finish;
    update->code = (uint32_t)-result->status;
    update->message = (char *)(uintptr_t)result->message;
    update->prompt_tokens = result->prompt_tokens;
    update->cached_tokens = result->cached_tokens;
    update->completion_tokens = result->completion_tokens;
    update->retry_after_ms = result->retry_after_ms;
    update->stages = stages;
    update->kv = kv;
}

/* True if the request has more to say than fits into this message. */
static bool fill_update(struct worker_link *link, size_t place, struct worker_request *request)
{
    Td__Update *update = &link->update[place];
    uint32_t count = request->output_count - request->output_sent;

    if (count > LINK_TOKENS_MAX)
        count = LINK_TOKENS_MAX;
    update->request_hi = request->id.hi;
    update->request_lo = request->id.lo;
    update->index = request->output_sent;
    update->tokens = count > 0 ? request->output + request->output_sent : NULL;
    update->n_tokens = count;
    request->output_sent += count;
    if (request->output_sent < request->output_count)
        return true;
    if (request->state == REQUEST_ENDED && !request->end_sent) {
        fill_end(link, place, &request->result);
        request->end_sent = true;
    }
    return false;
}

static void fill_notice(struct worker_link *link, size_t place)
{
    struct worker_notice *notice = &link->sending[place];
    Td__Update *update = &link->update[place];

    *notice = link->notices[--link->notice_count];
    update->request_hi = notice->id.hi;
    update->request_lo = notice->id.lo;
    update->finish = (Td__Finish)notice->finish;
    update->code = (uint32_t)-notice->status;
    update->message = notice->message;
    update->retry_after_ms = notice->retry_after_ms;
}

static const Td__GenerateOut *hello_message(struct worker_link *link)
{
    td__hello_back__init(&link->hello);
    link->hello.version = WORKER_PROTOCOL_VERSION;
    link->hello.worker_epoch = link->core->identity.epoch;
    link->hello.grace_ms = link->core->times.grace_ms;
    link->hello_owed = false;
    link->out.kind_case = TD__GENERATE_OUT__KIND_HELLO;
    link->out.hello = &link->hello;
    return &link->out;
}

const Td__GenerateOut *worker_link_next(struct worker_link *link, uint64_t now_ns)
{
    size_t count = 0;
    uint32_t tokens = 0;
    struct td_list *node;

    link->core->now_ns = now_ns;
    td__generate_out__init(&link->out);
    if (link->hello_owed)
        return hello_message(link);
    for (; link->notice_count > 0 && count < LINK_UPDATES_MAX; count++) {
        td__update__init(&link->update[count]);
        fill_notice(link, count);
    }
    while (count < LINK_UPDATES_MAX && tokens < 2 * LINK_TOKENS_MAX &&
           (node = td_list_first(&link->dirty)) != NULL) {
        struct worker_request *request = td_container_of(node, struct worker_request, dirty_node);

        td_list_remove(node);
        td__update__init(&link->update[count]);
        if (fill_update(link, count, request))
            td_list_push_back(&link->dirty, node);
        tokens += (uint32_t)link->update[count].n_tokens;
        count++;
    }
    if (count == 0)
        return NULL;
    for (size_t i = 0; i < count; i++)
        link->update_pointers[i] = &link->update[i];
    td__step_updates__init(&link->updates);
    link->updates.updates = link->update_pointers;
    link->updates.n_updates = count;
    link->out.kind_case = TD__GENERATE_OUT__KIND_UPDATES;
    link->out.updates = &link->updates;
    return &link->out;
}
