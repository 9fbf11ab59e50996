/*
 * attention_floats.h: attention over pools of floats: a kernel that sums one split of positions for one row, and one
 * that joins splits. Plain, exact to the last bits of floats, and slow: for comparing with references.
 *
 * A split is CUDA_SPLIT positions counted from 0 of the sequence, so the order of every sum depends on positions
 * alone. Within a split: a score is one chain of fmaf over the head's elements; the weight is summed by lanes and the
 * warp's tree; values are added position by position. Splits are joined in rising order. Who else is in the batch, how
 * the prompt was cut, and how many blocks run at a time change nothing.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_ATTENTION_FLOATS_H
#define TANDEM_ENGINE_CUDA_KERNELS_ATTENTION_FLOATS_H

#include "engine/cuda/kernels/arithmetic.h"
#include "engine/cuda/kernels/pool.h"

#define FLOATS_THREADS 128
#define FLOATS_WARPS   (FLOATS_THREADS / SIMT_WARP)

/* What one block works on: some query heads of one KV head. */
struct floats_work {
    const struct cuda_attend_floats_args *args;
    uint32_t row;
    uint32_t kv_head;
    uint32_t first;      /* position of the split */
    uint32_t count;      /* positions that the row sees of it */
    uint32_t first_head; /* of the query heads */
    uint32_t heads;      /* at most CUDA_ATTEND_HEADS */
};

SIMT_INLINE const uint8_t *floats_entry(const struct floats_work *work, uint32_t i, bool is_v)
{
    return pool_entry(&work->args->pool, &work->args->rows, work->row, work->first + i,
                      work->kv_head, work->args->layer, is_v);
}

SIMT_INLINE void floats_score(const struct floats_work *work, float queries[][CUDA_HEAD_DIM_MAX],
                              float scores[][CUDA_SPLIT])
{
    uint32_t head_dim = work->args->pool.head_dim;

    for (uint32_t i = simt_thread(); i < work->count; i += FLOATS_THREADS) {
        const uint8_t *key = floats_entry(work, i, false);
        float sums[CUDA_ATTEND_HEADS] = {0};

        for (uint32_t d = 0; d < head_dim; d++) {
            float element = pool_load(&work->args->pool, key, d);

            SIMT_UNROLL
            for (uint32_t head = 0; head < CUDA_ATTEND_HEADS; head++)
                if (head < work->heads)
                    sums[head] = fmaf(queries[head][d], element, sums[head]);
        }
        SIMT_UNROLL
        for (uint32_t head = 0; head < CUDA_ATTEND_HEADS; head++)
            if (head < work->heads)
                scores[head][i] = sums[head];
    }
}

/* Scores of a head become exponentials; a warp does a head. */
SIMT_INLINE void floats_softmax(const struct floats_work *work, float *scores, size_t place)
{
    float max = scores[0];
    float sum = 0.0f;

    for (uint32_t i = simt_lane(); i < work->count; i += SIMT_WARP)
        max = scores[i] > max ? scores[i] : max;
    max = simt_warp_max(max);
    for (uint32_t i = simt_lane(); i < work->count; i += SIMT_WARP) {
        scores[i] = arithmetic_exp(scores[i] - max);
        sum += scores[i];
    }
    sum = simt_warp_sum(sum);
    if (simt_lane() == 0) {
        work->args->maxima[place] = max;
        work->args->weights[place] = sum;
    }
}

SIMT_INLINE void floats_weigh(const struct floats_work *work, float scores[][CUDA_SPLIT],
                              float *sums)
{
    uint32_t head_dim = work->args->pool.head_dim;

    for (uint32_t at = simt_thread(); at < work->heads * head_dim; at += FLOATS_THREADS) {
        uint32_t head = at / head_dim;
        uint32_t d = at % head_dim;
        float sum = 0.0f;

        for (uint32_t i = 0; i < work->count; i++)
            sum = fmaf(scores[head][i],
                       pool_load(&work->args->pool, floats_entry(work, i, true), d), sum);
        sums[at] = sum;
    }
}

SIMT_KERNEL(attend_floats, FLOATS_THREADS, struct cuda_attend_floats_args)
{
    SIMT_SHARED float queries[CUDA_ATTEND_HEADS][CUDA_HEAD_DIM_MAX];
    SIMT_SHARED float scores[CUDA_ATTEND_HEADS][CUDA_SPLIT];
    uint32_t group = args.heads / args.kv_heads;
    uint32_t head_dim = args.pool.head_dim;
    struct floats_work work;
    uint32_t end;
    size_t place; /* of the split's results, in heads */

    work.args = &args;
    work.row = args.first_row + simt_block_z();
    work.kv_head = simt_block_y();
    work.first = simt_block_x() * CUDA_SPLIT;
    end = args.rows.positions[work.row] + 1;
    if (work.first >= end) /* the whole block */
        return;
    work.count = end - work.first < CUDA_SPLIT ? end - work.first : CUDA_SPLIT;
    place = ((size_t)simt_block_z() * args.splits + simt_block_x()) * args.heads;
    for (uint32_t done = 0; done < group; done += CUDA_ATTEND_HEADS) {
        const float *source;

        work.first_head = work.kv_head * group + done;
        work.heads = group - done < CUDA_ATTEND_HEADS ? group - done : CUDA_ATTEND_HEADS;
        source = args.rotated + ((size_t)work.row * args.heads + work.first_head) * head_dim;
        for (uint32_t at = simt_thread(); at < work.heads * head_dim; at += FLOATS_THREADS)
            queries[at / head_dim][at % head_dim] = source[at];
        simt_barrier();
        floats_score(&work, queries, scores);
        simt_barrier();
        for (uint32_t head = simt_warp(); head < work.heads; head += FLOATS_WARPS)
            floats_softmax(&work, scores[head], place + work.first_head + head);
        simt_barrier();
        floats_weigh(&work, scores, args.sums + (place + work.first_head) * head_dim);
        simt_barrier();
    }
}

SIMT_KERNEL(merge_floats, 128, struct cuda_merge_floats_args)
{
    uint32_t row = simt_block_x();
    uint32_t head = simt_block_y();
    uint32_t splits = args.positions[args.first_row + row] / CUDA_SPLIT + 1;
    size_t first = (size_t)row * args.splits * args.heads + head;
    uint16_t *out = args.out + ((size_t)(args.first_row + row) * args.heads + head) * args.head_dim;

    for (uint32_t d = simt_thread(); d < args.head_dim; d += 128) {
        float total = args.sums[first * args.head_dim + d];
        float weight = args.weights[first];
        float max = args.maxima[first];

        for (uint32_t split = 1; split < splits; split++) {
            size_t place = first + (size_t)split * args.heads;
            float higher = args.maxima[place] > max ? args.maxima[place] : max;
            float scale = arithmetic_exp(max - higher);
            float split_scale = arithmetic_exp(args.maxima[place] - higher);

            total = total * scale + args.sums[place * args.head_dim + d] * split_scale;
            weight = weight * scale + args.weights[place] * split_scale;
            max = higher;
        }
        out[d] = simt_float_to_bf16(total / weight);
    }
}

#endif
