/*
 * network.h: streams and calls between processes, as RPC gives them.
 *
 * A stream has two ends. Within one direction order holds; a broken stream loses what was on its way,
 * and each end learns of the break in its own time. Messages are bytes: whoever sends packs, whoever
 * receives unpacks.
 */
#ifndef TANDEM_SIM_NETWORK_H
#define TANDEM_SIM_NETWORK_H

#include "sim/world.h"

enum sim_stream_kind {
    SIM_GENERATE = 0, /* router -> worker */
    SIM_ASK,          /* decode -> prefill */
    SIM_ANNOUNCE,     /* worker -> scheduler */
    SIM_FLEET,        /* router -> scheduler */
    SIM_STREAM_KINDS,
};

enum sim_side {
    SIM_CLIENT = 0,
    SIM_SERVER = 1,
};

struct sim_end {
    struct sim_node *node;
    uint32_t life;
    bool open;          /* its owner is told of messages and of the end */
    bool pumping;       /* a pull is on its way */
    bool blocked;       /* the last pull left something behind: the window was full */
    uint32_t in_flight; /* messages that were pulled and have not arrived */
    uint64_t last_ns;   /* arrival of the last message that was sent to this end */
    void *object;       /* the owner's */
    uint64_t number;    /* the owner's */
};

struct sim_stream {
    struct td_list node;
    struct sim *sim;
    uint64_t id;
    enum sim_stream_kind kind;
    struct sim_node *target; /* the server's process, whoever it is by then; NULL: no such name */
    struct sim_end end[2];
    bool is_cut;   /* what is on its way is lost */
    bool is_stale; /* the client means an incarnation that is no more */
};

/* What one side of one kind of stream does. */
struct sim_end_ops {
    /* Server: takes it on and sets its end's object. Client: it stands; NULL: does not care. */
    td_status_t (*begin)(struct sim_stream *stream);
    /* The next message of this side, packed; NULL: none. Missing where messages are only pushed. */
    uint8_t *(*pull)(struct sim_stream *stream, size_t *length_out);
    /* A message has come to this side. */
    void (*receive)(struct sim_stream *stream, const uint8_t *bytes, size_t length);
    /* The stream has ended, and this side did not end it. */
    void (*closed)(struct sim_stream *stream, td_status_t status);
};

/* Defined with the process that has that end: router.c, scheduler.c, worker.c. */
extern const struct sim_end_ops sim_generate_router;
extern const struct sim_end_ops sim_generate_worker;
extern const struct sim_end_ops sim_ask_decode;
extern const struct sim_end_ops sim_ask_prefill;
extern const struct sim_end_ops sim_announce_worker;
extern const struct sim_end_ops sim_announce_scheduler;
extern const struct sim_end_ops sim_fleet_router;
extern const struct sim_end_ops sim_fleet_scheduler;

struct sim_stream *sim_stream_open(struct sim_node *client, enum sim_stream_kind kind,
                                   const char *target, void *object, uint64_t number);
/* Sends bytes, which move. */
void sim_stream_send(struct sim_stream *stream, enum sim_side from, uint8_t *bytes, size_t length);
/* Something can be pulled from this side. */
void sim_stream_ready(struct sim_stream *stream, enum sim_side side);
/* This side ends the stream: it hears nothing more; the other side gets everything, then status. */
void sim_stream_close(struct sim_stream *stream, enum sim_side side, td_status_t status);
/* The network breaks it. */
void sim_stream_break(struct sim_stream *stream);
/* An incarnation has died: its streams break. */
void sim_streams_orphan(struct sim_node *node);
/* The open stream of that kind whose client end this is, or NULL. */
struct sim_stream *sim_stream_find(struct sim_node *client, enum sim_stream_kind kind,
                                   uint64_t number);
void sim_streams_free(struct sim *sim);

/* --- unary calls --- */

enum sim_call_kind {
    SIM_PAIR = 0, /* decode -> prefill */
    SIM_PLACE,    /* router -> scheduler */
};

/* Carry a call out at its target: the packed reply. */
uint8_t *sim_pair_serve(struct sim_node *server, const uint8_t *bytes, size_t length,
                        size_t *length_out);
uint8_t *sim_place_serve(struct sim_node *server, const uint8_t *bytes, size_t length,
                         size_t *length_out);
/* The answer, exactly once: bytes is NULL if the call failed with status. */
void sim_pair_answered(struct sim_node *caller, uint64_t number, const uint8_t *bytes,
                       size_t length, td_status_t status);
void sim_place_answered(struct sim_node *caller, uint64_t number, const uint8_t *bytes,
                        size_t length, td_status_t status);

/* bytes move. */
void sim_call_start(struct sim_node *caller, enum sim_call_kind kind, const char *target,
                    uint64_t number, uint8_t *bytes, size_t length, uint32_t deadline_ms);
/* Nobody wants the answer any more. */
void sim_call_cancel(struct sim_node *caller, enum sim_call_kind kind, uint64_t number);
void sim_calls_free(struct sim *sim);

#endif
