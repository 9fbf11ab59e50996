/* attention.c: see attention.h. */
#include "engine/cpu/attention.h"

#include <assert.h>
#include <string.h>

#include "engine/cpu/math.h"

/* Positions unpacked at a time: 64 of 64 floats are 16 KiB, half of a first-level cache. */
#define CHUNK 64

/* Queries of one unit: enough to pay for unpacking K and V, few enough for their scores to stay close. */
#define QUERIES_WANTED 24

/* The scratch memory of one unit, cut up; and what it works on now. */
struct work {
    const struct cpu_attention *attention;
    const struct cpu_attention_unit *unit;
    size_t stride;       /* of heads in scratch: head_dim, padded */
    float *queries;      /* [queries][stride]: row by row, then head by head */
    float *panel;        /* [CHUNK][stride]: K or V of some positions */
    float *scores;       /* [queries][CPU_SPLIT] */
    float *sums;         /* [queries][stride]: of this split */
    float *total;        /* [queries][stride]: of the splits so far */
    float *split_max;    /* [queries] */
    float *split_weight; /* [queries]: sum of the exponentials */
    float *max;          /* [queries]: of the splits so far */
    float *weight;       /* [queries] */
    uint32_t split;      /* first position of this split */
    uint32_t active;     /* first row of the tile that sees this split */
};

void cpu_attention_init(struct cpu_attention *attention, const struct cpu_kernels *kernels,
                        const struct engine_kv *kv, const struct engine_model_info *info)
{
    uint32_t group = info->heads / info->kv_heads;

    *attention = (struct cpu_attention){
        .kernels = kernels,
        .kv = *kv,
        .kv_type = strcmp(info->kv_dtype, "f32") == 0 ? MODEL_TYPE_F32 : MODEL_TYPE_F16,
        .layers = info->layers,
        .kv_heads = info->kv_heads,
        .group = group,
        .head_dim = info->head_dim,
        .queries_max = group > QUERIES_WANTED ? group : QUERIES_WANTED};
}

uint32_t cpu_attention_tile_rows(const struct cpu_attention *attention)
{
    return attention->queries_max / attention->group;
}

size_t cpu_attention_scratch_floats(const struct cpu_attention *attention)
{
    size_t stride = cpu_pad(attention->head_dim);

    return CHUNK * stride + attention->queries_max * (3 * stride + CPU_SPLIT + 4);
}

static void cut_scratch(struct work *work, float *scratch)
{
    size_t queries = work->attention->queries_max;

    work->stride = cpu_pad(work->attention->head_dim);
    work->panel = scratch;
    work->queries = work->panel + CHUNK * work->stride;
    work->sums = work->queries + queries * work->stride;
    work->total = work->sums + queries * work->stride;
    work->scores = work->total + queries * work->stride;
    work->split_max = work->scores + queries * CPU_SPLIT;
    work->split_weight = work->split_max + queries;
    work->max = work->split_weight + queries;
    work->weight = work->max + queries;
}

static size_t entry_bytes(const struct cpu_attention *attention)
{
    return attention->head_dim * (attention->kv_type == MODEL_TYPE_F32 ? sizeof(float) : 2);
}

uint8_t *cpu_kv_entry(const struct cpu_attention *attention,
                      const struct engine_batch_sequence *sequence, uint32_t position,
                      uint32_t layer, uint32_t kv_head, bool is_v)
{
    uint32_t block_tokens = attention->kv.block_tokens;
    uint32_t block = position / block_tokens;
    size_t page = ((size_t)kv_head * attention->layers + layer) * 2 + (is_v ? 1 : 0);

    assert(block < sequence->slot_count && sequence->slots[block] < attention->kv.block_count);
    return attention->kv.base + sequence->slots[block] * attention->kv.block_bytes +
           (page * block_tokens + position % block_tokens) * entry_bytes(attention);
}

void cpu_kv_store(const struct cpu_attention *attention, uint8_t *entry, const float *values)
{
    if (attention->kv_type == MODEL_TYPE_F32)
        memcpy(entry, values, attention->head_dim * sizeof *values);
    else
        attention->kernels->attention->to_half(values, attention->head_dim,
                                               (uint16_t *)(void *)entry);
}

/* Positions the row sees in this split. */
static uint32_t seen_by(const struct work *work, uint32_t row)
{
    uint32_t end = work->unit->tile->position + row + 1;

    return end <= work->split ? 0 : end - work->split < CPU_SPLIT ? end - work->split : CPU_SPLIT;
}

/* Entries as floats, zeros behind them up to a whole number of lanes. */
static void unpack(const struct cpu_attention *attention, const uint8_t *entry, uint32_t count,
                   float *out)
{
    if (attention->kv_type == MODEL_TYPE_F16) {
        attention->kernels->attention->from_half((const uint16_t *)(const void *)entry, count, out);
        return;
    }
    memcpy(out, entry, count * sizeof *out);
    memset(out + count, 0, (cpu_pad(count) - count) * sizeof *out);
}

/* K or V of count positions from split + offset on, into the panel. */
static void unpack_entries(struct work *work, uint32_t offset, uint32_t count, bool is_v)
{
    const struct cpu_attention *attention = work->attention;
    const struct cpu_attention_unit *unit = work->unit;
    uint32_t block_tokens = attention->kv.block_tokens;
    uint32_t done = 0;

    while (done < count) {
        uint32_t position = work->split + offset + done;
        uint32_t left_in_block = block_tokens - position % block_tokens;
        uint32_t run = count - done < left_in_block ? count - done : left_in_block;
        const uint8_t *entry = cpu_kv_entry(attention, unit->tile->sequence, position, unit->layer,
                                            unit->kv_head, is_v);
        float *out = work->panel + done * work->stride;

        if (work->stride == attention->head_dim) {
            unpack(attention, entry, run * attention->head_dim, out);
        } else {
            for (uint32_t i = 0; i < run; i++)
                unpack(attention, entry + i * entry_bytes(attention), attention->head_dim,
                       out + i * work->stride);
        }
        done += run;
    }
}

/* Scores of this split, for all rows that see some of it. */
static void score(struct work *work)
{
    const struct cpu_attention *attention = work->attention;
    uint32_t rows = work->unit->tile->rows;
    uint32_t first_query = work->active * attention->group;
    uint32_t count = seen_by(work, rows - 1);

    for (uint32_t offset = 0; offset < count; offset += CHUNK) {
        struct cpu_dots job = {.keys = work->panel,
                               .keys_stride = work->stride,
                               .count = count - offset < CHUNK ? count - offset : CHUNK,
                               .columns = attention->head_dim,
                               .x = work->queries + first_query * work->stride,
                               .x_stride = work->stride,
                               .queries = rows * attention->group - first_query,
                               .y = work->scores + (size_t)first_query * CPU_SPLIT + offset,
                               .y_stride = CPU_SPLIT};

        unpack_entries(work, offset, job.count, false);
        attention->kernels->attention->dots(&job);
    }
}

/* Adds the values of positions begin to end - 1 of the panel to the sums of some rows. */
static void weigh_rows(struct work *work, uint32_t row, uint32_t rows, uint32_t offset,
                       uint32_t begin, uint32_t end)
{
    uint32_t group = work->attention->group;
    struct cpu_weigh job = {.weights =
                                work->scores + (size_t)row * group * CPU_SPLIT + offset + begin,
                            .weights_stride = CPU_SPLIT,
                            .queries = rows * group,
                            .values = work->panel + begin * work->stride,
                            .values_stride = work->stride,
                            .count = end - begin,
                            .sums = work->sums + row * group * work->stride,
                            .sums_stride = work->stride,
                            .columns = work->attention->head_dim};

    if (end > begin)
        work->attention->kernels->attention->weigh(&job);
}

/*
 * Sums of values of this split. What all active rows see is added to all at once; what is left of
 * the triangle, row by row, so that no row adds even a zero for a position behind its own.
 */
static void weigh(struct work *work)
{
    uint32_t rows = work->unit->tile->rows;
    uint32_t group = work->attention->group;
    uint32_t count = seen_by(work, rows - 1);
    uint32_t common = seen_by(work, work->active);

    memset(work->sums + work->active * group * work->stride, 0,
           (rows - work->active) * group * work->stride * sizeof *work->sums);
    for (uint32_t offset = 0; offset < count; offset += CHUNK) {
        uint32_t chunk = count - offset < CHUNK ? count - offset : CHUNK;
        uint32_t shared = common <= offset ? 0 : common - offset < chunk ? common - offset : chunk;

        unpack_entries(work, offset, chunk, true);
        weigh_rows(work, work->active, rows - work->active, offset, 0, shared);
        for (uint32_t row = work->active + 1; row < rows; row++) {
            uint32_t seen = seen_by(work, row);
            uint32_t end = seen <= offset ? 0 : seen - offset < chunk ? seen - offset : chunk;

            weigh_rows(work, row, 1, offset, shared, end);
        }
    }
}

/* Merges a query's sums of this split into its totals. */
static void merge(struct work *work, uint32_t query)
{
    const float *sums = work->sums + query * work->stride;
    float *total = work->total + query * work->stride;
    float max = work->max[query];
    float scale; /* of the totals so far */
    float split_scale;

    if (work->split == 0) {
        memcpy(total, sums, work->stride * sizeof *total);
        work->weight[query] = work->split_weight[query];
        work->max[query] = work->split_max[query];
        return;
    }
    if (work->split_max[query] > max)
        max = work->split_max[query];
    scale = cpu_exp(work->max[query] - max);
    split_scale = cpu_exp(work->split_max[query] - max);
    for (uint32_t d = 0; d < work->attention->head_dim; d++)
        total[d] = total[d] * scale + sums[d] * split_scale;
    work->weight[query] = work->weight[query] * scale + work->split_weight[query] * split_scale;
    work->max[query] = max;
}

static void do_split(struct work *work)
{
    const struct cpu_attention *attention = work->attention;
    uint32_t queries = work->unit->tile->rows * attention->group;
    uint32_t first = work->active * attention->group;

    score(work);
    for (uint32_t query = first; query < queries; query++)
        attention->kernels->attention->softmax(work->scores + (size_t)query * CPU_SPLIT,
                                               seen_by(work, query / attention->group),
                                               &work->split_max[query], &work->split_weight[query]);
    weigh(work);
    for (uint32_t query = first; query < queries; query++)
        merge(work, query);
}

static void gather_queries(struct work *work)
{
    const struct cpu_attention *attention = work->attention;
    const struct cpu_attention_unit *unit = work->unit;
    uint32_t head_dim = attention->head_dim;

    for (uint32_t row = 0; row < unit->tile->rows; row++) {
        const float *heads = unit->q + unit->rows[row] * unit->q_stride +
                             unit->kv_head * attention->group * head_dim;

        for (uint32_t head = 0; head < attention->group; head++) {
            float *query = work->queries + (row * attention->group + head) * work->stride;

            memcpy(query, heads + head * head_dim, head_dim * sizeof *query);
            memset(query + head_dim, 0, (work->stride - head_dim) * sizeof *query);
        }
    }
}

static void write_out(const struct work *work)
{
    const struct cpu_attention *attention = work->attention;
    const struct cpu_attention_unit *unit = work->unit;
    uint32_t head_dim = attention->head_dim;

    for (uint32_t query = 0; query < unit->tile->rows * attention->group; query++) {
        uint32_t row = query / attention->group;
        uint32_t head = unit->kv_head * attention->group + query % attention->group;
        float *out = unit->out + row * unit->out_stride + head * head_dim;
        const float *total = work->total + query * work->stride;

        for (uint32_t d = 0; d < head_dim; d++)
            out[d] = total[d] / work->weight[query];
    }
}

void cpu_attend(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                float *scratch)
{
    struct work work = {.attention = attention, .unit = unit};
    uint32_t end = unit->tile->position + unit->tile->rows;

    cut_scratch(&work, scratch);
    gather_queries(&work);
    for (; work.split < end; work.split += CPU_SPLIT) {
        while (seen_by(&work, work.active) == 0) /* rows before this split are complete */
            work.active++;
        do_split(&work);
    }
    write_out(&work);
}
