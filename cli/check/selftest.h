/*
 * selftest.h: a model computes a few tokens, the way a worker would, and twice where it must agree.
 */
#ifndef TANDEM_CLI_CHECK_SELFTEST_H
#define TANDEM_CLI_CHECK_SELFTEST_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/cpu/cpu.h"
#include "lib/base/status.h"
#include "model/model.h"

/* What a worker would be told. */
struct selftest_options {
    uint32_t threads;
    enum cpu_numerics numerics;
    enum cpu_kv_dtype kv_dtype;
};

struct selftest_result {
    double pack_s; /* what a worker without a cache would spend on packing, with all CPUs */
    uint32_t prompt_tokens;
    double prompt_tokens_per_s;
    uint32_t new_tokens;
    double decode_tokens_per_s;
    bool is_invariant; /* the same prompt in other pieces beside another one gave the same bits */
};

/*
 * Packs the weights in memory, opens a backend, and runs a prompt, a few tokens
 * after it, and the prompt again.
 * The error says what failed: memory, a kernel, or logits that are no numbers.
 */
td_status_t selftest_run(const struct model *model, const struct selftest_options *options,
                         const uint32_t *prompt, uint32_t prompt_tokens,
                         struct selftest_result *result_out, struct td_error *error) TD_MUST_USE;

#define SELFTEST_PROMPT_MAX 24

#endif
