/*
 * core_rig.h: a worker core whose world is a notebook: what it sends is written down, what comes to it is
 * said by the test. Time stands still unless the test moves it.
 */
#ifndef TANDEM_TESTS_WORKER_CORE_RIG_H
#define TANDEM_TESTS_WORKER_CORE_RIG_H

#include "worker/internal.h"

#define RIG_EPOCH        UINT64_C(0x1111)
#define RIG_ROUTER       UINT64_C(0x2222)
#define RIG_PEER         UINT64_C(0x3333)
#define RIG_BLOCK_TOKENS 4
#define RIG_BLOCK_BYTES  64
#define RIG_VOCAB        100
#define RIG_CONTEXT      64
#define RIG_HIDDEN       2
#define RIG_NOTES_MAX    64

/* One driver's handle: a router's link, or an asker's stream. */
struct rig_stream {
    struct worker_link *link;
    struct worker_export *export;
    uint32_t ready;
    bool closed; /* by the core */
    td_status_t status;
    uint32_t replies[TD__ASK_OUT__KIND_REFUSED + 1]; /* by kind */
    uint32_t code;                                   /* of the last refusal */
};

struct rig {
    struct worker_core *core;
    uint64_t now_ns;
    uint64_t random;
    struct engine_command engine[RIG_NOTES_MAX]; /* arrays are freed at once */
    uint32_t engine_count;
    struct kvt_command kvt[RIG_NOTES_MAX];
    uint32_t kvt_count;
    uint32_t pair_calls;
    uint64_t pair_number; /* of the last call */
    uint64_t pair_peer_epoch;
    size_t pair_transport_count;
    char pair_transport[8]; /* the first that it offered */
    char pair_target[WORKER_TARGET_BYTES];
    uint32_t asks;
    uint64_t ask_number;
    struct td_u128 transfer; /* of the last ask */
    uint32_t renewals;
    uint32_t asks_closed;
    const char *fatal;
    uint32_t step_age_ms; /* how long the engine's step has been running */
};

void rig_open(struct rig *rig, Td__Role role);
void rig_close(struct rig *rig);

/* How many commands of the kind there were. */
uint32_t rig_engine_count(const struct rig *rig, enum engine_command_kind kind);
uint32_t rig_kvt_count(const struct rig *rig, enum kvt_command_kind kind);
const struct engine_command *rig_last_engine(const struct rig *rig);

/* Time moves on, and what is due happens. */
void rig_wait_ms(struct rig *rig, uint32_t ms);

/* --- routers --- */

void rig_link(struct rig *rig, struct rig_stream *stream); /* opened and greeted */
void rig_say(struct rig *rig, struct rig_stream *stream, const Td__GenerateIn *message);
void rig_hello(struct rig *rig, struct rig_stream *stream, uint64_t worker_epoch,
               uint64_t router_epoch);
/* A Start with that many prompt tokens, followed by no frame. */
void rig_start(struct rig *rig, struct rig_stream *stream, uint64_t id, uint32_t tokens,
               uint32_t candidates);
void rig_tokens(struct rig *rig, struct rig_stream *stream, uint64_t id, uint32_t offset,
                uint32_t count);
void rig_cancel(struct rig *rig, struct rig_stream *stream, uint64_t id);
void rig_attach(struct rig *rig, struct rig_stream *stream, uint64_t id, uint32_t next);
void rig_ended(struct rig *rig, struct rig_stream *stream, uint64_t id);
struct worker_request *rig_request(const struct rig *rig, uint64_t id);
/* The next update about a request, in whatever message; false: there is none. */
bool rig_update(struct rig *rig, struct rig_stream *stream, Td__Update *update_out);

/* --- engine --- */

void rig_reserved(struct rig *rig, uint64_t sequence, uint32_t blocks, uint32_t cached);
void rig_step(struct rig *rig, uint64_t sequence, uint32_t index, uint32_t token);
void rig_blocks(struct rig *rig, uint64_t sequence, uint32_t first, uint32_t count);
void rig_prefilled(struct rig *rig, uint64_t sequence, uint32_t tail_index, uint32_t tail_tokens);
void rig_stopped(struct rig *rig, uint64_t sequence);
void rig_finished(struct rig *rig, uint64_t sequence, enum engine_finish reason, td_status_t status,
                  uint32_t new_tokens);

/* --- transfers --- */

void rig_kvt(struct rig *rig, enum kvt_event_kind kind, struct td_u128 transfer, td_status_t status,
             bool is_sender);
void rig_landed(struct rig *rig, struct td_u128 transfer, uint32_t blocks);
void rig_peer(struct rig *rig, enum kvt_event_kind kind, uint64_t epoch);

/* --- peers --- */

/* The answer to our last handshake; spoil: NULL, or changes it. */
/* From now on we have another transport besides "loop". */
#define RIG_SECOND_TRANSPORT "other"
void rig_second_transport(struct rig *rig);

void rig_pair_reply(struct rig *rig, void (*spoil)(Td__PairReply *reply));
void rig_pair_failed(struct rig *rig);
/* A handshake of a peer; true: it was accepted. reason_out may be NULL. */
bool rig_paired_by(struct rig *rig, void (*spoil)(Td__PairRequest *request),
                   const char **reason_out);
void rig_ask_says(struct rig *rig, const Td__AskOut *message);
/* An ask of the paired peer for a prompt of that many tokens. */
void rig_asked(struct rig *rig, struct rig_stream *stream, uint32_t tokens,
               void (*spoil)(Td__Ask *ask));

#endif
