/*
 * batch_check.h: whether a batch keeps what its backend, the model and the pool allow.
 *
 * The core checks what comes from clients; this keeps its mistakes out of other people's memory. Every backend
 * that computes real models asks before it touches anything.
 */
#ifndef TANDEM_ENGINE_BATCH_CHECK_H
#define TANDEM_ENGINE_BATCH_CHECK_H

#include "engine/backend.h"

/*
 * TD_LIMIT: more rows or outputs than the backend was opened for. TD_INVALID: a token, position, sequence, slot,
 * row or head that does not exist, a row whose block is not in its sequence's table, or an output that wants neither
 * logits nor the hidden state. block_count is that of the pool.
 */
td_status_t engine_batch_check(const struct engine_backend *backend, uint32_t block_count,
                               const struct engine_batch *batch) TD_MUST_USE;

#endif
