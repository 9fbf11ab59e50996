/*
 * internal.h: the worker core's objects, shared by its files and by nobody else.
 *
 * Objects and who owns them: the core owns links, requests, exports, pairs, peers and announcers; a
 * request owns its import. Engine sequences and transfers are found by number; the entry in the map
 * is a struct worker_owner, the first member of what it belongs to.
 */
#ifndef TANDEM_WORKER_INTERNAL_H
#define TANDEM_WORKER_INTERNAL_H

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/time.h"
#include "lib/base/timers.h"
#include "worker/core.h"
#include "worker/export.h"
#include "worker/import.h"
#include "worker/pairs.h"
#include "worker/request.h"

#define ANNOUNCE_LOG_MESSAGES 256   /* block-event messages kept for schedulers that lag */
#define SNAPSHOT_PART_KEYS    16384 /* 256 KiB a message */
#define LINK_UPDATES_MAX      64    /* requests in one message */
#define LINK_TOKENS_MAX       4096  /* tokens of one request in one message */
#define LINK_NOTICES_MAX      256   /* ends of requests that have no object (any more) */

enum worker_owner_kind {
    WORKER_OWNS_REQUEST = 1,
    WORKER_OWNS_EXPORT = 2,
};

/* Whom events of a sequence or of a transfer belong to. */
struct worker_owner {
    enum worker_owner_kind kind;
};

struct worker_candidate {
    char target[WORKER_TARGET_BYTES];
    uint32_t matched_blocks;
};

struct worker_import {
    struct worker_request *request;
    uint8_t state;
    bool active;    /* an import was begun for this request */
    bool ask_open;  /* env.ask_open was called and the stream has not ended */
    bool sent_seen; /* the candidate has said Sent */
    struct td_timer timer;
    struct worker_candidate candidates[WORKER_CANDIDATES_MAX];
    uint32_t candidate_count;
    uint32_t candidate;       /* the present one */
    struct td_list pair_node; /* among a pair's waiting imports, in PAIRING only */

    /* the present ask; the peer's particulars are copied from the pair, which may go before it */
    uint64_t ask; /* number, for env.ask_* */
    uint64_t peer;
    char transport[8];
    char lanes[KVT_LANES_TEXT_BYTES];
    struct td_u128 transfer;
    bool transfer_live; /* EXPECT was sent and the transfer has not ended */
    uint8_t mac_key[TD_MAC_KEY_BYTES];
    uint32_t lease_ms;    /* granted */
    uint32_t sent_blocks; /* as the candidate last said */
    struct td_timer renew;

    struct engine_block *blocks; /* reserved, in order, tail included */
    uint32_t block_count;
    uint32_t cached_blocks;
    uint64_t started_ns;
    uint64_t accepted_ns;
};

struct worker_request {
    struct worker_owner owner; /* must be first */
    struct worker_core *core;
    struct td_u128 id;
    uint64_t sequence;
    uint8_t state;
    struct td_timer timer;
    uint64_t deadline_ns;

    /* consumer: a link, or a local client */
    struct worker_link *link;
    uint64_t router_epoch; /* 0: a local client's */
    struct td_list link_node;
    struct td_list dirty_node;
    worker_update_fn update;
    void *update_context;

    /* the prompt, kept while it may still be asked for */
    struct engine_submit submit; /* tokens and biases inside until SUBMIT */
    uint32_t *tokens;            /* a copy, for the ask */
    uint32_t token_count;
    uint32_t tokens_received;

    /* the output */
    uint32_t *output;
    uint32_t output_count;
    uint32_t output_capacity;
    uint32_t output_sent; /* next index for the consumer */
    bool end_sent;
    struct front_result result;
    struct worker_import import;
};

/* An end to report for a request that has no object (refused, or unknown). */
struct worker_notice {
    struct td_u128 id;
    enum front_finish finish;
    td_status_t status;
    uint32_t retry_after_ms;
    char message[WORKER_REASON_BYTES];
};

struct worker_link {
    struct worker_core *core;
    void *handle;
    struct td_list node;
    uint64_t router_epoch; /* 0 until Hello */
    bool hello_owed;       /* HelloBack is to be sent */
    struct td_list requests;
    struct td_list dirty;
    struct worker_notice notices[LINK_NOTICES_MAX];
    uint32_t notice_count;

    /* the message being sent */
    Td__GenerateOut out;
    Td__HelloBack hello;
    Td__StepUpdates updates;
    Td__Update update[LINK_UPDATES_MAX];
    Td__Update *update_pointers[LINK_UPDATES_MAX];
    Td__Stages stages[LINK_UPDATES_MAX];
    Td__KvTraffic kv[LINK_UPDATES_MAX];
    struct worker_notice sending[LINK_UPDATES_MAX];
};

struct worker_export {
    struct worker_owner owner; /* must be first */
    struct worker_core *core;
    void *handle; /* NULL: the stream has ended */
    uint64_t sequence;
    struct td_u128 transfer;
    struct td_u128 request; /* label */
    uint64_t peer;          /* the asker's epoch */
    uint8_t state;
    bool sending;          /* a SEND was given to the transfer core, and it has not ended */
    struct td_timer timer; /* the lease */
    struct td_timer heartbeat;
    uint32_t lease_ms;
    uint32_t skip_blocks;
    uint32_t token_count;
    uint32_t computed_tokens;
    uint32_t blocks_sent; /* handed to the transfer core */
    uint32_t blocks_gone; /* and taken by the asker */
    uint64_t bytes_sent;
    uint32_t cached_tokens;
    uint32_t queue_us;
    uint32_t prefill_us;
    td_status_t status; /* why it was stopped */
    char reason[WORKER_REASON_BYTES];
};

struct worker_pair {
    struct worker_core *core;
    uint64_t number; /* for env.pair */
    char target[WORKER_TARGET_BYTES];
    uint8_t state;
    struct td_timer timer;
    uint64_t epoch; /* of the peer, once it replied */
    char transport[8];
    bool is_left_out[WORKER_TRANSPORTS_MAX]; /* our transports that did not connect to it */
    char lanes[KVT_LANES_TEXT_BYTES];
    char reason[WORKER_REASON_BYTES]; /* why it failed */
    struct td_list node;
    struct td_list waiting; /* imports, by pair_node */
    uint8_t *address;       /* of the peer, between reply and join */
    size_t address_bytes;
};

/*
 * A peer incarnation that the transfer core was told of. Each PEER_ADD is answered by exactly one
 * PEER_LOST; while an earlier one of the same epoch is still owed, news are about that one.
 */
struct worker_peer {
    uint64_t epoch;
    uint32_t lost_owed; /* PEER_ADDs without their PEER_LOST */
    bool dropped;       /* PEER_DROP was sent for the newest */
    struct td_list node;
};

/* One numbered message of block events. */
struct announce_entry {
    uint64_t sequence; /* 0: empty */
    struct td_u128 *stored;
    uint32_t stored_count;
    struct td_u128 *removed;
    uint32_t removed_count;
};

struct announce_log {
    struct announce_entry entries[ANNOUNCE_LOG_MESSAGES]; /* by sequence % length */
    uint64_t last;         /* sequence of the newest message; 0: none yet */
    struct td_u128 digest; /* XOR of all cached keys as of last */
};

struct announce_snapshot {
    uint64_t sequence;
    struct td_u128 *keys;
    uint32_t key_count;
    uint32_t references; /* announcers that still send it */
};

struct worker_announcer {
    struct worker_core *core;
    void *handle;
    struct td_list node;
    bool connected;
    bool registration_owed;
    bool draining_owed;
    bool load_owed;
    bool snapshot_wanted; /* asked for, and not yet taken */
    struct announce_snapshot *snapshot;
    uint32_t snapshot_part;
    uint64_t next_sequence; /* of block events */

    /* the message being sent */
    Td__AnnounceIn out;
    Td__Registration registration;
    Td__Versions versions;
    Td__ContentIdentity content;
    Td__Geometry geometry;
    char *models[WORKER_MODELS_MAX];
    Td__BlockEvents events;
    Td__Snapshot part;
    Td__LoadReport load;
    Td__Draining draining;
};

struct worker_core {
    struct worker_identity identity;
    struct worker_policy policy;
    struct worker_times times;
    struct worker_counts counts;
    struct worker_env env;
    uint64_t now_ns; /* of the call being handled */
    struct td_timers timers;

    struct td_list links;
    uint32_t link_count;
    struct td_map requests;  /* by id */
    struct td_map sequences; /* by number: struct worker_owner */
    struct td_map transfers; /* by id: struct worker_owner */
    struct td_map asks;      /* by number: struct worker_import */
    uint32_t import_count;
    uint32_t export_count;
    struct td_list pairs;
    uint32_t pair_count;
    struct td_list peers;
    uint32_t peer_count;
    uint64_t last_number; /* sequences, pairs and asks draw from it */

    struct td_list announcers;
    uint32_t announcer_count;
    struct announce_log log;
    struct td_timer load_timer;
    bool snapshot_requested; /* of the engine */

    struct engine_load load;
    uint64_t prefill_rate;   /* tokens per second, smoothed */
    uint64_t decode_step_ns; /* smoothed */
    uint64_t admitted;
    bool draining;
    uint64_t drain_deadline_ns;
    struct worker_counters counters;

    Td__ContentIdentity pair_content; /* of the reply being given */
    Td__Geometry pair_geometry;
    Td__TransportAddress pair_address;
    char pair_reason[WORKER_REASON_BYTES];
};

/* core.c */
uint64_t worker_number_next(struct worker_core *core);
void worker_timer_after(struct worker_core *core, struct td_timer *timer, uint32_t delay_ms);
void worker_engine_simple(struct worker_core *core, enum engine_command_kind kind,
                          uint64_t sequence);
void worker_engine_release(struct worker_core *core, uint64_t sequence, bool quarantine);
void worker_content_fill(const struct worker_core *core, Td__ContentIdentity *out);
void worker_geometry_fill(const struct worker_core *core, Td__Geometry *out);
uint32_t worker_us(uint64_t ns);
void worker_quarantined(struct worker_core *core);

/* request.c */
struct worker_request *request_new(struct worker_core *core, struct td_u128 id,
                                   uint32_t token_count, td_status_t *status_out);
/* Draws the engine's sequence number; before REQUEST_ON_COMPLETE. TD_LIMIT, TD_NO_MEMORY. */
td_status_t request_take_sequence(struct worker_request *request) TD_MUST_USE;
void request_step(struct worker_request *request, enum request_event event);
void request_on_engine(struct worker_request *request, struct engine_event *event);
void request_tokens(struct worker_request *request, const struct engine_token *token);
void request_flush(struct worker_request *request); /* hands new output to a local consumer */
void request_refuse(struct worker_request *request, td_status_t status, const char *reason);
void request_free(struct worker_request *request);

/* link.c */
void link_dirty(struct worker_request *request);
void link_attach(struct worker_link *link, struct worker_request *request);
void link_detach(struct worker_request *request);
void link_notice(struct worker_link *link, struct td_u128 id, enum front_finish finish,
                 td_status_t status, const char *message);

/* import.c */
void import_start(struct worker_request *request);
void import_step(struct worker_import *import, enum import_event event);
void import_on_reserved(struct worker_import *import, struct engine_event *event);
void import_on_kvt(struct worker_import *import, struct kvt_event *event);
void import_on_pair_up(struct worker_import *import, const struct worker_pair *pair);
void import_on_pair_failed(struct worker_import *import, const char *reason);
void import_free(struct worker_import *import);

/* export.c */
void export_on_engine(struct worker_export *export, struct engine_event *event);
void export_on_kvt(struct worker_export *export, struct kvt_event *event);
void export_expire(struct worker_export *export); /* as if its lease had run out */
void export_free(struct worker_export *export);

/* pairs.c */
/* The pair with target, begun if there is none; NULL: too many peers. */
struct worker_pair *pair_for(struct worker_core *core, const char *target);
/* Tells the import up or failed: at once, or when it is known. */
void pair_wait(struct worker_pair *pair, struct worker_import *import);
/* The peer at target says that it does not know this incarnation. */
void pair_stale(struct worker_core *core, const char *target, uint64_t epoch);
void pair_step(struct worker_pair *pair, enum pair_event event);
struct worker_peer *peer_find(struct worker_core *core, uint64_t epoch);
void pairs_on_kvt(struct worker_core *core, struct kvt_event *event);
void pairs_close(struct worker_core *core);

/* announce.c */
void announce_on_cache(struct worker_core *core, struct engine_event *event);
void announce_on_snapshot(struct worker_core *core, struct engine_event *event);
void announce_on_load(struct worker_core *core, const struct engine_load *load);
void announce_init(struct worker_core *core);
void announce_close(struct worker_core *core);

#endif
