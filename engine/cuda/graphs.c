/* graphs.c: see graphs.h. */
#include "engine/cuda/graphs.h"

#include <inttypes.h>

#include "lib/base/log.h"

/* ------------------------------------------------------------------ buckets */

static uint32_t round_up(uint32_t count, uint32_t to)
{
    return (count + to - 1) / to * to;
}

static uint32_t power_of_two(uint32_t count)
{
    uint32_t power = 1;

    while (power < count)
        power *= 2;
    return power;
}

struct cuda_bucket cuda_bucket_choose(uint32_t rows, uint32_t splits, uint32_t rows_max,
                                      uint32_t splits_max)
{
    struct cuda_bucket bucket = {0};

    if (rows_max > CUDA_GRAPH_ROWS_MAX)
        rows_max = CUDA_GRAPH_ROWS_MAX;
    if (rows == 0 || rows > rows_max || splits == 0 || splits > splits_max)
        return bucket;
    bucket.rows = rows <= 8    ? power_of_two(rows)
                  : rows <= 64 ? round_up(rows, 8)
                               : round_up(rows, 16);
    bucket.splits = power_of_two(splits);
    if (bucket.rows > rows_max)
        bucket.rows = rows_max;
    if (bucket.splits > splits_max)
        bucket.splits = splits_max;
    return bucket;
}

size_t cuda_graphs_bytes(uint32_t layers)
{
    size_t nodes = (size_t)(layers + 1) * CUDA_GRAPH_NODES_LAYER; /* and one for both ends */

    return nodes * CUDA_GRAPH_NODE_BYTES * CUDA_GRAPHS_KEPT;
}

/* ------------------------------------------------------------------ recording */

void cuda_graphs_init(struct cuda_graphs *graphs, struct cuda_device *device, bool has_library)
{
    *graphs = (struct cuda_graphs){.device = device, .has_library = has_library};
}

void cuda_graphs_fini(struct cuda_graphs *graphs)
{
    for (uint32_t i = 0; i < CUDA_GRAPHS_KEPT; i++)
        if (graphs->kept[i].bucket.rows > 0)
            cuda_device_drop_graph(graphs->device, graphs->kept[i].graph);
    *graphs = (struct cuda_graphs){.device = graphs->device};
}

/* Where the bucket is, or a free place, or that of the least recently used. */
static uint32_t find(const struct cuda_graphs *graphs, struct cuda_bucket bucket)
{
    uint32_t oldest = 0;

    for (uint32_t i = 0; i < CUDA_GRAPHS_KEPT; i++) {
        if (graphs->kept[i].bucket.rows == bucket.rows &&
            graphs->kept[i].bucket.splits == bucket.splits)
            return i;
        if (graphs->kept[i].used < graphs->kept[oldest].used)
            oldest = i;
    }
    return oldest;
}

static void drop(struct cuda_graphs *graphs, uint32_t place)
{
    if (graphs->kept[place].bucket.rows == 0)
        return;
    cuda_device_drop_graph(graphs->device, graphs->kept[place].graph);
    graphs->counts.dropped++;
}

static td_status_t record(struct cuda_graphs *graphs, void (*queue)(const void *context),
                          const void *context, struct cuda_graph **graph_out,
                          struct td_error *error)
{
    td_status_t status = cuda_device_capture(graphs->device, error);

    if (status != TD_OK)
        return status;
    queue(context);
    return cuda_device_capture_end(graphs->device, graph_out, error);
}

/* What is at the place goes only when there is something to put there. */
static bool prepare(struct cuda_graphs *graphs, uint32_t place, struct cuda_bucket bucket,
                    void (*queue)(const void *context), const void *context)
{
    struct td_error error = {0};
    struct cuda_graph *graph = NULL;

    if (record(graphs, queue, context, &graph, &error) != TD_OK) {
        graphs->counts.failed++;
        graphs->failures++;
        td_log(TD_LOG_WARN, "cuda",
               "a step of %" PRIu32 " rows and %" PRIu32
               " splits cannot be recorded, it is launched kernel by kernel%s: %s",
               bucket.rows, bucket.splits,
               graphs->failures == CUDA_GRAPH_FAILURES ? ", as all further ones" : "", error.text);
        return false;
    }
    graphs->failures = 0;
    drop(graphs, place);
    graphs->kept[place].graph = graph;
    graphs->kept[place].bucket = bucket;
    graphs->counts.recorded++;
    return true;
}

/* Whether a step of so many rows may be recorded; from the second on. */
static bool has_met(struct cuda_graphs *graphs, uint32_t rows)
{
    bool before = graphs->has_met[rows];

    graphs->has_met[rows] = true;
    return before || !graphs->has_library;
}

bool cuda_graphs_run(struct cuda_graphs *graphs, struct cuda_bucket bucket,
                     void (*queue)(const void *context), const void *context)
{
    uint32_t place = find(graphs, bucket);
    bool is_known = graphs->kept[place].bucket.rows == bucket.rows &&
                    graphs->kept[place].bucket.splits == bucket.splits;

    if (graphs->device->failure.status != TD_OK)
        return false; /* whatever is queued does nothing */
    if (!is_known && (graphs->failures >= CUDA_GRAPH_FAILURES || !has_met(graphs, bucket.rows) ||
                      !prepare(graphs, place, bucket, queue, context)))
        return false;
    graphs->kept[place].used = ++graphs->counts.replayed;
    cuda_device_replay(graphs->device, graphs->kept[place].graph);
    return true;
}
