/*
 * runtime.c: the engine thread, see runtime.h.
 *
 * Events go out by nodes that come back through a third ring, with the token array that was lent, and
 * are used again: a step allocates nothing as long as the owner keeps up.
 *
 * Back-pressure: events for which the ring has no room wait in the outbox, and once one has found none the
 * thread takes no command and starts no step until all have left. So the outbox holds at most what two turns have said.
 *
 * A device that computes on its own stands still from the end of a step to the beginning of the next. Only what the next
 * step is made of happens then: what the step has said is told, and its owner woken, when the next one runs. What is
 * left is measured (engine_runtime_measure_gaps) and small: docs/engine.md has figures.
 *
 * Who wakes whom: each side announces that it is about to sleep and then looks once more; the other
 * side first hands something over and then looks at the announcement. What is handed over is an item
 * in a ring, or room in a ring that was full; room is told by a counter, because a ring's own head is
 * not sequentially consistent for its producer.
 */
#include "engine/runtime.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/metrics.h"
#include "lib/base/ring.h"
#include "lib/base/time.h"

#define RUNTIME_COMMANDS_PER_TURN 256
#define RUNTIME_RING_MAX          ((size_t)1 << 20)
#define RUNTIME_NAP_MS_MAX        60000

struct event_node {
    struct td_list link; /* in the outbox or among the spare */
    struct engine_event event;
};

enum nap {
    NAP_NONE = 0,
    NAP_IDLE = 1,    /* nothing to compute: wakes for a command or a stop */
    NAP_BLOCKED = 2, /* events wait for room: wakes when one was popped */
};

struct engine_runtime {
    struct engine_runtime_config config;
    pthread_t thread;
    int wake_fd;
    struct td_ring commands; /* struct engine_command, owner to thread */
    struct td_ring events;   /* struct event_node, thread to owner */
    struct td_ring returned; /* struct event_node, owner to thread */

    atomic_int nap;             /* the thread's announcement; who sets it back writes wake_fd */
    atomic_bool owner_sleeps;   /* pop found nothing: wake for the next event */
    atomic_bool owner_waits;    /* push found no room: wake when there is some */
    atomic_size_t taken_count;  /* commands the thread has taken */
    atomic_size_t popped_count; /* events the owner has taken */
    atomic_bool stop_asked;
    atomic_bool exit_asked;
    atomic_bool has_stopped;
    _Atomic(struct td_histogram *) gaps; /* NULL: nobody wants to know */
    _Atomic uint64_t turn_started_ns;    /* 0: there is none */
    _Atomic(const char *) lost;          /* why there will be no further step, or NULL */

    /* The thread's own; before its start and after its end, the owner's. */
    struct engine_core *core;
    struct td_list outbox; /* events that are not in the ring yet */
    bool is_full;          /* some of them found no room */
    size_t outbox_popped;  /* popped_count before the ring was found full */
    uint64_t
        computed_ns; /* when the last step was computed; 0: none, or there was nothing to compute since */
    struct td_list spare; /* nodes to use again: as many as ever were on their way at once */

    struct event_node *lent; /* the owner's: its tokens were given out by the last pop */
};

/* ---------------------------------------------------------------------------------------- waking */

static void wake_owner(struct engine_runtime *runtime, atomic_bool *flag)
{
    if (atomic_load(flag) && atomic_exchange(flag, false))
        runtime->config.wake(runtime->config.wake_impl);
}

/* Wakes the thread if it naps in this way. */
static void wake_thread(struct engine_runtime *runtime, int nap)
{
    uint64_t one = 1;

    if (atomic_load(&runtime->nap) != nap ||
        !atomic_compare_exchange_strong(&runtime->nap, &nap, NAP_NONE))
        return;
    while (write(runtime->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ; /* EAGAIN: it is readable already */
}

/* ----------------------------------------------------------------------------------------- nodes */

static void node_free(struct event_node *node)
{
    if (node->event.kind == ENGINE_STEP)
        node->event.step.lent = false; /* whoever borrowed the tokens is done with them */
    engine_event_fini(&node->event);
    free(node);
}

static struct event_node *node_new(struct engine_runtime *runtime)
{
    struct td_list *link = td_list_first(&runtime->spare);
    struct event_node *node;

    if (link != NULL) {
        td_list_remove(link);
        return td_container_of(link, struct event_node, link);
    }
    node = malloc(sizeof *node);
    if (node == NULL) {
        /* An event that is not told leaves a request without an end: better to start again. */
        td_log(TD_LOG_ERROR, "engine", "no memory for an event; giving up");
        abort();
    }
    td_list_init(&node->link);
    return node;
}

/* Owner: the node goes home, with its tokens if it has some. */
static void send_home(struct engine_runtime *runtime, struct event_node *node)
{
    if (td_ring_push(&runtime->returned, node) != TD_OK)
        node_free(node);
}

/* Thread: what the owner has sent home can be used again. */
static void take_returned(struct engine_runtime *runtime)
{
    struct event_node *node;

    while ((node = td_ring_pop(&runtime->returned)) != NULL) {
        if (node->event.kind == ENGINE_STEP)
            engine_core_give_tokens(runtime->core, node->event.step.tokens);
        td_list_push_front(&runtime->spare, &node->link); /* the one that is warm in the cache */
    }
}

/* ---------------------------------------------------------------------------------------- events */

static void on_emit(void *impl, struct engine_event *event)
{
    struct engine_runtime *runtime = impl;
    struct event_node *node = node_new(runtime);

    node->event = *event;
    if (event->kind == ENGINE_STEP)
        node->event.step.lent = true;
    td_list_push_back(&runtime->outbox, &node->link);
}

/* Moves the outbox into the ring, in order; false if something had no room. */
static bool deliver(struct engine_runtime *runtime)
{
    struct td_list *link;

    runtime->is_full = false;
    if (td_list_empty(&runtime->outbox))
        return true;
    runtime->outbox_popped = atomic_load(&runtime->popped_count);
    while ((link = td_list_first(&runtime->outbox)) != NULL) {
        td_list_remove(link);
        if (td_ring_push(&runtime->events, td_container_of(link, struct event_node, link)) !=
            TD_OK) {
            td_list_push_front(&runtime->outbox, link);
            break;
        }
    }
    wake_owner(runtime, &runtime->owner_sleeps);
    runtime->is_full = !td_list_empty(&runtime->outbox);
    return !runtime->is_full;
}

static struct event_node *next_node(struct engine_runtime *runtime)
{
    struct event_node *node = td_ring_pop(&runtime->events);

    if (node != NULL)
        return node;
    atomic_store(&runtime->owner_sleeps, true);
    node = td_ring_pop(&runtime->events);
    if (node != NULL)
        atomic_store(&runtime->owner_sleeps, false);
    return node;
}

bool engine_runtime_pop(struct engine_runtime *runtime, struct engine_event *event_out)
{
    struct event_node *node;

    if (runtime->lent != NULL)
        send_home(runtime, runtime->lent);
    runtime->lent = NULL;
    node = next_node(runtime);
    if (node == NULL)
        return false;
    atomic_fetch_add(&runtime->popped_count, 1);
    wake_thread(runtime, NAP_BLOCKED);
    *event_out = node->event;
    if (node->event.kind == ENGINE_STEP) {
        runtime->lent = node;
    } else {
        node->event.kind = ENGINE_FINISHED; /* owns nothing: its arrays have moved */
        send_home(runtime, node);
    }
    return true;
}

/* -------------------------------------------------------------------------------------- commands */

static td_status_t push_copy(struct engine_runtime *runtime, struct engine_command *copy)
{
    size_t taken = atomic_load(&runtime->taken_count);

    if (td_ring_push(&runtime->commands, copy) == TD_OK)
        return TD_OK;
    atomic_store(&runtime->owner_waits, true);
    if (atomic_load(&runtime->taken_count) == taken)
        return TD_LIMIT; /* the thread will see that we wait */
    if (td_ring_push(&runtime->commands, copy) != TD_OK)
        return TD_LIMIT;
    atomic_store(&runtime->owner_waits, false);
    return TD_OK;
}

td_status_t engine_runtime_push(struct engine_runtime *runtime,
                                const struct engine_command *command)
{
    struct engine_command *copy = malloc(sizeof *copy);
    td_status_t status;

    if (copy == NULL)
        return TD_NO_MEMORY;
    *copy = *command;
    status = push_copy(runtime, copy);
    if (status != TD_OK) {
        free(copy);
        return status;
    }
    wake_thread(runtime, NAP_IDLE);
    return TD_OK;
}

static bool take_commands(struct engine_runtime *runtime)
{
    bool any = false;

    for (int i = 0; i < RUNTIME_COMMANDS_PER_TURN; i++) {
        struct engine_command *command = td_ring_pop(&runtime->commands);

        if (command == NULL)
            break;
        atomic_fetch_add(&runtime->taken_count, 1);
        engine_core_command(runtime->core, command, td_now_ns());
        free(command);
        any = true;
    }
    if (any)
        wake_owner(runtime, &runtime->owner_waits);
    return any;
}

/* ---------------------------------------------------------------------------------------- turning */

/* A step is about to be handed over: how long the engine took since the one before came back. */
static void measure_gap(struct engine_runtime *runtime)
{
    struct td_histogram *gaps = atomic_load_explicit(&runtime->gaps, memory_order_relaxed);

    if (gaps != NULL && runtime->computed_ns != 0)
        td_histogram_observe(gaps, td_now_ns() - runtime->computed_ns);
}

static bool is_in_halves(const struct engine_runtime *runtime)
{
    return runtime->config.backend->ops->begin != NULL;
}

/* A step of a device that computes on its own: meanwhile newcomers are looked at, and events leave. */
static td_status_t compute_beside(struct engine_runtime *runtime, const struct engine_batch *batch,
                                  struct engine_result *result_out)
{
    struct engine_backend *backend = runtime->config.backend;
    td_status_t status;

    measure_gap(runtime);
    status = backend->ops->begin(backend, batch);
    if (status != TD_OK)
        return status;
    if (deliver(runtime) && take_commands(runtime))
        deliver(runtime);
    return backend->ops->finish(backend, result_out);
}

static td_status_t compute(struct engine_runtime *runtime, const struct engine_batch *batch,
                           struct engine_result *result_out)
{
    struct engine_backend *backend = runtime->config.backend;

    if (is_in_halves(runtime))
        return compute_beside(runtime, batch, result_out);
    deliver(runtime); /* what a preemption or an admission has said should not wait for the step */
    measure_gap(runtime);
    return backend->ops->run(backend, batch, result_out);
}

/* Says it once when it was the last step. */
static void look_for_loss(struct engine_runtime *runtime)
{
    struct engine_backend *backend = runtime->config.backend;
    const char *lost = backend->ops->lost != NULL ? backend->ops->lost(backend) : NULL;

    if (lost == NULL || atomic_load(&runtime->lost) != NULL)
        return;
    if (!deliver(runtime))
        return; /* sequences that failed for it come first; asked again when there is room */
    atomic_store(&runtime->lost, lost);
    td_log(TD_LOG_ERROR, "engine", "backend %s is lost for good: %s", backend->ops->name, lost);
    runtime->config.wake(runtime->config.wake_impl);
}

/* Plans, computes and applies one batch; false if there was nothing to compute. */
static bool step(struct engine_runtime *runtime)
{
    const struct engine_batch *batch = engine_core_plan(runtime->core, td_now_ns());
    struct engine_result result;
    td_status_t status;

    if (batch == NULL) {
        runtime->computed_ns = 0;
        look_for_loss(runtime); /* met by a step, or by hashing what it has filled */
        return false;
    }
    status = compute(runtime, batch, &result);
    runtime->computed_ns = td_now_ns();
    if (status == TD_OK) {
        engine_core_apply(runtime->core, &result, runtime->computed_ns);
        return true;
    }
    td_log(TD_LOG_ERROR, "engine", "backend %s: a step of %u rows failed: %s",
           runtime->config.backend->ops->name, batch->row_count, td_status_text(status));
    engine_core_fail(runtime->core, status, runtime->computed_ns);
    deliver(runtime); /* there may be no step any more beside which to do it */
    return true;
}

/* Commands, time, one step. Nothing has found the ring full before. False if there was nothing to do. */
static bool turn(struct engine_runtime *runtime)
{
    bool stopping = atomic_load(&runtime->stop_asked); /* before looking for commands */
    bool worked;
    bool computed;

    atomic_store(&runtime->turn_started_ns, td_now_ns());
    worked = take_commands(runtime);
    if (stopping)
        engine_core_drain(runtime->core, td_now_ns()); /* and whatever was submitted since */
    else if (engine_core_next_deadline(runtime->core) != TD_TIME_NEVER)
        engine_core_tick(runtime->core, td_now_ns());
    computed = step(runtime);
    worked = computed || worked;
    atomic_store(&runtime->turn_started_ns, 0);
    if (computed && is_in_halves(runtime) && !stopping)
        return true; /* told beside the next step, or when there turns out to be none */
    if (!deliver(runtime) || !stopping || !td_ring_empty(&runtime->commands))
        return worked;
    if (!atomic_exchange(&runtime->has_stopped, true))
        runtime->config.wake(runtime->config.wake_impl);
    return worked;
}

/* Whether nothing was handed over since the thread has announced its nap. */
static bool may_nap(struct engine_runtime *runtime, enum nap nap)
{
    if (atomic_load(&runtime->exit_asked))
        return false;
    if (nap == NAP_BLOCKED)
        return atomic_load(&runtime->popped_count) == runtime->outbox_popped;
    if (atomic_load(&runtime->stop_asked) && !atomic_load(&runtime->has_stopped))
        return false;
    return td_ring_empty(&runtime->commands);
}

/* Milliseconds to the next deadline, rounded up; -1: none. */
static int nap_ms(const struct engine_runtime *runtime, enum nap nap)
{
    uint64_t next = engine_core_next_deadline(runtime->core);
    uint64_t now = td_now_ns();
    uint64_t ms;

    if (next == TD_TIME_NEVER || nap == NAP_BLOCKED)
        return -1;
    if (next <= now)
        return 0;
    ms = (next - now + TD_NS_PER_MS - 1) / TD_NS_PER_MS;
    return ms > RUNTIME_NAP_MS_MAX ? RUNTIME_NAP_MS_MAX : (int)ms;
}

static void take_nap(struct engine_runtime *runtime, enum nap nap)
{
    struct pollfd wake = {.fd = runtime->wake_fd, .events = POLLIN};
    uint64_t drained;

    atomic_store(&runtime->nap, nap);
    if (may_nap(runtime, nap) && poll(&wake, 1, nap_ms(runtime, nap)) > 0)
        (void)!read(runtime->wake_fd, &drained, sizeof drained);
    atomic_store(&runtime->nap, NAP_NONE);
}

static void *thread_main(void *argument)
{
    struct engine_runtime *runtime = argument;

    while (!atomic_load(&runtime->exit_asked)) {
        take_returned(runtime);
        if (runtime->is_full && !deliver(runtime))
            take_nap(runtime, NAP_BLOCKED);
        else if (!turn(runtime) && td_list_empty(&runtime->outbox))
            take_nap(runtime, NAP_IDLE);
    }
    return NULL;
}

/* -------------------------------------------------------------------------------- start and stop */

/* Signals are for the owner's threads. */
static int start_thread(struct engine_runtime *runtime)
{
    sigset_t all;
    sigset_t before;
    int failure;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failure = pthread_create(&runtime->thread, NULL, thread_main, runtime);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure == 0)
        pthread_setname_np(runtime->thread, "engine");
    return failure;
}

static void free_rings(struct engine_runtime *runtime)
{
    struct engine_command *command;
    struct event_node *node;

    while (runtime->commands.slots != NULL && (command = td_ring_pop(&runtime->commands)) != NULL) {
        engine_command_fini(command);
        free(command);
    }
    while (runtime->events.slots != NULL && (node = td_ring_pop(&runtime->events)) != NULL)
        node_free(node);
    while (runtime->returned.slots != NULL && (node = td_ring_pop(&runtime->returned)) != NULL)
        node_free(node);
    td_ring_fini(&runtime->commands);
    td_ring_fini(&runtime->events);
    td_ring_fini(&runtime->returned);
}

/* Everything but the thread and the backend. */
static void runtime_free(struct engine_runtime *runtime)
{
    free_rings(runtime);
    td_list_for_each(link, &runtime->outbox)
        node_free(td_container_of(link, struct event_node, link));
    td_list_for_each(link, &runtime->spare) free(td_container_of(link, struct event_node, link));
    if (runtime->lent != NULL)
        node_free(runtime->lent);
    engine_core_close(runtime->core);
    if (runtime->wake_fd >= 0)
        close(runtime->wake_fd);
    free(runtime);
}

/* ring.h aligns its members to cache lines, so the whole must be. */
static struct engine_runtime *runtime_new(const struct engine_runtime_config *config)
{
    struct engine_runtime *runtime =
        aligned_alloc(_Alignof(struct engine_runtime), sizeof *runtime);

    if (runtime == NULL)
        return NULL;
    memset(runtime, 0, sizeof *runtime);
    runtime->config = *config;
    runtime->wake_fd = -1;
    atomic_store(&runtime->owner_sleeps, true); /* the first event wakes */
    td_list_init(&runtime->outbox);
    td_list_init(&runtime->spare);
    return runtime;
}

static td_status_t start(struct engine_runtime *runtime, struct td_error *error)
{
    const struct engine_runtime_config *config = &runtime->config;
    struct engine_sink sink = {.impl = runtime, .emit = on_emit};
    td_status_t status =
        engine_core_open(&config->core, config->backend, config->kv, sink, &runtime->core, error);

    if (status != TD_OK)
        return status;
    runtime->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (runtime->wake_fd < 0)
        return td_fail(error, TD_IO, "descriptor of the engine thread: %s", strerror(errno));
    if (td_ring_init(&runtime->commands, config->ring_capacity) != TD_OK ||
        td_ring_init(&runtime->events, config->ring_capacity) != TD_OK ||
        td_ring_init(&runtime->returned, config->ring_capacity) != TD_OK)
        return td_fail(error, TD_NO_MEMORY, "no memory for the rings of the engine thread");
    if (start_thread(runtime) != 0)
        return td_fail(error, TD_EXHAUSTED, "the engine thread cannot be started");
    return TD_OK;
}

td_status_t engine_runtime_open(const struct engine_runtime_config *config,
                                struct engine_runtime **runtime_out, struct td_error *error)
{
    struct engine_runtime *runtime;
    td_status_t status;

    if (config->ring_capacity == 0 || config->ring_capacity > RUNTIME_RING_MAX)
        return td_fail(error, TD_INVALID, "ring_capacity %zu: between 1 and %zu",
                       config->ring_capacity, RUNTIME_RING_MAX);
    runtime = runtime_new(config);
    if (runtime == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the engine runtime");
    status = start(runtime, error);
    if (status != TD_OK) {
        runtime_free(runtime);
        return status;
    }
    *runtime_out = runtime;
    return TD_OK;
}

uint64_t engine_runtime_turn_started_ns(const struct engine_runtime *runtime)
{
    return atomic_load(&runtime->turn_started_ns);
}

uint64_t engine_runtime_step_age_ns(const struct engine_runtime *runtime)
{
    uint64_t started = engine_runtime_turn_started_ns(runtime);
    uint64_t now = td_now_ns();

    return started == 0 || now < started ? 0 : now - started;
}

void engine_runtime_measure_gaps(struct engine_runtime *runtime, struct td_histogram *gaps)
{
    atomic_store_explicit(&runtime->gaps, gaps, memory_order_relaxed);
}

const char *engine_runtime_lost(const struct engine_runtime *runtime)
{
    return atomic_load(&runtime->lost);
}

void engine_runtime_stop(struct engine_runtime *runtime)
{
    atomic_store(&runtime->stop_asked, true);
    wake_thread(runtime, NAP_IDLE);
}

bool engine_runtime_has_stopped(const struct engine_runtime *runtime)
{
    return atomic_load(&runtime->has_stopped);
}

void engine_runtime_close(struct engine_runtime *runtime)
{
    struct engine_backend *backend;

    if (runtime == NULL)
        return;
    atomic_store(&runtime->exit_asked, true);
    wake_thread(runtime, NAP_IDLE);
    wake_thread(runtime, NAP_BLOCKED);
    pthread_join(runtime->thread, NULL);
    backend = runtime->config.backend;
    runtime_free(runtime); /* the core reads the backend's info */
    backend->ops->close(backend);
}
