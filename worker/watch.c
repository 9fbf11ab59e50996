/*
 * watch.c: an engine that will never compute again, and what becomes of its worker.
 *
 * A backend that is lost says so (engine_runtime_lost): the worker breaks off in the ordinary order and ends. A step
 * that never ends keeps the engine's thread, which nothing can stop, so the process ends where it stands, and peers see
 * what they see when a process is killed. In both cases a supervisor starts another.
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

    if (lost != NULL)
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

static void look_again(struct worker_watch *watch)
{
    uint64_t pause_ms = watch->hang_ms / LOOKS_MAX;

    net_timer_set_in(&watch->timer, pause_ms > 0 ? pause_ms : 1);
}

static void on_look(struct net_timer *timer, uint64_t due_ns)
{
    struct worker_runtime *runtime = td_container_of(timer, struct worker_runtime, watch.timer);
    uint64_t started_ns = engine_runtime_turn_started_ns(runtime->engines.engine);
    uint64_t now_ns = td_now_ns(); /* the step may have begun since the timer was due */

    (void)due_ns;
    if (!worker_watch_look(&runtime->watch, started_ns, now_ns)) {
        look_again(&runtime->watch);
        return;
    }
    td_log(TD_LOG_ERROR, "watch",
           "the engine's step has been running for %.0f s and will not end (--hang-time): ending "
           "this process, to be started again",
           td_ns_to_ms(now_ns - started_ns) / 1e3);
    runtime->config.hung(runtime->config.ctx);
}

void worker_watch_open(struct worker_runtime *runtime)
{
    struct worker_watch *watch = &runtime->watch;

    net_timer_init(&watch->timer, runtime->config.loop, on_look);
    watch->hang_ms = hang_ms_of(runtime);
    if (watch->hang_ms > 0)
        look_again(watch);
}

void worker_watch_close(struct worker_runtime *runtime)
{
    if (net_timer_armed(&runtime->watch.timer)) /* not where opening failed before */
        net_timer_cancel(&runtime->watch.timer);
}
