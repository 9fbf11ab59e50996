/*
 * nccl_rank.h: one of the two ranks of a communicator, on a thread of its own. Not for use elsewhere.
 *
 * NCCL's calls may block: finding networks, joining, above all aborting. So the transfer thread makes none of them: it
 * posts jobs and is woken by the queue's descriptor (memory.h) when something has changed. A rank that has failed
 * aborts by itself.
 *
 *   STARTING -> NAMED (rank 0) -> READY -> FAILED (aborting) -> OVER
 *
 * In OVER the abort has returned, and NCCL queues nothing more. What it had queued may still run: whoever posted it
 * marks the queue behind that, and waits for the mark.
 */
#ifndef TANDEM_KVTRANSFER_NCCL_RANK_H
#define TANDEM_KVTRANSFER_NCCL_RANK_H

#include <stdbool.h>
#include <stddef.h>

#include "kvtransfer/memory.h"
#include "kvtransfer/nccl_library.h"
#include "lib/base/list.h"

enum nccl_rank_state {
    NCCL_RANK_STARTING = 0,
    NCCL_RANK_NAMED, /* the id is there */
    NCCL_RANK_READY, /* joined */
    NCCL_RANK_FAILED,
    NCCL_RANK_OVER,
};

/* One group of sends, or of receives: the poster's, and in its memory until it is taken or the rank is over. */
struct nccl_job {
    struct td_list in_rank;
    const struct kvt_piece *pieces; /* of the pool */
    size_t piece_count;
};

struct nccl_rank_config {
    const struct nccl_library *library;
    struct kvt_queue *queue; /* on whose stream it works */
    const struct nccl_unique_id
        *id; /* NULL: rank 0, which sends and makes the id; else rank 1, which receives */
};

struct nccl_rank;

/* Starts the thread. TD_NO_MEMORY. */
td_status_t nccl_rank_open(const struct nccl_rank_config *config,
                           struct nccl_rank **rank_out) TD_MUST_USE;

/* *status_out: why, of FAILED and OVER; TD_CANCELED if nccl_rank_stop came first. */
enum nccl_rank_state nccl_rank_state(struct nccl_rank *rank, td_status_t *status_out);

/* From NAMED on, of rank 0. */
const struct nccl_unique_id *nccl_rank_id(const struct nccl_rank *rank);

/* Jobs are carried out in the order in which they are posted, in READY. */
void nccl_rank_post(struct nccl_rank *rank, struct nccl_job *job);

/* The oldest job that is in the stream, and was not taken yet; NULL: none. The taker says when it has ended. */
struct nccl_job *nccl_rank_take(struct nccl_rank *rank);
void nccl_rank_job_ended(struct nccl_rank *rank);

/* Asks it to abort, in whatever state it is. */
void nccl_rank_stop(struct nccl_rank *rank);

/* Frees a rank that is OVER. */
void nccl_rank_close(struct nccl_rank *rank);

/* Lets go of one that does not get there: its thread keeps all that it was given, for good. */
void nccl_rank_leave(struct nccl_rank *rank);

#endif
