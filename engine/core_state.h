/*
 * core_state.h: what the files of the engine core share; private to them.
 *
 *   core.c       opening, commands, time
 *   sequence.c   the state table and the memory of a sequence
 *   lifecycle.c  what each action of the table does
 *   plan.c       admission, preemption, and the next batch
 *   share.c      the room of a batch among prompts
 *   pace.c       what a step costs
 *   draw.c       how the next token is drawn, and what came of it
 *   apply.c      what comes of a batch: blocks to the cache, tokens to the worker
 *   emit.c       events
 *   pool.c, sample.c   know nothing of the above, nor do share.c and pace.c
 */
#ifndef TANDEM_ENGINE_CORE_STATE_H
#define TANDEM_ENGINE_CORE_STATE_H

#include "engine/core.h"
#include "engine/plan.h"
#include "engine/pool.h"
#include "engine/sample.h"
#include "engine/sequence.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/base/timers.h"

#define ENGINE_SPARE_TOKENS_MAX 8

struct engine_core {
    struct engine_core_config config;
    const struct engine_model_info *info;
    struct engine_kv kv;
    struct engine_sink sink;
    struct engine_pool *pool;
    struct engine_sampler sampler;
    struct engine_plan plan;
    struct engine_pace pace;
    struct td_map sequences; /* by id */
    struct td_list queued;   /* both by arrival */
    struct td_list running;
    struct td_timers timers;
    uint64_t now_ns; /* of the present call */
    uint64_t arrivals;
    uint32_t context_max; /* tokens of one sequence: the model's and the pool's limit */
    uint32_t queued_count;
    uint64_t queued_tokens; /* to be computed here: without those of imports */
    uint32_t running_count;
    struct engine_load totals; /* only its counters; the picture is made by engine_core_load */
    struct engine_load shown;  /* as in the last STEP */
    bool snapshot_due;         /* asked for, and there was no memory */
    struct engine_token *spare_tokens[ENGINE_SPARE_TOKENS_MAX];
    uint32_t spare_count;
};

/* ---- lifecycle.c ---- */

/*
 * Moves a sequence by an event and carries the action out; false if the table says IGNORE. The
 * sequence may be freed by it. Not for the events of engine_sequence_end.
 */
bool engine_sequence_step(struct engine_core *core, struct engine_sequence *sequence,
                          enum sequence_event event);

/* The same for FINISH, CANCEL, EXPIRE and FAIL, which say how it ends. */
bool engine_sequence_end(struct engine_core *core, struct engine_sequence *sequence,
                         enum sequence_event event, enum engine_finish reason, td_status_t status);

/* Puts a new sequence into the queue. */
void engine_sequence_wait(struct engine_core *core, struct engine_sequence *sequence);

/* Ends a STOPPING sequence if nothing holds it any more; it is freed then. */
void engine_sequence_try_end(struct engine_core *core, struct engine_sequence *sequence);

/* Ends it at once as CANCELED; what is lent is left in quarantine. */
void engine_sequence_force_end(struct engine_core *core, struct engine_sequence *sequence);

/* ---- apply.c ---- */

/*
 * Hashes and publishes the blocks that the computed tokens have filled. False: some of them cannot be read, and are
 * neither hashed nor published.
 */
bool engine_sequence_fill(struct engine_core *core, struct engine_sequence *sequence);

/* ---- draw.c ---- */

/* The tokens of a step. */
struct engine_harvest {
    struct engine_token *tokens; /* of engine_take_tokens */
    uint32_t count;
};

/* Says how the token of an output is drawn. */
void engine_draw_plan(struct engine_core *core, struct engine_sequence *sequence, uint32_t output);

/*
 * The token that follows, which the backend has drawn or which is drawn now, is put behind the last of the harvest, and not
 * counted yet. TD_INTERNAL: what the backend made cannot be; else what the sequence's mask has said.
 */
td_status_t engine_draw_take(struct engine_core *core, const struct engine_sequence *sequence,
                             const struct engine_result *result, uint32_t output,
                             struct engine_harvest *harvest) TD_MUST_USE;

/* ---- emit.c: each false if there was no memory, and nothing was emitted then ---- */

bool engine_emit_reserved(struct engine_core *core, struct engine_sequence *sequence);

/* Full blocks of a PREFILL that were not shown yet. */
bool engine_emit_blocks(struct engine_core *core, struct engine_sequence *sequence);

/* hidden moves to the event on success. */
bool engine_emit_prefilled(struct engine_core *core, struct engine_sequence *sequence);

void engine_emit_stopped(struct engine_core *core, const struct engine_sequence *sequence);
void engine_emit_finished(struct engine_core *core, const struct engine_sequence *sequence);
void engine_emit_refused(struct engine_core *core, uint64_t id, uint32_t prompt_tokens,
                         td_status_t status);

/* An array for the tokens of a step, and behind it as many log-probabilities, in one allocation; or NULL. */
struct engine_token *engine_take_tokens(struct engine_core *core);

/* tokens moves to the event; NULL only with a count of 0. */
void engine_emit_step(struct engine_core *core, struct engine_token *tokens, uint32_t count);

/* Whether the load looks different from the last STEP. */
bool engine_load_changed(const struct engine_core *core);

/*
 * To be called at the end of every call from outside: tells of changes of the cache and takes a
 * snapshot that is due (what there is no memory for is tried again at the next call), and asserts the
 * balance.
 */
void engine_core_settle(struct engine_core *core);

#endif
