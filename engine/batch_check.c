/* batch_check.c: see batch_check.h. */
#include "engine/batch_check.h"

static td_status_t check_rows(const struct engine_backend *backend, uint32_t block_count,
                              const struct engine_batch *batch)
{
    const struct engine_model_info *info = &backend->info;
    uint32_t checked = 0; /* slots of the sequence at hand */

    if (batch->row_count > backend->rows_max)
        return TD_LIMIT;
    for (uint32_t i = 0; i < batch->row_count; i++) {
        const struct engine_row *row = &batch->rows[i];
        uint32_t block = row->position / info->block_tokens;

        if (row->token >= info->vocab || row->position >= info->max_context ||
            row->sequence >= batch->sequence_count ||
            block >= batch->sequences[row->sequence].slot_count)
            return TD_INVALID;
        if (i > 0 && row->sequence < batch->rows[i - 1].sequence)
            return TD_INVALID; /* rows of a sequence stand side by side */
        if (i == 0 || row->sequence != batch->rows[i - 1].sequence)
            checked = 0;
        for (; checked <= block; checked++)
            if (batch->sequences[row->sequence].slots[checked] >= block_count)
                return TD_INVALID;
    }
    return TD_OK;
}

static td_status_t check_outputs(const struct engine_backend *backend,
                                 const struct engine_batch *batch)
{
    if (batch->output_count > backend->outputs_max)
        return TD_LIMIT;
    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_output *output = &batch->outputs[i];

        if (output->row >= (output->is_head ? batch->head_count : batch->row_count) ||
            (output->want != ENGINE_WANT_LOGITS && output->want != ENGINE_WANT_HIDDEN))
            return TD_INVALID;
    }
    return TD_OK;
}

td_status_t engine_batch_check(const struct engine_backend *backend, uint32_t block_count,
                               const struct engine_batch *batch)
{
    td_status_t status = check_rows(backend, block_count, batch);

    return status != TD_OK ? status : check_outputs(backend, batch);
}
