/*
 * transfer_side.h: one of the two processes of a measured transfer. For transfer_run.c alone.
 *
 * A side has one pool, as an engine would open it, and one transfer runtime per lane, all at once, so
 * that lanes can be measured in turn. Sides tell each other their addresses and what to do next over
 * a socket pair.
 */
#ifndef TANDEM_BENCH_TRANSFER_SIDE_H
#define TANDEM_BENCH_TRANSFER_SIDE_H

#include <stdint.h>

#include "engine/backend.h"
#include "kvtransfer/runtime.h"
#include "lib/base/status.h"

enum bench_lane { BENCH_LANE_MAP, BENCH_LANE_UCX_SHM, BENCH_LANE_UCX_TCP, BENCH_LANE_COUNT };

#define BENCH_LANE_BIT(lane) (1u << (lane))
#define BENCH_LANES_ALL      (BENCH_LANE_BIT(BENCH_LANE_COUNT) - 1)

struct bench_side_config {
    uint64_t epoch;
    uint64_t peer_epoch;
    uint32_t block_count; /* per transfer */
    uint32_t block_bytes;
    unsigned lanes;        /* which are used, as BENCH_LANE_BITs; equal on both sides */
    const char *interface; /* of UCX over TCP; NULL: its own default */
    int socket_fd;
};

struct bench_side {
    struct bench_side_config config;
    struct engine_kv kv;
    uint32_t slot_count; /* a power of two, several transfers large */
    int wake_fd;
    struct kvt_runtime *runtimes[BENCH_LANE_COUNT];
    char lanes[BENCH_LANE_COUNT][KVT_LANES_TEXT_BYTES]; /* as PEER_UP named them */
};

const char *bench_lane_name(enum bench_lane lane);

/* Opens pool and runtimes and connects all lanes with the side at the other end of the socket. */
td_status_t bench_side_open(const struct bench_side_config *config, struct bench_side *side,
                            struct td_error *error) TD_MUST_USE;

/* Undoes bench_side_open, whatever it has come to. */
void bench_side_close(struct bench_side *side);

/* Slot of a block of a transfer: scattered, and elsewhere in every transfer. */
uint32_t bench_side_slot(const struct bench_side *side, uint32_t transfer, uint32_t block);

/* The receiver: waits until the sender has made its next transfer ready. */
td_status_t bench_side_await_ready(struct bench_side *side, struct td_error *error) TD_MUST_USE;

/* The receiver: asks for a transfer and returns its LANDED event, whose arrays are the caller's. */
td_status_t bench_side_receive(struct bench_side *side, enum bench_lane lane, uint32_t transfer,
                               struct kvt_event *landed_out, struct td_error *error) TD_MUST_USE;

/* The sender: serves what is asked for until the receiver hangs up. Its blocks are hashed before. */
td_status_t bench_side_serve(struct bench_side *side, struct td_error *error) TD_MUST_USE;

#endif
