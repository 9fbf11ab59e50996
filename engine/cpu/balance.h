/*
 * balance.h: what keys are divided by before they become whole numbers, and queries multiplied with.
 *
 * A token's key has one scale. Some models add a bias to keys of which a few elements are 50 times as large as what
 * the token itself adds: the scale would follow these, and nothing of the rest would be left. Biases are known,
 * so an element with a large one is divided by a power of two, which loses nothing. Both elements that RoPE
 * turns together have one divisor, so it does not matter that they turn. The idea is SmoothQuant's (Xiao and others,
 * 2022), with biases in the place of activations that somebody would have to collect.
 */
#ifndef TANDEM_ENGINE_CPU_BALANCE_H
#define TANDEM_ENGINE_CPU_BALANCE_H

#include <stdint.h>

#include "lib/base/status.h"
#include "model/model.h"

/*
 * cpu_balance_open: *divisors_out is [layers][kv_heads][head_dim], in the order of turned keys (malloc), or NULL if no
 * layer has biases of keys. The same for the same weights, everywhere. TD_NO_MEMORY with error filled.
 */
td_status_t cpu_balance_open(const struct model *model, float **divisors_out,
                             struct td_error *error) TD_MUST_USE;

/* The divisors of a head; NULL if there are none. */
const float *cpu_balance_of(const float *divisors, const struct model *model, uint32_t layer,
                            uint32_t kv_head);

#endif
