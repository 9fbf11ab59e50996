/*
 * runtime.h: an engine core with its backend on a thread of its own.
 *
 * Commands go in through one ring and events come out through another; each has one producer and
 * one consumer. The thread sleeps while there is nothing to compute. One thread of the owner's (the
 * loop) pushes and pops.
 *
 * Nothing waits for anybody: when the ring of events is full, events pile up on the engine's side
 * until the owner pops, and the engine starts no further step until they have left. When the ring of
 * commands is full, the push says so and the owner keeps the command; a wake follows when there is
 * room. So neither side can stop the other for good.
 */
#ifndef TANDEM_ENGINE_RUNTIME_H
#define TANDEM_ENGINE_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/core.h"

struct engine_runtime_config {
    struct engine_core_config core;
    struct engine_backend *backend; /* moves with TD_OK: closed by engine_runtime_close */
    const struct engine_kv *kv;     /* the owner's; outlives the runtime */
    size_t ring_capacity;
    /* Called on the engine thread when there are events to pop, or room for commands, and the owner
     * may be asleep. */
    void (*wake)(void *impl);
    void *wake_impl;
};

struct engine_runtime;
struct td_histogram;

/* Starts the thread. On failure the backend stays the caller's. */
td_status_t engine_runtime_open(const struct engine_runtime_config *config,
                                struct engine_runtime **runtime_out,
                                struct td_error *error) TD_MUST_USE;

/*
 * Hands over a command: what it owns moves to the runtime with TD_OK. TD_LIMIT: the ring is full, and
 * the command stays the caller's; a wake follows when there is room again. TD_NO_MEMORY.
 */
td_status_t engine_runtime_push(struct engine_runtime *runtime,
                                const struct engine_command *command) TD_MUST_USE;

/*
 * Takes the oldest event, which is the caller's to engine_event_fini; false if there is none. After
 * false, wake is called for the next event. The tokens of a STEP event are lent until the next
 * pop.
 */
bool engine_runtime_pop(struct engine_runtime *runtime, struct engine_event *event_out);

/* When the engine thread's present turn began, of the clock of td_now_ns; 0: there is none. Any thread. */
uint64_t engine_runtime_turn_started_ns(const struct engine_runtime *runtime);

/*
 * How long the engine thread has been at its present turn: commands, planning, computing, applying. 0 when it
 * sleeps or waits for the owner. A figure that only grows means that the backend, or the core, hangs. Any
 * thread.
 */
uint64_t engine_runtime_step_age_ns(const struct engine_runtime *runtime);

/*
 * From now on each step that follows another tells how long the engine took in between, in nanoseconds: what the step
 * before gave was taken over, commands and deadlines were looked at, the next one was planned. What the backend takes to
 * begin a step and to bring its results is not in it. Where there was nothing to compute in between nothing is told;
 * where events waited for the owner, that is in it. The histogram outlives the runtime. Any thread.
 */
void engine_runtime_measure_gaps(struct engine_runtime *runtime, struct td_histogram *gaps);

/*
 * Why the backend can never compute again, or NULL: see engine_backend_ops.lost. Then every step fails, and the process
 * had better end, so that its supervisor starts another; a wake follows. Sequences that were computed then have
 * failed before that. Any thread; the text lives as long as the runtime.
 */
const char *engine_runtime_lost(const struct engine_runtime *runtime);

/*
 * Begins to stop: every sequence ends (engine_core_drain: close transports before), its events can be
 * popped, and a wake follows when that is over. Commands are still taken, and counted as stray.
 */
void engine_runtime_stop(struct engine_runtime *runtime);

/* Whether engine_runtime_stop has run its course, and every event is in the ring. */
bool engine_runtime_has_stopped(const struct engine_runtime *runtime);

/* Stops if that was not done, waits for the thread, drops events that were not popped, and frees all. */
void engine_runtime_close(struct engine_runtime *runtime);

#endif
