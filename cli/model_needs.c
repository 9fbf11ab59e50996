/* model_needs.c: see model_needs.h. */
#include "cli/model_needs.h"

#include "engine/cpu/cpu.h"

/* What cpu.h says of the memory of steps. */
static uint64_t workspace_bytes(const struct model *model)
{
    uint64_t row = 5 * (uint64_t)model->hidden + model->ffn;

    return sizeof(float) * (CPU_ROWS_DEFAULT * row + CPU_OUTPUTS_DEFAULT * (uint64_t)model->vocab);
}

void cli_model_needs_of(const struct model *model, struct cli_model_needs *needs_out)
{
    size_t block_bytes = 0;

    if (cpu_block_bytes(model, CPU_KV_F16, CLI_BLOCK_TOKENS, &block_bytes, NULL) != TD_OK)
        block_bytes = 0;
    *needs_out = (struct cli_model_needs){
        .weights_bytes = cpu_weights_bytes(model),
        .workspace_bytes = workspace_bytes(model),
        .block_bytes = block_bytes > 0 ? block_bytes : 1,
        .kv_bytes_per_1000_tokens = (uint64_t)block_bytes * 1000 / CLI_BLOCK_TOKENS,
    };
}
