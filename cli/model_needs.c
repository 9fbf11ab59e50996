/* model_needs.c: see model_needs.h. */
#include "cli/model_needs.h"

#include "engine/cpu/cpu.h"
#include "engine/cpu/team.h"
#include "lib/base/cpus.h"

void cli_model_needs_of(const struct model *model, enum cpu_kv_dtype kv_dtype,
                        struct cli_model_needs *needs_out)
{
    uint32_t cpus = td_cpus_usable();
    const struct cpu_options options = {.threads = cpus < CPU_THREADS_MAX ? cpus : CPU_THREADS_MAX};
    size_t block_bytes = 0;

    if (cpu_block_bytes(model, kv_dtype, CLI_BLOCK_TOKENS, &block_bytes, NULL) != TD_OK)
        block_bytes = 0;
    *needs_out = (struct cli_model_needs){
        .weights_bytes = cpu_weights_bytes(model),
        .workspace_bytes = cpu_workspace_bytes(model, &options),
        .block_bytes = block_bytes > 0 ? block_bytes : 1,
        .kv_bytes_per_1000_tokens = (uint64_t)block_bytes * 1000 / CLI_BLOCK_TOKENS,
    };
}
