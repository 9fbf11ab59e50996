/*
 * watch.c: an engine that will never compute again, and what becomes of its worker.
 *
 * A backend that is lost says so (engine_runtime_lost): the worker breaks off in the ordinary order and ends. A step
 * that never ends keeps the engine's thread, which nothing can stop, so the process ends where it stands, and peers see
 * what they see when a process is killed. In both cases a supervisor starts another.
 *
 * The transfer thread is watched in the same way: its turns wait for the GPU as well, for hashes and for the end of copies,
 * and while one hangs nobody's blocks come back.
 *
 * At the end, when the loop looks no more, the closing of the transfers has the hang-time, in as many waits as there would
 * be looks.
 *
 * A step hangs when it has run for --hang-time and the loop has seen it at several looks in a row: a process that was
 * stopped and goes on, whose clock has gone on meanwhile, has seen it once. Loop thread.
 */
#include "worker/runtime_internal.h"

#define LOOKS_MAX 8 /* so many see the same step again: it may hang */

static uint64_t hang_ms_of(const struct worker_runtime *runtime)
{
    const struct worker_options *options = runtime->config.options;

    if (options->hang_ms != 0)
        return options->hang_ms;
    return runtime->engines.device != NULL ? (uint64_t)2 * options->times.step_ms : 0;
}

void worker_give_up(struct worker_runtime *runtime, int exit_status, const char *reason)
{
    if (runtime->exit_status != 0)
        return;
    td_log(TD_LOG_ERROR, "watch", "cannot go on: %s", reason);
    runtime->exit_status = exit_status;
    worker_touch(runtime); /* stops at the end of the turn */
}

const char *worker_watch_lost(const struct worker_runtime *runtime)
{
    return runtime->engines.engine != NULL ? engine_runtime_lost(runtime->engines.engine) : NULL;
}

void worker_watch_engine(struct worker_runtime *runtime)
{
    const char *lost = worker_watch_lost(runtime);

    if (lost == NULL)
        return;
    worker_pump_hear_engine(
        runtime); /* sequences that failed for it, before what is left is cancelled */
    worker_give_up(runtime, NET_EXIT_LOST, lost);
}

bool worker_watch_look(struct worker_watch *watch, uint64_t started_ns, uint64_t now_ns)
{
    bool is_seen_again = started_ns != 0 && started_ns == watch->seen_ns;

    watch->looks = is_seen_again ? watch->looks + 1 : 0;
    watch->seen_ns = started_ns;
    return watch->looks >= LOOKS_MAX && now_ns >= started_ns &&
           now_ns - started_ns >= watch->hang_ms * TD_NS_PER_MS;
}

static void look_again(struct worker_watches *watches)
{
    uint64_t pause_ms = watches->engine.hang_ms / LOOKS_MAX;

    net_timer_set_in(&watches->timer, pause_ms > 0 ? pause_ms : 1);
}

/* Whether a thread hangs, which is said then. */
static bool look_at(struct worker_watch *watch, const char *what, uint64_t started_ns)
{
    uint64_t now_ns = td_now_ns(); /* the step may have begun since the timer was due */

    if (!worker_watch_look(watch, started_ns, now_ns))
        return false;
    td_log(
        TD_LOG_ERROR, "watch",
        "%s has been running for %.0f s and will not end (--hang-time): ending this process, to be "
        "started again",
        what, td_ns_to_ms(now_ns - started_ns) / 1e3);
    return true;
}

static void on_look(struct net_timer *timer, uint64_t due_ns)
{
    struct worker_runtime *runtime = td_container_of(timer, struct worker_runtime, watches.timer);
    struct worker_watches *watches = &runtime->watches;

    (void)due_ns;
    if (look_at(&watches->engine, "the engine's step",
                engine_runtime_turn_started_ns(runtime->engines.engine)) ||
        look_at(&watches->transfers, "a turn of the KV transfers",
                kvt_runtime_turn_started_ns(runtime->engines.transfers)))
        runtime->config.hung(runtime->config.ctx);
    else
        look_again(watches);
}

void worker_watch_open(struct worker_runtime *runtime)
{
    struct worker_watches *watches = &runtime->watches;

    net_timer_init(&watches->timer, runtime->config.loop, on_look);
    watches->engine.hang_ms = watches->transfers.hang_ms = hang_ms_of(runtime);
    if (watches->engine.hang_ms > 0)
        look_again(watches);
}

void worker_watch_close(struct worker_runtime *runtime)
{
    if (net_timer_armed(&runtime->watches.timer)) /* not where opening failed before */
        net_timer_cancel(&runtime->watches.timer);
}

void worker_watch_end(struct worker_runtime *runtime)
{
    struct kvt_runtime *transfers = runtime->engines.transfers;
    uint64_t hang_ms = hang_ms_of(runtime);

    if (transfers == NULL || hang_ms == 0)
        return;
    for (int looks = 0; looks < LOOKS_MAX; looks++)
        if (kvt_runtime_ends_within(transfers, hang_ms / LOOKS_MAX + 1))
            return;
    td_log(TD_LOG_ERROR, "watch",
           "the KV transfers have been closing for %.0f s and will not end (--hang-time): ending "
           "this process, to be started again",
           (double)hang_ms / 1e3);
    runtime->config.hung(runtime->config.ctx);
}
