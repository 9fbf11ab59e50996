/* client.c: requests, and the oracle of the right answer, see client.h. */
#include "sim/client.h"

#include <stdlib.h>
#include <string.h>

#include "sim/router.h"
#include "sim/worker.h"

#define FIRST_NS        (350 * TD_NS_PER_MS)
#define FAMILIES        4
#define TRIES_MAX       6
#define OUTPUT_MAX      40
#define BIASES_MAX      8
#define LEAVE_PER_MILLE 250
#define STOP_PER_MILLE  150
#define LOCAL_PER_MILLE 100

/* --- drawing requests --- */

static uint32_t draw_length(struct td_rng *rng)
{
    uint64_t dice = td_rng_below(rng, 10);

    if (dice < 2)
        return (uint32_t)sim_between(rng, 1, 16);
    return (uint32_t)sim_between(rng, 24, dice < 8 ? 100 : 180);
}

/* Prompts of one family begin alike, so that prefix caches have something to find. */
static void draw_prompt(struct sim_client *client)
{
    struct td_rng *rng = &client->sim->clients;
    struct engine_submit *submit = &client->submit;
    uint32_t family = (uint32_t)td_rng_below(rng, FAMILIES);
    uint32_t shared;

    submit->token_count = draw_length(rng);
    submit->tokens = sim_alloc(submit->token_count, sizeof *submit->tokens);
    shared = (uint32_t)td_rng_below(rng, submit->token_count + 1);
    for (uint32_t i = 0; i < submit->token_count; i++)
        submit->tokens[i] = i < shared ? (i * 7 + family * 31 + i / 16 * family) % 250
                                       : (uint32_t)td_rng_below(rng, 250);
}

static void draw_biases(struct td_rng *rng, struct engine_sampling *sampling)
{
    sampling->bias_count = (uint32_t)sim_between(rng, 1, BIASES_MAX);
    sampling->biases = sim_alloc(sampling->bias_count, sizeof *sampling->biases);
    for (uint32_t i = 0; i < sampling->bias_count; i++)
        sampling->biases[i] = (struct engine_bias){.token = (uint32_t)td_rng_below(rng, 250),
                                                   .value = sim_chance(rng, 500) ? 3 : -3};
}

static void draw_sampling(struct sim_client *client)
{
    struct td_rng *rng = &client->sim->clients;
    struct engine_sampling *sampling = &client->submit.sampling;

    *sampling = (struct engine_sampling){.top_p = 1.0f};
    if (sim_chance(rng, 300)) {
        sampling->repetition_penalty = sim_chance(rng, 500) ? 1.2f : 1.0f;
        sampling->presence_penalty = sim_chance(rng, 500) ? 0.6f : 0;
        sampling->frequency_penalty = sim_chance(rng, 500) ? 0.4f : -0.2f;
    }
    if (sim_chance(rng, 200))
        draw_biases(rng, sampling);
    if (sim_chance(rng, 500))
        return;
    sampling->min_p = sim_chance(rng, 200) ? 0.05f : 0;
    sampling->temperature = 0.8f;
    sampling->top_k = sim_chance(rng, 500) ? 20 : 0;
    sampling->top_p = sim_chance(rng, 500) ? 0.9f : 1.0f;
    sampling->seed = td_rng_next(rng);
}

static void draw_patience(struct sim_client *client)
{
    struct td_rng *rng = &client->sim->clients;

    client->is_local = sim_chance(rng, LOCAL_PER_MILLE);
    if (sim_chance(rng, 500))
        client->remaining_ms = (uint32_t)sim_between(rng, 3000, 60000);
    if (!(client->sim->options.faults >> SIM_FAULT_LEAVE & 1) || client->is_calm)
        return;
    if (sim_chance(rng, LEAVE_PER_MILLE))
        client->leave_after_ns = sim_between(rng, 0, 800 * TD_NS_PER_MS);
    else if (sim_chance(rng, STOP_PER_MILLE))
        client->stop_after = (uint32_t)sim_between(rng, 1, 10);
}

static void draw(struct sim_client *client)
{
    struct td_rng *rng = &client->sim->clients;

    draw_prompt(client);
    draw_sampling(client);
    client->submit.max_new_tokens = (uint32_t)sim_between(rng, 1, OUTPUT_MAX);
    client->salt = td_u128_from_u64(td_rng_below(rng, 3) == 0 ? 5 : 0);
    draw_patience(client);
    client->expected = sim_alloc(OUTPUT_MAX, sizeof *client->expected);
    client->expected_count = modelled_expected_tokens(&client->sim->model, &client->submit,
                                                      client->expected, &client->expected_finish);
}

void sim_clients_open(struct sim *sim)
{
    uint32_t calm = sim->options.requests / 4 + 3;

    sim->client_count = sim->options.requests + calm;
    sim->client_array = sim_alloc(sim->client_count, sizeof *sim->client_array);
    for (uint32_t i = 0; i < sim->client_count; i++) {
        struct sim_client *client = &sim->client_array[i];

        client->sim = sim;
        client->index = i;
        client->is_calm = i >= sim->options.requests;
        draw(client);
    }
}

void sim_clients_close(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        free(sim->client_array[i].submit.tokens);
        free(sim->client_array[i].submit.sampling.biases);
        free(sim->client_array[i].expected);
    }
    free(sim->client_array);
}

/* --- asking --- */

static void over(struct sim_client *client, const char *how, uint64_t *figure)
{
    client->state = SIM_CLIENT_OVER;
    client->sim->clients_over++;
    (*figure)++;
    sim_note(client->sim, "client %u: %s after %u of %u tokens", client->index, how, client->got,
             client->expected_count);
}

/* With small queues a wave may be turned away in part, whatever else is well. */
static bool must_be_answered(const struct sim_client *client, td_status_t status)
{
    bool pressed = (client->sim->options.faults >> SIM_FAULT_PRESSURE & 1) != 0;

    return client->is_calm && !(pressed && status == TD_EXHAUSTED);
}

static void not_taken(struct sim_client *client, td_status_t status)
{
    struct sim *sim = client->sim;

    over(client, td_status_name(status), &sim->report->figures.refused);
    if (must_be_answered(client, status))
        sim_fail(sim, "recovery", "client %u was turned away after the storm: %s", client->index,
                 td_status_text(status));
}

static uint32_t *copy_tokens(const struct sim_client *client)
{
    return (uint32_t *)(void *)sim_copy(client->submit.tokens,
                                        client->submit.token_count * sizeof *client->submit.tokens);
}

static void on_update(void *context, const uint32_t *tokens, uint32_t count,
                      const struct front_result *result)
{
    struct sim_client *client = context;

    if (count > 0)
        sim_client_tokens(client, tokens, count);
    if (result->finish != FRONT_RUNNING && client->state != SIM_CLIENT_OVER)
        sim_client_end(client, result);
}

static td_status_t ask_worker(struct sim_client *client)
{
    struct worker_start start = {.tokens = copy_tokens(client),
                                 .token_count = client->submit.token_count,
                                 .max_new_tokens = client->submit.max_new_tokens,
                                 .sampling = client->submit.sampling,
                                 .salt = client->salt,
                                 .remaining_ms = client->remaining_ms};
    td_status_t status;

    if (start.sampling.bias_count > 0)
        start.sampling.biases = (struct engine_bias *)(void *)sim_copy(
            start.sampling.biases, start.sampling.bias_count * sizeof(struct engine_bias));
    sim_random(client->sim, &start.id, sizeof start.id);
    status = worker_request_start(client->node->worker->core, &start, on_update, client,
                                  client->sim->now_ns, &client->request);
    if (status != TD_OK) {
        free(start.tokens);
        free(start.sampling.biases);
    }
    return status;
}

/* Greedy requests leave the seed to the router: it must not matter. */
static struct front_sampling sampling_of(const struct engine_sampling *from)
{
    return (struct front_sampling){.temperature = from->temperature,
                                   .top_k = from->top_k,
                                   .top_p = from->top_p,
                                   .min_p = from->min_p,
                                   .repetition_penalty = from->repetition_penalty,
                                   .presence_penalty = from->presence_penalty,
                                   .frequency_penalty = from->frequency_penalty,
                                   .has_seed = from->temperature > 0,
                                   .seed = from->seed};
}

static td_status_t ask_router(struct sim_client *client, uint32_t *retry_after_ms_out)
{
    const struct engine_submit *submit = &client->submit;
    struct front_bias biases[BIASES_MAX];
    struct router_start start = {.model = SIM_MODEL,
                                 .tokens = copy_tokens(client),
                                 .token_count = submit->token_count,
                                 .max_new_tokens = submit->max_new_tokens,
                                 .sampling = sampling_of(&submit->sampling),
                                 .biases = biases,
                                 .bias_count = submit->sampling.bias_count,
                                 .salt = client->salt,
                                 .text_id = td_u128_from_u64(77),
                                 .remaining_ms = client->remaining_ms};
    td_status_t status;

    for (uint32_t i = 0; i < start.bias_count; i++)
        biases[i] =
            (struct front_bias){submit->sampling.biases[i].token, submit->sampling.biases[i].value};
    status = router_journey_start(client->node->router->core, &start, client, client->sim->now_ns,
                                  &client->journey, retry_after_ms_out);
    if (status != TD_OK)
        free(start.tokens);
    return status;
}

static void leave(struct sim *sim, struct sim_event *event)
{
    struct sim_client *client = event->object;

    if (client->state != SIM_CLIENT_WAITING && client->state != SIM_CLIENT_STOPPED)
        return;
    over(client, "left", &sim->report->figures.left);
    if (client->is_local)
        worker_request_abandon(client->request, sim->now_ns);
    else
        router_journey_abandon(client->journey, sim->now_ns);
}

static void arrive(struct sim *sim, struct sim_event *event);

static void come(struct sim_client *client, struct sim_node *node, uint64_t delay_ns)
{
    struct sim_event *event =
        sim_post(client->sim, node, SIM_LIFE_ANY, delay_ns, "client comes", arrive);

    event->object = client;
    event->number = client->index;
}

/* Whom nobody answers, or who is told to come again, does so; but not for ever. */
static void try_again(struct sim_client *client, td_status_t status, uint32_t retry_after_ms)
{
    struct sim *sim = client->sim;

    if (client->is_calm || ++client->tries >= TRIES_MAX) {
        not_taken(client, status);
        return;
    }
    client->state = SIM_CLIENT_PLANNED;
    sim_note(sim, "client %u comes again: %s", client->index, td_status_name(status));
    if (retry_after_ms == 0)
        retry_after_ms = (uint32_t)sim_between(&sim->clients, 100, 1500);
    come(client, client->node, retry_after_ms * TD_NS_PER_MS);
}

static void arrive(struct sim *sim, struct sim_event *event)
{
    struct sim_client *client = event->object;
    struct sim_node *node = event->node;
    td_status_t status = TD_PEER_LOST;
    uint32_t retry_after_ms = 0;

    sim->report->figures.requests += client->tries == 0;
    client->node = node;
    client->life = node->life;
    client->state = SIM_CLIENT_WAITING;
    if (node->up && !(node->leaving && node->role == SIM_ROUTER))
        status = client->is_local ? ask_worker(client) : ask_router(client, &retry_after_ms);
    if (status != TD_OK)
        try_again(client, status, retry_after_ms);
    else if (client->leave_after_ns != 0)
        sim_post(sim, node, node->life, client->leave_after_ns, "client leaves", leave)->object =
            client;
}

/* Any router, or any decode worker. */
static struct sim_node *whom_to_ask(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint32_t count = client->is_local ? sim->options.decode : sim->options.routers;
    uint32_t skip = (uint32_t)td_rng_below(&sim->clients, count);

    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];

        if (node->role != (client->is_local ? SIM_DECODE : SIM_ROUTER))
            continue;
        if (skip-- == 0)
            return node;
    }
    return NULL;
}

void sim_clients_come(struct sim *sim, bool calm)
{
    static const uint64_t gaps_ms[] = {20, 80, 300};
    uint64_t gap_ns = gaps_ms[td_rng_below(&sim->clients, 3)] * TD_NS_PER_MS;
    uint64_t delay_ns = FIRST_NS;

    for (uint32_t i = 0; i < sim->client_count; i++) {
        struct sim_client *client = &sim->client_array[i];

        if (client->is_calm != calm)
            continue;
        delay_ns += sim_between(&sim->clients, 0, gap_ns);
        come(client, whom_to_ask(client), delay_ns);
    }
}

/* --- answers --- */

/* A stop string was found: the client has enough, though the model has not. */
static void stop(struct sim_client *client)
{
    client->state = SIM_CLIENT_STOPPED;
    if (client->is_local)
        worker_request_stop(client->request, client->sim->now_ns);
    else
        router_journey_stop(client->journey, client->sim->now_ns);
}

static void stop_later(struct sim *sim, struct sim_event *event)
{
    struct sim_client *client = event->object;

    (void)sim;
    if (client->state == SIM_CLIENT_WAITING)
        stop(client);
}

/* The answer of a local client comes from inside the worker, which must not be called from there. */
static void maybe_stop(struct sim_client *client)
{
    struct sim *sim = client->sim;

    if (client->stop_after == 0 || client->got < client->stop_after)
        return;
    client->stop_after = 0;
    if (!client->is_local && sim_chance(&sim->clients, 500))
        stop(client);
    else
        sim_post(sim, client->node, client->life, 0, "client has enough", stop_later)->object =
            client;
}

void sim_client_tokens(struct sim_client *client, const uint32_t *tokens, uint32_t count)
{
    struct sim *sim = client->sim;

    if (client->state == SIM_CLIENT_STOPPED && client->is_local)
        return; /* sampled before the stop */
    if (client->state != SIM_CLIENT_WAITING) {
        sim_fail(sim, "one end", "client %u got tokens after it was done", client->index);
        return;
    }
    for (uint32_t i = 0; i < count; i++, client->got++) {
        sim->report->figures.tokens++;
        if (client->got < client->expected_count && tokens[i] == client->expected[client->got])
            continue;
        sim_fail(sim, "right tokens", "client %u: token %u is %u and should be %u", client->index,
                 client->got, tokens[i],
                 client->got < client->expected_count ? client->expected[client->got] : 0);
        return;
    }
    maybe_stop(client);
}

/* Whether the whole answer is there, with a true account of it. */
static void check_answer(struct sim_client *client, const struct front_result *result)
{
    enum front_finish finish =
        client->expected_finish == ENGINE_FINISH_STOP ? FRONT_STOP : FRONT_LENGTH;

    if (client->got != client->expected_count || result->finish != finish)
        sim_fail(client->sim, "right tokens", "client %u: ended by %d with %u of %u tokens",
                 client->index, (int)result->finish, client->got, client->expected_count);
    else if (result->prompt_tokens != client->submit.token_count ||
             result->completion_tokens != client->got ||
             result->cached_tokens > result->prompt_tokens)
        sim_fail(client->sim, "usage", "client %u: billed %u and %u tokens instead of %u and %u",
                 client->index, result->prompt_tokens, result->completion_tokens,
                 client->submit.token_count, client->got);
}

static void broken(struct sim_client *client, const struct front_result *result)
{
    struct sim *sim = client->sim;
    struct sim_figures *figures = &sim->report->figures;
    bool gentle = (sim->options.faults & ~SIM_FAULTS_GENTLE) == 0;

    over(client, result->message[0] != '\0' ? result->message : "ended with an error",
         result->finish == FRONT_REFUSED ? &figures->refused : &figures->failed);
    if (must_be_answered(client, result->status))
        sim_fail(sim, "recovery", "client %u was not answered after the storm: %s", client->index,
                 result->message);
    else if (gentle && !client->is_calm &&
             !(result->status == TD_TIMEOUT && client->remaining_ms != 0))
        sim_fail(sim, "no needless error", "client %u got an error though nothing broke: %s",
                 client->index, result->message);
}

void sim_client_end(struct sim_client *client, const struct front_result *result)
{
    struct sim *sim = client->sim;
    struct sim_figures *figures = &sim->report->figures;

    if (client->state != SIM_CLIENT_WAITING && client->state != SIM_CLIENT_STOPPED) {
        sim_fail(sim, "one end", "client %u got a second end", client->index);
        return;
    }
    if (client->state == SIM_CLIENT_STOPPED) {
        over(client, "stopped", &figures->stopped);
        return;
    }
    switch (result->finish) {
    case FRONT_STOP:
    case FRONT_LENGTH:
        check_answer(client, result);
        over(client, "answered", &figures->answered);
        return;
    case FRONT_REFUSED:
    case FRONT_FAILED: broken(client, result); return;
    case FRONT_CANCELED:
    case FRONT_RUNNING: break;
    }
    if (client->is_local && client->node->leaving)
        over(client, "canceled by a worker that ends", &figures->failed);
    else
        sim_fail(sim, "one end", "client %u was told %d, though it asked for nothing of the kind",
                 client->index, (int)result->finish);
}

void sim_clients_lose(struct sim_node *node)
{
    struct sim *sim = node->sim;

    for (uint32_t i = 0; i < sim->client_count; i++) {
        struct sim_client *client = &sim->client_array[i];

        if (client->node == node && client->life == node->life &&
            (client->state == SIM_CLIENT_WAITING || client->state == SIM_CLIENT_STOPPED))
            over(client, "lost", &sim->report->figures.lost);
    }
}
