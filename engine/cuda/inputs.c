/* inputs.c: see inputs.h. */
#include "engine/cuda/inputs.h"

#include "engine/cuda/kernels/args.h"

uint32_t cuda_inputs_logits(const struct engine_batch *batch)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < batch->output_count; i++)
        count += batch->outputs[i].want == ENGINE_WANT_LOGITS;
    return count;
}

bool cuda_inputs_decode(const struct engine_batch *batch)
{
    for (uint32_t i = 1; i < batch->row_count; i++)
        if (batch->rows[i].sequence == batch->rows[i - 1].sequence)
            return false; /* rows of a sequence stand side by side */
    return batch->row_count > 0;
}

uint32_t cuda_inputs_splits(const struct engine_batch *batch)
{
    uint32_t splits = 0;

    for (uint32_t i = 0; i < batch->row_count; i++)
        if (batch->rows[i].position / CUDA_SPLIT + 1 > splits)
            splits = batch->rows[i].position / CUDA_SPLIT + 1;
    return splits;
}

/* Slots of each sequence, as many as its last row needs; tables say where they begin. Returns how many there are. */
static uint32_t fill_slots(const struct engine_batch *batch, uint32_t block_tokens,
                           uint32_t *tables, uint32_t *slots)
{
    uint32_t first = 0; /* of the sequence at hand */
    uint32_t count = 0;

    for (uint32_t i = 0; i < batch->row_count; i++) {
        const struct engine_row *row = &batch->rows[i];
        const struct engine_batch_sequence *sequence = &batch->sequences[row->sequence];
        uint32_t needed = row->position / block_tokens + 1;

        if (i == 0 || row->sequence != batch->rows[i - 1].sequence)
            first = count;
        for (uint32_t have = count - first; have < needed; have++)
            slots[count++] = sequence->slots[have];
        tables[i] = first;
    }
    return count;
}

static void fill_picks(const struct engine_batch *batch, struct cuda_inputs *inputs,
                       uint32_t *picks, uint32_t *head_rows)
{
    uint32_t count = 0;

    inputs->heads = 0;
    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_output *output = &batch->outputs[i];

        if (output->want != ENGINE_WANT_LOGITS)
            continue;
        if (output->is_head)
            head_rows[inputs->heads] = output->row;
        picks[count++] = output->is_head ? inputs->heads++ | CUDA_PICK_HEAD : output->row;
    }
    for (; count < inputs->logits; count++)
        picks[count] = 0;
}

void cuda_inputs_fill(const struct engine_batch *batch, uint32_t block_tokens, uint32_t spare_slot,
                      struct cuda_inputs *inputs, uint32_t *words, uint32_t *head_rows_out)
{
    uint32_t slots;

    inputs->tokens = 0;
    inputs->positions = inputs->rows;
    inputs->tables = inputs->positions + inputs->rows;
    inputs->picks = inputs->tables + inputs->rows;
    inputs->slots = inputs->picks + inputs->logits;
    inputs->splits = cuda_inputs_splits(batch);
    fill_picks(batch, inputs, words + inputs->picks, head_rows_out);
    slots = fill_slots(batch, block_tokens, words + inputs->tables, words + inputs->slots);
    for (uint32_t i = 0; i < inputs->rows; i++) {
        bool is_padding = i >= batch->row_count;

        words[inputs->tokens + i] = is_padding ? 0 : batch->rows[i].token;
        words[inputs->positions + i] = is_padding ? 0 : batch->rows[i].position;
        if (is_padding)
            words[inputs->tables + i] = slots;
    }
    words[inputs->slots + slots++] = spare_slot;
    inputs->words = inputs->slots + slots;
}
