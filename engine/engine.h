/*
 * engine.h: the engine's contract with the worker above it: commands in, events out.
 *
 * The engine runs sequences of token ids through one model with continuous batching, and owns the
 * block pool and the prefix cache. It knows nothing of text, HTTP, RPC or transports. There are two
 * ways to drive it, with the same commands and events:
 *
 *   struct engine_core     a pure object (engine/core.h): no thread, no clock, no lock. The simulator
 *                          drives it with virtual time.
 *   struct engine_runtime  the core on a thread of its own with a ring in each direction
 *                          (engine/runtime.h). Production.
 *
 * Every SUBMIT is answered by exactly one FINISHED, which is the last event of that sequence and
 * means that all its blocks were given back (or quarantined). What may come before it depends on
 * the goal:
 *
 *   GENERATE  TOKENS... FINISHED
 *   IMPORT    RESERVED, then the worker sends ASKED when it is about to ask a prefill worker, and
 *             later LANDED (the KV is there and verified; tokens follow) or RELEASE (it will not
 *             come: the engine prefills itself). TOKENS... FINISHED
 *   PREFILL   BLOCKS... PREFILLED, then the blocks stay held until RELEASE. FINISHED
 *             Instead of PREFILLED, STOPPED: it will not be completed; the blocks wait as well.
 *
 * Blocks that somebody outside may touch are given back only by RELEASE: "nobody can read or write
 * them any more", or, with quarantine, "I could not make sure". CANCEL stops the work at the next
 * step; for IMPORT after ASKED and for PREFILL that was started the blocks still wait for RELEASE.
 *
 * RELEASE of an IMPORT before RESERVED means "reserve no longer, prefill here"; RELEASE of a
 * PREFILL before PREFILLED implies CANCEL. The deadline of a sequence is silent from RESERVED to
 * LANDED or RELEASE, and from PREFILLED to RELEASE: there only the worker knows who may touch the
 * blocks, and its own deadlines are shorter.
 *
 * A command for a sequence that has ended, or that makes no sense in its state (it crossed an
 * event), does nothing but be counted.
 */
#ifndef TANDEM_ENGINE_ENGINE_H
#define TANDEM_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

#define ENGINE_STOP_IDS_MAX 32
#define ENGINE_BIASES_MAX   1024

#define ENGINE_TOP_LOGPROBS_MAX 20

enum engine_goal {
    ENGINE_GENERATE = 0, /* prefill here, then decode */
    ENGINE_IMPORT = 1,   /* reserve blocks for KV that comes from a peer, then decode */
    ENGINE_PREFILL = 2,  /* compute the prompt's KV for a peer; no token is sampled */
};

/* What is added to the logit of a token of the client's choice. */
struct engine_bias {
    uint32_t token;
    float value;
};

/*
 * How the next token is drawn. The random number depends on (seed, choice, output index) alone, and
 * the logits that it meets on the tokens so far: a replay draws the same.
 */
struct engine_sampling {
    float temperature;        /* 0: greedy, lowest id wins a tie */
    uint32_t top_k;           /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* least weight as a share of the best one's; 0: off */
    float repetition_penalty; /* for tokens of prompt and output; 1 and 0: off */
    float presence_penalty;   /* for tokens of the output; 0: off */
    float frequency_penalty;  /* the same, for each time; 0: off */
    struct engine_bias *biases;
    uint32_t bias_count;
    uint64_t seed;
    uint32_t choice;
    bool wants_logprobs;   /* of each token, with the tokens of a step */
    uint32_t top_logprobs; /* how many of the likeliest with it; at most ENGINE_TOP_LOGPROBS_MAX */
};

/*
 * Which tokens a request's output may go on with, where it has to have some form: a grammar's place in the engine. It is
 * asked once for each token of the output, in order, when the step that the token comes of is planned, on the engine's thread, and
 * so beside nothing else: what it takes, all sequences wait for.
 */
struct engine_mask {
    void *impl;
    /*
     * Sets bit id % 32 of words[id / 32] of every token that may follow the output so far; all are clear, and those beyond
     * the vocabulary mean nothing. No more tokens of the model than these are drawn, its stop ids included. A failure ends the
     * sequence as FAILED with that status, and so does a mask without any token, with TD_INVALID. NULL: any token may follow.
     */
    td_status_t (*fill)(void *impl, const uint32_t *output, uint32_t count, uint32_t *words,
                        uint32_t word_count);
    /* Once, on whichever thread ends the sequence or its command. NULL: nothing to do. */
    void (*close)(void *impl);
};

static inline uint32_t engine_mask_words(uint32_t vocab)
{
    return vocab / 32 + (vocab % 32 != 0);
}

/* Closes it, if it is to be closed; it is zero then. */
void engine_mask_close(struct engine_mask *mask);

enum engine_finish {
    ENGINE_FINISH_STOP = 1,   /* a stop id was drawn; it is the last token */
    ENGINE_FINISH_LENGTH = 2, /* max_new_tokens, or the context is full */
    ENGINE_FINISH_CANCELED = 3,
    ENGINE_FINISH_RELEASED = 4, /* PREFILL: computed, held and released */
    ENGINE_FINISH_REFUSED = 5,  /* never started: status says why (LIMIT, EXHAUSTED, INVALID) */
    ENGINE_FINISH_FAILED = 6, /* the backend failed, or the deadline passed (TIMEOUT): see status */
};

/* Where one KV block lies. Valid as long as the generation of the slot has not changed. */
struct engine_slot {
    uint32_t index;      /* the block starts at pool base + index * block_bytes */
    uint32_t generation; /* rises whenever the slot is freed */
};

/* One block of a prompt as it travels: which tokens (key), where it lies, what is in it (hash). */
struct engine_block {
    struct td_u128 key;
    struct td_u128 hash; /* XXH3-128 of the block's bytes; zero if not computed yet */
    struct engine_slot slot;
    uint32_t tokens; /* block_tokens, or fewer for the tail of a prompt */
};

/* ------------------------------------------------------------------------------------------- */

enum engine_command_kind {
    ENGINE_SUBMIT = 1,
    ENGINE_CANCEL,
    ENGINE_ASKED,
    ENGINE_LANDED,
    ENGINE_RELEASE,
    ENGINE_SNAPSHOT,
};

struct engine_submit {
    struct td_u128 request; /* label for logs */
    enum engine_goal goal;
    uint32_t *tokens;     /* the prompt; malloc memory, moves to the engine */
    uint32_t token_count; /* at least 1 */
    uint32_t max_new_tokens;
    struct td_u128 root_key;         /* of the block-key chain: content_id and the tenant's salt */
    struct engine_sampling sampling; /* biases are malloc memory and move to the engine as well */
    struct engine_mask mask;         /* moves to the engine; zero: none */
    uint32_t stop_ids[ENGINE_STOP_IDS_MAX];
    uint32_t stop_id_count;
    bool ignore_model_stops;
    uint64_t deadline_ns; /* of the whole request on the engine's clock; TD_TIME_NEVER: none */
};

struct engine_landed {
    float *hidden; /* last prompt token's state before the final norm; moves to the engine */
    uint32_t hidden_count;  /* must be the model's hidden size */
    struct td_u128 *hashes; /* content hash of each imported block, in order; moves to the engine */
    uint32_t hash_count;
};

struct engine_command {
    enum engine_command_kind kind;
    uint64_t sequence; /* chosen by the worker, never reused in a process */
    union {
        struct engine_submit submit;
        struct engine_landed landed;
        struct {
            bool quarantine;
        } release;
    };
};

/* Frees what a command that was never given to an engine owns (tokens, biases, mask, hidden, hashes). */
void engine_command_fini(struct engine_command *command);

/* ------------------------------------------------------------------------------------------- */

enum engine_event_kind {
    ENGINE_RESERVED = 1,
    ENGINE_BLOCKS,
    ENGINE_PREFILLED,
    ENGINE_STEP,
    ENGINE_FINISHED,
    ENGINE_CACHE,
    ENGINE_SNAPSHOT_TAKEN,
    ENGINE_STOPPED, /* PREFILL only */
};

/* The balance: total is the sum of the others, at every step. In blocks. */
struct engine_balance {
    uint32_t total;
    uint32_t free;
    uint32_t cached;      /* no user, evictable, findable by key */
    uint32_t running;     /* used by sequences in the engine */
    uint32_t reserved;    /* for an import that nobody was asked for yet */
    uint32_t landing;     /* a peer may be writing */
    uint32_t held;        /* finished prefill, a peer may be reading */
    uint32_t quarantined; /* unusable until the process ends */
};

/* A picture of the engine after a step, for load reports and metrics. */
struct engine_load {
    struct engine_balance balance;
    uint32_t running;           /* sequences in the batch */
    uint32_t prefilling;        /* of those, whose prompts are not complete */
    uint32_t prefilling_tokens; /* rows of their prompts still to be computed */
    uint32_t waiting;           /* admitted and not started */
    /* Of those here, to be computed; nobody has looked yet what is cached. */
    uint32_t waiting_tokens;
    uint64_t steps;
    uint64_t prompt_tokens; /* computed since start */
    uint64_t cached_tokens; /* not computed thanks to the prefix cache */
    uint64_t new_tokens;    /* sampled */
    /* Of those, by the core in steps in which the backend draws: it had no room for their penalties. */
    uint64_t draws_left;
    uint64_t preemptions;
    uint64_t step_ns;   /* of the last step */
    uint32_t step_rows; /* rows of the last step */
    uint32_t step_prefill_rows;
    uint64_t stray_commands;    /* that did nothing, see above */
    uint64_t content_conflicts; /* equal tokens, different KV: never, unless something is broken */
};

struct engine_logprob {
    uint32_t token;
    float value; /* the natural logarithm of its probability; see engine/logprobs.h */
};

/* How likely the tokens of an output were. */
struct engine_logprobs {
    float chosen;   /* of the token that was drawn */
    uint32_t count; /* of the likeliest, which the one drawn need not be among */
    struct engine_logprob top[ENGINE_TOP_LOGPROBS_MAX]; /* falling; lower ids first where equal */
};

struct engine_token {
    uint64_t sequence;
    uint32_t index; /* output index, from 0 */
    uint32_t token;
    const struct engine_logprobs *logprobs; /* lives as long as the token; NULL: not asked for */
};

/* One sequence's end. Times are durations. */
struct engine_finished {
    enum engine_finish reason;
    td_status_t status; /* REFUSED and FAILED: why; else TD_OK */
    uint32_t prompt_tokens;
    uint32_t cached_tokens; /* prompt tokens that were neither computed nor imported */
    uint32_t new_tokens;
    uint64_t queue_ns;       /* submit to first work */
    uint64_t prefill_ns;     /* first work to prompt complete (imports: 0) */
    uint64_t first_token_ns; /* prompt complete, or LANDED, to the first token */
    uint64_t decode_ns;      /* first token to last */
};

struct engine_event {
    enum engine_event_kind kind;
    uint64_t sequence; /* 0 for STEP, CACHE and SNAPSHOT_TAKEN */
    union {
        struct {
            struct engine_block
                *blocks; /* those to import: after the cached prefix, tail included */
            uint32_t count;
            uint32_t cached_blocks; /* leading full blocks found in the prefix cache */
        } reserved;
        struct {
            struct engine_block *blocks; /* full blocks, computed or found in the cache */
            uint32_t first;              /* index of blocks[0] in the prompt */
            uint32_t count;
        } blocks;
        struct {
            struct engine_block tail; /* tokens == 0: the prompt ends on a block boundary */
            uint32_t tail_index;
            float *hidden;
            uint32_t hidden_count;
            uint32_t cached_tokens;
            uint64_t queue_ns;
            uint64_t prefill_ns;
        } prefilled;
        struct {
            struct engine_token *tokens; /* at most one per sequence */
            uint32_t count;              /* 0 too: nothing was sampled, or only the load changed */
            bool lent; /* tokens go back to where the event came from: fini leaves them alone */
            struct engine_load load;
        } step;
        struct engine_finished finished;
        struct {
            struct td_u128 *stored; /* keys that can be hit from now on; none is in removed */
            uint32_t stored_count;
            struct td_u128 *removed;
            uint32_t removed_count;
        } cache;
        struct {
            td_status_t status; /* why: TIMEOUT, or what the backend said */
        } stopped;
        struct {
            struct td_u128 *keys; /* all keys that can be hit; consistent with the CACHE events */
            uint32_t count;
        } snapshot;
    };
};

/* Frees the arrays that an event owns. The receiver of an event calls it once. */
void engine_event_fini(struct engine_event *event);

/* Receives events. Called by the engine's owner thread; the event's arrays move to the sink. */
struct engine_sink {
    void *impl;
    void (*emit)(void *impl, struct engine_event *event);
};

#endif
