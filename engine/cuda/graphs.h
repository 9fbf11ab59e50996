/*
 * graphs.h: decode steps recorded once per bucket and replayed, so that a step costs one call instead of hundreds.
 *
 * A bucket is a number of rows (and as many logits) and a number of attention's splits; a step is padded to the
 * smallest that holds it. Recorded when it is first needed; the least recently used goes when there are too many.
 * What cannot be recorded is launched as ever: that is counted, and logged.
 *
 * With a library behind products (fast.h) the first step of so many rows is always launched: what the library does when it
 * first meets a shape may be nothing that can be recorded.
 */
#ifndef TANDEM_ENGINE_CUDA_GRAPHS_H
#define TANDEM_ENGINE_CUDA_GRAPHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/device.h"

#define CUDA_GRAPHS_KEPT    32
#define CUDA_GRAPH_ROWS_MAX 256 /* larger steps take so long that launches do not matter */
#define CUDA_GRAPH_FAILURES 3   /* to record, one after the other, before it is no longer tried */
#define CUDA_GRAPH_NODE_BYTES \
    ((size_t)8 << 10) /* of the device's memory, per kernel: a guess on the safe side */
#define CUDA_GRAPH_NODES_LAYER \
    16 /* kernels of a layer, at most; some more where matrices have several types and warpgroups are used */

struct cuda_bucket {
    uint32_t rows; /* 0: no bucket */
    uint32_t splits;
};

/*
 * The bucket for a step of so many rows and splits: 1, 2, 4, 8, then by 8 to 64, by 16 to 256; splits by powers of
 * two. Neither is above its maximum. rows 0: the step is too large.
 */
struct cuda_bucket cuda_bucket_choose(uint32_t rows, uint32_t splits, uint32_t rows_max,
                                      uint32_t splits_max);

/* What all recorded steps of a model may take of the device's memory. */
size_t cuda_graphs_bytes(uint32_t layers);

struct cuda_graphs {
    struct cuda_device *device;
    struct {
        struct cuda_bucket bucket; /* rows 0: free */
        struct cuda_graph *graph;
        uint64_t used; /* when, in replays */
    } kept[CUDA_GRAPHS_KEPT];
    struct cuda_graph_counts counts;
    uint32_t failures; /* to record, since the last success */
    bool has_library;
    bool has_met[CUDA_GRAPH_ROWS_MAX + 1]; /* by rows, with a library */
};

void cuda_graphs_init(struct cuda_graphs *graphs, struct cuda_device *device, bool has_library);
void cuda_graphs_fini(struct cuda_graphs *graphs);

/*
 * Queues a step of a bucket, recording it first if need be: `queue` queues its kernels, the same whenever the bucket
 * is the same. False: nothing was queued, since it could not be recorded, or not yet.
 */
bool cuda_graphs_run(struct cuda_graphs *graphs, struct cuda_bucket bucket,
                     void (*queue)(const void *context), const void *context);

#endif
