/*
 * core.h: the engine core: block pool, prefix cache, sequences and batching as one pure object.
 *
 * Its owner hands it commands and time, asks it for the next batch, runs the batch on a backend, and
 * hands back the result:
 *
 *     engine_core_command(core, &command, now);        any number, at any time
 *     batch = engine_core_plan(core, now);             NULL: nothing to compute
 *     status = backend->ops->run(backend, batch, &result);
 *     engine_core_apply(core, &result, now);           or engine_core_fail
 *     engine_core_tick(core, now);                     when engine_core_next_deadline has come
 *
 * Between plan and apply a batch is flying. Commands and ticks are legal then and take effect at once,
 * with one exception: a sequence with rows in the flying batch that ends keeps its blocks until
 * apply, its result is dropped, and only then it is FINISHED. Nothing ever waits inside the core.
 *
 * Events come from inside these calls, in an order that depends on the calls alone. The sink must not
 * call the core. One owner; no clock, no thread, no lock.
 */
#ifndef TANDEM_ENGINE_CORE_H
#define TANDEM_ENGINE_CORE_H

#include "engine/backend.h"
#include "engine/engine.h"

struct engine_core;
struct engine_pool;

/* Limits; 0 takes the default. */
struct engine_core_config {
    uint32_t step_rows;         /* token budget of a step; default: the backend's rows_max */
    uint32_t sequences_max;     /* in a batch; default: the least of 256, outputs and rows */
    uint32_t waiting_max;       /* SUBMITs that find as many waiting are refused; default 1,024 */
    uint32_t import_blocks_max; /* reserved and landing together; default: half of the pool */
    uint64_t
        step_target_ns;     /* how long prompts may make a step beside streams; default: no bound */
    uint64_t step_limit_ns; /* how long they may make any step; default: no bound */
};

/*
 * engine_core_open: a core over a pool and a backend's model; it never calls the backend.
 * info, rows_max and outputs_max are read through backend as long as the core lives, and the pool's
 * memory is hashed and its tails are zeroed through kv. TD_INVALID: a limit or the block layout makes no
 * sense; TD_NO_MEMORY.
 */
td_status_t engine_core_open(const struct engine_core_config *config,
                             const struct engine_backend *backend, const struct engine_kv *kv,
                             struct engine_sink sink, struct engine_core **core_out,
                             struct td_error *error) TD_MUST_USE;

/* Frees everything, at any time; nothing is emitted. For a clean end call engine_core_drain first. */
void engine_core_close(struct engine_core *core);

/* Carries a command out. Its arrays move to the core, whatever comes of it. */
void engine_core_command(struct engine_core *core, struct engine_command *command, uint64_t now_ns);

/*
 * Admits what fits and makes the next batch, which lives until apply or fail. NULL: nothing can be
 * computed until a command comes. No batch may be flying.
 */
const struct engine_batch *engine_core_plan(struct engine_core *core, uint64_t now_ns);

/* The flying batch is computed. The result is not used after the call. */
void engine_core_apply(struct engine_core *core, const struct engine_result *result,
                       uint64_t now_ns);

/* The backend failed: the sequences of the batch end, and nothing of this step is cached. */
void engine_core_fail(struct engine_core *core, td_status_t status, uint64_t now_ns);

/* When tick has something to do, or TD_TIME_NEVER. */
uint64_t engine_core_next_deadline(const struct engine_core *core);
void engine_core_tick(struct engine_core *core, uint64_t now_ns);

/*
 * Ends every sequence as CANCELED, those too whose blocks still wait for a release: they are left in
 * quarantine. Transports must have been closed before. No batch may be flying.
 */
void engine_core_drain(struct engine_core *core, uint64_t now_ns);

/* The present picture. */
void engine_core_load(const struct engine_core *core, struct engine_load *load_out);

/*
 * Gives the tokens array of a STEP event back (allocated by the core), so that the next one needs no
 * allocation. NULL is ignored.
 */
void engine_core_give_tokens(struct engine_core *core, struct engine_token *tokens);

/* The pool, to be looked at by tests and by the simulator's oracles. */
const struct engine_pool *engine_core_pool(const struct engine_core *core);

/* Recounts the pool and all lists and asserts that they agree; for tests. */
void engine_core_audit(const struct engine_core *core);

#endif
