/*
 * load_model.c: the model file, its tokenizer and its packed weights, as parallel as they are independent,
 * with progress for whoever waits.
 *
 * The tokenizer is built on a thread of its own while the weights are packed, or found in the cache and
 * checked: each takes about as long as the other.
 */
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "engine/cpu/cache.h"
#include "lib/net/program.h"
#include "worker/runtime_internal.h"

/* Less is packed in milliseconds and not worth a file. */
#define CACHED_BYTES_MIN ((uint64_t)4 << 20)

#define REPORT_NS ((uint64_t)100 * 1000 * 1000)  /* to the supervisor */
#define LOG_NS    ((uint64_t)2000 * 1000 * 1000) /* for who starts workers by hand */

/* ------------------------------------------------------------------ progress */

struct worker_saying worker_saying_begin(void)
{
    uint64_t now_ns = td_now_ns();

    return (struct worker_saying){.reported_ns = now_ns, .logged_ns = now_ns};
}

void worker_say_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct worker_saying *saying = ctx;
    uint64_t now_ns = td_now_ns();

    if (now_ns - saying->reported_ns >= REPORT_NS) {
        saying->reported_ns = now_ns;
        net_program_report_progress(what, done, total);
    }
    if (now_ns - saying->logged_ns >= LOG_NS) {
        saying->logged_ns = now_ns;
        td_log(TD_LOG_INFO, "load", "%s percent %u", what,
               total > 0 ? (unsigned)(done * 100 / total) : 0);
    }
}

/* ------------------------------------------------------------------ the tokenizer, on a thread */

struct text_job {
    struct worker_engines *engines;
    pthread_t thread;
    uint64_t duration_ns;
    td_status_t status;
    struct td_error error;
};

static td_status_t open_text(struct worker_engines *engines, struct td_error *error)
{
    const struct text_source *source = &engines->model->text;
    td_status_t status;

    if (!engines->model->has_text)
        return td_fail(error, TD_UNSUPPORTED, "the model file has no tokenizer");
    td_buf_init(&engines->text_bytes, TEXT_SOURCE_BYTES_MAX);
    status = text_source_encode(source, &engines->text_bytes, error);
    if (status == TD_OK)
        status = text_model_open(source, &engines->text, error);
    if (status == TD_OK)
        engines->text_id = text_model_id(engines->text);
    return status;
}

static void *run_text_job(void *argument)
{
    struct text_job *job = argument;
    uint64_t start_ns = td_now_ns();

    job->status = open_text(job->engines, &job->error);
    job->duration_ns = td_now_ns() - start_ns;
    return NULL;
}

/* ------------------------------------------------------------------ weights */

/* --weights-cache: NULL for none. */
static const char *cache_folder(const struct worker_options *options, char path[static PATH_MAX])
{
    struct td_error why = {0};

    if (options->weights_cache != NULL && strcmp(options->weights_cache, "none") == 0)
        return NULL;
    if (options->weights_cache != NULL)
        return options->weights_cache;
    if (cpu_cache_folder(path, &why) == TD_OK)
        return path;
    td_log(TD_LOG_WARN, "load", "no cache for packed weights, see --weights-cache: %s", why.text);
    return NULL;
}

static td_status_t open_weights(struct worker_runtime *runtime, struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_saying saying = worker_saying_begin();
    char path[PATH_MAX];
    const struct cpu_weights_options packing = {.threads = worker_threads(options),
                                                .cache = cache_folder(options, path),
                                                .cache_bytes_max = options->weights_cache_bytes,
                                                .cache_bytes_min = CACHED_BYTES_MIN,
                                                .progress = worker_say_progress,
                                                .ctx = &saying};

    return cpu_weights_open(runtime->engines.model, &packing, &runtime->engines.weights, error);
}

/* ------------------------------------------------------------------ all of it */

td_status_t worker_model_open(struct worker_runtime *runtime, struct worker_load_times *times_out,
                              struct td_error *error)
{
    struct worker_engines *engines = &runtime->engines;
    struct text_job text = {.engines = engines};
    uint64_t start_ns = td_now_ns();
    td_status_t status = model_open(runtime->config.options->model, &engines->model, error);
    int rc;

    if (status != TD_OK)
        return status;
    times_out->model_ns = td_now_ns() - start_ns;
    rc = pthread_create(&text.thread, NULL, run_text_job, &text);
    if (rc != 0)
        return td_fail(error, TD_EXHAUSTED, "cannot start a thread: %s", strerror(rc));
    start_ns = td_now_ns();
    status = engines->device != NULL ? TD_OK : open_weights(runtime, error);
    times_out->weights_ns = td_now_ns() - start_ns;
    pthread_join(text.thread, NULL);
    times_out->text_ns = text.duration_ns;
    if (status == TD_OK && text.status != TD_OK)
        status = td_fail(error, text.status, "%s", text.error.text);
    return status;
}
