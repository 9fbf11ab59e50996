/* sequence.c: the state table's definition, memory, keys and order of sequences; see sequence.h. */
#include "engine/sequence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/block_key.h"
#include "lib/base/time.h"

TD_FSM_DEFINE(
    sequence, SEQUENCE,
    "One sequence of the engine, from SUBMIT to FINISHED. ADMIT, RESERVE, PROMPT_DONE, HOLD, "
    "PREEMPT, FINISH, FAIL and IDLE come from the engine itself, the others from the worker "
    "and the clock.");

static uint32_t blocks_for(uint32_t tokens, uint32_t block_tokens)
{
    return tokens / block_tokens + (tokens % block_tokens != 0);
}

/* Places the arrays behind the struct; they are ordered by falling alignment. */
static void place_arrays(struct engine_sequence *sequence, uint32_t block_max)
{
    sequence->keys = (struct td_u128 *)(void *)(sequence + 1);
    sequence->slots = (uint32_t *)(void *)(sequence->keys + block_max);
    sequence->tokens = sequence->slots + block_max;
    sequence->sampling.biases =
        (struct engine_bias *)(void *)(sequence->tokens + sequence->token_max);
    sequence->tally.entries = (struct engine_tally_entry *)(void *)(sequence->sampling.biases +
                                                                    sequence->sampling.bias_count);
}

static int compare_keys(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* In order of tokens, those of one token as they came: whoever changes logits side by side adds those of one in one go. */
static void copy_biases(struct engine_sequence *sequence, const struct engine_bias *biases)
{
    uint64_t keys[ENGINE_BIASES_MAX]; /* a token, and where it stood */
    uint32_t count = sequence->sampling.bias_count;

    for (uint32_t i = 0; i < count; i++)
        keys[i] = (uint64_t)biases[i].token << 32 | i;
    qsort(keys, count, sizeof keys[0], compare_keys);
    for (uint32_t i = 0; i < count; i++)
        sequence->sampling.biases[i] = biases[(uint32_t)keys[i]];
}

struct engine_sequence *engine_sequence_new(uint64_t id, const struct engine_submit *submit,
                                            uint32_t block_tokens, uint64_t now_ns)
{
    uint32_t token_max =
        submit->token_count + (submit->goal == ENGINE_PREFILL ? 0 : submit->max_new_tokens);
    uint32_t block_max = blocks_for(token_max, block_tokens);
    uint32_t bias_count = submit->goal == ENGINE_PREFILL ? 0 : submit->sampling.bias_count;
    bool is_penalised = submit->goal != ENGINE_PREFILL && engine_penalty_wanted(&submit->sampling);
    uint32_t tally_max = is_penalised ? token_max : 0;
    size_t bytes = sizeof(struct engine_sequence) +
                   block_max * (sizeof(struct td_u128) + sizeof(uint32_t)) +
                   token_max * sizeof(uint32_t) + bias_count * sizeof(struct engine_bias) +
                   tally_max * sizeof(struct engine_tally_entry);
    struct engine_sequence *sequence = malloc(bytes);

    if (sequence == NULL)
        return NULL;
    *sequence = (struct engine_sequence){
        .id = id,
        .deadline_ns = submit->deadline_ns,
        .state = SEQUENCE_QUEUED,
        .goal = submit->goal,
        .remote = submit->goal == ENGINE_IMPORT,
        .root = submit->root_key,
        .sampling = submit->sampling,
        .stop_id_count = submit->stop_id_count,
        .ignore_model_stops = submit->ignore_model_stops,
        .token_count = submit->token_count,
        .prompt_count = submit->token_count,
        .token_max = token_max,
        .block_tokens = block_tokens,
        .times = {now_ns, TD_TIME_NEVER, TD_TIME_NEVER, TD_TIME_NEVER, TD_TIME_NEVER,
                  TD_TIME_NEVER},
    };
    sequence->sampling.bias_count = bias_count;
    place_arrays(sequence, block_max);
    td_list_init(&sequence->node);
    memcpy(sequence->stop_ids, submit->stop_ids,
           submit->stop_id_count * sizeof submit->stop_ids[0]);
    memcpy(sequence->tokens, submit->tokens, submit->token_count * sizeof submit->tokens[0]);
    copy_biases(sequence, submit->sampling.biases);
    return sequence;
}

void engine_sequence_free(struct engine_sequence *sequence)
{
    engine_mask_close(&sequence->mask);
    free(sequence->hidden);
    free(sequence);
}

static struct td_u128 parent_key(struct engine_sequence *sequence, uint32_t index)
{
    return index == 0 ? sequence->root : engine_sequence_key(sequence, index - 1);
}

struct td_u128 engine_sequence_key(struct engine_sequence *sequence, uint32_t index)
{
    uint32_t block_tokens = sequence->block_tokens;

    assert((uint64_t)(index + 1) * block_tokens <= sequence->token_count);
    while (sequence->key_count <= index) {
        uint32_t next = sequence->key_count;
        struct td_u128 parent = next == 0 ? sequence->root : sequence->keys[next - 1];

        sequence->keys[next] =
            td_block_key(parent, sequence->tokens + (size_t)next * block_tokens, block_tokens);
        sequence->key_count++;
    }
    return sequence->keys[index];
}

uint32_t engine_sequence_prompt_in_block(const struct engine_sequence *sequence, uint32_t index)
{
    uint32_t left = sequence->prompt_count - index * sequence->block_tokens;

    return left < sequence->block_tokens ? left : sequence->block_tokens;
}

struct td_u128 engine_sequence_travel_key(struct engine_sequence *sequence, uint32_t index)
{
    const uint32_t *tokens = sequence->tokens + (size_t)index * sequence->block_tokens;

    return td_block_key(parent_key(sequence, index), tokens,
                        engine_sequence_prompt_in_block(sequence, index));
}

uint32_t engine_sequence_blocks_needed(const struct engine_sequence *sequence)
{
    return blocks_for(sequence->token_count, sequence->block_tokens);
}

uint32_t engine_sequence_hits_max(const struct engine_sequence *sequence)
{
    return (sequence->token_count - 1) / sequence->block_tokens;
}

static bool is_among(uint32_t token, const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == token)
            return true;
    return false;
}

bool engine_sequence_is_over(const struct engine_sequence *sequence,
                             const struct engine_model_info *info, enum engine_finish *reason_out)
{
    uint32_t newest = sequence->tokens[sequence->token_count - 1];

    if (is_among(newest, sequence->stop_ids, sequence->stop_id_count) ||
        (!sequence->ignore_model_stops && is_among(newest, info->stop_ids, info->stop_id_count))) {
        *reason_out = ENGINE_FINISH_STOP;
        return true;
    }
    if (sequence->token_count == sequence->token_max) {
        *reason_out = ENGINE_FINISH_LENGTH;
        return true;
    }
    return false;
}

void engine_sequence_insert(struct td_list *list, struct engine_sequence *sequence)
{
    struct td_list *before = list->prev;

    while (before != list && engine_sequence_of(before)->arrival > sequence->arrival)
        before = before->prev;
    td_list_insert_between(&sequence->node, before, before->next);
}
