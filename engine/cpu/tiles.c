/* tiles.c: see tiles.h. */
#include "engine/cpu/tiles.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Units that a thread should find, so that what is left at the end is little. */
#define UNITS_PER_THREAD 16

/* Splits of one tile that a unit does, or all of them. */
struct span {
    uint32_t tile;
    uint32_t begin;
    uint32_t end;
    uint32_t cut; /* index of the cut that this is a part of, or WHOLE */
};

#define WHOLE UINT32_MAX

/* A tile in several spans. */
struct cut {
    uint32_t spans;
    size_t parts; /* where its first KV head's sums are, in floats */
};

struct cpu_tiles {
    const struct cpu_attention *attention;
    uint32_t threads;
    struct cpu_tile *tiles; /* [rows_max] */
    uint32_t tile_count;
    uint32_t row_count;
    struct span *spans; /* [spans_max] */
    uint32_t span_count;
    uint32_t spans_max;
    struct cut *cuts; /* [cuts_max] */
    uint32_t cut_count;
    uint32_t cuts_max;
    atomic_uint *unfinished; /* [cuts_max][kv_heads]: spans of a unit that are not done yet */
    float *parts;            /* sums of splits that are not merged yet */
    size_t parts_used;
    size_t parts_max;
};

/* Spans that all threads together should find, of one KV head. */
static uint32_t spans_wanted(const struct cpu_tiles *tiles)
{
    uint32_t kv_heads = tiles->attention->kv.kv_heads;

    return (tiles->threads * UNITS_PER_THREAD + kv_heads - 1) / kv_heads;
}

static td_status_t take_memory(struct cpu_tiles *tiles, uint32_t rows_max, uint32_t max_context,
                               struct td_error *error)
{
    const struct cpu_attention *attention = tiles->attention;
    uint32_t kv_heads = attention->kv.kv_heads;
    size_t splits = 4 * ((size_t)max_context / CPU_SPLIT + CPU_SPLIT / CPU_KV_GROUP);

    tiles->cuts_max = 2 * spans_wanted(tiles);
    tiles->spans_max = rows_max + 2 * tiles->cuts_max;
    if (__builtin_mul_overflow(splits, kv_heads * attention->group * attention->sums,
                               &tiles->parts_max))
        return td_fail(error, TD_LIMIT, "the memory for attention to %u tokens overflows",
                       max_context);
    tiles->tiles = calloc(rows_max, sizeof *tiles->tiles);
    tiles->spans = calloc(tiles->spans_max, sizeof *tiles->spans);
    tiles->cuts = calloc(tiles->cuts_max, sizeof *tiles->cuts);
    tiles->unfinished = calloc((size_t)tiles->cuts_max * kv_heads, sizeof *tiles->unfinished);
    tiles->parts = calloc(tiles->parts_max, sizeof *tiles->parts); /* touched when first used */
    if (tiles->tiles == NULL || tiles->spans == NULL || tiles->cuts == NULL ||
        tiles->unfinished == NULL || tiles->parts == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for attention of %u rows", rows_max);
    return TD_OK;
}

td_status_t cpu_tiles_open(const struct cpu_attention *attention, uint32_t rows_max,
                           uint32_t max_context, uint32_t threads, struct cpu_tiles **tiles_out,
                           struct td_error *error)
{
    struct cpu_tiles *tiles = calloc(1, sizeof *tiles);
    td_status_t status;

    if (tiles == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for attention");
    tiles->attention = attention;
    tiles->threads = threads;
    status = take_memory(tiles, rows_max, max_context, error);
    if (status != TD_OK) {
        cpu_tiles_close(tiles);
        return status;
    }
    *tiles_out = tiles;
    return TD_OK;
}

void cpu_tiles_close(struct cpu_tiles *tiles)
{
    if (tiles == NULL)
        return;
    free(tiles->tiles);
    free(tiles->spans);
    free(tiles->cuts);
    free(tiles->unfinished);
    free(tiles->parts);
    free(tiles);
}

void cpu_tiles_clear(struct cpu_tiles *tiles)
{
    tiles->tile_count = 0;
    tiles->row_count = 0;
}

void cpu_tiles_add(struct cpu_tiles *tiles, const struct engine_batch_sequence *sequence,
                   uint32_t position)
{
    struct cpu_tile *tile = &tiles->tiles[tiles->tile_count];
    uint32_t first = tiles->row_count++;

    if (first > 0 && tile[-1].sequence == sequence &&
        tile[-1].position + tile[-1].rows == position &&
        tile[-1].rows < cpu_attention_tile_rows(tiles->attention)) {
        tile[-1].rows++;
        return;
    }
    *tile =
        (struct cpu_tile){.sequence = sequence, .position = position, .rows = 1, .first = first};
    tiles->tile_count++;
}

/* Cuts a tile into spans of this many splits, if there is memory for all of their sums. */
static bool cut_tile(struct cpu_tiles *tiles, uint32_t index, uint32_t splits, uint32_t per_span)
{
    const struct cpu_attention *attention = tiles->attention;
    uint32_t kv_heads = attention->kv.kv_heads;
    size_t floats =
        (size_t)splits * tiles->tiles[index].rows * attention->group * attention->sums * kv_heads;
    uint32_t spans = (splits + per_span - 1) / per_span;

    if (tiles->cut_count == tiles->cuts_max || floats > tiles->parts_max - tiles->parts_used ||
        spans + index > tiles->spans_max - tiles->span_count) /* those of the tiles to come too */
        return false;
    tiles->cuts[tiles->cut_count] = (struct cut){.spans = spans, .parts = tiles->parts_used};
    for (uint32_t begin = 0; begin < splits; begin += per_span)
        tiles->spans[tiles->span_count++] =
            (struct span){.tile = index,
                          .begin = begin,
                          .end = splits - begin < per_span ? splits : begin + per_span,
                          .cut = tiles->cut_count};
    for (uint32_t head = 0; head < kv_heads; head++)
        atomic_init(&tiles->unfinished[tiles->cut_count * kv_heads + head], spans);
    tiles->parts_used += floats;
    tiles->cut_count++;
    return true;
}

/* The last tiles of a prompt see the most: they go first, so that no thread is left with a long one. */
void cpu_tiles_cut(struct cpu_tiles *tiles)
{
    uint64_t work = 0; /* in splits of one row */
    uint64_t share;

    tiles->span_count = 0;
    tiles->cut_count = 0;
    tiles->parts_used = 0;
    for (uint32_t i = 0; i < tiles->tile_count; i++)
        work += (uint64_t)cpu_attention_splits(&tiles->tiles[i]) * tiles->tiles[i].rows;
    share = work / spans_wanted(tiles);
    for (uint32_t i = tiles->tile_count; i-- > 0;) {
        uint32_t splits = cpu_attention_splits(&tiles->tiles[i]);
        uint64_t per_span = share / tiles->tiles[i].rows;

        per_span = per_span > 0 ? per_span : 1;
        if (tiles->threads > 1 && splits > per_span &&
            cut_tile(tiles, i, splits, (uint32_t)per_span))
            continue;
        tiles->spans[tiles->span_count++] = (struct span){.tile = i, .end = splits, .cut = WHOLE};
    }
}

uint32_t cpu_tiles_units(const struct cpu_tiles *tiles)
{
    return tiles->span_count * tiles->attention->kv.kv_heads;
}

struct cpu_tiles_unit cpu_tiles_unit(const struct cpu_tiles *tiles, uint32_t unit)
{
    uint32_t kv_heads = tiles->attention->kv.kv_heads;
    const struct span *span = &tiles->spans[unit / kv_heads];

    return (struct cpu_tiles_unit){.tile = &tiles->tiles[span->tile], .kv_head = unit % kv_heads};
}

bool cpu_tiles_are_whole(const struct cpu_tiles *tiles)
{
    return tiles->cut_count == 0;
}

/* Neither in parts, nor of a sequence that has other tiles. */
bool cpu_tiles_are_alone(const struct cpu_tiles *tiles)
{
    for (uint32_t i = 1; i < tiles->tile_count; i++) /* sequences lie in one array */
        if (tiles->tiles[i].sequence <= tiles->tiles[i - 1].sequence)
            return false;
    return cpu_tiles_are_whole(tiles);
}

/* A part of a tile; and all of it, if this was the last. */
static bool attend_span(struct cpu_tiles *tiles, const struct cpu_attention_unit *unit,
                        const struct span *span, float *scratch)
{
    const struct cpu_attention *attention = tiles->attention;
    uint32_t kv_heads = attention->kv.kv_heads;
    const struct cut *cut = &tiles->cuts[span->cut];
    atomic_uint *unfinished = &tiles->unfinished[span->cut * kv_heads + unit->kv_head];
    size_t floats = (size_t)cpu_attention_splits(unit->tile) * unit->tile->rows * attention->group *
                    attention->sums;
    float *parts = tiles->parts + cut->parts + unit->kv_head * floats;

    cpu_attend_splits(attention, unit, span->begin, span->end, parts, scratch);
    if (atomic_fetch_sub_explicit(unfinished, 1, memory_order_acq_rel) > 1)
        return false;
    cpu_attend_finish(attention, unit, parts);
    atomic_store_explicit(unfinished, cut->spans, memory_order_relaxed); /* for the next layer */
    return true;
}

bool cpu_tiles_attend(struct cpu_tiles *tiles, const struct cpu_tiles_job *job, uint32_t unit,
                      float *scratch)
{
    const struct span *span = &tiles->spans[unit / tiles->attention->kv.kv_heads];
    const struct cpu_tile *tile = &tiles->tiles[span->tile];
    struct cpu_attention_unit work = {.tile = tile,
                                      .q = job->q,
                                      .rows = job->rows + tile->first,
                                      .q_stride = job->q_stride,
                                      .out = job->out + tile->first * job->out_stride,
                                      .out_stride = job->out_stride,
                                      .kv_head = unit % tiles->attention->kv.kv_heads,
                                      .layer = job->layer};

    if (span->cut != WHOLE)
        return attend_span(tiles, &work, span, scratch);
    cpu_attend(tiles->attention, &work, scratch);
    return true;
}
