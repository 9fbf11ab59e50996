/*
 * backend.c: what the front sees of a router: the fleet's models, requests as journeys, readiness.
 *
 * A model is what workers of one canonical name serve. One of them stands for it: one whose tokenizer is
 * here, and of those one that is ready.
 */
#include <stdio.h>
#include <string.h>

#include "lib/base/time.h"
#include "router/runtime_internal.h"

#define STUCK_NS (5 * TD_NS_PER_SEC) /* a loop that late answers nobody in time */

static const struct text_model *text_of(const struct router_runtime *runtime,
                                        const struct router_worker *worker, int64_t *created_out)
{
    return router_texts_find(runtime->texts, worker->text_id, created_out);
}

/* --- models --- */

static const struct router_worker *representative(const struct router_runtime *runtime,
                                                  const char *name)
{
    const struct router_worker *worker;
    const struct router_worker *best = NULL;
    int best_rank = -1;

    for (size_t i = 0; (worker = router_core_worker(runtime->core, i)) != NULL; i++) {
        int64_t created;
        int rank;

        if (!router_worker_serves(worker, name))
            continue;
        rank = (text_of(runtime, worker, &created) != NULL ? 2 : 0) + (worker->ready ? 1 : 0);
        if (rank > best_rank) {
            best = worker;
            best_rank = rank;
        }
    }
    return best;
}

/* What every worker of the model can hold, since any of them may get the request. */
static uint32_t least_context(const struct router_runtime *runtime, const char *name)
{
    const struct router_worker *worker;
    uint32_t least = UINT32_MAX;

    for (size_t i = 0; (worker = router_core_worker(runtime->core, i)) != NULL; i++)
        if (router_worker_serves(worker, name) && worker->max_context < least)
            least = worker->max_context;
    return least;
}

static void describe(const struct router_runtime *runtime, const struct router_worker *worker,
                     struct front_model *model_out)
{
    struct front_model model = {.name = worker->models[0], .content_id = worker->content_id};

    model.text = text_of(runtime, worker, &model.created);
    model.max_context = least_context(runtime, model.name);
    *model_out = model;
}

/* Whether a worker before it has the same canonical name. */
static bool is_repeated(const struct router_core *core, size_t index)
{
    const char *name = router_core_worker(core, index)->models[0];

    for (size_t i = 0; i < index; i++)
        if (strcmp(router_core_worker(core, i)->models[0], name) == 0)
            return true;
    return false;
}

static bool model_at(void *impl, size_t wanted, struct front_model *model_out)
{
    const struct router_runtime *runtime = impl;
    const struct router_worker *worker;

    for (size_t i = 0; (worker = router_core_worker(runtime->core, i)) != NULL; i++) {
        if (is_repeated(runtime->core, i) || wanted-- > 0)
            continue;
        describe(runtime, representative(runtime, worker->models[0]), model_out);
        return true;
    }
    return false;
}

static td_status_t model_by_name(void *impl, const char *name, struct front_model *model_out)
{
    const struct router_runtime *runtime = impl;
    const struct router_worker *worker = representative(runtime, name);
    struct front_model model;

    if (worker == NULL) /* without any worker nobody knows which models there are */
        return router_core_worker(runtime->core, 0) == NULL ? TD_AGAIN : TD_NOT_FOUND;
    describe(runtime, worker, &model);
    if (model.text == NULL)
        return TD_AGAIN;
    *model_out = model;
    return TD_OK;
}

/* --- requests --- */

static td_status_t start(void *impl, struct front_job *job, struct front_exchange *exchange,
                         void **handle_out, uint32_t *retry_after_ms_out)
{
    struct router_runtime *runtime = impl;
    struct router_start request = {.id = job->id,
                                   .model = job->model,
                                   .tokens = job->tokens,
                                   .token_count = job->token_count,
                                   .max_new_tokens = job->max_new_tokens,
                                   .sampling = job->sampling,
                                   .biases = job->biases,
                                   .bias_count = job->bias_count,
                                   .salt = job->salt,
                                   .text_id = job->text_id,
                                   .tokenize_us = job->tokenize_us};
    struct router_journey *journey;
    td_status_t status = router_journey_start(runtime->core, &request, exchange, td_now_ns(),
                                              &journey, retry_after_ms_out);

    router_touch(runtime);
    if (status != TD_OK)
        return status;
    job->tokens = NULL;
    *handle_out = journey;
    return TD_OK;
}

static void stop(void *impl, void *handle)
{
    router_journey_stop(handle, td_now_ns());
    router_touch(impl);
}

static void abandon(void *impl, void *handle)
{
    router_journey_abandon(handle, td_now_ns());
    router_touch(impl);
}

/* --- readiness and health --- */

/* The best reason there is: the one nearest to being ready. */
static void say_why(const struct router_runtime *runtime, char *why_out, size_t why_size)
{
    const struct router_worker *worker;

    for (size_t i = 0; (worker = router_core_worker(runtime->core, i)) != NULL; i++) {
        if (!worker->ready || worker->draining)
            continue;
        snprintf(why_out, why_size, "the tokenizer of model %s is not here: %s", worker->models[0],
                 router_texts_why(runtime->texts, worker->text_id));
        return;
    }
    if (router_core_worker(runtime->core, 0) != NULL)
        snprintf(why_out, why_size, "no worker is ready");
    else if (router_schedulers_connected(runtime->schedulers) > 0)
        snprintf(why_out, why_size, "no worker has registered with a scheduler");
    else
        snprintf(why_out, why_size, "no scheduler can be reached");
}

bool router_is_ready(void *impl, char *why_out, size_t why_size)
{
    const struct router_runtime *runtime = impl;
    const struct router_worker *worker;
    int64_t created;

    for (size_t i = 0; (worker = router_core_worker(runtime->core, i)) != NULL; i++)
        if (worker->ready && !worker->draining && text_of(runtime, worker, &created) != NULL)
            return true;
    say_why(runtime, why_out, why_size);
    return false;
}

static bool is_healthy(void *impl, char *why_out, size_t why_size)
{
    const struct router_runtime *runtime = impl;

    if (runtime->lag_ns < STUCK_NS)
        return true;
    snprintf(why_out, why_size, "the event loop was %.1f s late",
             td_ns_to_ms(runtime->lag_ns) / 1e3);
    return false;
}

static void metrics(void *impl, struct td_buf *out)
{
    struct router_runtime *runtime = impl;

    router_metrics_render(runtime->metrics, out);
}

struct front_backend router_runtime_backend(struct router_runtime *runtime)
{
    return (struct front_backend){.impl = runtime,
                                  .model_at = model_at,
                                  .model_by_name = model_by_name,
                                  .start = start,
                                  .stop = stop,
                                  .abandon = abandon,
                                  .is_ready = router_is_ready,
                                  .is_healthy = is_healthy,
                                  .metrics = metrics};
}
