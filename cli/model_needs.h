/*
 * model_needs.h: how much memory a worker needs for a model, before one is started.
 */
#ifndef TANDEM_CLI_MODEL_NEEDS_H
#define TANDEM_CLI_MODEL_NEEDS_H

#include <stdint.h>

#include "model/model.h"

/* What workers take if their flags --kv-bytes and --block-tokens say nothing. */
#define CLI_KV_BYTES     ((uint64_t)512 << 20)
#define CLI_BLOCK_TOKENS 16

struct cli_model_needs {
    uint64_t weights_bytes;   /* packed, in a file that the workers of a host share */
    uint64_t workspace_bytes; /* of one worker, with its default batch sizes */
    uint64_t block_bytes;     /* of one KV block, f16 */
    uint64_t kv_bytes_per_1000_tokens;
};

/* Of a worker with default batch sizes, 16-bit KV and packed weights. */
void cli_model_needs_of(const struct model *model, struct cli_model_needs *needs_out);

#endif
