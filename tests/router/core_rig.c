/* core_rig.c: see core_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/version.h"
#include "tests/router/core_rig.h"

/* --- the notebook --- */

static void note_random(void *impl, void *out, size_t length)
{
    struct rig *rig = impl;

    memset(out, 0, length);
    rig->random += 1000;
    memcpy(out, &rig->random, length < 8 ? length : 8);
}

static void note_place(void *impl, uint64_t number, const Td__PlaceRequest *request,
                       uint32_t deadline_ms)
{
    struct rig *rig = impl;

    assert_true(deadline_ms > 0);
    assert_string_equal(request->model, "model");
    rig->places++;
    rig->place_number = number;
    rig->exclude_count = (uint32_t)request->n_exclude;
    memcpy(rig->exclude, request->exclude, request->n_exclude * sizeof *rig->exclude);
}

static void note_place_cancel(void *impl, uint64_t number)
{
    struct rig *rig = impl;

    if (number == rig->place_number)
        rig->place_number = 0;
}

static void note_link_open(void *impl, uint64_t link, const char *target)
{
    struct rig *rig = impl;

    assert_true(target[0] == 'w');
    rig->links_opened++;
    rig->link = link;
}

static void note_link_close(void *impl, uint64_t link)
{
    (void)link;
    ((struct rig *)impl)->links_closed++;
}

static void note_link_ready(void *impl, uint64_t link)
{
    (void)link;
    ((struct rig *)impl)->ready++;
}

static void note_tokens(void *impl, void *context, const uint32_t *tokens, uint32_t count)
{
    struct rig *rig = impl;
    struct rig_client *client = context;

    assert_int_equal(client->ends, 0);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(tokens[i], client->tokens + i);
    client->tokens += count;
    if (client->abandons)
        router_journey_abandon(client->journey, rig->now_ns);
    else if (client->stops)
        router_journey_stop(client->journey, rig->now_ns);
}

static void note_end(void *impl, void *context, const struct front_result *result)
{
    struct rig_client *client = context;

    (void)impl;
    client->ends++;
    client->journey = NULL;
    client->result = *result;
}

/* --- opening --- */

void rig_fleet(struct rig *rig, uint32_t first, uint32_t last, uint32_t capacity)
{
    static char targets[][3] = {"w0", "w1", "w2", "w3"};
    static char model[] = "model";
    static char *models[] = {model};
    Td__FleetUpdate update = TD__FLEET_UPDATE__INIT;
    Td__FleetWorker workers[RIG_WORKERS];
    Td__FleetWorker *list[RIG_WORKERS];
    size_t count = 0;

    for (uint32_t i = first; i <= last; i++) {
        Td__FleetWorker *worker = &workers[count];

        td__fleet_worker__init(worker);
        worker->epoch = RIG_EPOCH(i);
        worker->role = TD__ROLE__ROLE_DECODE;
        worker->rpc_target = targets[i];
        worker->models = models;
        worker->n_models = 1;
        worker->text_id_lo = i == rig->stranger ? RIG_TEXT + 1 : RIG_TEXT;
        worker->block_tokens = 4;
        worker->max_context = 1000;
        worker->max_sequences = capacity;
        worker->ready = true;
        list[count++] = worker;
    }
    update.workers = list;
    update.n_workers = count;
    router_core_on_fleet(rig->core, &update, rig->now_ns);
}

void rig_open(struct rig *rig, uint32_t workers, uint32_t capacity)
{
    struct router_config config = {.epoch = 1, .limits = router_limits_default()};

    *rig = (struct rig){.now_ns = TD_NS_PER_SEC};
    config.limits.queue_max = 3;
    config.env = (struct router_env){.impl = rig,
                                     .random = note_random,
                                     .place = note_place,
                                     .place_cancel = note_place_cancel,
                                     .link_open = note_link_open,
                                     .link_close = note_link_close,
                                     .link_ready = note_link_ready,
                                     .tokens = note_tokens,
                                     .end = note_end};
    assert_int_equal(router_core_open(&config, &rig->core), TD_OK);
    if (workers > 0)
        rig_fleet(rig, 1, workers, capacity);
}

void rig_close(struct rig *rig)
{
    router_core_close(rig->core);
}

void rig_wait_ms(struct rig *rig, uint32_t ms)
{
    rig->now_ns += ms * TD_NS_PER_MS;
    router_core_tick(rig->core, rig->now_ns);
}

td_status_t rig_ask(struct rig *rig, struct rig_client *client, uint32_t tokens,
                    uint32_t remaining_ms)
{
    static const struct front_bias biases[] = {{7, -100}, {3, 0.5f}};
    struct router_start start = {.model = "model",
                                 .token_count = tokens,
                                 .max_new_tokens = 8,
                                 .sampling = {.temperature = 0.7f,
                                              .top_k = 20,
                                              .top_p = 0.8f,
                                              .min_p = 0.05f,
                                              .repetition_penalty = 1.1f,
                                              .presence_penalty = -0.5f,
                                              .frequency_penalty = 0.25f},
                                 .biases = biases,
                                 .bias_count = 2,
                                 .text_id = td_u128_from_u64(RIG_TEXT),
                                 .remaining_ms = remaining_ms};
    uint32_t retry_after_ms;
    td_status_t status;

    *client = (struct rig_client){.rig = rig};
    start.tokens = calloc(tokens + 1, sizeof *start.tokens);
    status = router_journey_start(rig->core, &start, client, rig->now_ns, &client->journey,
                                  &retry_after_ms);
    if (status != TD_OK)
        free(start.tokens);
    if (status == TD_EXHAUSTED)
        assert_true(retry_after_ms > 0);
    return status;
}

/* --- schedulers --- */

static void place(struct rig *rig, const Td__PlaceReply *reply)
{
    assert_true(rig->place_number != 0);
    router_core_on_placed(rig->core, rig->place_number, reply, rig->now_ns);
}

void rig_placed(struct rig *rig, uint32_t worker)
{
    Td__PlaceReply reply;

    td__place_reply__init(&reply);
    reply.worker_epoch = RIG_EPOCH(worker);
    place(rig, &reply);
}

void rig_not_placed(struct rig *rig, td_status_t status, uint32_t retry_after_ms)
{
    Td__PlaceReply reply;

    td__place_reply__init(&reply);
    reply.code = (uint32_t)-status;
    reply.message = (char *)(uintptr_t) "nobody";
    reply.retry_after_ms = retry_after_ms;
    place(rig, &reply);
}

/* --- links --- */

void rig_link_says(struct rig *rig, const Td__GenerateOut *message)
{
    router_core_on_link_message(rig->core, rig->link, message, rig->now_ns);
}

void rig_greets(struct rig *rig, uint64_t epoch)
{
    Td__GenerateOut message = TD__GENERATE_OUT__INIT;
    Td__HelloBack hello = TD__HELLO_BACK__INIT;

    hello.version = TD_PROTOCOL_MAX;
    hello.worker_epoch = epoch;
    message.kind_case = TD__GENERATE_OUT__KIND_HELLO;
    message.hello = &hello;
    rig_link_says(rig, &message);
}

const Td__GenerateIn *rig_next(struct rig *rig)
{
    return router_link_next(rig->core, rig->link, rig->now_ns);
}

void rig_link_up(struct rig *rig, uint32_t worker)
{
    const Td__GenerateIn *hello;

    router_core_on_link_open(rig->core, rig->link, rig->now_ns);
    hello = rig_next(rig);
    assert_non_null(hello);
    assert_int_equal(hello->kind_case, TD__GENERATE_IN__KIND_HELLO);
    assert_int_equal(hello->hello->worker_epoch, RIG_EPOCH(worker));
    rig_greets(rig, RIG_EPOCH(worker));
}

void rig_link_lost(struct rig *rig, td_status_t status)
{
    router_core_on_link_closed(rig->core, rig->link, status, rig->now_ns);
}

void rig_take_all(struct rig *rig)
{
    while (rig_next(rig) != NULL)
        continue;
}

static void update(struct rig *rig, Td__Update *one)
{
    Td__GenerateOut message = TD__GENERATE_OUT__INIT;
    Td__StepUpdates updates = TD__STEP_UPDATES__INIT;

    updates.updates = &one;
    updates.n_updates = 1;
    message.kind_case = TD__GENERATE_OUT__KIND_UPDATES;
    message.updates = &updates;
    rig_link_says(rig, &message);
}

void rig_tokens(struct rig *rig, struct td_u128 id, uint32_t index, uint32_t count)
{
    Td__Update one;
    uint32_t tokens[32];

    td__update__init(&one);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = index + i;
    one.request_hi = id.hi;
    one.request_lo = id.lo;
    one.index = index;
    one.tokens = tokens;
    one.n_tokens = count;
    update(rig, &one);
}

void rig_end(struct rig *rig, struct td_u128 id, Td__Finish finish, td_status_t status,
             uint32_t completion)
{
    Td__Update one;

    td__update__init(&one);
    one.request_hi = id.hi;
    one.request_lo = id.lo;
    one.index = completion;
    one.finish = finish;
    one.code = (uint32_t)-status;
    one.completion_tokens = completion;
    update(rig, &one);
}
