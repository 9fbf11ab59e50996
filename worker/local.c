/*
 * local.c: this worker's own OpenAI port: the front's backend over the worker core's local requests.
 *
 * Such a request is prefilled and decoded here: it came to this worker on purpose (tests, debugging, a
 * fleet of one), so nobody else is asked.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "worker/runtime_internal.h"

/* One exchange of the front's. Freed at its end, or when the front abandons it. */
struct local_request {
    struct worker_runtime *runtime;
    struct front_exchange *exchange;
    struct worker_request *request;
    bool updating;  /* inside on_update: whoever lets go leaves the freeing to it */
    bool abandoned; /* by the front */
};

static void on_update(void *context, const uint32_t *tokens, uint32_t count,
                      const struct front_result *result)
{
    struct local_request *local = context;

    local->updating = true;
    if (count > 0)
        front_exchange_tokens(local->exchange, tokens, count);
    local->updating = false;
    if (!local->abandoned && result->finish == FRONT_RUNNING)
        return;
    if (!local->abandoned)
        front_exchange_end(local->exchange, result);
    free(local);
}

static void fill_model(const struct worker_runtime *runtime, struct front_model *model_out)
{
    const struct worker_engines *engines = &runtime->engines;

    *model_out = (struct front_model){.name = runtime->model_name,
                                      .text = engines->text,
                                      .max_context = engines->model->max_context,
                                      .content_id = runtime->content_id,
                                      .created = runtime->created};
}

static bool model_at(void *impl, size_t i, struct front_model *model_out)
{
    if (i > 0)
        return false;
    fill_model(impl, model_out);
    return true;
}

static td_status_t model_by_name(void *impl, const char *name, struct front_model *model_out)
{
    struct worker_runtime *runtime = impl;
    const struct td_flag_list *names = &runtime->config.options->served_names;
    bool known = name[0] == '\0' || strcmp(name, runtime->model_name) == 0;

    for (size_t i = 0; i < names->count; i++)
        known = known || strcmp(name, names->items[i]) == 0;
    if (!known)
        return TD_NOT_FOUND;
    fill_model(runtime, model_out);
    return TD_OK;
}

static struct engine_sampling sampling_of(const struct front_sampling *from)
{
    return (struct engine_sampling){.temperature = from->temperature,
                                    .top_k = from->top_k,
                                    .top_p = from->top_p,
                                    .min_p = from->min_p,
                                    .repetition_penalty = from->repetition_penalty,
                                    .presence_penalty = from->presence_penalty,
                                    .frequency_penalty = from->frequency_penalty,
                                    .seed = from->has_seed ? from->seed : td_random_u64()};
}

_Static_assert(API_LOGIT_BIASES_MAX <= ENGINE_BIASES_MAX, "what the API takes, the engine takes");

static td_status_t take_biases(const struct front_job *job, struct engine_sampling *sampling)
{
    if (job->bias_count == 0)
        return TD_OK;
    sampling->biases = calloc(job->bias_count, sizeof *sampling->biases);
    if (sampling->biases == NULL)
        return TD_NO_MEMORY;
    for (uint32_t i = 0; i < job->bias_count; i++)
        sampling->biases[i] = (struct engine_bias){job->biases[i].token, job->biases[i].value};
    sampling->bias_count = job->bias_count;
    return TD_OK;
}

static td_status_t start(void *impl, struct front_job *job, struct front_exchange *exchange,
                         void **handle_out, uint32_t *retry_after_ms_out)
{
    struct worker_runtime *runtime = impl;
    struct local_request *local = calloc(1, sizeof *local);
    struct worker_start start = {
        .id = job->id,
        .tokens = job->tokens,
        .token_count = job->token_count,
        .max_new_tokens = job->max_new_tokens,
        .sampling = sampling_of(&job->sampling),
        .salt = job->salt,
    };
    td_status_t status;

    if (local == NULL || take_biases(job, &start.sampling) != TD_OK) {
        free(local);
        return TD_NO_MEMORY;
    }
    local->runtime = runtime;
    local->exchange = exchange;
    status =
        worker_request_start(runtime->core, &start, on_update, local, td_now_ns(), &local->request);
    worker_touch(runtime);
    if (status != TD_OK) {
        free(start.sampling.biases);
        free(local);
        *retry_after_ms_out = 500;
        return status;
    }
    *handle_out = local;
    return TD_OK;
}

static void stop(void *impl, void *handle)
{
    struct local_request *local = handle;

    worker_request_stop(local->request, td_now_ns());
    worker_touch(impl);
}

static void abandon(void *impl, void *handle)
{
    struct local_request *local = handle;

    local->abandoned = true;
    worker_request_abandon(local->request, td_now_ns());
    if (!local->updating)
        free(local);
    worker_touch(impl);
}

static bool is_ready(void *impl, char *why_out, size_t why_size)
{
    const struct worker_runtime *runtime = impl;

    if (runtime->phase == WORKER_SERVING)
        return true;
    snprintf(why_out, why_size, "the worker is draining");
    return false;
}

static bool is_healthy(void *impl, char *why_out, size_t why_size)
{
    const struct worker_runtime *runtime = impl;
    uint64_t age_ns = engine_runtime_step_age_ns(runtime->engines.engine);
    const char *lost = worker_watch_lost(runtime);

    if (lost != NULL) {
        snprintf(why_out, why_size, "the engine is lost: %s", lost);
        return false;
    }

    if (age_ns < runtime->config.options->times.step_ms * TD_NS_PER_MS)
        return true;
    snprintf(why_out, why_size, "the engine's step has been running for %.0f s",
             td_ns_to_ms(age_ns) / 1e3);
    return false;
}

static void metrics(void *impl, struct td_buf *out)
{
    worker_gauges_render(impl, out);
}

struct front_backend worker_local_backend(struct worker_runtime *runtime)
{
    return (struct front_backend){.impl = runtime,
                                  .model_at = model_at,
                                  .model_by_name = model_by_name,
                                  .start = start,
                                  .stop = stop,
                                  .abandon = abandon,
                                  .is_ready = is_ready,
                                  .is_healthy = is_healthy,
                                  .metrics = metrics};
}
