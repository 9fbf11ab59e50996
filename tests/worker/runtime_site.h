/*
 * runtime_site.h: real workers in one process, on one loop, over unix sockets, and those who talk to them:
 * a router, a peer and a scheduler that a test plays with plain RPC.
 *
 * Nothing here waits for time: a test runs the loop until a condition holds, and fails after a minute.
 */
#ifndef TANDEM_TESTS_WORKER_RUNTIME_SITE_H
#define TANDEM_TESTS_WORKER_RUNTIME_SITE_H

#include <stdbool.h>

#include "lib/base/arena.h"
#include "lib/base/list.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "proto/tandem.pb-c.h"
#include "tests/support/support.h"
#include "worker/internal.h"
#include "worker/runtime_internal.h"

#define HEARD_MAX        64
#define HEARD_TOKENS_MAX 600
#define PROMPT_MAX       600

/* ---- workers ---- */

struct site;

struct station {
    struct site *site;
    struct td_arena arena;
    struct worker_options options;
    struct api_limits limits;
    struct worker_runtime *runtime; /* NULL: not open */
    int stops;                      /* how often `stopped` came */
    int exit_status;
    int hangs; /* how often the runtime said that the process must end */
    char listen[96];
};

struct site {
    struct net_loop *loop;
    struct net_timer watchdog;
    const char *awaited; /* what the watchdog says did not happen */
    struct rpc *rpc;
    char folder[32];
    int descriptors; /* before anything was opened */
    struct station prefill;
    struct station decode;
};

/* A group's set-up: what libraries open once and for good is open afterwards. */
int site_warm_up(void **state);

void site_open(struct site *site);
/* Closes stations that were stopped; fails if descriptors are left over. */
void site_close(struct site *site);

/* Runs the loop until the condition holds. The loop looks now and then: it has to stay true. */
#define site_until(site, holds, ctx) site_until_named((site), (holds), (ctx), #holds)
void site_until_named(struct site *site, bool (*holds)(void *ctx), void *ctx, const char *name);
/* Runs the loop for some turns: for what must not happen there is nothing to wait for. */
void site_turns(struct site *site, int turns);

/* Opens the station's arena and fills its options. */
void station_parse(struct station *station, const char *const *flags);
/* Flags are those of the binaries, ended by NULL; map is the only transport unless they say otherwise. */
td_status_t station_try(struct site *site, struct station *station, const char *const *flags,
                        struct td_error *error);
void station_open(struct site *site, struct station *station, const char *const *flags);
/* Whether no block, request, import or export is in use any more. */
bool station_is_at_rest(void *station);
bool station_has_stopped(void *station);
/* Waits for its rest, drains it, waits for its end, closes it. */
void station_end(struct station *station);
/* Closes what has stopped by itself. */
void station_close(struct station *station);
struct worker_gauges station_gauges(const struct station *station);
const struct worker_counters *station_counters(const struct station *station);
uint64_t station_epoch(const struct station *station);

/* Stands between the runtime and the transfer thread's ring: true makes it look full. */
extern bool ring_is_full;

/* What --device gpu opens, and its pool for transfers; NULL unless the test says what. */
extern td_status_t (*site_open_gpu)(uint32_t index, struct cuda_device **device_out,
                                    struct td_error *error);
extern td_status_t (*site_open_gpu_pool)(const struct kvt_cuda_config *config,
                                         struct kvt_device **device_out, struct td_error *error);
/* Called, if there is one, where the runtime says that the process must end; in a test it goes on. */
extern void (*site_hung)(void);

/*
 * Holds all engines before their next step, at once or after so many steps that make tokens, so that what
 * a test does next happens in the middle of a request; and lets them go on. Only a hold that was set
 * before the request holds it surely: a small model is done before the loop hears of the first token.
 */
void engines_hold(void);
void engines_hold_after(uint32_t tokens);
void engines_go_on(void);
/* The state of a request, or REQUEST_GONE. */
struct heard;
uint8_t request_state(const struct station *station, const struct heard *heard);

/* ---- streams: one RPC call with a queue ---- */

struct stream {
    struct site *site;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: closed */
    const ProtobufCMessageDescriptor *sends;
    const ProtobufCMessageDescriptor *hears;
    struct td_list queue;
    bool close_wanted; /* half-closes when the queue is empty */
    void (*on_message)(void *ctx, const ProtobufCMessage *message);
    void *ctx;
    int messages;
    td_status_t status; /* of the close */
    char detail[256];
};

void stream_open(struct stream *stream, struct site *site, const char *target, const char *path);
void stream_send(struct stream *stream, const ProtobufCMessage *message);
/* Bytes that are no message of any kind here. */
void stream_send_nonsense(struct stream *stream);
void stream_half_close(struct stream *stream);
/* Cancels if it is open, and closes the channel. */
void stream_close(struct stream *stream);
bool stream_is_closed(void *stream);
bool stream_has_message(void *stream);

/* ---- a router ---- */

struct heard {
    struct td_u128 id;
    uint32_t tokens[HEARD_TOKENS_MAX];
    uint32_t count;
    bool gap; /* an index that did not follow */
    int updates;
    int ends;
    Td__Finish finish;
    uint32_t code;
    char message[WORKER_REASON_BYTES];
    char transport[128];
    char fallback[WORKER_REASON_BYTES];
    uint32_t remote_blocks;
    uint32_t cached_tokens;
};

struct router {
    struct station *station;
    struct stream stream;
    bool greeted;
    bool keeps_ends; /* does not acknowledge */
    struct heard heard[HEARD_MAX];
    int heard_count;
};

struct start {
    uint32_t prompt_tokens;
    uint32_t prompt_seed; /* another prompt */
    uint32_t max_new_tokens;
    uint32_t send_tokens; /* fewer than prompt_tokens: it stays incomplete; 0: all */
    const char *prefill[3];
    void (*spoil)(Td__Start *start); /* before it is sent */
};

/* Opens the link and waits for the answer to Hello. */
void router_open(struct router *router, struct station *station);
/* The same router on a new link, after stream_close; not greeted yet. */
void router_reopen(struct router *router);
void router_hello(struct router *router, uint64_t worker_epoch);
void router_close(struct router *router);
struct heard *router_start(struct router *router, const struct start *start);
void router_cancel(struct router *router, const struct heard *heard);
void router_attach(struct router *router, const struct heard *heard, uint32_t next_index);
void router_ended(struct router *router, const struct heard *heard);
bool router_is_greeted(void *router);
/* Starts, waits for the end, and returns it. */
struct heard *router_ask(struct router *router, const struct start *start);
bool heard_token(void *heard);
bool heard_end(void *heard);
/* Starts, with the engines held after the first token; nothing else runs meanwhile. */
struct heard *router_start_and_hold(struct router *router, const struct start *start);
/* Runs the loop until the worker cancels the request, with the engines held. */
void router_until_canceling(struct router *router, const struct heard *heard);

/* ---- a peer: pairs and asks as a decode worker does ---- */

struct pair_answer {
    bool done;
    td_status_t status;
    Td__PairReply *reply;
};

/*
 * A request that the station would accept, with the address of a transport that does not exist; as long as
 * mute_listener's descriptor is open, one that takes connections and never answers. pair_request_free
 * frees it.
 */
int mute_listener(void);
Td__PairRequest *pair_request_new(const struct station *station, uint64_t epoch);
void pair_request_free(Td__PairRequest *request);
void pair_ask(struct site *site, const char *target, const Td__PairRequest *request,
              struct pair_answer *answer_out);
void pair_answer_free(struct pair_answer *answer);

struct asker {
    struct stream stream;
    int accepted;
    int progress;
    int sent;
    int refused;
    uint32_t code;
    char message[WORKER_REASON_BYTES];
};

void asker_open(struct asker *asker, struct station *station);
/* An ask that the station would accept from this epoch. */
void asker_ask(struct asker *asker, struct station *station, uint64_t epoch, uint32_t tokens,
               void (*spoil)(Td__Ask *ask));
void asker_renew(struct asker *asker);
bool asker_is_accepted(void *asker);

/* ---- a prefill worker that a test plays: pairs as the real one, and then does what it is told ---- */

enum holder_manner {
    HOLDER_SILENT_PAIR, /* does not answer the handshake */
    HOLDER_REFUSES_PAIR,
    HOLDER_SILENT_ASK,
    HOLDER_REFUSES_ASK,
    HOLDER_CLOSES_ASK,
    HOLDER_SILENT_LATER, /* accepts */
    HOLDER_CLOSES_LATER, /* accepts */
    HOLDER_TALKS_NONSENSE,
};

struct holder {
    struct site *site;
    struct rpc_server *server;
    enum holder_manner manner;
    char address[96];
    int pairs;
    int asks;
    int renews;
    int closes; /* of asks, by the asker */
};

void holder_open(struct holder *holder, struct site *site, enum holder_manner manner);
void holder_close(struct holder *holder);

/* ---- a scheduler ---- */

struct watcher {
    struct site *site;
    struct rpc_server *server;
    struct rpc_call *call;
    char address[96];
    int streams;
    int registrations;
    int loads;
    int snapshots;
    int events;
    int drainings;
    char target[WORKER_TARGET_BYTES];
    bool ready; /* of the last load */
};

void watcher_open(struct watcher *watcher, struct site *site);
void watcher_close(struct watcher *watcher);
void watcher_ask_for_snapshot(struct watcher *watcher);

#endif
