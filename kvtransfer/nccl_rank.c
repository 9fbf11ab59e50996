/* nccl_rank.c: see nccl_rank.h. */
#include "kvtransfer/nccl_rank.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/time.h"

/*
 * NCCL tells by no descriptor what it does in the background, so while it does something it is asked again and again:
 * at first soon, since a launch takes some tens of microseconds, then less and less often.
 */
#define ASK_FIRST_NS (100 * UINT64_C(1000))
#define ASK_LAST_NS  (5 * TD_NS_PER_MS)
#define ASK_RUNNING_NS \
    (50 * TD_NS_PER_MS) /* while a job runs: only failures of the network show so */

/* Thread blocks of a kernel: they leave the model's kernels the rest of the GPU. */
#define CTAS_MAX 4

struct nccl_rank {
    struct nccl_rank_config config;
    struct nccl_unique_id id;
    pthread_t thread;
    /* the thread's own */
    void *communicator;
    void *stream;

    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t changed;
    enum nccl_rank_state state;
    td_status_t status;
    bool stop_asked;
    size_t running; /* jobs in the stream that have not ended */
    struct td_list posted;
    struct td_list launched;
};

/* -------------------------------------------------------------------------------------- the thread */

static void wake(const struct nccl_rank *rank)
{
    uint64_t one = 1;

    while (write(rank->config.queue->descriptor, &one, sizeof one) < 0 && errno == EINTR)
        ; /* EAGAIN: it is readable already */
}

static void enter(struct nccl_rank *rank, enum nccl_rank_state state, td_status_t status)
{
    pthread_mutex_lock(&rank->lock);
    rank->state = state;
    rank->status = status;
    wake(rank); /* under the lock: in OVER the rank may be freed as soon as that is seen */
    pthread_mutex_unlock(&rank->lock);
}

/* Waits for a change, or for so long. */
static void wait_locked(struct nccl_rank *rank, uint64_t ns)
{
    struct timespec until;
    uint64_t at;

    clock_gettime(CLOCK_MONOTONIC, &until);
    at = (uint64_t)until.tv_sec * TD_NS_PER_SEC + (uint64_t)until.tv_nsec + ns;
    until.tv_sec = (time_t)(at / TD_NS_PER_SEC);
    until.tv_nsec = (long)(at % TD_NS_PER_SEC);
    (void)pthread_cond_timedwait(&rank->changed, &rank->lock, &until);
}

/* Logs a failure; the status says it to the rest. */
static td_status_t check(const struct nccl_rank *rank, int result, const char *what)
{
    struct td_error error = {0};
    td_status_t status = nccl_library_check(rank->config.library, result, what, &error);

    if (status != TD_OK)
        td_log(TD_LOG_WARN, "kvtransfer", "nccl: %s", error.text);
    return status;
}

/* Waits until what was begun is done, however NCCL has answered; TD_CANCELED: it is to stop. */
static td_status_t finish(struct nccl_rank *rank, int result, const char *what)
{
    uint64_t pause_ns = ASK_FIRST_NS;
    bool is_stopped = false;

    while (result == NCCL_IN_PROGRESS && !is_stopped) {
        int failure = rank->config.library->async_error(rank->communicator, &result);

        if (failure != NCCL_SUCCESS)
            result = failure;
        if (result != NCCL_IN_PROGRESS)
            break;
        pthread_mutex_lock(&rank->lock);
        if (!rank->stop_asked)
            wait_locked(rank, pause_ns);
        is_stopped = rank->stop_asked;
        pthread_mutex_unlock(&rank->lock);
        pause_ns = 2 * pause_ns < ASK_LAST_NS ? 2 * pause_ns : ASK_LAST_NS;
    }
    return is_stopped ? TD_CANCELED : check(rank, result, what);
}

static td_status_t join(struct nccl_rank *rank)
{
    const struct nccl_library *library = rank->config.library;
    struct nccl_config config = nccl_config_default();
    td_status_t status = rank->config.queue->device->ops->stream(rank->config.queue, &rank->stream);
    bool is_sender = rank->config.id == NULL;

    if (status == TD_OK && is_sender) {
        status = check(rank, library->get_unique_id(&rank->id), "ncclGetUniqueId");
        if (status == TD_OK)
            enter(rank, NCCL_RANK_NAMED, TD_OK);
    }
    if (status != TD_OK)
        return status;
    config.ctas_max = CTAS_MAX;
    return finish(rank,
                  library->init_rank(&rank->communicator, 2, rank->id, is_sender ? 0 : 1, &config),
                  "ncclCommInitRankConfig");
}

/* In a group calls only note what is to be done, and may say that the communicator is busy. */
static bool is_noted(int result)
{
    return result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS;
}

static td_status_t launch(struct nccl_rank *rank, const struct nccl_job *job)
{
    const struct nccl_library *library = rank->config.library;
    bool is_sender = rank->config.id == NULL;
    int result = library->group_start();
    int ended;

    if (result != NCCL_SUCCESS)
        return check(rank, result, "ncclGroupStart");
    for (size_t i = 0; i < job->piece_count && is_noted(result); i++) {
        const struct kvt_piece *piece = &job->pieces[i];

        result = is_sender ? library->send(piece->base, piece->length, NCCL_BYTE, 1,
                                           rank->communicator, rank->stream)
                           : library->receive(piece->base, piece->length, NCCL_BYTE, 0,
                                              rank->communicator, rank->stream);
    }
    ended = library->group_end();
    if (!is_noted(result))
        return check(rank, result, is_sender ? "ncclSend" : "ncclRecv");
    return finish(rank, ended, "ncclGroupEnd");
}

/* The next job; NULL with TD_OK: look whether all is well, with TD_CANCELED: it is to stop. */
static struct nccl_job *next_job(struct nccl_rank *rank, td_status_t *status_out)
{
    struct td_list *node;

    pthread_mutex_lock(&rank->lock);
    if (td_list_empty(&rank->posted) && !rank->stop_asked) {
        if (rank->running > 0)
            wait_locked(rank, ASK_RUNNING_NS);
        else
            pthread_cond_wait(&rank->changed, &rank->lock);
    }
    *status_out = rank->stop_asked ? TD_CANCELED : TD_OK;
    node = rank->stop_asked ? NULL : td_list_first(&rank->posted);
    if (node != NULL)
        td_list_remove(node);
    pthread_mutex_unlock(&rank->lock);
    return node != NULL ? td_container_of(node, struct nccl_job, in_rank) : NULL;
}

static void tell_launched(struct nccl_rank *rank, struct nccl_job *job)
{
    pthread_mutex_lock(&rank->lock);
    td_list_push_back(&rank->launched, &job->in_rank);
    rank->running++;
    wake(rank);
    pthread_mutex_unlock(&rank->lock);
}

static td_status_t look(struct nccl_rank *rank)
{
    int result = NCCL_SUCCESS;
    int failure = rank->config.library->async_error(rank->communicator, &result);

    if (failure != NCCL_SUCCESS)
        result = failure;
    return is_noted(result) ? TD_OK : check(rank, result, "NCCL has failed");
}

static td_status_t work(struct nccl_rank *rank)
{
    for (;;) {
        td_status_t status;
        struct nccl_job *job = next_job(rank, &status);

        if (status == TD_OK)
            status = job != NULL ? launch(rank, job) : look(rank);
        if (status != TD_OK)
            return status;
        if (job != NULL)
            tell_launched(rank, job);
    }
}

static void *thread_main(void *argument)
{
    struct nccl_rank *rank = argument;
    td_status_t status = join(rank);

    if (status == TD_OK) {
        enter(rank, NCCL_RANK_READY, TD_OK);
        status = work(rank);
    }
    enter(rank, NCCL_RANK_FAILED, status);
    if (rank->communicator != NULL) {
        int result = rank->config.library->abort(rank->communicator);

        if (!is_noted(result))
            (void)check(rank, result, "ncclCommAbort");
    }
    enter(rank, NCCL_RANK_OVER, status);
    return NULL;
}

/* -------------------------------------------------------------------------------- the other threads */

static bool init_lock(struct nccl_rank *rank)
{
    pthread_condattr_t attributes;
    bool is_made;

    if (pthread_mutex_init(&rank->lock, NULL) != 0)
        return false;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    is_made = pthread_cond_init(&rank->changed, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    if (!is_made)
        pthread_mutex_destroy(&rank->lock);
    return is_made;
}

static void rank_free(struct nccl_rank *rank)
{
    pthread_cond_destroy(&rank->changed);
    pthread_mutex_destroy(&rank->lock);
    free(rank);
}

td_status_t nccl_rank_open(const struct nccl_rank_config *config, struct nccl_rank **rank_out)
{
    struct nccl_rank *rank = calloc(1, sizeof *rank);

    if (rank == NULL)
        return TD_NO_MEMORY;
    rank->config = *config;
    if (config->id != NULL) {
        rank->id = *config->id;
        rank->config.id = &rank->id;
    }
    td_list_init(&rank->posted);
    td_list_init(&rank->launched);
    if (!init_lock(rank)) {
        free(rank);
        return TD_NO_MEMORY;
    }
    if (pthread_create(&rank->thread, NULL, thread_main, rank) != 0) {
        rank_free(rank);
        return TD_NO_MEMORY;
    }
    pthread_setname_np(rank->thread, "kv-nccl");
    *rank_out = rank;
    return TD_OK;
}

enum nccl_rank_state nccl_rank_state(struct nccl_rank *rank, td_status_t *status_out)
{
    enum nccl_rank_state state;

    pthread_mutex_lock(&rank->lock);
    state = rank->state;
    *status_out = rank->status;
    pthread_mutex_unlock(&rank->lock);
    return state;
}

const struct nccl_unique_id *nccl_rank_id(const struct nccl_rank *rank)
{
    return &rank->id;
}

void nccl_rank_post(struct nccl_rank *rank, struct nccl_job *job)
{
    pthread_mutex_lock(&rank->lock);
    td_list_push_back(&rank->posted, &job->in_rank);
    pthread_cond_signal(&rank->changed);
    pthread_mutex_unlock(&rank->lock);
}

struct nccl_job *nccl_rank_take(struct nccl_rank *rank)
{
    struct td_list *node;

    pthread_mutex_lock(&rank->lock);
    node = td_list_first(&rank->launched);
    if (node != NULL)
        td_list_remove(node);
    pthread_mutex_unlock(&rank->lock);
    return node != NULL ? td_container_of(node, struct nccl_job, in_rank) : NULL;
}

void nccl_rank_job_ended(struct nccl_rank *rank)
{
    pthread_mutex_lock(&rank->lock);
    rank->running--;
    pthread_mutex_unlock(&rank->lock);
}

void nccl_rank_stop(struct nccl_rank *rank)
{
    pthread_mutex_lock(&rank->lock);
    rank->stop_asked = true;
    pthread_cond_signal(&rank->changed);
    pthread_mutex_unlock(&rank->lock);
}

void nccl_rank_close(struct nccl_rank *rank)
{
    pthread_join(rank->thread, NULL);
    rank_free(rank);
}

void nccl_rank_leave(struct nccl_rank *rank)
{
    pthread_detach(rank->thread);
}
