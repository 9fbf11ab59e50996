/* prepare.c: see prepare.h. */
#include "front/prepare.h"

#include <assert.h>
#include <stdlib.h>

#include "lib/base/time.h"

/* libuv's pool has four threads. One stays free for others; more jobs would only wait there. */
#define JOBS_MAX 3

enum prepare_state {
    PREPARE_NEW,
    PREPARE_WAITING,
    PREPARE_RUNNING, /* all but owner, state, node, work and freed belong to the pool's thread */
    PREPARE_DONE,
};

struct front_prepare {
    struct front_preparer *owner;
    struct td_list node;
    enum prepare_state state;
    struct net_work *work;
    bool freed; /* by its owner while the job ran */
    front_prepared_fn done;
    void *context;
    struct td_arena request_arena;
    struct td_arena value_arena;
    struct front_encode_input input;
    struct text_tokens tokens;
    struct front_prepared result;
};

void front_preparer_init(struct front_preparer *preparer, struct net_loop *loop,
                         uint32_t waiting_max, void (*on_idle)(void *context), void *context)
{
    *preparer = (struct front_preparer){
        .loop = loop, .waiting_max = waiting_max, .on_idle = on_idle, .context = context};
    td_list_init(&preparer->waiting);
}

static void destroy(struct front_prepare *prepare)
{
    td_arena_fini(&prepare->request_arena);
    td_arena_fini(&prepare->value_arena);
    text_tokens_fini(&prepare->tokens);
    free(prepare);
}

static td_status_t parse(struct front_prepare *prepare, struct td_span body,
                         struct api_error *error)
{
    struct front_encode_input *input = &prepare->input;

    if (input->surface == API_CHAT)
        return api_chat_request_parse(body, input->limits, &prepare->request_arena, &input->chat,
                                      error);
    return api_completion_request_parse(body, input->limits, &prepare->request_arena,
                                        &input->completion, error);
}

td_status_t front_prepare_new(struct front_preparer *preparer, enum api_surface surface,
                              struct td_span body, const struct api_limits *limits,
                              struct front_prepare **prepare_out, struct api_error *error)
{
    struct front_prepare *prepare = calloc(1, sizeof *prepare);
    td_status_t status;

    if (prepare == NULL) {
        api_error_set(error, API_ERROR_OVERLOADED, NULL, NULL);
        return TD_NO_MEMORY;
    }
    prepare->owner = preparer;
    prepare->input.surface = surface;
    prepare->input.limits = limits;
    td_list_init(&prepare->node);
    td_arena_init(&prepare->request_arena, api_arena_bytes(limits));
    td_arena_init(&prepare->value_arena, api_arena_bytes(limits));
    status = parse(prepare, body, error);
    if (status != TD_OK) {
        destroy(prepare);
        return status;
    }
    *prepare_out = prepare;
    return TD_OK;
}

const struct api_options *front_prepare_options(const struct front_prepare *prepare)
{
    const struct front_encode_input *input = &prepare->input;

    return input->surface == API_CHAT ? &input->chat.options : &input->completion.options;
}

/* ---- jobs ---- */

static void run_job(void *ctx)
{
    struct front_prepare *prepare = ctx;
    uint64_t started_ns = td_now_ns();

    prepare->result.status = front_encode(&prepare->input, &prepare->value_arena, &prepare->tokens,
                                          &prepare->result.error);
    prepare->result.took_us = (uint32_t)((td_now_ns() - started_ns) / TD_NS_PER_US);
}

static void job_done(void *ctx, td_status_t status);

static const struct net_job job = {.run = run_job, .done = job_done};

/* May not call the owner: it may be in the middle of front_prepare_start. */
static td_status_t start_job(struct front_prepare *prepare)
{
    struct front_preparer *owner = prepare->owner;
    td_status_t status = net_work_start(owner->loop, &job, prepare, &prepare->work);

    if (status != TD_OK)
        return status;
    prepare->state = PREPARE_RUNNING;
    owner->running++;
    return TD_OK;
}

static void report(struct front_prepare *prepare)
{
    prepare->state = PREPARE_DONE;
    prepare->done(prepare->context, &prepare->result); /* usually frees it */
}

static void report_failure(struct front_prepare *prepare, td_status_t status)
{
    prepare->result.status = status;
    api_error_set(&prepare->result.error, api_error_kind_of(status), NULL, NULL);
    report(prepare);
}

static void start_next(struct front_preparer *owner)
{
    struct td_list *node;

    while (owner->running < JOBS_MAX && (node = td_list_first(&owner->waiting)) != NULL) {
        struct front_prepare *prepare = td_container_of(node, struct front_prepare, node);
        td_status_t status;

        td_list_remove(node);
        owner->waiting_count--;
        status = start_job(prepare);
        if (status != TD_OK)
            report_failure(prepare, status);
    }
}

static void job_done(void *ctx, td_status_t status)
{
    struct front_prepare *prepare = ctx;
    struct front_preparer *owner = prepare->owner;

    owner->running--;
    if (prepare->freed)
        destroy(prepare);
    else if (status != TD_OK) /* the loop is closing */
        report_failure(prepare, status);
    else
        report(prepare);
    start_next(owner);
    if (owner->running == 0)
        owner->on_idle(owner->context);
}

td_status_t front_prepare_start(struct front_prepare *prepare, const struct text_model *text,
                                uint32_t max_context, front_prepared_fn done, void *context)
{
    struct front_preparer *owner = prepare->owner;

    assert(prepare->state == PREPARE_NEW);
    prepare->done = done;
    prepare->context = context;
    prepare->input.text = text;
    prepare->input.max_context = max_context;
    prepare->input.unix_seconds = td_unix_seconds();
    prepare->result.ids = &prepare->tokens;
    text_tokens_init(&prepare->tokens, max_context);
    if (owner->running < JOBS_MAX)
        return start_job(prepare);
    if (owner->waiting_count >= owner->waiting_max)
        return TD_EXHAUSTED;
    prepare->state = PREPARE_WAITING;
    owner->waiting_count++;
    td_list_push_back(&owner->waiting, &prepare->node);
    return TD_OK;
}

void front_prepare_free(struct front_prepare *prepare)
{
    if (prepare == NULL)
        return;
    if (prepare->state == PREPARE_RUNNING) {
        prepare->freed = true;
        net_work_cancel(prepare->work);
        return;
    }
    if (prepare->state == PREPARE_WAITING) {
        td_list_remove(&prepare->node);
        prepare->owner->waiting_count--;
    }
    destroy(prepare);
}
