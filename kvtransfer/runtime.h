/*
 * runtime.h: a transfer core with its transports on a thread of its own.
 *
 * Commands go in through one ring and events come out through another; each has one producer and
 * one consumer. The thread sleeps in epoll on its transports' descriptors and its command ring; it
 * never polls. One thread of the owner's pushes and pops.
 *
 * A program that uses ucx calls kvt_ucx_prepare_process first thing in main.
 */
#ifndef TANDEM_KVTRANSFER_RUNTIME_H
#define TANDEM_KVTRANSFER_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/core.h"
#include "kvtransfer/kvtransfer.h"
#include "kvtransfer/nccl.h"
#include "kvtransfer/ucx.h"
#include "lib/base/status.h"

struct kvt_runtime_config {
    uint64_t epoch;
    struct kvt_memory memory;
    size_t block_bytes;
    struct kvt_limits limits;
    bool use_ucx; /* with memory.device and use_ucxhost it is left out where UCX cannot */
    struct kvt_ucx_config ucx;
    bool use_map;     /* needs memory.fd, or memory.device */
    bool use_maphost; /* through the host's memory, by map or by ucx; both need memory.device */
    bool use_ucxhost;
    bool use_nccl; /* needs memory.device */
    struct kvt_nccl_config nccl;
    size_t ring_capacity;
    /* Called on the transfer thread when there are events to pop and the owner may be asleep. */
    void (*wake)(void *impl);
    void *wake_impl;
};

struct kvt_runtime;

/* Starts the thread and returns when its transports are open, or why they are not. */
td_status_t kvt_runtime_open(const struct kvt_runtime_config *config,
                             struct kvt_runtime **runtime_out, struct td_error *error) TD_MUST_USE;

/*
 * Hands over a command: what it owns moves to the runtime with TD_OK. TD_LIMIT: the ring is full, and
 * the command stays the caller's; a wake follows when there is room again.
 */
td_status_t kvt_runtime_push(struct kvt_runtime *runtime,
                             const struct kvt_command *command) TD_MUST_USE;

/*
 * Takes the oldest event, which is the caller's to kvt_event_fini; false if there is none. After
 * false, wake is called for the next event.
 */
bool kvt_runtime_pop(struct kvt_runtime *runtime, struct kvt_event *event_out);

/* This side's address for a transport, for pairing. TD_NOT_FOUND: it is not in use. Any thread. */
td_status_t kvt_runtime_address(const struct kvt_runtime *runtime, const char *transport,
                                const uint8_t **address_out, size_t *length_out) TD_MUST_USE;

/* Name and version of the library behind a transport, or NULL. Any thread. */
const char *kvt_runtime_library(const struct kvt_runtime *runtime, const char *transport);

/* Any thread, until close. */
const struct kvt_stats *kvt_runtime_stats(const struct kvt_runtime *runtime);

/*
 * When the thread's present turn began, of the clock of td_now_ns; 0: it sleeps. A turn waits for nobody but a GPU, for
 * hashes and for copies that must have ended: one that does not end means that this hangs. Any thread.
 */
uint64_t kvt_runtime_turn_started_ns(const struct kvt_runtime *runtime);

/*
 * Begins to stop: all transfers end, with events, within stop_ms + cut_ms; wake is called when that is
 * over. Commands are still taken and answered with TD_CANCELED.
 */
void kvt_runtime_stop(struct kvt_runtime *runtime);

/* Whether kvt_runtime_stop has run its course: nothing is alive, and every event is in the ring. */
bool kvt_runtime_has_stopped(const struct kvt_runtime *runtime);

/*
 * Begins to close: stops if that was not done, and waits until the thread has closed its transports, at most so long.
 * False: it has not, for a GPU that stands still holds it, or a library; kvt_runtime_close waits for it as long as that
 * takes. After this nothing but it and kvt_runtime_close may be called.
 */
bool kvt_runtime_ends_within(struct kvt_runtime *runtime, uint64_t within_ms);

/*
 * Stops if that was not done, waits for the thread, drops events that were not popped, and frees the
 * runtime. Returns how many transfers could not be made quiet: unless it is 0, the memory of the pool
 * was given up to them until the transports were closed.
 */
size_t kvt_runtime_close(struct kvt_runtime *runtime);

#endif
