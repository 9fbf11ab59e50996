/* texts.c: see texts.h. */
#include "router/texts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/text/source.h"
#include "lib/text/unicode.h"
#include "proto/tandem.pb-c.h"
#include "proto/unpack.h"

#define TEXT_PATH "/td.Worker/Text"

#define FETCH_MS           30000 /* the largest in half a minute is 2 MiB a second */
#define RETRY_FIRST_MS     250
#define RETRY_MAX_MS       5000
#define CHUNK_BYTES_MAX    ((uint32_t)1 << 20) /* workers send 256 KiB at a time */
#define UNPACKED_BYTES_MAX ((size_t)2 << 20)

enum text_state {
    TEXT_MISSING = 1,
    TEXT_COMING,
    TEXT_HERE,
    TEXT_UNUSABLE, /* error says why; the same bytes would come again */
};

struct text {
    struct td_u128 id;
    enum text_state state;
    struct text_model *model; /* HERE */
    int64_t created;
    uint32_t tries;
    uint64_t next_ns; /* MISSING: not before */
    char error[192];  /* MISSING: of the last try */
};

/* Bytes on their way from a worker. */
struct fetch {
    struct router_texts *texts;
    struct text *text;
    char target[ROUTER_TARGET_BYTES];
    struct rpc_channel *channel;
    struct rpc_call *call;
    struct td_buf bytes;
    uint64_t total;
    struct td_error error; /* what was wrong with them */
};

/* Bytes being checked and opened on the thread pool. It lives until done, whatever becomes of texts. */
struct opening {
    struct router_texts *texts; /* NULL: closed meanwhile */
    struct text *text;
    struct net_work *work;
    char target[ROUTER_TARGET_BYTES];
    struct td_u128 id;
    struct td_buf bytes;
    td_status_t status;
    struct text_model *model; /* if status is TD_OK */
    struct td_error error;
};

struct router_texts {
    struct router_texts_config config;
    struct text texts[ROUTER_TEXTS_MAX];
    size_t count;
    struct fetch *fetch; /* at most one of these two is there */
    struct opening *opening;
    struct net_timer retry;
    struct router_texts_counters counters;
};

static const struct text *find(const struct router_texts *texts, struct td_u128 id)
{
    for (size_t i = 0; i < texts->count; i++)
        if (td_u128_equal(texts->texts[i].id, id))
            return &texts->texts[i];
    return NULL;
}

/* --- a try's end --- */

static void fetch_free(struct fetch *fetch)
{
    fetch->texts->fetch = NULL;
    if (fetch->call != NULL)
        rpc_call_cancel(fetch->call);
    rpc_channel_close(fetch->channel);
    td_buf_fini(&fetch->bytes);
    free(fetch);
}

static void try_failed(struct router_texts *texts, struct text *text, const char *target,
                       const char *why)
{
    uint64_t wait_ms = RETRY_FIRST_MS;

    for (uint32_t i = 0; i < text->tries && wait_ms < RETRY_MAX_MS; i++)
        wait_ms *= 2;
    text->tries++;
    text->state = TEXT_MISSING;
    text->next_ns = td_now_ns() + (wait_ms < RETRY_MAX_MS ? wait_ms : RETRY_MAX_MS) * TD_NS_PER_MS;
    snprintf(text->error, sizeof text->error, "worker %.60s: %.120s", target, why);
    texts->counters.texts_failed++;
    td_log(TD_LOG_WARN, "texts", "no tokenizer from worker %s: %s", target, why);
    router_texts_look(texts);
}

static void fetch_failed(struct fetch *fetch, const char *why)
{
    struct router_texts *texts = fetch->texts;
    struct text *text = fetch->text;
    char target[ROUTER_TARGET_BYTES];
    char copy[192];

    snprintf(target, sizeof target, "%s", fetch->target);
    snprintf(copy, sizeof copy, "%s", why);
    fetch_free(fetch);
    try_failed(texts, text, target, copy);
}

/* --- opening, on the thread pool --- */

static td_status_t open_model(struct opening *opening)
{
    struct text_source source;
    td_status_t status;

    if (!td_u128_equal(text_source_id(opening->bytes.data, opening->bytes.length), opening->id))
        return td_fail(&opening->error, TD_CORRUPT,
                       "not the bytes of its text_id, or its tables of Unicode are not ours (%s)",
                       text_unicode_version());
    status =
        text_source_decode(opening->bytes.data, opening->bytes.length, &source, &opening->error);
    if (status != TD_OK)
        return status;
    status = text_model_open(&source, &opening->model, &opening->error);
    text_source_fini(&source);
    return status;
}

static void open_bytes(void *ctx)
{
    struct opening *opening = ctx;

    opening->status = open_model(opening);
}

/* Whether the bytes were right, so that no other worker has better ones. */
static bool is_final(td_status_t status)
{
    return status != TD_CORRUPT && status != TD_NO_MEMORY;
}

static void take_opened(struct opening *opening)
{
    struct router_texts *texts = opening->texts;
    struct text *text = opening->text;

    texts->opening = NULL;
    if (opening->status == TD_OK) {
        text->state = TEXT_HERE;
        text->model = opening->model;
        text->created = td_unix_seconds();
        opening->model = NULL;
        texts->counters.texts_fetched++;
        td_log(TD_LOG_INFO, "texts", "a tokenizer is here tokens %u bytes %zu worker %s",
               text_model_token_count(text->model), opening->bytes.length, opening->target);
        router_texts_look(texts);
    } else if (is_final(opening->status)) {
        text->state = TEXT_UNUSABLE;
        snprintf(text->error, sizeof text->error, "%.190s", opening->error.text);
        texts->counters.texts_failed++;
        td_log(TD_LOG_ERROR, "texts", "the tokenizer of worker %s cannot be used: %s",
               opening->target, opening->error.text);
        router_texts_look(texts);
    } else {
        try_failed(texts, text, opening->target, opening->error.text);
    }
}

static void on_opened(void *ctx, td_status_t status)
{
    struct opening *opening = ctx;

    (void)status; /* the work is canceled only when texts is closed */
    if (opening->texts != NULL)
        take_opened(opening);
    text_model_close(opening->model);
    td_buf_fini(&opening->bytes);
    free(opening);
}

static void start_opening(struct fetch *fetch)
{
    static const struct net_job job = {.run = open_bytes, .done = on_opened};
    struct router_texts *texts = fetch->texts;
    struct opening *opening = calloc(1, sizeof *opening);

    if (opening == NULL) {
        fetch_failed(fetch, "no memory");
        return;
    }
    opening->texts = texts;
    opening->text = fetch->text;
    opening->id = fetch->text->id;
    snprintf(opening->target, sizeof opening->target, "%s", fetch->target);
    opening->bytes = fetch->bytes; /* before the work starts: from then on it is the pool's */
    td_buf_init(&fetch->bytes, 0);
    if (net_work_start(texts->config.loop, &job, opening, &opening->work) != TD_OK) {
        td_buf_fini(&opening->bytes);
        free(opening);
        fetch_failed(fetch, "no memory");
        return;
    }
    texts->opening = opening;
    fetch_free(fetch);
}

/* --- fetching --- */

static td_status_t take_chunk(struct fetch *fetch, const Td__TextChunk *chunk)
{
    struct td_error *error = &fetch->error;

    if (fetch->total == 0) {
        if (chunk->total_bytes == 0 || chunk->total_bytes > TEXT_SOURCE_BYTES_MAX)
            return td_fail(error, TD_LIMIT, "total_bytes %llu is not within 1 to %zu",
                           (unsigned long long)chunk->total_bytes, TEXT_SOURCE_BYTES_MAX);
        fetch->total = chunk->total_bytes;
        td_buf_init(&fetch->bytes, (size_t)fetch->total);
    }
    if (chunk->total_bytes != fetch->total)
        return td_fail(error, TD_INVALID, "total_bytes changed on the way");
    if (chunk->data.len == 0 || chunk->data.len > fetch->total - fetch->bytes.length)
        return td_fail(error, TD_INVALID, "data of %zu bytes at offset %zu of %llu",
                       chunk->data.len, fetch->bytes.length, (unsigned long long)fetch->total);
    td_buf_append(&fetch->bytes, chunk->data.data, chunk->data.len);
    if (fetch->bytes.status != TD_OK)
        return td_fail(error, fetch->bytes.status, "%s", td_status_text(fetch->bytes.status));
    return TD_OK;
}

static void on_chunk(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct fetch *fetch = ctx;
    struct td_arena arena;
    const Td__TextChunk *chunk;

    (void)call;
    td_arena_init(&arena, UNPACKED_BYTES_MAX);
    chunk = proto_unpack(&arena, &td__text_chunk__descriptor, bytes, length);
    if (chunk == NULL)
        fetch_failed(fetch, "a chunk cannot be read");
    else if (take_chunk(fetch, chunk) != TD_OK)
        fetch_failed(fetch, fetch->error.text);
    td_arena_fini(&arena);
}

static void on_end(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct fetch *fetch = ctx;
    char why[160];

    (void)call;
    fetch->call = NULL;
    if (status != TD_OK) {
        snprintf(why, sizeof why, "%s (%.80s)", td_status_text(status), detail);
        fetch_failed(fetch, why);
    } else if (fetch->total == 0 || fetch->bytes.length != fetch->total) {
        fetch_failed(fetch, "it ended before the last byte");
    } else {
        start_opening(fetch);
    }
}

static td_status_t ask_worker(struct fetch *fetch)
{
    static const struct rpc_handlers handlers = {.on_message = on_chunk, .on_close = on_end};
    const struct rpc_channel_config config = {.target = fetch->target,
                                              .expected_roles = NET_ROLES_WORKER,
                                              .message_bytes_max = CHUNK_BYTES_MAX};
    const struct rpc_call_options options = {
        .path = TEXT_PATH, .deadline_ms = FETCH_MS, .handlers = &handlers, .ctx = fetch};
    Td__TextRequest request = TD__TEXT_REQUEST__INIT;
    td_status_t status;

    status = rpc_channel_open(fetch->texts->config.rpc, &config, &fetch->channel);
    if (status != TD_OK)
        return status;
    status = rpc_channel_call(fetch->channel, &options, &fetch->call);
    if (status != TD_OK)
        return status;
    request.text_id_hi = fetch->text->id.hi;
    request.text_id_lo = fetch->text->id.lo;
    if (rpc_call_send(fetch->call, &request.base) != TD_OK)
        assert(false && "a new call takes its first message");
    rpc_call_send_close(fetch->call);
    return TD_OK;
}

static void fetch_start(struct router_texts *texts, struct text *text, const char *target)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);

    if (fetch == NULL) {
        text->next_ns = td_now_ns() + RETRY_MAX_MS * TD_NS_PER_MS;
        return;
    }
    fetch->texts = texts;
    fetch->text = text;
    snprintf(fetch->target, sizeof fetch->target, "%s", target);
    text->state = TEXT_COMING;
    texts->fetch = fetch;
    if (ask_worker(fetch) == TD_OK)
        return;
    text->state = TEXT_MISSING;
    text->next_ns = td_now_ns() + RETRY_MAX_MS * TD_NS_PER_MS;
    fetch_free(fetch);
}

/* --- what is missing --- */

/* Enters the texts that workers name and that were never heard of. */
static void enter_new(struct router_texts *texts)
{
    const struct router_worker *worker;

    for (size_t i = 0; (worker = router_core_worker(texts->config.core, i)) != NULL; i++) {
        if (td_u128_is_zero(worker->text_id) || find(texts, worker->text_id) != NULL)
            continue;
        if (texts->count == ROUTER_TEXTS_MAX) {
            td_log(TD_LOG_ERROR, "texts", "no room for the tokenizer of worker %s: there were %d",
                   worker->rpc_target, ROUTER_TEXTS_MAX);
            continue;
        }
        texts->texts[texts->count++] = (struct text){.id = worker->text_id, .state = TEXT_MISSING};
    }
}

/* A worker that has the text: another one with every try, or NULL. */
static const struct router_worker *source_of(const struct router_texts *texts,
                                             const struct text *text)
{
    const struct router_worker *worker;
    uint32_t having = 0;

    for (size_t i = 0; (worker = router_core_worker(texts->config.core, i)) != NULL; i++)
        having += td_u128_equal(worker->text_id, text->id) ? 1 : 0;
    if (having == 0)
        return NULL;
    having = text->tries % having;
    for (size_t i = 0; (worker = router_core_worker(texts->config.core, i)) != NULL; i++)
        if (td_u128_equal(worker->text_id, text->id) && having-- == 0)
            return worker;
    return NULL;
}

void router_texts_look(struct router_texts *texts)
{
    uint64_t now_ns = td_now_ns();
    uint64_t next_ns = TD_TIME_NEVER;

    enter_new(texts);
    for (size_t i = 0; i < texts->count && texts->fetch == NULL && texts->opening == NULL; i++) {
        struct text *text = &texts->texts[i];
        const struct router_worker *worker;

        if (text->state != TEXT_MISSING || (worker = source_of(texts, text)) == NULL)
            continue;
        if (text->next_ns <= now_ns)
            fetch_start(texts, text, worker->rpc_target);
        if (text->state == TEXT_MISSING && text->next_ns < next_ns)
            next_ns = text->next_ns;
    }
    net_timer_set(&texts->retry, next_ns);
}

static void on_retry(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    router_texts_look(td_container_of(timer, struct router_texts, retry));
}

/* --- for others --- */

const struct text_model *router_texts_find(const struct router_texts *texts, struct td_u128 id,
                                           int64_t *created_out)
{
    const struct text *text = find(texts, id);

    if (text == NULL || text->state != TEXT_HERE)
        return NULL;
    *created_out = text->created;
    return text->model;
}

const char *router_texts_why(const struct router_texts *texts, struct td_u128 id)
{
    const struct text *text = find(texts, id);

    if (td_u128_is_zero(id))
        return "its worker names none";
    if (text == NULL)
        return "there is no room for another one";
    return text->error[0] != '\0' ? text->error : "it is being fetched";
}

const struct router_texts_counters *router_texts_counters(const struct router_texts *texts)
{
    return &texts->counters;
}

td_status_t router_texts_open(const struct router_texts_config *config,
                              struct router_texts **texts_out)
{
    struct router_texts *texts = calloc(1, sizeof *texts);

    if (texts == NULL)
        return TD_NO_MEMORY;
    texts->config = *config;
    net_timer_init(&texts->retry, config->loop, on_retry);
    *texts_out = texts;
    return TD_OK;
}

void router_texts_close(struct router_texts *texts)
{
    if (texts == NULL)
        return;
    if (texts->fetch != NULL)
        fetch_free(texts->fetch);
    if (texts->opening != NULL) {
        texts->opening->texts = NULL;
        net_work_cancel(texts->opening->work);
    }
    net_timer_cancel(&texts->retry);
    for (size_t i = 0; i < texts->count; i++)
        text_model_close(texts->texts[i].model);
    free(texts);
}
