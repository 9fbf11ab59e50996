/*
 * sequence.h: one sequence of the engine: its state table and what it remembers.
 *
 * A sequence lives from SUBMIT to FINISHED. All of its memory is one allocation made at SUBMIT, large
 * enough for every token and block it may ever have, so nothing of it can fail to grow later.
 * This file knows nothing of the pool and the batch: what the actions do is in engine/lifecycle.c.
 *
 * Three bits say what holds a sequence back at its end: `lent` (somebody outside may touch its blocks,
 * until RELEASE or LANDED), `flying` (the batch that is being computed has rows of it), and the state
 * itself. STOPPING waits for the first two.
 */
#ifndef TANDEM_ENGINE_SEQUENCE_H
#define TANDEM_ENGINE_SEQUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/engine.h"
#include "engine/penalty.h"
#include "engine/pool.h"
#include "lib/base/fsm.h"
#include "lib/base/list.h"
#include "lib/base/timers.h"

#define SEQUENCE_STATES(X, P)                                                                 \
    X(P, QUEUED, remaining_ms, "waits for blocks; has none")                                  \
    X(P, RESERVED, import, "has blocks for its prompt; no peer was asked yet")                \
    X(P, LANDING, import, "a peer may be writing to its blocks")                              \
    X(P, PREFILL, remaining_ms, "tokens known so far are being computed")                     \
    X(P, DECODE, remaining_ms, "all tokens but the newest are computed; each step draws one") \
    X(P, HELD, lease_ms, "the prompt is computed; a peer may be reading its blocks")          \
    X(P, STOPPING, transfer, "no more work; waits for the flying batch or for a release")     \
    X(P, DONE, none, "finished; all blocks are given back or quarantined")

#define SEQUENCE_EVENTS(X, P)                                                     \
    X(P, ADMIT, "blocks were found for all of its tokens: compute them")          \
    X(P, RESERVE, "blocks were found: a peer's KV may come")                      \
    X(P, ASK, "the worker is about to ask a peer")                                \
    X(P, LAND, "the peer's KV is there and verified")                             \
    X(P, RELEASE, "nobody outside can touch the blocks")                          \
    X(P, QUARANTINE, "somebody outside may touch the blocks for ever")            \
    X(P, PROMPT_DONE, "all known tokens are computed and the next one was drawn") \
    X(P, HOLD, "the prompt is computed, for a peer")                              \
    X(P, PREEMPT, "an older sequence needs its blocks")                           \
    X(P, FINISH, "a stop id was drawn, or the length is reached")                 \
    X(P, CANCEL, "the worker wants no more")                                      \
    X(P, EXPIRE, "the deadline of the request passed")                            \
    X(P, FAIL, "the backend or memory failed, or it can never fit")               \
    X(P, IDLE, "no batch and nobody outside holds its blocks")

#define SEQUENCE_ACTIONS(X, P)                                                         \
    X(P, START, "join the running; a PREFILL is lent from here on")                    \
    X(P, OFFER, "tell the worker which blocks to import")                              \
    X(P, LOCALIZE, "an import becomes a prefill here, still waiting")                  \
    X(P, LEND, "the blocks count as landing")                                          \
    X(P, COMMIT, "the landed blocks become its own and findable; draw from the state") \
    X(P, COMPUTE, "join the running with the reserved blocks")                         \
    X(P, DISOWN, "leave the blocks in quarantine, and wait for others")                \
    X(P, BEGIN, "note the time")                                                       \
    X(P, KEEP, "hold the blocks for the peer, and tell the worker")                    \
    X(P, REQUEUE, "give all blocks back, and wait again in the old place")             \
    X(P, STOP, "leave the batch; end as soon as nothing holds the blocks")             \
    X(P, LET_GO, "no longer lent; end unless a batch flies")                           \
    X(P, ABANDON, "leave the lent blocks in quarantine; end unless a batch flies")     \
    X(P, END, "give the blocks back, tell the worker, free")

#define SEQUENCE_CELLS(X, P)                                                                     \
    X(P, QUEUED, ADMIT, PREFILL, START, "")                                                      \
    X(P, QUEUED, RESERVE, RESERVED, OFFER, "")                                                   \
    X(P, QUEUED, ASK, QUEUED, IGNORE, "nothing is reserved")                                     \
    X(P, QUEUED, LAND, QUEUED, IGNORE, "nothing is reserved")                                    \
    X(P, QUEUED, RELEASE, QUEUED, LOCALIZE, "the worker does not want to wait for a peer")       \
    X(P, QUEUED, QUARANTINE, QUEUED, LOCALIZE, "the same: it has no blocks to lose")             \
    X(P, QUEUED, PROMPT_DONE, QUEUED, BUG, "")                                                   \
    X(P, QUEUED, HOLD, QUEUED, BUG, "")                                                          \
    X(P, QUEUED, PREEMPT, QUEUED, BUG, "")                                                       \
    X(P, QUEUED, FINISH, QUEUED, BUG, "")                                                        \
    X(P, QUEUED, CANCEL, STOPPING, STOP, "")                                                     \
    X(P, QUEUED, EXPIRE, STOPPING, STOP, "")                                                     \
    X(P, QUEUED, FAIL, STOPPING, STOP, "quarantine left too few blocks for it")                  \
    X(P, QUEUED, IDLE, QUEUED, BUG, "")                                                          \
    X(P, RESERVED, ADMIT, RESERVED, BUG, "")                                                     \
    X(P, RESERVED, RESERVE, RESERVED, BUG, "")                                                   \
    X(P, RESERVED, ASK, LANDING, LEND, "")                                                       \
    X(P, RESERVED, LAND, DECODE, COMMIT, "without an ask before: the KV is there all the same")  \
    X(P, RESERVED, RELEASE, PREFILL, COMPUTE, "the worker asks nobody")                          \
    X(P, RESERVED, QUARANTINE, QUEUED, DISOWN, "")                                               \
    X(P, RESERVED, PROMPT_DONE, RESERVED, BUG, "")                                               \
    X(P, RESERVED, HOLD, RESERVED, BUG, "")                                                      \
    X(P, RESERVED, PREEMPT, RESERVED, BUG, "")                                                   \
    X(P, RESERVED, FINISH, RESERVED, BUG, "")                                                    \
    X(P, RESERVED, CANCEL, STOPPING, STOP, "an ask would have come before the cancel")           \
    X(P, RESERVED, EXPIRE, RESERVED, IGNORE, "an ask may be on its way; the worker ends it")     \
    X(P, RESERVED, FAIL, STOPPING, STOP, "no memory for the event: the worker knows nothing")    \
    X(P, RESERVED, IDLE, RESERVED, BUG, "")                                                      \
    X(P, LANDING, ADMIT, LANDING, BUG, "")                                                       \
    X(P, LANDING, RESERVE, LANDING, BUG, "")                                                     \
    X(P, LANDING, ASK, LANDING, IGNORE, "the next candidate")                                    \
    X(P, LANDING, LAND, DECODE, COMMIT, "")                                                      \
    X(P, LANDING, RELEASE, PREFILL, COMPUTE, "it will not come: prefill here")                   \
    X(P, LANDING, QUARANTINE, QUEUED, DISOWN, "it will not come, and the blocks are lost")       \
    X(P, LANDING, PROMPT_DONE, LANDING, BUG, "")                                                 \
    X(P, LANDING, HOLD, LANDING, BUG, "")                                                        \
    X(P, LANDING, PREEMPT, LANDING, BUG, "")                                                     \
    X(P, LANDING, FINISH, LANDING, BUG, "")                                                      \
    X(P, LANDING, CANCEL, STOPPING, STOP, "")                                                    \
    X(P, LANDING, EXPIRE, LANDING, IGNORE, "only the worker knows when nobody writes any more")  \
    X(P, LANDING, FAIL, LANDING, BUG, "")                                                        \
    X(P, LANDING, IDLE, LANDING, BUG, "")                                                        \
    X(P, PREFILL, ADMIT, PREFILL, BUG, "")                                                       \
    X(P, PREFILL, RESERVE, PREFILL, BUG, "")                                                     \
    X(P, PREFILL, ASK, PREFILL, IGNORE, "")                                                      \
    X(P, PREFILL, LAND, PREFILL, IGNORE, "")                                                     \
    X(P, PREFILL, RELEASE, PREFILL, IGNORE, "nothing is lent; of a PREFILL it implies a cancel") \
    X(P, PREFILL, QUARANTINE, PREFILL, IGNORE, "nothing is lent; of a PREFILL as above")         \
    X(P, PREFILL, PROMPT_DONE, DECODE, BEGIN, "")                                                \
    X(P, PREFILL, HOLD, HELD, KEEP, "")                                                          \
    X(P, PREFILL, PREEMPT, QUEUED, REQUEUE, "never a PREFILL: its blocks are lent")              \
    X(P, PREFILL, FINISH, PREFILL, BUG, "a token is drawn in DECODE")                            \
    X(P, PREFILL, CANCEL, STOPPING, STOP, "")                                                    \
    X(P, PREFILL, EXPIRE, STOPPING, STOP, "")                                                    \
    X(P, PREFILL, FAIL, STOPPING, STOP, "")                                                      \
    X(P, PREFILL, IDLE, PREFILL, BUG, "")                                                        \
    X(P, DECODE, ADMIT, DECODE, BUG, "")                                                         \
    X(P, DECODE, RESERVE, DECODE, BUG, "")                                                       \
    X(P, DECODE, ASK, DECODE, IGNORE, "")                                                        \
    X(P, DECODE, LAND, DECODE, IGNORE, "")                                                       \
    X(P, DECODE, RELEASE, DECODE, IGNORE, "nothing is lent")                                     \
    X(P, DECODE, QUARANTINE, DECODE, IGNORE, "nothing is lent")                                  \
    X(P, DECODE, PROMPT_DONE, DECODE, BUG, "")                                                   \
    X(P, DECODE, HOLD, DECODE, BUG, "")                                                          \
    X(P, DECODE, PREEMPT, QUEUED, REQUEUE, "")                                                   \
    X(P, DECODE, FINISH, STOPPING, STOP, "")                                                     \
    X(P, DECODE, CANCEL, STOPPING, STOP, "")                                                     \
    X(P, DECODE, EXPIRE, STOPPING, STOP, "")                                                     \
    X(P, DECODE, FAIL, STOPPING, STOP, "")                                                       \
    X(P, DECODE, IDLE, DECODE, BUG, "")                                                          \
    X(P, HELD, ADMIT, HELD, BUG, "")                                                             \
    X(P, HELD, RESERVE, HELD, BUG, "")                                                           \
    X(P, HELD, ASK, HELD, IGNORE, "")                                                            \
    X(P, HELD, LAND, HELD, IGNORE, "not an import")                                              \
    X(P, HELD, RELEASE, STOPPING, LET_GO, "")                                                    \
    X(P, HELD, QUARANTINE, STOPPING, ABANDON, "")                                                \
    X(P, HELD, PROMPT_DONE, HELD, BUG, "")                                                       \
    X(P, HELD, HOLD, HELD, BUG, "")                                                              \
    X(P, HELD, PREEMPT, HELD, BUG, "")                                                           \
    X(P, HELD, FINISH, HELD, BUG, "")                                                            \
    X(P, HELD, CANCEL, STOPPING, STOP, "")                                                       \
    X(P, HELD, EXPIRE, HELD, IGNORE, "the lease ends it")                                        \
    X(P, HELD, FAIL, STOPPING, STOP, "no memory for the event")                                  \
    X(P, HELD, IDLE, HELD, BUG, "")                                                              \
    X(P, STOPPING, ADMIT, STOPPING, BUG, "")                                                     \
    X(P, STOPPING, RESERVE, STOPPING, BUG, "")                                                   \
    X(P, STOPPING, ASK, STOPPING, IGNORE, "the next candidate, asked before it knew")            \
    X(P, STOPPING, LAND, STOPPING, LET_GO, "nobody writes any more; the KV is not wanted")       \
    X(P, STOPPING, RELEASE, STOPPING, LET_GO, "")                                                \
    X(P, STOPPING, QUARANTINE, STOPPING, ABANDON, "")                                            \
    X(P, STOPPING, PROMPT_DONE, STOPPING, BUG, "")                                               \
    X(P, STOPPING, HOLD, STOPPING, BUG, "")                                                      \
    X(P, STOPPING, PREEMPT, STOPPING, BUG, "")                                                   \
    X(P, STOPPING, FINISH, STOPPING, BUG, "")                                                    \
    X(P, STOPPING, CANCEL, STOPPING, IGNORE, "")                                                 \
    X(P, STOPPING, EXPIRE, STOPPING, BUG, "STOP has disarmed the deadline")                      \
    X(P, STOPPING, FAIL, STOPPING, BUG, "whether its last batch failed matters no more")         \
    X(P, STOPPING, IDLE, DONE, END, "")                                                          \
    X(P, DONE, ADMIT, DONE, BUG, "")                                                             \
    X(P, DONE, RESERVE, DONE, BUG, "")                                                           \
    X(P, DONE, ASK, DONE, IGNORE, "")                                                            \
    X(P, DONE, LAND, DONE, IGNORE, "")                                                           \
    X(P, DONE, RELEASE, DONE, IGNORE, "")                                                        \
    X(P, DONE, QUARANTINE, DONE, IGNORE, "")                                                     \
    X(P, DONE, PROMPT_DONE, DONE, BUG, "")                                                       \
    X(P, DONE, HOLD, DONE, BUG, "")                                                              \
    X(P, DONE, PREEMPT, DONE, BUG, "")                                                           \
    X(P, DONE, FINISH, DONE, BUG, "")                                                            \
    X(P, DONE, CANCEL, DONE, IGNORE, "")                                                         \
    X(P, DONE, EXPIRE, DONE, BUG, "")                                                            \
    X(P, DONE, FAIL, DONE, BUG, "")                                                              \
    X(P, DONE, IDLE, DONE, BUG, "")

TD_FSM_DECLARE(sequence, SEQUENCE);

/* The list a sequence is in. */
enum sequence_place {
    SEQUENCE_IN_NONE = 0,
    SEQUENCE_IN_QUEUE,
    SEQUENCE_IN_RUNNING,
};

/* Points in time; TD_TIME_NEVER: has not come. */
struct sequence_times {
    uint64_t submitted_ns;
    uint64_t started_ns;     /* first blocks */
    uint64_t computing_ns;   /* first in the batch */
    uint64_t prompt_done_ns; /* prompt computed or landed */
    uint64_t first_token_ns;
    uint64_t last_token_ns;
};

/*
 * Why it was not admitted, so that it is not looked up again before something has changed: a block was given
 * back, or more of its prompt can be found.
 */
struct sequence_refusal {
    bool holds;
    /* An import that only the limit of imports keeps out: others may go before it. */
    bool lets_pass;
    uint32_t hits;    /* leading blocks that were in the cache */
    uint32_t spare;   /* blocks that were to be left for others */
    uint64_t returns; /* engine_pool_returns at that time */
};

struct engine_sequence {
    struct engine_core *core; /* for the timer's callback */
    uint64_t id;
    uint64_t arrival; /* order among all sequences; kept when it is preempted */
    struct td_list node;
    struct td_timer deadline;
    uint64_t deadline_ns;
    enum sequence_place place;
    uint8_t state; /* enum sequence_state */
    enum engine_goal goal;
    bool remote; /* an IMPORT that may still get its KV from a peer */
    bool lent;
    bool flying;
    bool apart; /* stopped publishing: a collision, or no memory for the index */

    struct td_u128 root;
    struct engine_sampling sampling;
    struct engine_mask mask;
    td_status_t mask_status; /* of the draw that is planned; not TD_OK: the sequence ends with it */
    uint32_t stop_ids[ENGINE_STOP_IDS_MAX];
    uint32_t stop_id_count;
    bool ignore_model_stops;

    uint32_t *tokens;     /* prompt, then output */
    uint32_t token_count; /* known */
    uint32_t prompt_count;
    uint32_t token_max;
    uint32_t computed;         /* leading tokens whose KV is in the blocks */
    uint32_t cached_tokens;    /* of the prompt, found in the cache when it started */
    float *hidden;             /* landed: the state that the first token is drawn from */
    struct engine_tally tally; /* of the tokens, for penalties; entries only if some are wanted */
    struct sequence_refusal refusal;

    uint32_t *slots; /* block table */
    uint32_t slot_count;
    uint32_t claimed_from; /* blocks from here on are claimed as `claim`, those before as RUNNING */
    enum engine_claim claim; /* RUNNING, RESERVED, LANDING, HELD or QUARANTINED */
    uint32_t full;           /* leading blocks that are full and hashed; published unless apart */
    uint32_t shown;          /* PREFILL: leading blocks that the worker was told of */
    struct td_u128 *keys;    /* of full blocks */
    uint32_t key_count;
    uint32_t block_tokens;

    enum engine_finish reason;
    td_status_t status;
    struct sequence_times times;
};

/*
 * A sequence for a checked SUBMIT whose max_new_tokens was clamped already. Takes nothing from the
 * command. NULL: no memory.
 */
struct engine_sequence *engine_sequence_new(uint64_t id, const struct engine_submit *submit,
                                            uint32_t block_tokens, uint64_t now_ns);
void engine_sequence_free(struct engine_sequence *sequence);

/* Key of full block number index, all of whose tokens are known. */
struct td_u128 engine_sequence_key(struct engine_sequence *sequence, uint32_t index);

/* Key of block number index as it travels: full, or the tail of the prompt. */
struct td_u128 engine_sequence_travel_key(struct engine_sequence *sequence, uint32_t index);

/* Prompt tokens in block number index. */
uint32_t engine_sequence_prompt_in_block(const struct engine_sequence *sequence, uint32_t index);

/* Blocks for all known tokens. */
uint32_t engine_sequence_blocks_needed(const struct engine_sequence *sequence);

/* Leading blocks that may come from the cache: the last known token is always computed. */
uint32_t engine_sequence_hits_max(const struct engine_sequence *sequence);

/* Whether the token, the newest one, ends the sequence, and why. */
bool engine_sequence_is_over(const struct engine_sequence *sequence,
                             const struct engine_model_info *info, enum engine_finish *reason_out);

static inline uint32_t engine_sequence_new_tokens(const struct engine_sequence *sequence)
{
    return sequence->token_count - sequence->prompt_count;
}

/* Puts it in its place by arrival in a list of sequences. */
void engine_sequence_insert(struct td_list *list, struct engine_sequence *sequence);

static inline struct engine_sequence *engine_sequence_of(struct td_list *node)
{
    return td_container_of(node, struct engine_sequence, node);
}

#endif
