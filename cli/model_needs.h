/*
 * model_needs.h: how much memory a worker needs for a model, before one is started.
 */
#ifndef TANDEM_CLI_MODEL_NEEDS_H
#define TANDEM_CLI_MODEL_NEEDS_H

#include <stdint.h>

#include "engine/cpu/kv.h"
#include "model/model.h"

/* What workers take if their flags --kv-bytes and --block-tokens say nothing. */
#define CLI_KV_BYTES     ((uint64_t)512 << 20)
#define CLI_BLOCK_TOKENS 16

struct cli_model_needs {
    uint64_t weights_bytes;   /* packed, in a file that the workers of a host share */
    uint64_t workspace_bytes; /* of one worker, with its default batch sizes */
    uint64_t block_bytes;     /* of one KV block */
    uint64_t kv_bytes_per_1000_tokens;
};

/* Of a worker with default batch sizes, KV of this type and packed weights. */
void cli_model_needs_of(const struct model *model, enum cpu_kv_dtype kv_dtype,
                        struct cli_model_needs *needs_out);

#endif
