/* stub_nccl.c: a double of NVIDIA's NCCL, see stub_nccl.h. */
#include "tests/kvtransfer/stub_nccl.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtransfer/nccl_library.h"

#define EXPORTED __attribute__((visibility("default")))

#define FAILURES_MAX     8
#define IDS_MAX          64
#define OPERATIONS_MAX   512
#define COMMUNICATORS    64
#define SLICE_BYTES      ((size_t)1 << 16)
#define INTERNAL_ERROR   3
#define INVALID_ARGUMENT 4
#define INVALID_USAGE    5
#define ASKS_TO_LAUNCH   2

struct failure {
    char symbol[64];
    int result;
    int after;
};

struct operation {
    uint64_t address;
    size_t bytes;
    bool is_send;
};

struct communicator;

struct group {
    struct group *next; /* in streams */
    struct communicator *communicator;
    void *stream;
    size_t count;
    struct operation operations[OPERATIONS_MAX];
};

struct communicator {
    int rank;
    int fd;        /* to the other rank; -1: not joined */
    int listen_fd; /* of rank 0, until it has joined */
    int abort_fd;  /* readable when it is aborted */
    bool is_aborted;
    int result; /* as it says when asked */
    int asks;   /* until the group is launched */
    struct group *group;
    int references; /* its maker, and groups in streams */
    pthread_t joining;
    struct nccl_unique_id id;
};

struct rendezvous {
    struct nccl_unique_id id;
    int fd;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int version;
    struct failure failures[FAILURES_MAX];
    struct rendezvous rendezvous[IDS_MAX];
    struct communicator *communicators[COMMUNICATORS];
    struct group *in_streams; /* those that never run, since a GPU has failed, are kept for good */
    unsigned id_count;
    bool are_joins_held;
    bool are_bytes_held;
    bool are_aborts_held;
    size_t received_bytes;
    size_t aborts;
    int (*launch)(void *stream, void (*function)(void *), void *argument);
    int (*read)(void *to, uint64_t from, size_t bytes);
    int (*write)(uint64_t to, const void *from, size_t bytes);
} nccl = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .version = 23203};

static _Thread_local struct group *open_group;

static void lock(void)
{
    pthread_mutex_lock(&nccl.lock);
}

static void unlock(void)
{
    pthread_mutex_unlock(&nccl.lock);
}

static int begin(const char *symbol)
{
    int result = NCCL_SUCCESS;

    lock();
    for (size_t i = 0; i < FAILURES_MAX && result == NCCL_SUCCESS; i++) {
        struct failure *failure = &nccl.failures[i];

        if (failure->result == 0 || strcmp(failure->symbol, symbol) != 0 || failure->after-- > 0)
            continue;
        result = failure->result;
        failure->result = 0;
    }
    unlock();
    return result;
}

#define BEGIN()                       \
    do {                              \
        int failed = begin(__func__); \
                                      \
        if (failed != NCCL_SUCCESS)   \
            return failed;            \
    } while (0)

/* ------------------------------------------------------------------------------------- for tests */

#define X(name, result, parameters) EXPORTED result stub_nccl_##name parameters;
STUB_NCCL_FUNCTIONS(X)
#undef X

void stub_nccl_set_version(int version)
{
    lock();
    nccl.version = version;
    unlock();
}

void stub_nccl_break_call(const char *symbol, int result, int after)
{
    lock();
    for (size_t i = 0; i < FAILURES_MAX; i++) {
        struct failure *failure = &nccl.failures[i];

        if (failure->result != 0)
            continue;
        snprintf(failure->symbol, sizeof failure->symbol, "%s", symbol);
        failure->result = result;
        failure->after = after;
        break;
    }
    unlock();
}

static void hold(bool *flag, bool is_held)
{
    lock();
    *flag = is_held;
    pthread_cond_broadcast(&nccl.changed);
    unlock();
}

void stub_nccl_hold_joins(bool is_held)
{
    hold(&nccl.are_joins_held, is_held);
}

void stub_nccl_hold_bytes(bool is_held)
{
    hold(&nccl.are_bytes_held, is_held);
}

void stub_nccl_hold_aborts(bool is_held)
{
    hold(&nccl.are_aborts_held, is_held);
}

void stub_nccl_fail_all(int result)
{
    lock();
    for (size_t i = 0; i < COMMUNICATORS; i++)
        if (nccl.communicators[i] != NULL)
            nccl.communicators[i]->result = result;
    unlock();
}

static size_t read_count(const size_t *count)
{
    size_t value;

    lock();
    value = *count;
    unlock();
    return value;
}

size_t stub_nccl_communicators(void)
{
    size_t count = 0;

    lock();
    for (size_t i = 0; i < COMMUNICATORS; i++)
        count += nccl.communicators[i] != NULL;
    unlock();
    return count;
}

size_t stub_nccl_received_bytes(void)
{
    return read_count(&nccl.received_bytes);
}

size_t stub_nccl_aborts(void)
{
    return read_count(&nccl.aborts);
}

void stub_nccl_wait_for_aborts(size_t count)
{
    lock();
    while (nccl.aborts < count)
        pthread_cond_wait(&nccl.changed, &nccl.lock);
    unlock();
}

/* ---------------------------------------------------------------------------------------- library */

EXPORTED int ncclGetVersion(int *version_out);
EXPORTED const char *ncclGetErrorString(int result);
EXPORTED int ncclGetUniqueId(struct nccl_unique_id *id_out);

int ncclGetVersion(int *version_out)
{
    BEGIN();
    lock();
    *version_out = nccl.version;
    unlock();
    return NCCL_SUCCESS;
}

const char *ncclGetErrorString(int result)
{
    return result == NCCL_REMOTE_ERROR ? "remote process exited" : "it was asked for";
}

static socklen_t name_of(const struct nccl_unique_id *id, struct sockaddr_un *name_out)
{
    memset(name_out, 0, sizeof *name_out);
    name_out->sun_family = AF_UNIX;
    memcpy(name_out->sun_path + 1, id->bytes, 48); /* abstract */
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + 48);
}

/* As NCCL does, this begins to listen, in this process. */
int ncclGetUniqueId(struct nccl_unique_id *id_out)
{
    struct rendezvous made = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_un name;
    socklen_t length;
    int failed = begin(__func__);

    if (failed != NCCL_SUCCESS) {
        close(made.fd);
        return failed;
    }
    lock();
    snprintf(made.id.bytes, sizeof made.id.bytes, "stub-nccl-%d-%u", getpid(), nccl.id_count++);
    length = name_of(&made.id, &name);
    assert(bind(made.fd, (struct sockaddr *)&name, length) == 0 && listen(made.fd, 1) == 0);
    for (size_t i = 0; i < IDS_MAX; i++) {
        if (nccl.rendezvous[i].id.bytes[0] != 0)
            continue;
        nccl.rendezvous[i] = made;
        break;
    }
    unlock();
    *id_out = made.id;
    return NCCL_SUCCESS;
}

/* ------------------------------------------------------------------------------------------ bytes */

/* False: it was aborted. */
static bool wait_for(const struct communicator *communicator, int fd, short events)
{
    struct pollfd polled[] = {{.fd = fd, .events = events},
                              {.fd = communicator->abort_fd, .events = POLLIN}};

    while (poll(polled, 2, -1) < 0 && errno == EINTR)
        ;
    return polled[1].revents == 0;
}

/* What a kernel does whose peer does not come. */
static bool wait_for_abort(const struct communicator *communicator)
{
    (void)wait_for(communicator, -1, 0);
    return false;
}

/* False: it was aborted. */
static bool move(const struct communicator *communicator, void *bytes, size_t length, bool is_send)
{
    size_t done = 0;

    while (done < length) {
        ssize_t count;

        if (!wait_for(communicator, communicator->fd, is_send ? POLLOUT : POLLIN))
            return false;
        count = is_send ? send(communicator->fd, (char *)bytes + done, length - done,
                               MSG_NOSIGNAL | MSG_DONTWAIT)
                        : recv(communicator->fd, (char *)bytes + done, length - done, MSG_DONTWAIT);
        if (count < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (count <= 0)
            return wait_for_abort(communicator);
        done += (size_t)count;
    }
    return true;
}

/* Waits while a test holds something; false: it was aborted. */
static bool wait_while(const bool *is_held, const struct communicator *communicator)
{
    bool is_aborted;

    lock();
    while (*is_held && !communicator->is_aborted)
        pthread_cond_wait(&nccl.changed, &nccl.lock);
    is_aborted = communicator->is_aborted;
    unlock();
    return !is_aborted;
}

static bool move_slice(struct communicator *communicator, const struct operation *operation,
                       size_t at, size_t length)
{
    uint8_t slice[SLICE_BYTES];
    bool is_fine;

    if (operation->is_send)
        assert(nccl.read(slice, operation->address + at, length) == 0);
    is_fine = move(communicator, slice, length, operation->is_send);
    if (operation->is_send || !is_fine)
        return is_fine;
    assert(nccl.write(operation->address + at, slice, length) == 0);
    lock();
    nccl.received_bytes += length;
    unlock();
    return true;
}

/* Sizes that differ are undefined in NCCL: here they are found out. */
static bool carry(struct communicator *communicator, const struct operation *operation)
{
    uint64_t bytes = operation->bytes;

    if (!move(communicator, &bytes, sizeof bytes, operation->is_send))
        return false;
    if (bytes != operation->bytes) {
        lock();
        communicator->result = INTERNAL_ERROR;
        unlock();
        return wait_for_abort(communicator);
    }
    for (size_t at = 0; at < operation->bytes; at += SLICE_BYTES) {
        size_t left = operation->bytes - at;

        if (!wait_while(&nccl.are_bytes_held, communicator) ||
            !move_slice(communicator, operation, at, left < SLICE_BYTES ? left : SLICE_BYTES))
            return false;
    }
    return true;
}

static void let_go(struct communicator *communicator)
{
    bool is_last;

    lock();
    is_last = --communicator->references == 0;
    unlock();
    if (!is_last)
        return;
    if (communicator->fd >= 0)
        close(communicator->fd);
    if (communicator->listen_fd >= 0)
        close(communicator->listen_fd);
    close(communicator->abort_fd);
    free(communicator);
}

static void leave_stream(struct group *group)
{
    struct group **at = &nccl.in_streams;

    lock();
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    unlock();
}

/* On the stream's thread, as a kernel. */
static void run_group(void *argument)
{
    struct group *group = argument;

    for (size_t i = 0; i < group->count; i++)
        if (!carry(group->communicator, &group->operations[i]))
            break;
    leave_stream(group);
    let_go(group->communicator);
    free(group);
}

/* ----------------------------------------------------------------------------------- communicators */

EXPORTED int ncclCommInitRankConfig(void **communicator_out, int rank_count,
                                    struct nccl_unique_id id, int rank, struct nccl_config *config);
EXPORTED int ncclCommAbort(void *communicator);
EXPORTED int ncclCommGetAsyncError(void *communicator, int *result_out);

static void find(void *object, const char *symbol, void *function_out)
{
    void *found = dlsym(object, symbol);

    assert(found != NULL);
    memcpy(function_out, &found, sizeof found);
}

static void find_driver(void)
{
    void *object = dlopen(STUB_DRIVER_PATH, RTLD_NOW | RTLD_LOCAL);

    assert(object != NULL);
    lock();
    if (nccl.launch == NULL) {
        find(object, "cuLaunchHostFunc", &nccl.launch);
        find(object, "cuMemcpyDtoH_v2", &nccl.read);
        find(object, "cuMemcpyHtoD_v2", &nccl.write);
    }
    unlock();
    dlclose(object); /* the one who has made streams of it keeps it */
}

/* -1: aborted, or nobody is there any more. */
static int reach_other(struct communicator *communicator)
{
    struct sockaddr_un name;
    socklen_t length = name_of(&communicator->id, &name);
    char word = 'j';
    int fd;

    if (communicator->rank == 0) {
        if (!wait_for(communicator, communicator->listen_fd, POLLIN))
            return -1;
        fd = accept4(communicator->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            (void)!send(fd, &word, 1, MSG_NOSIGNAL);
        return fd;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&name, length) != 0 || !wait_for(communicator, fd, POLLIN) ||
        recv(fd, &word, 1, 0) != 1) {
        close(fd);
        return -1;
    }
    return fd;
}

static void *join(void *argument)
{
    struct communicator *communicator = argument;
    int fd = -1;

    if (wait_while(&nccl.are_joins_held, communicator))
        fd = reach_other(communicator);
    lock();
    communicator->fd = fd;
    communicator->result = fd >= 0 ? NCCL_SUCCESS : NCCL_REMOTE_ERROR;
    unlock();
    return NULL;
}

static void take_rendezvous(struct communicator *communicator)
{
    for (size_t i = 0; i < IDS_MAX; i++) {
        struct rendezvous *one = &nccl.rendezvous[i];

        if (memcmp(&one->id, &communicator->id, sizeof one->id) != 0)
            continue;
        communicator->listen_fd = one->fd;
        memset(one, 0, sizeof *one);
        return;
    }
}

static void remember(struct communicator *communicator)
{
    for (size_t i = 0; i < COMMUNICATORS; i++) {
        if (nccl.communicators[i] != NULL)
            continue;
        nccl.communicators[i] = communicator;
        return;
    }
    abort();
}

int ncclCommInitRankConfig(void **communicator_out, int rank_count, struct nccl_unique_id id,
                           int rank, struct nccl_config *config)
{
    struct communicator *communicator;

    find_driver();
    if (config->magic != NCCL_CONFIG_MAGIC || config->size != sizeof *config ||
        config->blocking != 0 || rank_count != 2)
        return INVALID_ARGUMENT;
    communicator = calloc(1, sizeof *communicator);
    assert(communicator != NULL);
    *communicator = (struct communicator){.rank = rank,
                                          .fd = -1,
                                          .listen_fd = -1,
                                          .abort_fd = eventfd(0, EFD_CLOEXEC),
                                          .result = NCCL_IN_PROGRESS,
                                          .references = 1,
                                          .id = id};
    lock();
    if (rank == 0)
        take_rendezvous(communicator);
    unlock();
    if (begin(__func__) != NCCL_SUCCESS) {
        let_go(communicator);
        *communicator_out = NULL;
        return INVALID_USAGE;
    }
    lock();
    remember(communicator);
    unlock();
    assert(pthread_create(&communicator->joining, NULL, join, communicator) == 0);
    *communicator_out = communicator;
    return NCCL_IN_PROGRESS;
}

int ncclCommAbort(void *opaque)
{
    struct communicator *communicator = opaque;
    uint64_t one = 1;

    lock();
    nccl.aborts++;
    pthread_cond_broadcast(&nccl.changed);
    while (nccl.are_aborts_held)
        pthread_cond_wait(&nccl.changed, &nccl.lock);
    communicator->is_aborted = true;
    (void)!write(communicator->abort_fd, &one, sizeof one);
    pthread_cond_broadcast(&nccl.changed);
    for (size_t i = 0; i < COMMUNICATORS; i++)
        if (nccl.communicators[i] == communicator)
            nccl.communicators[i] = NULL;
    unlock();
    pthread_join(communicator->joining, NULL);
    free(communicator->group);
    communicator->group = NULL;
    let_go(communicator);
    return begin(__func__);
}

/* A group reaches its stream while it is asked for. */
static int launch_locked(struct communicator *communicator, struct group **group_out)
{
    if (communicator->group == NULL || communicator->result != NCCL_SUCCESS)
        return communicator->result;
    if (--communicator->asks > 0)
        return NCCL_IN_PROGRESS;
    *group_out = communicator->group;
    communicator->group->next = nccl.in_streams;
    nccl.in_streams = communicator->group;
    communicator->group = NULL;
    communicator->references++;
    return NCCL_SUCCESS;
}

int ncclCommGetAsyncError(void *opaque, int *result_out)
{
    struct communicator *communicator = opaque;
    struct group *group = NULL;

    BEGIN();
    lock();
    *result_out = launch_locked(communicator, &group);
    unlock();
    if (group == NULL || nccl.launch(group->stream, run_group, group) == 0)
        return NCCL_SUCCESS;
    leave_stream(group);
    free(group);
    let_go(communicator);
    *result_out = 1; /* ncclUnhandledCudaError */
    return NCCL_SUCCESS;
}

/* ---------------------------------------------------------------------------------------- groups */

EXPORTED int ncclGroupStart(void);
EXPORTED int ncclGroupEnd(void);
EXPORTED int ncclSend(const void *from, size_t count, int type, int peer, void *communicator,
                      void *stream);
EXPORTED int ncclRecv(void *to, size_t count, int type, int peer, void *communicator, void *stream);

int ncclGroupStart(void)
{
    BEGIN();
    assert(open_group == NULL);
    open_group = calloc(1, sizeof *open_group);
    assert(open_group != NULL);
    return NCCL_SUCCESS;
}

static int add(const void *address, size_t count, int type, struct communicator *communicator,
               void *stream, bool is_send)
{
    struct group *group = open_group;

    if (group == NULL || group->count == OPERATIONS_MAX || type != NCCL_BYTE || count == 0 ||
        (group->communicator != NULL && group->communicator != communicator))
        return INVALID_USAGE;
    group->communicator = communicator;
    group->stream = stream;
    group->operations[group->count++] = (struct operation){
        .address = (uint64_t)(uintptr_t)address, .bytes = count, .is_send = is_send};
    return NCCL_SUCCESS;
}

int ncclSend(const void *from, size_t count, int type, int peer, void *communicator, void *stream)
{
    BEGIN();
    if (peer != 1)
        return INVALID_ARGUMENT;
    return add(from, count, type, communicator, stream, true);
}

int ncclRecv(void *to, size_t count, int type, int peer, void *communicator, void *stream)
{
    BEGIN();
    if (peer != 0)
        return INVALID_ARGUMENT;
    return add(to, count, type, communicator, stream, false);
}

int ncclGroupEnd(void)
{
    struct group *group = open_group;
    int failed = begin(__func__);

    open_group = NULL;
    if (failed != NCCL_SUCCESS || group == NULL || group->communicator == NULL) {
        free(group);
        return failed;
    }
    lock();
    assert(group->communicator->group == NULL);
    group->communicator->group = group;
    group->communicator->asks = ASKS_TO_LAUNCH;
    unlock();
    return NCCL_IN_PROGRESS;
}
