/*
 * plan.h: what is computed next: admission, growth, preemption, and the rows of a batch.
 *
 * Part of the engine core (engine/core_state.h). The rules, in order:
 *
 *   1. Of the running, the first sequences_max by arrival are in the batch.
 *   2. Each of them that needs a block for its next token gets one. If there is none, the newest
 *      running sequence that is not a PREFILL gives back all of its blocks and waits again in its old
 *      place; in the end the one in need itself. No admission in such a step, if there is one.
 *   3. The waiting are admitted in order of arrival. Each gets blocks for all of its known tokens at
 *      once or none at all, less what is found in the cache, and leaves one block for each decoding
 *      sequence. The first that does not fit stops admission; an import that only the limit of imports
 *      keeps out lets those pass that are none.
 *   4. One row for each decoding sequence, then chunks of prompts, as engine/share.h divides the room among
 *      them: half to the oldest, the rest to the shortest.
 *   5. The room is what is left of step_rows, and of a time: beside sequences that decode, the step shall not
 *      take longer than step_target_ns, or twice as long as without prompts, whichever is more; and no step
 *      longer than step_limit_ns. The first keeps the pace of running streams when a long prompt comes, the
 *      second lets commands, deadlines and newcomers have their turn. What a row takes is learnt
 *      (engine/pace.h). ENGINE_ROWS_SURE rows are always let in, however long they take, so prompts get on
 *      beside any streams; only now and then, less and less often, a step goes without prompts, to learn what the
 *      streams take alone. Without sequences that decode, as in a worker that only prefills, the limit alone
 *      counts, and steps are full.
 *
 * Why nobody waits for ever: blocks are taken all at once, so two half-loaded sequences cannot wait for
 * each other. Reserved, landing and held blocks wait for the worker alone, which has deadlines. Every
 * other running sequence can be preempted, newest first, so the oldest always gets on.
 */
#ifndef TANDEM_ENGINE_PLAN_H
#define TANDEM_ENGINE_PLAN_H

#include "engine/backend.h"
#include "engine/pace.h"
#include "engine/sample.h"
#include "engine/sequence.h"
#include "engine/share.h"

#define ENGINE_OUTPUT_NONE UINT32_MAX
#define ENGINE_ROWS_SURE   16 /* rows of prompts in a step beside any streams, if there are as many */

/* The part of one sequence in the flying batch. */
struct engine_flight {
    struct engine_sequence *sequence;
    uint32_t rows;   /* 0: only an output from its landed state */
    uint32_t output; /* index of its output, or ENGINE_OUTPUT_NONE */
};

/* The batch and the memory behind it. */
struct engine_plan {
    struct engine_batch batch;
    struct engine_row *rows;                 /* [rows_max] */
    struct engine_batch_sequence *sequences; /* [sequences_max] */
    const float **heads;                     /* [sequences_max] */
    struct engine_output *outputs;           /* [sequences_max] */
    struct engine_draw *draws;               /* [sequences_max] of outputs */
    uint32_t *masks; /* [sequences_max][words]: which tokens these may be; touched where one asks */
    struct engine_flight *flights; /* [sequences_max] */
    uint32_t flight_count;
    struct engine_chunk *chunks; /* [sequences_max] */
    struct engine_chunk **order; /* [sequences_max] */
    struct engine_work work;
    uint32_t rows_max;
    uint32_t sequences_max;
    bool flying;
};

struct engine_core;

/* TD_NO_MEMORY; engine_plan_fini is due in any case. */
td_status_t engine_plan_init(struct engine_plan *plan, uint32_t rows_max, uint32_t sequences_max,
                             uint32_t vocab) TD_MUST_USE;
void engine_plan_fini(struct engine_plan *plan);

/* Makes the next batch in core's plan; false if there is nothing to compute. */
bool engine_plan_next(struct engine_core *core);

/* Asserts that whoever is refused without being looked up would be refused all the same; for tests. */
void engine_plan_audit(const struct engine_core *core);

#endif
