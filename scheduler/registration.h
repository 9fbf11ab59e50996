/*
 * registration.h: who a worker says that it is, checked and copied.
 *
 * A Registration comes from outside: every field is looked at here, once, and whatever the rest of
 * the scheduler sees has passed. Texts are printable ASCII, so that they can stand in logs, metrics
 * and replies.
 */
#ifndef TANDEM_SCHEDULER_REGISTRATION_H
#define TANDEM_SCHEDULER_REGISTRATION_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"
#include "proto/tandem.pb-c.h"
#include "scheduler/config.h"

struct sched_identity {
    struct td_arena arena; /* owns the texts */
    uint64_t epoch;
    Td__Role role; /* PREFILL or DECODE */
    const char *rpc_target;
    const char *http_address; /* may be empty */
    const char *numerics;     /* the class of its results, for words; may be empty */
    const char *models[SCHED_MODELS_MAX];
    size_t model_count; /* at least 1 */
    struct td_u128 content_id;
    struct td_u128 text_id;
    uint32_t version; /* of the protocol, the newest that both sides speak */
    uint32_t block_tokens;
    uint32_t block_count;
    uint32_t max_context;
    uint32_t max_sequences;
    uint32_t max_waiting;
};

/*
 * Checks and copies. certified is the role in the peer's certificate, ROLE_UNKNOWN if it has none.
 * TD_INVALID or TD_REFUSED with the name of the field; TD_NO_MEMORY.
 */
td_status_t sched_identity_read(const Td__Registration *registration, Td__Role certified,
                                struct sched_identity *identity_out,
                                struct td_error *error) TD_MUST_USE;

void sched_identity_fini(struct sched_identity *identity);

bool sched_identity_serves(const struct sched_identity *identity, const char *model);

/*
 * Whether one would prefill for the other if their content ids were equal, and they are not: other weights, or
 * other numerics, under the same name.
 */
bool sched_identity_is_unlike(const struct sched_identity *a, const struct sched_identity *b);

#endif
