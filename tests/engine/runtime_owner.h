/*
 * runtime_owner.h: an engine on its thread, over the modelled backend, and an owner of it for tests, which does what a loop
 * does: it pops until there is nothing, pushes what it has kept, and sleeps until it is woken.
 *
 * Every event is checked as it comes. A wake that is missing ends a test after a minute. The backend can be held, made to
 * fail, and counts.
 */
#ifndef TANDEM_TESTS_ENGINE_RUNTIME_OWNER_H
#define TANDEM_TESTS_ENGINE_RUNTIME_OWNER_H

#include "tests/support/support.h"

#include <semaphore.h>
#include <stdatomic.h>

#include "engine/modelled/modelled.h"
#include "engine/runtime.h"

#define SEQUENCES_MAX 600
#define OUTPUT_MAX    512
#define PENDING_MAX   2048

/* The backend: another one behind a gate. */
struct gate {
    struct engine_backend backend;
    struct engine_backend *inner;
    atomic_uint runs;
    atomic_uint failures; /* the next runs fail */
    atomic_bool holds;    /* each run posts entered and waits for go */
    sem_t entered;
    sem_t go;
    atomic_bool is_lost;
    atomic_bool keeps; /* finish waits for kept */
    sem_t kept;
    struct engine_result result; /* between begin and finish */
};

/* What was said of one sequence. */
struct record {
    bool submitted;
    bool finished;
    struct engine_submit submit; /* tokens are the record's own */
    uint32_t output[OUTPUT_MAX];
    uint32_t output_count;
    struct engine_finished end;
};

struct owner {
    struct modelled_config model;
    struct engine_kv kv;
    struct gate *gate;
    struct engine_runtime *runtime;
    size_t ring_slots;
    sem_t woken;
    struct record *records; /* by sequence id */
    uint32_t finished_count;
    uint32_t submitted_count;
    uint32_t step_events;
    uint32_t events;
    bool is_silent; /* answers no event: whatever waits for a release goes on waiting */
    struct engine_load load;
    struct engine_command pending[PENDING_MAX]; /* those for which the ring had no room */
    uint32_t pending_count;
    uint32_t pending_first;
};

struct owner_config {
    struct modelled_config model;
    uint32_t block_count;
    size_t ring_capacity;
    bool is_halved;
};

/* A vocabulary of 61, blocks of 4 tokens, 16 rows and 8 outputs, rings of 256. */
extern const struct owner_config owner_small;

struct gate *gate_open(const struct modelled_config *model, const struct engine_kv *kv);
void owner_on_wake(void *owner);
struct owner *owner_open(const struct owner_config *config);
void owner_close(struct owner *owner);

/* Pushes what the ring had no room for. */
void owner_flush(struct owner *owner);
void owner_send(struct owner *owner, const struct engine_command *command);
void owner_send_kind(struct owner *owner, enum engine_command_kind kind, uint64_t id);
/* One event; false if there is none. */
bool owner_pump(struct owner *owner);
void owner_sleep(struct owner *owner);
void owner_wait_for_finished(struct owner *owner, uint32_t count);

/* A prompt that shares its beginning with every third other. */
struct engine_submit owner_request(struct owner *owner, uint64_t id, enum engine_goal goal,
                                   uint32_t tokens, uint32_t max_new_tokens);
void owner_submit(struct owner *owner, uint64_t id, const struct engine_submit *request);
/* Goals, lengths and sampling by the id. */
void owner_submit_mixed(struct owner *owner, uint64_t id);
/* Whether the sequence has said what the model would. */
void owner_check(struct owner *owner, uint64_t id);

/* While the gate holds: waits until a step has begun. */
void owner_wait_until_entered(struct owner *owner);
void owner_let_go(struct owner *owner);

#endif
