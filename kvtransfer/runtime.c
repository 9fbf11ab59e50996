/*
 * runtime.c: the transfer thread, see runtime.h.
 *
 * Who wakes whom: each side announces that it is about to sleep and then looks once more; the other
 * side first hands something over and then looks at the announcement. Two things can be handed over in
 * each direction: an item in the ring, or room in a ring that was full. Room is told by a counter,
 * because a ring's own head is not sequentially consistent for its producer.
 */
#include "kvtransfer/runtime.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "kvtransfer/map.h"
#include "kvtransfer/memory.h"
#include "kvtransfer/staged.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/ring.h"
#include "lib/base/time.h"

#define RUNTIME_COMMANDS_PER_TURN 64
#define RUNTIME_STAGING_WINDOWS   4 /* pinned memory: for this many peers at full speed */

struct event_node {
    struct td_list in_overflow;
    struct kvt_event event;
};

struct runtime_address {
    const char *transport; /* NULL: unused */
    const char *library;
    uint8_t bytes[KVT_ADDRESS_BYTES_MAX];
    size_t length;
};

struct kvt_runtime {
    struct kvt_runtime_config config;
    pthread_t thread;
    struct td_ring commands; /* struct kvt_command, owner to thread */
    struct td_ring events;   /* struct event_node, thread to owner */

    atomic_bool thread_sleeps;  /* the owner writes wake_fd when it hands something over */
    atomic_bool owner_sleeps;   /* pop found nothing: wake for the next event */
    atomic_bool owner_waits;    /* push found no room: wake when there is some */
    atomic_bool thread_waits;   /* events have overflowed: write wake_fd when there is room */
    atomic_size_t taken_count;  /* commands the thread has taken */
    atomic_size_t popped_count; /* events the owner has taken */
    atomic_bool stop_asked;
    atomic_bool exit_asked;
    atomic_bool has_stopped;
    _Atomic uint64_t turn_started_ns; /* 0: there is none */

    /* The thread's own. */
    struct kvt_core *core;
    int epoll_fd;
    int wake_fd;
    struct td_list overflow; /* events for which the ring had no room */
    size_t overflow_popped;  /* popped_count when that was found */
    bool is_stopping;

    /* Written by the thread before it posts `started`, constant after that. */
    sem_t started;
    td_status_t start_status;
    struct td_error start_error;
    struct runtime_address addresses[KVT_TRANSPORTS_MAX];
    const struct kvt_stats *stats; /* inside the core */
    size_t left;                   /* written at the thread's end */
    sem_t ended;                   /* posted when the core is closed */
};

static uint64_t read_clock(void *impl)
{
    (void)impl;
    return td_now_ns();
}

/* ---------------------------------------------------------------------------------------- events */

static void wake_owner(struct kvt_runtime *runtime, atomic_bool *flag)
{
    if (atomic_load(flag) && atomic_exchange(flag, false))
        runtime->config.wake(runtime->config.wake_impl);
}

/* Moves what has overflowed into the ring, in order. */
static void flush_overflow(struct kvt_runtime *runtime)
{
    struct td_list *node;

    runtime->overflow_popped = atomic_load(&runtime->popped_count);
    while ((node = td_list_first(&runtime->overflow)) != NULL) {
        td_list_remove(node);
        if (td_ring_push(&runtime->events, td_container_of(node, struct event_node, in_overflow)) !=
            TD_OK) {
            td_list_push_front(&runtime->overflow, node);
            return;
        }
    }
}

static void wake_thread(struct kvt_runtime *runtime)
{
    uint64_t one = 1;

    if (!atomic_load(&runtime->thread_sleeps))
        return;
    while (write(runtime->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ; /* EAGAIN: it is readable already */
}

static void on_emit(void *impl, struct kvt_event *event)
{
    struct kvt_runtime *runtime = impl;
    struct event_node *node = malloc(sizeof *node);

    if (node == NULL) {
        /* An event that is not told leaves blocks in use for ever: better to start again. */
        td_log(TD_LOG_ERROR, "kvtransfer", "no memory for an event; giving up");
        abort();
    }
    node->event = *event;
    td_list_init(&node->in_overflow);
    td_list_push_back(&runtime->overflow, &node->in_overflow);
    flush_overflow(runtime);
    wake_owner(runtime, &runtime->owner_sleeps);
}

bool kvt_runtime_pop(struct kvt_runtime *runtime, struct kvt_event *event_out)
{
    struct event_node *node = td_ring_pop(&runtime->events);

    if (node == NULL) {
        atomic_store(&runtime->owner_sleeps, true);
        node = td_ring_pop(&runtime->events);
        if (node == NULL)
            return false;
        atomic_store(&runtime->owner_sleeps, false);
    }
    atomic_fetch_add(&runtime->popped_count, 1);
    if (atomic_load(&runtime->thread_waits) && atomic_exchange(&runtime->thread_waits, false))
        wake_thread(runtime);
    *event_out = node->event;
    free(node);
    return true;
}

/* -------------------------------------------------------------------------------------- commands */

static td_status_t push_copy(struct kvt_runtime *runtime, struct kvt_command *copy)
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

td_status_t kvt_runtime_push(struct kvt_runtime *runtime, const struct kvt_command *command)
{
    struct kvt_command *copy = malloc(sizeof *copy);
    td_status_t status;

    if (copy == NULL)
        return TD_NO_MEMORY;
    *copy = *command;
    status = push_copy(runtime, copy);
    if (status != TD_OK) {
        free(copy);
        return status;
    }
    wake_thread(runtime);
    return TD_OK;
}

static bool take_commands(struct kvt_runtime *runtime, size_t count_max)
{
    bool any = false;

    for (size_t i = 0; i < count_max; i++) {
        struct kvt_command *command = td_ring_pop(&runtime->commands);

        if (command == NULL)
            break;
        atomic_fetch_add(&runtime->taken_count, 1);
        kvt_core_command(runtime->core, command);
        free(command);
        any = true;
    }
    if (any)
        wake_owner(runtime, &runtime->owner_waits);
    return any;
}

/* Everything that was pushed before this call; who goes on pushing must wait for the next turn. */
static void on_drain(void *impl)
{
    struct kvt_runtime *runtime = impl;

    take_commands(runtime, runtime->commands.mask + 1);
}

/* ---------------------------------------------------------------------------------------- turning */

static bool turn(struct kvt_runtime *runtime)
{
    bool worked = take_commands(runtime, RUNTIME_COMMANDS_PER_TURN);

    if (atomic_load(&runtime->stop_asked) && !runtime->is_stopping) {
        runtime->is_stopping = true;
        kvt_core_stop(runtime->core);
    }
    worked = kvt_core_progress(runtime->core) || worked;
    kvt_core_tick(runtime->core);
    if (!td_list_empty(&runtime->overflow)) {
        flush_overflow(runtime);
        wake_owner(runtime, &runtime->owner_sleeps);
    }
    if (runtime->is_stopping && kvt_core_is_quiet(runtime->core) &&
        td_list_empty(&runtime->overflow) && !atomic_exchange(&runtime->has_stopped, true))
        runtime->config.wake(runtime->config.wake_impl);
    return worked;
}

/* Whether nothing was handed over since the thread has announced that it sleeps. */
static bool may_sleep(struct kvt_runtime *runtime)
{
    if (!td_ring_empty(&runtime->commands) || atomic_load(&runtime->exit_asked))
        return false;
    if (atomic_load(&runtime->stop_asked) && !runtime->is_stopping)
        return false;
    if (!td_list_empty(&runtime->overflow)) {
        atomic_store(&runtime->thread_waits, true);
        if (atomic_load(&runtime->popped_count) != runtime->overflow_popped)
            return false;
    }
    return kvt_core_arm(runtime->core) == TD_OK;
}

/* Milliseconds to the next deadline, rounded up, or until the pool's device must be looked at; -1: neither. */
static int sleep_ms(const struct kvt_runtime *runtime)
{
    uint64_t next = kvt_core_next_deadline(runtime->core);
    uint64_t now = td_now_ns();
    int poll_ms = kvt_device_poll_ms(runtime->config.memory.device);
    uint64_t most_ms = poll_ms < 0 ? 60000 : (uint64_t)poll_ms;
    uint64_t ms;

    if (next == TD_TIME_NEVER)
        return poll_ms;
    if (next <= now)
        return 0;
    ms = (next - now + TD_NS_PER_MS - 1) / TD_NS_PER_MS;
    return (int)(ms > most_ms ? most_ms : ms);
}

static void sleep_until_woken(struct kvt_runtime *runtime)
{
    struct epoll_event events[KVT_TRANSPORTS_MAX + 1];
    uint64_t drained;

    atomic_store(&runtime->thread_sleeps, true);
    if (may_sleep(runtime) &&
        epoll_wait(runtime->epoll_fd, events, KVT_TRANSPORTS_MAX + 1, sleep_ms(runtime)) > 0)
        (void)!read(runtime->wake_fd, &drained, sizeof drained); /* EAGAIN: a transport woke us */
    atomic_store(&runtime->thread_sleeps, false);
}

static void run(struct kvt_runtime *runtime)
{
    for (;;) {
        bool worked;

        atomic_store(&runtime->turn_started_ns, td_now_ns());
        worked = turn(runtime);
        atomic_store(&runtime->turn_started_ns, 0);
        if (atomic_load(&runtime->exit_asked) && kvt_core_is_quiet(runtime->core))
            return;
        if (!worked)
            sleep_until_woken(runtime);
    }
}

/* ------------------------------------------------------------------------------- start and stop */

static td_status_t add_transport(struct kvt_runtime *runtime, struct kvt_transport *transport,
                                 struct td_error *error)
{
    struct runtime_address *address = runtime->addresses;
    struct epoll_event event = {.events = EPOLLIN};
    td_status_t status = kvt_core_add_transport(runtime->core, transport);

    if (status != TD_OK) {
        transport->ops->close(transport);
        return td_fail(error, status, "transport %s: %s", transport->ops->name,
                       td_status_text(status));
    }
    while (address->transport != NULL)
        address++;
    status =
        transport->ops->address(transport, address->bytes, sizeof address->bytes, &address->length);
    if (status != TD_OK)
        return td_fail(error, status, "transport %s: no address: %s", transport->ops->name,
                       td_status_text(status));
    address->library = transport->library;
    address->transport = transport->ops->name;
    if (epoll_ctl(runtime->epoll_fd, EPOLL_CTL_ADD, transport->ops->descriptor(transport),
                  &event) != 0)
        return td_fail(error, TD_IO, "transport %s: epoll: %s", transport->ops->name,
                       strerror(errno));
    return TD_OK;
}

static td_status_t open_staged(struct kvt_runtime *runtime, const struct kvt_ucx_config *ucx,
                               struct td_error *error)
{
    const struct kvt_limits *limits = &runtime->config.limits;
    size_t block_bytes = runtime->config.block_bytes;
    struct kvt_staged_config config = {
        .memory = runtime->config.memory,
        .chunk_bytes = limits->chunk_bytes > block_bytes ? limits->chunk_bytes : block_bytes,
        .pinned_bytes = RUNTIME_STAGING_WINDOWS * (size_t)limits->window_bytes,
        .ucx = ucx};
    struct kvt_transport *transport;
    td_status_t status = kvt_staged_open(&config, &transport, error);

    return status == TD_OK ? add_transport(runtime, transport, error) : status;
}

/*
 * A GPU's pool goes by UCX without the host where that can be had. Where not, this says why, and what is left is the
 * way through the host.
 */
static td_status_t open_ucx(struct kvt_runtime *runtime, struct td_error *error)
{
    const struct kvt_runtime_config *config = &runtime->config;
    struct kvt_transport *transport;
    struct td_error why = {0};
    td_status_t status = config->memory.device == NULL
                             ? kvt_ucx_open(&config->ucx, &transport, &why)
                             : kvt_ucx_open_direct(&config->ucx, &config->memory,
                                                   config->block_bytes, &transport, &why);

    if (status == TD_OK)
        return add_transport(runtime, transport, error);
    if (status != TD_UNSUPPORTED || !config->use_ucxhost)
        return td_fail(error, status, "%s", why.text);
    td_log(TD_LOG_INFO, "kvtransfer", "KV of this GPU goes to other hosts through memory: %s",
           why.text);
    return TD_OK;
}

static td_status_t open_transports(struct kvt_runtime *runtime, struct td_error *error)
{
    const struct kvt_runtime_config *config = &runtime->config;
    struct kvt_transport *transport;
    td_status_t status = TD_OK;

    if (config->use_map) {
        status = kvt_map_open(&config->memory, config->limits.cut_ms, &transport, error);
        if (status == TD_OK)
            status = add_transport(runtime, transport, error);
    }
    if (status == TD_OK && config->use_ucx)
        status = open_ucx(runtime, error);
    if (status == TD_OK && config->use_nccl) {
        status = kvt_nccl_open(&config->memory, &config->nccl, &transport, error);
        if (status == TD_OK)
            status = add_transport(runtime, transport, error);
    }
    if (status == TD_OK && config->use_maphost)
        status = open_staged(runtime, NULL, error);
    if (status == TD_OK && config->use_ucxhost)
        status = open_staged(runtime, &config->ucx, error);
    return status;
}

static td_status_t open_core(struct kvt_runtime *runtime, struct td_error *error)
{
    struct kvt_core_config config = {.epoch = runtime->config.epoch,
                                     .memory = runtime->config.memory,
                                     .block_bytes = runtime->config.block_bytes,
                                     .clock = {.now_ns = read_clock},
                                     .sink = {.impl = runtime, .emit = on_emit},
                                     .inbox = {.impl = runtime, .drain = on_drain},
                                     .limits = runtime->config.limits};
    td_status_t status = kvt_core_open(&config, &runtime->core, error);

    if (status != TD_OK)
        return status;
    status = open_transports(runtime, error);
    if (status != TD_OK)
        kvt_core_close(runtime->core);
    else
        runtime->stats = kvt_core_stats(runtime->core);
    return status;
}

static void *thread_main(void *argument)
{
    struct kvt_runtime *runtime = argument;

    runtime->start_status = open_core(runtime, &runtime->start_error);
    sem_post(&runtime->started);
    if (runtime->start_status != TD_OK)
        return NULL;
    run(runtime);
    runtime->left = (size_t)kvt_stats_get(runtime->stats, KVT_STAT_QUARANTINED);
    kvt_core_close(runtime->core); /* UCX belongs to this thread */
    sem_post(&runtime->ended);
    return NULL;
}

/* Signals are for the owner's threads; UCX's own thread inherits this too. */
static int start_thread(struct kvt_runtime *runtime)
{
    sigset_t all;
    sigset_t before;
    int failure;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failure = pthread_create(&runtime->thread, NULL, thread_main, runtime);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure == 0)
        pthread_setname_np(runtime->thread, "kv-transfer");
    return failure;
}

static td_status_t open_descriptors(struct kvt_runtime *runtime, struct td_error *error)
{
    struct epoll_event event = {.events = EPOLLIN};

    runtime->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    runtime->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (runtime->epoll_fd < 0 || runtime->wake_fd < 0 ||
        epoll_ctl(runtime->epoll_fd, EPOLL_CTL_ADD, runtime->wake_fd, &event) != 0)
        return td_fail(error, TD_IO, "descriptors of the transfer thread: %s", strerror(errno));
    return TD_OK;
}

static void free_commands(struct kvt_runtime *runtime)
{
    struct kvt_command *command;

    while ((command = td_ring_pop(&runtime->commands)) != NULL) {
        kvt_command_fini(command);
        free(command);
    }
}

static void free_events(struct kvt_runtime *runtime)
{
    struct event_node *node;

    while ((node = td_ring_pop(&runtime->events)) != NULL) {
        kvt_event_fini(&node->event);
        free(node);
    }
    td_list_for_each(link, &runtime->overflow)
    {
        node = td_container_of(link, struct event_node, in_overflow);
        td_list_remove(link);
        kvt_event_fini(&node->event);
        free(node);
    }
}

/* Everything but the thread and its core. */
static void runtime_free(struct kvt_runtime *runtime)
{
    if (runtime->commands.slots != NULL)
        free_commands(runtime);
    if (runtime->events.slots != NULL)
        free_events(runtime);
    td_ring_fini(&runtime->commands);
    td_ring_fini(&runtime->events);
    if (runtime->epoll_fd >= 0)
        close(runtime->epoll_fd);
    if (runtime->wake_fd >= 0)
        close(runtime->wake_fd);
    sem_destroy(&runtime->started);
    sem_destroy(&runtime->ended);
    free(runtime);
}

/* ring.h aligns its members to cache lines, so the whole must be. */
static struct kvt_runtime *runtime_new(const struct kvt_runtime_config *config)
{
    struct kvt_runtime *runtime = aligned_alloc(_Alignof(struct kvt_runtime), sizeof *runtime);

    if (runtime == NULL)
        return NULL;
    memset(runtime, 0, sizeof *runtime);
    runtime->config = *config;
    runtime->epoll_fd = -1;
    runtime->wake_fd = -1;
    atomic_store(&runtime->owner_sleeps, true); /* the first event wakes */
    td_list_init(&runtime->overflow);
    sem_init(&runtime->started, 0, 0);
    sem_init(&runtime->ended, 0, 0);
    return runtime;
}

static td_status_t start(struct kvt_runtime *runtime, struct td_error *error)
{
    td_status_t status = open_descriptors(runtime, error);

    if (status != TD_OK)
        return status;
    if (td_ring_init(&runtime->commands, runtime->config.ring_capacity) != TD_OK ||
        td_ring_init(&runtime->events, runtime->config.ring_capacity) != TD_OK)
        return td_fail(error, TD_NO_MEMORY, "no memory for the rings of the transfer thread");
    if (start_thread(runtime) != 0)
        return td_fail(error, TD_EXHAUSTED, "the transfer thread cannot be started");
    while (sem_wait(&runtime->started) != 0)
        ;
    if (runtime->start_status != TD_OK) {
        pthread_join(runtime->thread, NULL);
        if (error != NULL)
            *error = runtime->start_error;
        return runtime->start_status;
    }
    return TD_OK;
}

td_status_t kvt_runtime_open(const struct kvt_runtime_config *config,
                             struct kvt_runtime **runtime_out, struct td_error *error)
{
    struct kvt_runtime *runtime;
    td_status_t status;

    if (!config->use_ucx && !config->use_map && !config->use_maphost && !config->use_ucxhost &&
        !config->use_nccl)
        return td_fail(error, TD_INVALID, "no transport: ucx and map are both off");
    runtime = runtime_new(config);
    if (runtime == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the transfer runtime");
    status = start(runtime, error);
    if (status != TD_OK) {
        runtime_free(runtime);
        return status;
    }
    *runtime_out = runtime;
    return TD_OK;
}

void kvt_runtime_stop(struct kvt_runtime *runtime)
{
    atomic_store(&runtime->stop_asked, true);
    wake_thread(runtime);
}

bool kvt_runtime_has_stopped(const struct kvt_runtime *runtime)
{
    return atomic_load(&runtime->has_stopped);
}

static void ask_to_exit(struct kvt_runtime *runtime)
{
    atomic_store(&runtime->exit_asked, true);
    kvt_runtime_stop(runtime);
}

bool kvt_runtime_ends_within(struct kvt_runtime *runtime, uint64_t within_ms)
{
    uint64_t until_ns = td_now_ns() + within_ms * TD_NS_PER_MS;
    struct timespec until = {.tv_sec = (time_t)(until_ns / TD_NS_PER_SEC),
                             .tv_nsec = (long)(until_ns % TD_NS_PER_SEC)};

    ask_to_exit(runtime);
    while (sem_clockwait(&runtime->ended, CLOCK_MONOTONIC, &until) != 0)
        if (errno != EINTR)
            return false;
    return true;
}

size_t kvt_runtime_close(struct kvt_runtime *runtime)
{
    size_t left;

    if (runtime == NULL)
        return 0;
    ask_to_exit(runtime);
    pthread_join(runtime->thread, NULL);
    left = runtime->left;
    runtime_free(runtime);
    return left;
}

/* ---------------------------------------------------------------------------------------- asking */

static const struct runtime_address *find_address(const struct kvt_runtime *runtime,
                                                  const char *transport)
{
    for (size_t i = 0; i < KVT_TRANSPORTS_MAX; i++)
        if (runtime->addresses[i].transport != NULL &&
            strcmp(runtime->addresses[i].transport, transport) == 0)
            return &runtime->addresses[i];
    return NULL;
}

td_status_t kvt_runtime_address(const struct kvt_runtime *runtime, const char *transport,
                                const uint8_t **address_out, size_t *length_out)
{
    const struct runtime_address *address = find_address(runtime, transport);

    if (address == NULL)
        return TD_NOT_FOUND;
    *address_out = address->bytes;
    *length_out = address->length;
    return TD_OK;
}

const char *kvt_runtime_library(const struct kvt_runtime *runtime, const char *transport)
{
    const struct runtime_address *address = find_address(runtime, transport);

    return address == NULL ? NULL : address->library;
}

uint64_t kvt_runtime_turn_started_ns(const struct kvt_runtime *runtime)
{
    return atomic_load(&runtime->turn_started_ns);
}

const struct kvt_stats *kvt_runtime_stats(const struct kvt_runtime *runtime)
{
    return runtime->stats;
}
