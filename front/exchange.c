/* exchange.c: one client request as a state machine, see exchange.h. */
#include "front/exchange.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "front/answer.h"
#include "front/respond.h"
#include "front/trace.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/base/time.h"

#define SALT_DOMAIN      "tandem cache_salt 1"
#define TRACE_FIELD      "x-tandem-trace"
#define TRACE_BYTES_MAX  4096
#define RETRY_DEFAULT_MS 1000 /* where a backend does not know better */

TD_FSM_DEFINE(exchange, EXCHANGE, "One client request of the public HTTP surface.");

struct front_exchange {
    struct front *front;
    uint8_t state;
    enum api_surface surface;
    struct http_request *request; /* NULL: answered, or the client is gone */
    char request_id[FRONT_REQUEST_ID_BYTES];
    bool traced;     /* the client asked where the time goes */
    bool has_answer; /* answer is initialised */
    bool begun;      /* the head of a stream is sent */
    bool broken;     /* the stream ends by breaking off */
    bool started;    /* handle lives */
    enum front_outcome outcome;
    struct front_prepare *prepare; /* until its tokens or error are taken */
    void *handle;                  /* the backend's */
    struct front_job job;          /* without tokens */
    struct front_bias *biases;     /* the job's */
    uint32_t max_context;
    struct front_answer answer;
    uint64_t opened_ns;
    uint64_t written_ns; /* when bytes were last written to the client */
    bool had_token;
    struct net_timer silence;
};

/* What comes with an event; only the members of that event are set. */
struct occurrence {
    const struct api_error *error;         /* REFUSED */
    const struct front_prepared *prepared; /* PREPARED */
    const uint32_t *tokens;                /* TOKENS */
    uint32_t token_count;
    const struct front_result *result; /* FINISHED, BROKEN */
};

static void fire(struct front_exchange *exchange, enum exchange_event event,
                 const struct occurrence *with);

/* ---- the end ---- */

static void exchange_free(struct front_exchange *exchange, enum front_outcome outcome)
{
    struct front *front = exchange->front;

    assert(exchange->state == EXCHANGE_ENDED && exchange->request == NULL);
    if (exchange->started)
        front->config.backend.abandon(front->config.backend.impl, exchange->handle);
    front_prepare_free(exchange->prepare);
    free(exchange->biases);
    if (exchange->has_answer)
        front_answer_fini(&exchange->answer);
    net_timer_cancel(&exchange->silence);
    front->exchange_count--;
    td_counter_add(front->metrics.ended[outcome], 1);
    free(exchange);
    front_check_idle(front);
}

static struct front_reply reply_of(const struct front_exchange *exchange)
{
    return (struct front_reply){.request = exchange->request,
                                .request_id = exchange->request_id,
                                .close = exchange->front->draining};
}

static void respond_error(struct front_exchange *exchange, const struct api_error *error)
{
    struct front_reply reply = reply_of(exchange);

    exchange->outcome = front_outcome_of_http(api_error_status(error));
    front_respond_error(&reply, error);
    exchange->request = NULL;
}

/* ---- writing ---- */

static void begin_stream(struct front_exchange *exchange)
{
    struct front_reply reply = reply_of(exchange);

    if (exchange->begun)
        return;
    exchange->begun = true;
    front_respond_stream(&reply);
}

static size_t backlog_max(const struct front_exchange *exchange)
{
    return (size_t)exchange->front->config.limits.backlog_bytes;
}

/* Writes what waits, as far as the socket's backlog has room. False: there is no memory. */
static bool write_waiting(struct front_exchange *exchange)
{
    struct td_buf *out = &exchange->answer.out;
    size_t piece_max = backlog_max(exchange) / 4;
    size_t written = 0;
    td_status_t status = TD_OK;

    while (status == TD_OK && written < out->length) {
        size_t rest = out->length - written;
        size_t piece = rest < piece_max ? rest : piece_max;

        status = http_stream_write(exchange->request, out->data + written, piece);
        if (status == TD_OK)
            written += piece;
    }
    td_buf_consume(out, written);
    if (written > 0)
        exchange->written_ns = td_now_ns();
    return status == TD_OK || status == TD_AGAIN;
}

/* Whether the exchange can go on; otherwise it has ended. */
static bool flush(struct front_exchange *exchange)
{
    bool kept = front_answer_status(&exchange->answer) == TD_OK;

    if (kept && exchange->begun)
        kept = write_waiting(exchange);
    /* what is left when all is said is bounded, and waits no longer than the stall limit */
    if (kept && exchange->begun && exchange->state != EXCHANGE_FLUSHING)
        kept = exchange->answer.out.length <= backlog_max(exchange);
    if (!kept) {
        fire(exchange, EXCHANGE_ON_OVERFLOW, NULL);
        return false;
    }
    return true;
}

static void flush_last(struct front_exchange *exchange)
{
    if (exchange->request == NULL || (flush(exchange) && exchange->answer.out.length == 0))
        fire(exchange, EXCHANGE_ON_WRITTEN, NULL);
}

static void arm_silence(struct front_exchange *exchange)
{
    uint64_t ping_ns = (uint64_t)exchange->front->config.ping_ms * TD_NS_PER_MS;

    net_timer_set(&exchange->silence, exchange->written_ns + ping_ns);
}

/* Moving the timer at each token would cost more than looking at the clock when it fires. */
static void on_silence(struct net_timer *timer, uint64_t now_ns)
{
    struct front_exchange *exchange = td_container_of(timer, struct front_exchange, silence);
    uint64_t ping_ns = (uint64_t)exchange->front->config.ping_ms * TD_NS_PER_MS;

    if (now_ns < exchange->written_ns + ping_ns)
        arm_silence(exchange);
    else
        fire(exchange, EXCHANGE_ON_SILENCE, NULL);
}

/* ---- actions ---- */

static void refuse(struct front_exchange *exchange, const struct occurrence *with)
{
    respond_error(exchange, with->error);
    exchange_free(exchange, exchange->outcome);
}

static void error_of_start(td_status_t status, uint32_t retry_after_ms, struct api_error *error)
{
    api_error_set(error, status == TD_AGAIN ? API_ERROR_NOT_READY : api_error_kind_of(status), NULL,
                  NULL);
    if (status == TD_EXHAUSTED)
        error->retry_after_ms = retry_after_ms > 0 ? retry_after_ms : RETRY_DEFAULT_MS;
}

static void start(struct front_exchange *exchange, const struct occurrence *with)
{
    struct front *front = exchange->front;
    const struct front_backend *backend = &front->config.backend;
    struct text_tokens *ids = with->prepared->ids;
    struct front_job *job = &exchange->job;
    struct api_error error;
    uint32_t retry_after_ms = 0;
    uint32_t room = exchange->max_context - ids->count; /* at least 1, see encode.c */
    td_status_t status;

    job->tokens = ids->ids;
    job->token_count = ids->count;
    job->tokenize_us = with->prepared->took_us;
    if (job->max_new_tokens == 0 || job->max_new_tokens > room)
        job->max_new_tokens = room;
    ids->ids = NULL;
    front_prepare_free(exchange->prepare);
    exchange->prepare = NULL;
    td_histogram_observe(front->metrics.prepare_ns, td_now_ns() - exchange->opened_ns);
    status = backend->start(backend->impl, job, exchange, &exchange->handle, &retry_after_ms);
    if (status != TD_OK) {
        free(job->tokens);
        error_of_start(status, retry_after_ms, &error);
        fire(exchange, EXCHANGE_ON_REFUSED, &(struct occurrence){.error = &error});
        return;
    }
    exchange->started = true;
    exchange->written_ns = td_now_ns();
    if (exchange->answer.streams && front->config.ping_ms > 0)
        arm_silence(exchange);
}

static void take(struct front_exchange *exchange, const struct occurrence *with)
{
    bool stop_found;

    if (!exchange->had_token) {
        exchange->had_token = true;
        td_histogram_observe(exchange->front->metrics.first_token_ns,
                             td_now_ns() - exchange->opened_ns);
    }
    stop_found = front_answer_take(&exchange->answer, with->tokens, with->token_count);
    if (exchange->answer.streams && front_answer_status(&exchange->answer) == TD_OK)
        begin_stream(exchange);
    if (flush(exchange) && stop_found)
        fire(exchange, EXCHANGE_ON_STOP_FOUND, NULL);
}

static void stop(struct front_exchange *exchange, const struct occurrence *with)
{
    const struct front_backend *backend = &exchange->front->config.backend;

    (void)with;
    backend->stop(backend->impl, exchange->handle);
}

static struct api_end end_of(const struct front_exchange *exchange,
                             const struct front_result *result)
{
    bool stopped = exchange->answer.stop.found;
    uint32_t prompt_tokens = exchange->job.token_count;
    struct api_end end = {
        .finish = !stopped && result->finish == FRONT_LENGTH ? API_FINISH_LENGTH : API_FINISH_STOP,
        .usage = {
            .prompt_tokens = prompt_tokens,
            .cached_tokens =
                result->cached_tokens < prompt_tokens ? result->cached_tokens : prompt_tokens,
            /* how many more were made before the stop arrived is chance, and not the client's */
            .completion_tokens = stopped ? exchange->answer.token_count : result->completion_tokens,
        }};

    return end;
}

static void count_answer(struct front_exchange *exchange, const struct api_usage *usage)
{
    struct front_metrics *metrics = &exchange->front->metrics;

    exchange->outcome = FRONT_OUTCOME_ANSWERED;
    td_counter_add(metrics->prompt_tokens, usage->prompt_tokens);
    td_counter_add(metrics->cached_tokens, usage->cached_tokens);
    td_counter_add(metrics->completion_tokens, usage->completion_tokens);
    td_histogram_observe(metrics->answer_ns, td_now_ns() - exchange->opened_ns);
}

static void respond_whole(struct front_exchange *exchange)
{
    struct front_reply reply = reply_of(exchange);

    if (front_answer_status(&exchange->answer) != TD_OK)
        return; /* an overflow, see flush */
    front_respond(&reply, API_CONTENT_TYPE_JSON, &exchange->answer.out);
    exchange->request = NULL;
}

static void finish(struct front_exchange *exchange, const struct occurrence *with)
{
    struct front_result result = *with->result;
    struct api_end end = end_of(exchange, &result);
    struct td_buf trace;

    td_buf_init(&trace, TRACE_BYTES_MAX);
    result.stages.tokenize_us = exchange->job.tokenize_us;
    if (exchange->traced)
        front_trace_write(&result, &trace);
    if (trace.status == TD_OK)
        end.tandem = td_span_over(trace.data, trace.length);
    count_answer(exchange, &end.usage);
    front_answer_finish(&exchange->answer, &end);
    td_buf_fini(&trace);
    if (exchange->answer.streams)
        begin_stream(exchange);
    else
        respond_whole(exchange);
    flush_last(exchange);
}

/* What a backend says of a request is shown where the request itself is at fault. */
static void error_of_result(const struct front_result *result, struct api_error *error)
{
    enum api_error_kind kind = api_error_kind_of(result->status);

    if (result->status == TD_AGAIN || (result->finish == FRONT_CANCELED && result->status == TD_OK))
        kind = API_ERROR_NOT_READY;
    api_error_set(error, kind, NULL, NULL);
    if (result->message[0] != '\0' && api_error_status(error) == 400)
        api_error_set(error, kind, NULL, "%.*s", FRONT_MESSAGE_BYTES, result->message);
    error->retry_after_ms = result->retry_after_ms;
    if (error->retry_after_ms == 0 && kind == API_ERROR_QUEUE_FULL)
        error->retry_after_ms = RETRY_DEFAULT_MS;
}

static void break_off(struct front_exchange *exchange, const struct occurrence *with)
{
    struct api_error error;

    td_log(TD_LOG_INFO, "front", "request failed %s %s status %s: %.*s", exchange->answer.api.id,
           exchange->request_id, td_status_name(with->result->status), FRONT_MESSAGE_BYTES,
           with->result->message);
    error_of_result(with->result, &error);
    if (exchange->begun) {
        exchange->outcome = FRONT_OUTCOME_BROKEN;
        exchange->broken = true;
        front_answer_break(&exchange->answer, &error);
    } else {
        respond_error(exchange, &error);
    }
    flush_last(exchange);
}

/* A comment breaks a silence; while the client does not even take what there is, there is none. */
static void ping(struct front_exchange *exchange, const struct occurrence *with)
{
    (void)with;
    if (!exchange->begun ||
        (exchange->answer.out.length == 0 && http_stream_backlog(exchange->request) == 0)) {
        begin_stream(exchange);
        api_sse_ping(&exchange->answer.out);
        td_counter_add(exchange->front->metrics.pings, 1);
        if (!flush(exchange))
            return;
    }
    exchange->written_ns = td_now_ns();
    arm_silence(exchange);
}

static void flush_again(struct front_exchange *exchange, const struct occurrence *with)
{
    (void)with;
    if (exchange->state == EXCHANGE_FLUSHING)
        flush_last(exchange);
    else
        (void)flush(exchange);
}

static void end(struct front_exchange *exchange, const struct occurrence *with)
{
    (void)with;
    if (exchange->request != NULL && exchange->broken)
        http_stream_abort(exchange->request);
    else if (exchange->request != NULL)
        http_stream_end(exchange->request);
    exchange->request = NULL;
    exchange_free(exchange, exchange->outcome);
}

static void cut(struct front_exchange *exchange, const struct occurrence *with)
{
    td_status_t status = front_answer_status(&exchange->answer);
    bool slow = exchange->begun &&
                (status == TD_LIMIT || exchange->answer.out.length > backlog_max(exchange));
    struct api_error error;

    (void)with;
    td_log(TD_LOG_INFO, "front", "answer cut off %s %s: %s", exchange->answer.api.id,
           exchange->request_id, slow ? "the client is too slow" : "there is no memory for it");
    if (exchange->begun) {
        http_stream_abort(exchange->request);
        exchange->request = NULL;
        exchange->outcome = slow ? FRONT_OUTCOME_SLOW : FRONT_OUTCOME_BROKEN;
    } else {
        api_error_set(&error, API_ERROR_OVERLOADED, NULL, "there is no memory for the answer");
        respond_error(exchange, &error);
    }
    exchange_free(exchange, exchange->outcome);
}

static void drop(struct front_exchange *exchange, const struct occurrence *with)
{
    (void)with;
    exchange_free(exchange, FRONT_OUTCOME_LEFT);
}

static void fire(struct front_exchange *exchange, enum exchange_event event,
                 const struct occurrence *with)
{
    static void (*const actions[EXCHANGE_DO_COUNT])(struct front_exchange *,
                                                    const struct occurrence *) = {
        [EXCHANGE_DO_START] = start,   [EXCHANGE_DO_REFUSE] = refuse,
        [EXCHANGE_DO_TAKE] = take,     [EXCHANGE_DO_STOP] = stop,
        [EXCHANGE_DO_FINISH] = finish, [EXCHANGE_DO_BREAK] = break_off,
        [EXCHANGE_DO_PING] = ping,     [EXCHANGE_DO_FLUSH] = flush_again,
        [EXCHANGE_DO_END] = end,       [EXCHANGE_DO_CUT] = cut,
        [EXCHANGE_DO_DROP] = drop,
    };
    uint8_t action = td_fsm_step(&exchange_fsm, &exchange->state, (uint8_t)event);

    if (action != EXCHANGE_DO_IGNORE)
        actions[action](exchange, with);
}

/* ---- the beginning ---- */

static td_status_t find_model(const struct front *front, struct td_span name,
                              struct front_model *model_out, struct api_error *error)
{
    const struct front_backend *backend = &front->config.backend;
    const char *text = name.length > 0 ? name.bytes : "";
    td_status_t status = strlen(text) == name.length
                             ? backend->model_by_name(backend->impl, text, model_out)
                             : TD_NOT_FOUND;

    if (status == TD_NOT_FOUND) {
        api_error_set(error, API_ERROR_MODEL_NOT_FOUND, "model", NULL);
    } else if (status == TD_AGAIN || (status == TD_OK && model_out->text == NULL)) {
        api_error_set(error, API_ERROR_NOT_READY, NULL, "no worker is ready for the model yet");
        status = TD_AGAIN;
    } else if (status != TD_OK) {
        api_error_set(error, api_error_kind_of(status), NULL, NULL);
    }
    return status;
}

/* Roots the block keys of those who say the same salt; zero roots the cache that all others share. */
static struct td_u128 salt_of(struct td_span text)
{
    if (text.length == 0)
        return (struct td_u128){0};
    return td_hash128_chain(td_hash128(SALT_DOMAIN, strlen(SALT_DOMAIN)), text.bytes, text.length);
}

/* A token that no answer can have is a mistake, and not a bias without effect. */
static td_status_t take_biases(struct front_exchange *exchange, const struct front_model *model,
                               const struct api_options *options, struct api_error *error)
{
    uint32_t count = options->bias_count;
    struct front_bias *biases;

    if (count == 0)
        return TD_OK;
    for (uint32_t i = 0; i < count; i++) {
        if (options->biases[i].token >= text_model_token_count(model->text)) {
            api_error_set(error, API_ERROR_INVALID_REQUEST, "logit_bias",
                          "'logit_bias' has a token that the model does not have");
            return TD_INVALID;
        }
    }
    biases = calloc(count, sizeof *biases);
    if (biases == NULL) {
        api_error_set(error, api_error_kind_of(TD_NO_MEMORY), NULL, NULL);
        return TD_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++)
        biases[i] = (struct front_bias){options->biases[i].token, options->biases[i].value};
    exchange->biases = biases;
    exchange->job.biases = biases;
    exchange->job.bias_count = count;
    return TD_OK;
}

static void set_job(struct front_exchange *exchange, const struct front_model *model,
                    const struct api_options *options)
{
    const struct text_generation *defaults = text_model_generation(model->text);
    enum front_generation whose = exchange->front->config.generation;
    struct front_job *job = &exchange->job;

    job->model = exchange->answer.model;
    job->max_new_tokens = front_sampling_tokens_max(options, defaults, whose);
    front_sampling_settle(options, defaults, whose, &job->sampling);
    job->salt = salt_of(options->cache_salt);
    job->text_id = text_model_id(model->text);
    exchange->max_context = model->max_context;
}

static td_status_t init_answer(struct front_exchange *exchange, const struct front_model *model,
                               const struct api_options *options, struct api_error *error)
{
    struct front_answer_config config = {
        .surface = exchange->surface,
        .id = exchange->job.id,
        .model = model->name,
        .content_id = model->content_id,
        .text = model->text,
        .options = options,
        .created = td_unix_seconds(),
        .backlog_bytes = (size_t)exchange->front->config.limits.backlog_bytes,
    };
    td_status_t status = front_answer_init(&exchange->answer, &config);

    if (status != TD_OK)
        api_error_set(error, api_error_kind_of(status), NULL, NULL);
    else
        exchange->has_answer = true;
    return status;
}

static void on_prepared(void *context, struct front_prepared *prepared)
{
    struct front_exchange *exchange = context;
    struct occurrence with = {.error = &prepared->error, .prepared = prepared};

    fire(exchange, prepared->status == TD_OK ? EXCHANGE_ON_PREPARED : EXCHANGE_ON_REFUSED, &with);
}

static td_status_t begin(struct front_exchange *exchange, struct api_error *error)
{
    struct front *front = exchange->front;
    struct front_model model = {.name = NULL};
    const struct api_options *options;
    struct td_span body;
    td_status_t status;

    body.bytes = http_request_body(exchange->request, &body.length);
    status = front_prepare_new(&front->preparer, exchange->surface, body, &front->config.limits,
                               &exchange->prepare, error);
    if (status != TD_OK)
        return status;
    options = front_prepare_options(exchange->prepare);
    status = find_model(front, options->model, &model, error);
    if (status == TD_OK)
        status = init_answer(exchange, &model, options, error);
    if (status == TD_OK)
        status = take_biases(exchange, &model, options, error);
    if (status != TD_OK)
        return status;
    set_job(exchange, &model, options);
    status = front_prepare_start(exchange->prepare, model.text, model.max_context, on_prepared,
                                 exchange);
    if (status != TD_OK)
        error_of_start(status, 0, error);
    return status;
}

static void on_drain(void *ctx, struct http_request *request)
{
    (void)request;
    fire(ctx, EXCHANGE_ON_WRITABLE, NULL);
}

static void on_gone(void *ctx, struct http_request *request, td_status_t why)
{
    struct front_exchange *exchange = ctx;

    (void)request;
    (void)why;
    exchange->request = NULL;
    fire(exchange, EXCHANGE_ON_GONE, NULL);
}

static const struct http_request_callbacks callbacks = {.on_drain = on_drain, .on_gone = on_gone};

static bool is_traced(const struct http_request *request)
{
    const char *value = http_request_header(request, TRACE_FIELD);

    return value != NULL && strcmp(value, "1") == 0;
}

void front_exchange_open(struct front *front, struct http_request *request,
                         enum api_surface surface)
{
    struct front_exchange *exchange = calloc(1, sizeof *exchange);
    struct api_error error;

    if (exchange == NULL) {
        struct front_reply reply = {.request = request, .close = true};

        api_error_set(&error, API_ERROR_OVERLOADED, NULL, NULL);
        front_respond_error(&reply, &error);
        td_counter_add(front->metrics.ended[FRONT_OUTCOME_UNAVAILABLE], 1);
        return;
    }
    exchange->front = front;
    exchange->state = EXCHANGE_PREPARING;
    exchange->surface = surface;
    exchange->request = request;
    exchange->opened_ns = td_now_ns();
    exchange->job.id = td_random_u128();
    exchange->traced = is_traced(request);
    front_request_id(request, exchange->job.id, exchange->request_id);
    net_timer_init(&exchange->silence, front->config.loop, on_silence);
    front->exchange_count++;
    http_request_bind(request, &callbacks, exchange);
    if (begin(exchange, &error) != TD_OK)
        fire(exchange, EXCHANGE_ON_REFUSED, &(struct occurrence){.error = &error});
}

/* ---- from the backend ---- */

void front_exchange_tokens(struct front_exchange *exchange, const uint32_t *tokens, uint32_t count)
{
    if (count > 0)
        fire(exchange, EXCHANGE_ON_TOKENS,
             &(struct occurrence){.tokens = tokens, .token_count = count});
}

void front_exchange_end(struct front_exchange *exchange, const struct front_result *result)
{
    bool finished = result->finish == FRONT_STOP || result->finish == FRONT_LENGTH;

    exchange->started = false;
    fire(exchange, finished ? EXCHANGE_ON_FINISHED : EXCHANGE_ON_BROKEN,
         &(struct occurrence){.result = result});
}
