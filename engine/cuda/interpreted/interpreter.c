/*
 * interpreter.c: the fibers of a block; see interpreter.h.
 *
 * All state is static: kernels take their shared memory from static variables too, so two blocks can never run at
 * once in a process. Not for use from several threads.
 */
#include "engine/cuda/interpreted/interpreter.h"

#include <assert.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "engine/cuda/interpreted/guard.h"

#define THREADS_MAX INTERPRETER_THREADS_MAX
#define WARP        32
#define STACK_BYTES ((size_t)64 << 10)

/*
 * Fibers begin as contexts; after that jumps are ten times faster, since they leave the signal mask alone. Sanitizers
 * know only contexts.
 */
struct fiber {
    ucontext_t context;
#ifndef TANDEM_SANITIZED
    jmp_buf place;
    bool is_begun;
#endif
    bool is_done;    /* with the present block */
    bool has_waited; /* in it, for earlier kernels */
};

/* Who waits together: the whole block, or one warp. */
struct meeting {
    uint32_t expected;
    uint32_t arrived;
    uint32_t round;
};

static struct {
    struct fiber scheduler;
    struct fiber fibers[THREADS_MAX];
    uint8_t *stacks;
    struct meeting block;
    struct meeting warps[THREADS_MAX / WARP];
    float values[THREADS_MAX];
    float results[THREADS_MAX / WARP]
                 [2]; /* by the round's last bit: who is slow still reads the other */
    /* By the round's last bit, as above. */
    _Alignas(16) uint8_t given[THREADS_MAX / WARP][2][WARP * INTERPRETER_GATHER_MAX];
    const struct interpreter_kernel *kernel;
    const void *args;
    bool has_moved; /* some thread got on since the scheduler last went round */
} state;

struct interpreter_place interpreter_now;

#ifdef TANDEM_SANITIZED
static __attribute__((noinline)) void change(struct fiber *from, struct fiber *to)
{
    swapcontext(&from->context, &to->context);
}
#else
static __attribute__((noinline)) void change(struct fiber *from, struct fiber *to)
{
    from->is_begun = true;
    if (_setjmp(from->place) != 0)
        return;
    if (to->is_begun)
        _longjmp(to->place, 1);
    setcontext(&to->context);
}
#endif

/* Lets the others go on; comes back when the scheduler says so. */
static void leave(uint32_t thread)
{
    change(&state.fibers[thread], &state.scheduler);
    interpreter_now.thread = thread;
}

void interpreter_yield(void)
{
    leave(interpreter_now.thread);
}

void interpreter_moved(void)
{
    state.has_moved = true;
}

/* Returns the round that ended. */
static uint32_t meet(struct meeting *meeting, void (*finish)(uint32_t warp, uint32_t round))
{
    uint32_t thread = interpreter_now.thread;
    uint32_t round = meeting->round;

    state.has_moved = true;
    if (++meeting->arrived == meeting->expected) {
        if (finish != NULL)
            finish(thread / WARP, round);
        meeting->arrived = 0;
        meeting->round++;
        return round;
    }
    while (meeting->round == round)
        leave(thread);
    state.has_moved = true;
    return round;
}

void interpreter_barrier(void)
{
    meet(&state.block, NULL);
}

static void open_guard(uint32_t warp, uint32_t round)
{
    (void)warp;
    (void)round;
    guard_open();
}

/* With a guard nobody goes on before all have come, or who is first would let the others in. */
void interpreter_await_earlier(void)
{
    uint32_t thread = interpreter_now.thread;

    if (guard_is_used() && !state.fibers[thread].has_waited)
        meet(&state.block, open_guard);
    state.fibers[thread].has_waited = true;
}

const void *interpreter_gather(const void *given, size_t bytes)
{
    uint32_t thread = interpreter_now.thread;
    struct meeting *meeting = &state.warps[thread / WARP];
    uint8_t *lanes = state.given[thread / WARP][meeting->round % 2];

    assert(bytes <= INTERPRETER_GATHER_MAX);
    memcpy(lanes + thread % WARP * bytes, given, bytes);
    meet(meeting, NULL);
    return lanes;
}

/* The tree of simt_warp_sum, as lane 0 sees it; all lanes get the same, since a + b = b + a. */
static void finish_sum(uint32_t warp, uint32_t round)
{
    float *values = state.values + warp * WARP;

    for (uint32_t apart = WARP / 2; apart > 0; apart /= 2)
        for (uint32_t lane = 0; lane < apart; lane++)
            values[lane] += values[lane + apart];
    state.results[warp][round % 2] = values[0];
}

static void finish_max(uint32_t warp, uint32_t round)
{
    float *values = state.values + warp * WARP;
    float max = values[0];

    for (uint32_t lane = 1; lane < WARP; lane++)
        max = values[lane] > max ? values[lane] : max;
    state.results[warp][round % 2] = max;
}

static float meet_warp(float value, void (*finish)(uint32_t warp, uint32_t round))
{
    uint32_t thread = interpreter_now.thread;
    uint32_t round;

    state.values[thread] = value;
    round = meet(&state.warps[thread / WARP], finish);
    return state.results[thread / WARP][round % 2];
}

float interpreter_warp_sum(float value)
{
    return meet_warp(value, finish_sum);
}

float interpreter_warp_max(float value)
{
    return meet_warp(value, finish_max);
}

uint16_t interpreter_float_to_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        return 0x7fff; /* as GPUs do */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* One thread of all blocks of a launch. It is left behind where it waits for a block that does not come. */
static void run_fiber(void)
{
    uint32_t thread = interpreter_now.thread;

    for (;;) {
        state.kernel->run(state.args);
        if (!state.fibers[thread].has_waited) {
            fprintf(stderr, "kernel %s, thread %u: ended without waiting for earlier kernels\n",
                    state.kernel->name, thread);
            abort();
        }
        state.fibers[thread].is_done = true;
        state.has_moved = true;
        leave(thread);
    }
}

static void make_fibers(void)
{
    state.scheduler = (struct fiber){.is_done = false};
    for (uint32_t thread = 0; thread < state.kernel->threads; thread++) {
        struct fiber *fiber = &state.fibers[thread];

        *fiber = (struct fiber){.is_done = false};
        getcontext(&fiber->context);
        fiber->context.uc_stack.ss_sp = state.stacks + thread * STACK_BYTES;
        fiber->context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&fiber->context, run_fiber, 0);
    }
}

static void start_block(void)
{
    state.block = (struct meeting){.expected = state.kernel->threads};
    for (uint32_t warp = 0; warp < state.kernel->threads / WARP; warp++)
        state.warps[warp] = (struct meeting){.expected = WARP};
    for (uint32_t thread = 0; thread < state.kernel->threads; thread++)
        state.fibers[thread].is_done = state.fibers[thread].has_waited = false;
    interpreter_tensor_reset(state.kernel->threads, state.kernel->shared_bytes);
    if (guard_is_used())
        guard_close(state.kernel->name);
}

static void run_block(void)
{
    uint32_t left = state.kernel->threads;

    start_block();
    while (left > 0) {
        state.has_moved = false;
        left = 0;
        for (uint32_t thread = 0; thread < state.kernel->threads; thread++) {
            if (state.fibers[thread].is_done)
                continue;
            interpreter_now.thread = thread;
            change(&state.scheduler, &state.fibers[thread]);
            left += !state.fibers[thread].is_done;
        }
        if (left > 0 && !state.has_moved) {
            fprintf(stderr, "kernel %s, block %u %u %u: %u threads wait for the others for ever\n",
                    state.kernel->name, interpreter_now.x, interpreter_now.y, interpreter_now.z,
                    left);
            abort();
        }
    }
}

td_status_t interpreter_run(const struct interpreter_kernel *kernel, struct cuda_grid grid,
                            const void *args, struct td_error *error)
{
    uint32_t threads = kernel->threads;

    assert(threads > 0 && threads <= THREADS_MAX && threads % WARP == 0);
    state.stacks = malloc(threads * STACK_BYTES);
    if (state.stacks == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for %u threads of kernel %s", threads,
                       kernel->name);
    state.kernel = kernel;
    state.args = args;
    make_fibers();
    for (uint32_t z = 0; z < grid.z; z++)
        for (uint32_t y = 0; y < grid.y; y++)
            for (uint32_t x = 0; x < grid.x; x++) {
                interpreter_now = (struct interpreter_place){.x = x, .y = y, .z = z};
                run_block();
            }
    free(state.stacks);
    state.stacks = NULL;
    return TD_OK;
}
