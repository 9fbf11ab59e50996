/*
 * prepare.h: turning requests into token ids on the thread pool. Inside the room only.
 *
 * A long prompt takes tens of milliseconds to render and tokenize, in which no stream would move; so
 * this is done off the loop, a few requests at a time. The others wait here, where they can still be
 * taken back, in the order in which they came.
 *
 * A front_prepare is one request's: made on the loop by reading the body; while its job runs, it
 * belongs to the pool's thread; then it is the owner's again with the tokens or the error.
 */
#ifndef TANDEM_FRONT_PREPARE_H
#define TANDEM_FRONT_PREPARE_H

#include "front/encode.h"
#include "lib/base/list.h"
#include "lib/net/loop.h"

/* All jobs of a front. */
struct front_preparer {
    struct net_loop *loop;
    struct td_list waiting;
    uint32_t waiting_count;
    uint32_t waiting_max;
    uint32_t running;
    void (*on_idle)(void *context); /* no job runs any more */
    void *context;
};

void front_preparer_init(struct front_preparer *preparer, struct net_loop *loop,
                         uint32_t waiting_max, void (*on_idle)(void *context), void *context);

struct front_prepare;

/*
 * Reads a body. The options point into the preparation's memory. On failure error is the answer;
 * otherwise the preparation is the caller's to free.
 */
td_status_t front_prepare_new(struct front_preparer *preparer, enum api_surface surface,
                              struct td_span body, const struct api_limits *limits,
                              struct front_prepare **prepare_out,
                              struct api_error *error) TD_MUST_USE;

const struct api_options *front_prepare_options(const struct front_prepare *prepare);

/* What a job came to. */
struct front_prepared {
    td_status_t status;
    struct api_error error;  /* status is not TD_OK: the answer */
    struct text_tokens *ids; /* may be taken out */
    uint32_t took_us;
};

/*
 * Starts the job, or lines it up. done runs once, on the loop, never from inside this call, unless the
 * preparation is freed before. TD_EXHAUSTED: too many are waiting.
 */
typedef void (*front_prepared_fn)(void *context, struct front_prepared *prepared);
td_status_t front_prepare_start(struct front_prepare *prepare, const struct text_model *text,
                                uint32_t max_context, front_prepared_fn done,
                                void *context) TD_MUST_USE;

/* At any time, also from done. The memory goes when the pool has let go of it. NULL is allowed. */
void front_prepare_free(struct front_prepare *prepare);

#endif
