/* attention.c: see attention.h. */
#include "engine/cpu/attention.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/math.h"

/* Queries of one unit: enough to pay for fetching K and V, few enough for their scores to stay close. */
#define QUERIES_WANTED 48

#define SPLIT_GROUPS (CPU_SPLIT / CPU_KV_GROUP)

/* The scratch memory of one unit, cut up; and the split that it works on now. */
struct work {
    const struct cpu_attention *attention;
    const struct cpu_attention_unit *unit;
    float *queries;         /* [queries][head_dim]: row by row, then head by head */
    float *scores;          /* [queries][CPU_SPLIT] */
    float *sums;            /* [queries][sums]: of this split */
    float *total;           /* [queries][sums]: of the splits so far */
    uint32_t *seen;         /* [queries]: positions of this split that each sees */
    uint32_t active;        /* first query that sees any */
    uint32_t count;         /* of queries */
    const uint8_t **values; /* V in groups, behind K */
    const uint8_t *groups[2 * SPLIT_GROUPS + 2 * CPU_GROUPS_AHEAD];
};

void cpu_attention_init(struct cpu_attention *attention, const struct cpu_kernels *kernels,
                        const struct engine_kv *kv, enum cpu_kv_dtype dtype,
                        const struct engine_model_info *info)
{
    uint32_t group = info->heads / info->kv_heads;

    *attention =
        (struct cpu_attention){.kernels = kernels->attention,
                               .kv = {.kernels = kernels->attention,
                                      .pool = *kv,
                                      .dtype = dtype,
                                      .layers = info->layers,
                                      .kv_heads = info->kv_heads,
                                      .head_dim = info->head_dim},
                               .group = group,
                               .queries_max = group > QUERIES_WANTED ? group : QUERIES_WANTED,
                               .sums = CPU_SUMS_VALUES + cpu_pad(info->head_dim),
                               .query_scale = CPU_LOG2E / sqrtf((float)info->head_dim)};
}

uint32_t cpu_attention_tile_rows(const struct cpu_attention *attention)
{
    return attention->queries_max / attention->group;
}

size_t cpu_attention_scratch_floats(const struct cpu_attention *attention)
{
    return attention->queries_max *
           (cpu_pad(attention->kv.head_dim) + CPU_SPLIT + 2 * attention->sums + 1);
}

uint32_t cpu_attention_splits(const struct cpu_tile *tile)
{
    return (tile->position + tile->rows + CPU_SPLIT - 1) / CPU_SPLIT;
}

/* The queries side by side, as the kernels want them. */
static void gather_queries(const struct work *work)
{
    const struct cpu_attention_unit *unit = work->unit;
    size_t floats = (size_t)work->attention->group * work->attention->kv.head_dim;

    for (uint32_t row = 0; row < unit->tile->rows; row++)
        memcpy(work->queries + row * floats,
               unit->q + unit->rows[row] * unit->q_stride + unit->kv_head * floats,
               floats * sizeof *work->queries);
}

static struct work begin(const struct cpu_attention *attention,
                         const struct cpu_attention_unit *unit, float *scratch)
{
    size_t queries = attention->queries_max;
    struct work work = {.attention = attention,
                        .unit = unit,
                        .count = unit->tile->rows * attention->group,
                        .queries = scratch};

    work.scores = work.queries + queries * cpu_pad(attention->kv.head_dim);
    work.sums = work.scores + queries * CPU_SPLIT;
    work.total = work.sums + queries * attention->sums;
    work.seen = (uint32_t *)(void *)(work.total + queries * attention->sums);
    gather_queries(&work);
    return work;
}

/* Which queries see how much of a split. */
static void look(struct work *work, uint32_t split)
{
    const struct cpu_tile *tile = work->unit->tile;
    uint32_t first = split * CPU_SPLIT;

    work->active = 0;
    for (uint32_t query = 0; query < work->count; query++) {
        uint32_t end = tile->position + query / work->attention->group + 1;

        work->seen[query] = end <= first ? 0 : end - first < CPU_SPLIT ? end - first : CPU_SPLIT;
        work->active += work->seen[query] == 0;
    }
}

/* Appends where K or V of positions begin to end - 1 is. */
static void add_groups(struct work *work, uint32_t *count, uint32_t begin, uint32_t end, bool is_v)
{
    struct cpu_kv_place place = {.sequence = work->unit->tile->sequence,
                                 .position = begin,
                                 .layer = work->unit->layer,
                                 .kv_head = work->unit->kv_head};

    for (; place.position < end; place.position += CPU_KV_GROUP)
        work->groups[(*count)++] = cpu_kv_group(&work->attention->kv, &place, is_v);
}

/*
 * Where K and V of a split are, in the order in which they are read: K, V, and K of the next split, with
 * something behind that for kernels to fetch.
 */
static void find_groups(struct work *work, uint32_t split)
{
    const struct cpu_tile *tile = work->unit->tile;
    uint32_t begin = split * CPU_SPLIT;
    uint32_t end = begin + work->seen[work->count - 1];
    uint32_t last = tile->position + tile->rows;
    uint32_t next = end + CPU_GROUPS_AHEAD * CPU_KV_GROUP;
    uint32_t count = 0;

    add_groups(work, &count, begin, end, false);
    work->values = work->groups + count;
    add_groups(work, &count, begin, end, true);
    add_groups(work, &count, end, next < last ? next : last, false);
    for (uint32_t i = 0; i < CPU_GROUPS_AHEAD; i++)
        work->groups[count + i] = work->groups[count - 1];
}

/* The sums of a split, of the queries that see any of it. */
static void do_split(struct work *work, uint32_t split, float *sums)
{
    const struct cpu_attention *attention = work->attention;
    const struct cpu_attention_kernels *kernels = attention->kernels;
    uint32_t head_dim = attention->kv.head_dim;
    struct cpu_scores scores = {
        .groups = work->groups, .head_dim = head_dim, .x_stride = head_dim, .y_stride = CPU_SPLIT};
    struct cpu_weigh weigh = {
        .head_dim = head_dim, .weights_stride = CPU_SPLIT, .sums_stride = attention->sums};

    look(work, split);
    scores.queries = weigh.queries = work->count - work->active;
    scores.counts = weigh.counts = work->seen + work->active;
    scores.x = work->queries + (size_t)work->active * head_dim;
    scores.y = work->scores + (size_t)work->active * CPU_SPLIT;
    weigh.weights = scores.y;
    weigh.sums = sums + work->active * attention->sums + CPU_SUMS_VALUES;
    find_groups(work, split);
    weigh.groups = work->values;
    kernels->scores[attention->kv.dtype](&scores);
    for (uint32_t query = work->active; query < work->count; query++) {
        float *own = sums + query * attention->sums;

        kernels->softmax(work->scores + (size_t)query * CPU_SPLIT, work->seen[query],
                         own + CPU_SUMS_MAX, own + CPU_SUMS_WEIGHT);
    }
    kernels->weigh[attention->kv.dtype](&weigh);
}

static void merge(const struct cpu_attention *attention, float *total, const float *later,
                  uint32_t first, uint32_t end)
{
    for (uint32_t query = first; query < end; query++)
        attention->kernels->merge(total + query * attention->sums, later + query * attention->sums,
                                  attention->kv.head_dim);
}

static void write_out(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                      const float *total)
{
    uint32_t head_dim = attention->kv.head_dim;

    for (uint32_t row = 0; row < unit->tile->rows; row++) {
        float *out =
            unit->out + row * unit->out_stride + unit->kv_head * attention->group * head_dim;

        for (uint32_t head = 0; head < attention->group; head++, total += attention->sums)
            for (uint32_t d = 0; d < head_dim; d++)
                *out++ = total[CPU_SUMS_VALUES + d] / total[CPU_SUMS_WEIGHT];
    }
}

void cpu_attend(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                float *scratch)
{
    struct work work = begin(attention, unit, scratch);
    uint32_t splits = cpu_attention_splits(unit->tile);

    do_split(&work, 0, work.total); /* all rows see its first position */
    for (uint32_t split = 1; split < splits; split++) {
        do_split(&work, split, work.sums);
        merge(attention, work.total, work.sums, work.active, work.count);
    }
    write_out(attention, unit, work.total);
}

void cpu_attend_splits(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                       uint32_t begin_split, uint32_t end_split, float *parts, float *scratch)
{
    struct work work = begin(attention, unit, scratch);

    for (uint32_t split = begin_split; split < end_split; split++)
        do_split(&work, split, parts + split * work.count * attention->sums);
}

void cpu_attend_finish(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                       float *parts)
{
    uint32_t splits = cpu_attention_splits(unit->tile);
    uint32_t count = unit->tile->rows * attention->group;

    for (uint32_t split = 1; split < splits; split++) {
        uint32_t first = split * CPU_SPLIT;
        uint32_t row = first > unit->tile->position ? first - unit->tile->position : 0;

        merge(attention, parts, parts + split * count * attention->sums, row * attention->group,
              count);
    }
    write_out(attention, unit, parts);
}
