/*
 * forward.c: see forward.h.
 *
 * Inputs of a step travel as one copy (inputs.h). Then five kernels a layer where all rows decode (with prompts six; for
 * more tokens than multiply.c streams two more, and one more for each product by warpgroups), launched one by one or as a
 * graph that was recorded before (graphs.h), and the results come back. What kernels are given in a graph depends on its
 * bucket alone; whatever else changes from step to step is in the inputs.
 */
#include "engine/cuda/forward.h"

#include <math.h>
#include <string.h>

#include "engine/cuda/attention.h"
#include "engine/cuda/inputs.h"
#include "engine/cuda/multiply.h"

/* A step while it is queued. */
struct step {
    struct cuda_backend *backend;
    const struct engine_batch *batch;
    const struct cuda_layer *layer;
    uint32_t layer_index;
    uint32_t count;  /* rows, padding included */
    uint32_t logits; /* padding included */
    uint32_t splits; /* of attention: those of the longest row, or of the bucket */
    struct cuda_rows rows;
    bool is_decode; /* every row is of another sequence */
    const uint32_t *picks;
    const struct cuda_attend_item *items;
    struct cuda_attention attention; /* how many of them */
};

static uint32_t pieces(uint32_t count, uint32_t per_piece)
{
    return (count + per_piece - 1) / per_piece;
}

static struct cuda_grid grid(uint32_t x, uint32_t y, uint32_t z)
{
    return (struct cuda_grid){.x = x, .y = y, .z = z};
}

/* ------------------------------------------------------------------ inputs */

/* Steps in which all decode have buckets; a step's rows and logits are padded to the same number. */
static struct cuda_bucket choose_bucket(const struct cuda_backend *backend,
                                        const struct engine_batch *batch, uint32_t logits)
{
    const struct cuda_shape *shape = &backend->shape;
    uint32_t rows_max = shape->rows_max < shape->outputs_max ? shape->rows_max : shape->outputs_max;

    if (!backend->has_graphs || logits == 0 || !cuda_inputs_decode(batch))
        return (struct cuda_bucket){0};
    return cuda_bucket_choose(batch->row_count > logits ? batch->row_count : logits,
                              cuda_inputs_splits(batch), rows_max,
                              pieces(shape->max_context, CUDA_SPLIT));
}

static void send_heads(const struct step *step, uint32_t count)
{
    struct cuda_backend *backend = step->backend;
    size_t hidden = backend->shape.hidden;

    for (uint32_t i = 0; i < count; i++)
        memcpy(backend->heads + i * hidden, step->batch->heads[backend->head_rows[i]],
               hidden * sizeof(float));
    cuda_device_upload(backend->device, backend->workspace.heads, backend->heads,
                       count * hidden * sizeof(float));
}

/*
 * Items of attention stand in front of the inputs; in a bucket there are always as many, those that are not needed with
 * nothing to do. Returns how many there are.
 */
static uint32_t plan_attention(struct step *step, struct cuda_bucket bucket, uint32_t rows)
{
    struct cuda_backend *backend = step->backend;
    struct cuda_attend_item *items = (struct cuda_attend_item *)(void *)backend->inputs;

    step->items = (const struct cuda_attend_item *)(const void *)backend->workspace.inputs;
    step->attention = cuda_attention_plan(&backend->shape, step->batch, rows, items);
    if (bucket.rows > 0) {
        uint32_t most = cuda_attention_decode_items(&backend->shape, bucket.rows, bucket.splits);

        memset(items + step->attention.few, 0, (most - step->attention.few) * sizeof *items);
        step->attention.few = most;
    }
    return step->attention.few + step->attention.many;
}

/* Returns the bucket; rows 0: there is none, and no padding. */
static struct cuda_bucket send_inputs(struct step *step)
{
    struct cuda_backend *backend = step->backend;
    uint32_t logits = cuda_inputs_logits(step->batch);
    struct cuda_bucket bucket = choose_bucket(backend, step->batch, logits);
    struct cuda_inputs inputs = {.rows = bucket.rows > 0 ? bucket.rows : step->batch->row_count,
                                 .logits = bucket.rows > 0 ? bucket.rows : logits};
    size_t item_words = plan_attention(step, bucket, inputs.rows) * CUDA_ATTEND_ITEM_WORDS;
    const uint32_t *words = backend->workspace.inputs + item_words;

    cuda_inputs_fill(step->batch, backend->pool.block_tokens, backend->block_count, &inputs,
                     backend->inputs + item_words, backend->head_rows);
    cuda_device_upload(backend->device, backend->workspace.inputs, backend->inputs,
                       (item_words + inputs.words) * sizeof(uint32_t));
    send_heads(step, inputs.heads);
    step->count = inputs.rows;
    step->is_decode = cuda_inputs_decode(step->batch);
    step->logits = inputs.logits;
    step->splits = bucket.rows > 0 ? bucket.splits : inputs.splits;
    step->rows = (struct cuda_rows){.tokens = words + inputs.tokens,
                                    .positions = words + inputs.positions,
                                    .tables = words + inputs.tables,
                                    .slots = words + inputs.slots};
    step->picks = words + inputs.picks;
    return bucket;
}

/* ------------------------------------------------------------------ kernels */

static void multiply(const struct step *step, const struct cuda_product_args *args)
{
    const struct cuda_backend *backend = step->backend;

    cuda_multiply(&backend->multiplier,
                  cuda_multiply_choose(&backend->multiplier, &args->matrix, args->tokens), args);
}

/* What a norm with these weights is given by whoever writes the residual stream; weight NULL: there is none. */
static struct cuda_next next_norm(const struct step *step, const float *weight)
{
    const struct cuda_workspace *work = &step->backend->workspace;

    return (struct cuda_next){.weight = weight, .out = work->normed, .squares = work->squares};
}

/* The product behind such a norm. */
static void put_norm(const struct step *step, struct cuda_product_args *args)
{
    const struct cuda_workspace *work = &step->backend->workspace;

    args->x = work->normed;
    args->squares = work->squares;
    args->scales = cuda_multiply_wants_scales(step->count) ? work->scales : NULL;
    args->epsilon = step->backend->model->rms_epsilon;
}

/* What products behind a norm multiply with, where they do not make it themselves. */
static void make_scales(const struct step *step)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_scale_args args = {.squares = backend->workspace.squares,
                                         .scales = backend->workspace.scales,
                                         .rows = step->count,
                                         .count = backend->shape.hidden,
                                         .epsilon = backend->model->rms_epsilon};

    if (cuda_multiply_wants_scales(step->count))
        cuda_device_launch(backend->device, CUDA_KERNEL_SCALE,
                           grid(pieces(step->count, CUDA_SCALE_ROWS), 1, 1), &args);
}

/* Queries, keys and values, side by side. */
static void project_heads(const struct step *step)
{
    const struct cuda_workspace *work = &step->backend->workspace;
    const struct cuda_layer *layer = step->layer;
    struct cuda_product_args args = {.y = work->qkv,
                                     .stride = (uint32_t)cuda_qkv_count(&step->backend->shape),
                                     .tokens = step->count};

    put_norm(step, &args);
    for (uint32_t i = 0; i < layer->qkv_count; i++) {
        args.matrix = layer->qkv[i].matrix;
        args.bias = layer->qkv[i].bias;
        multiply(step, &args);
        args.y += args.matrix.rows;
    }
}

/* Behind a norm. */
static void project(const struct step *step, const struct cuda_matrix *matrix, float *y)
{
    struct cuda_product_args args = {
        .matrix = *matrix, .y = y, .stride = matrix->rows, .tokens = step->count};

    put_norm(step, &args);
    multiply(step, &args);
}

/* Adds a product to the residual stream; norm: the weights of the one behind it, NULL: none. */
static void project_back(const struct step *step, const struct cuda_matrix *matrix,
                         const uint16_t *x, const float *norm)
{
    const struct cuda_product_args args = {.matrix = *matrix,
                                           .x = x,
                                           .y = step->backend->workspace.x,
                                           .stride = matrix->rows,
                                           .tokens = step->count,
                                           .is_added = true,
                                           .next = next_norm(step, norm)};

    multiply(step, &args);
}

static void embed(const struct step *step, const float *norm)
{
    const struct cuda_embed_args args = {.table = step->backend->weights.embedding,
                                         .tokens = step->rows.tokens,
                                         .x = step->backend->workspace.x,
                                         .next = next_norm(step, norm)};

    cuda_device_launch(step->backend->device, CUDA_KERNEL_EMBED, grid(step->count, 1, 1), &args);
}

/* Halves are for attention by powers of two. */
static float query_scale(const struct cuda_backend *backend)
{
    float scale = 1.0f / sqrtf((float)backend->shape.head_dim);

    return backend->pool.element_bytes == sizeof(float) ? scale : scale * 0x1.715476p+0f;
}

static struct cuda_place_args place_args(const struct step *step)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_workspace *work = &backend->workspace;
    const size_t queries = (size_t)backend->shape.heads * backend->shape.head_dim;
    const size_t keys = (size_t)backend->shape.kv_heads * backend->shape.head_dim;

    return (struct cuda_place_args){.rows = step->rows,
                                    .pool = backend->pool,
                                    .q = work->qkv,
                                    .k = work->qkv + queries,
                                    .v = work->qkv + queries + keys,
                                    .stride = (uint32_t)cuda_qkv_count(&backend->shape),
                                    .q_norm = step->layer->q_norm,
                                    .k_norm = step->layer->k_norm,
                                    .angles = work->angles,
                                    .rotated = work->rotated,
                                    .heads = backend->shape.heads,
                                    .kv_heads = backend->shape.kv_heads,
                                    .layer = step->layer_index,
                                    .epsilon = backend->model->rms_epsilon,
                                    .scale = query_scale(backend),
                                    .is_interleaved =
                                        backend->model->rope.pairs == MODEL_ROPE_INTERLEAVED};
}

static void place(const struct step *step)
{
    const struct cuda_place_args args = place_args(step);

    cuda_device_launch(step->backend->device, CUDA_KERNEL_PLACE,
                       grid(step->count, args.heads + args.kv_heads, 1), &args);
}

/*
 * Over a pool of halves: a launch for sequences with few rows, and one for those with many. Where all decode, blocks place
 * what they attend with.
 */
static void attend(const struct step *step)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_workspace *work = &backend->workspace;
    struct cuda_attend_args args = {.rows = step->rows,
                                    .pool = backend->pool,
                                    .queries = (const uint16_t *)(const void *)work->rotated,
                                    .items = step->items,
                                    .sums = work->sums,
                                    .maxima = work->maxima,
                                    .weights = work->weights,
                                    .counters = work->counters,
                                    .out = work->attended,
                                    .heads = backend->shape.heads,
                                    .kv_heads = backend->shape.kv_heads,
                                    .layer = step->layer_index};

    if (step->is_decode)
        args.place = place_args(step);
    else
        place(step);
    cuda_device_launch(backend->device, cuda_attention_kernel(&backend->shape, false),
                       grid(step->attention.few, args.kv_heads, 1), &args);
    args.items += step->attention.few;
    cuda_device_launch(backend->device, cuda_attention_kernel(&backend->shape, true),
                       grid(step->attention.many, args.kv_heads, 1), &args);
}

/* Over a pool of floats: some rows at a time, as many as the sums of their splits have room for. */
static void attend_floats(const struct step *step)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_workspace *work = &backend->workspace;
    uint32_t rows = step->count;
    uint32_t wave = cuda_splits_kept(&backend->shape) / step->splits;
    struct cuda_attend_floats_args attend = {.rows = step->rows,
                                             .pool = backend->pool,
                                             .rotated = work->rotated,
                                             .sums = work->sums,
                                             .maxima = work->maxima,
                                             .weights = work->weights,
                                             .splits = step->splits,
                                             .heads = backend->shape.heads,
                                             .kv_heads = backend->shape.kv_heads,
                                             .layer = step->layer_index};
    struct cuda_merge_floats_args merge = {.positions = step->rows.positions,
                                           .sums = work->sums,
                                           .maxima = work->maxima,
                                           .weights = work->weights,
                                           .out = work->attended,
                                           .splits = step->splits,
                                           .heads = backend->shape.heads,
                                           .head_dim = backend->shape.head_dim};

    place(step);
    for (uint32_t first = 0; first < rows; first += wave) {
        uint32_t count = rows - first < wave ? rows - first : wave;

        attend.first_row = first;
        merge.first_row = first;
        cuda_device_launch(backend->device, CUDA_KERNEL_ATTEND_FLOATS,
                           grid(step->splits, attend.kv_heads, count), &attend);
        cuda_device_launch(backend->device, CUDA_KERNEL_MERGE_FLOATS, grid(count, merge.heads, 1),
                           &merge);
    }
}

/* Gate and up, and what becomes of them: in one kernel where they are one matrix. */
static void project_up(const struct step *step)
{
    const struct cuda_workspace *work = &step->backend->workspace;
    const struct cuda_layer *layer = step->layer;
    const uint32_t ffn = step->backend->shape.ffn;
    struct cuda_product_args pair = {
        .matrix = layer->gate, .gated = work->gated, .stride = ffn, .tokens = step->count};
    const struct cuda_activate_args args = {.gate = work->gate,
                                            .up = work->up,
                                            .out = work->gated,
                                            .count = (uint64_t)step->count * ffn};

    if (layer->gate.is_paired) {
        put_norm(step, &pair);
        multiply(step, &pair);
        return;
    }
    project(step, &layer->gate, work->gate);
    project(step, &layer->up, work->up);
    cuda_device_launch(step->backend->device, CUDA_KERNEL_ACTIVATE,
                       grid((uint32_t)((args.count + 255) / 256), 1, 1), &args);
}

static void attend_rows(const struct step *step)
{
    if (step->backend->pool.element_bytes == sizeof(float))
        attend_floats(step);
    else
        attend(step);
}

/* next: the weights of the norm behind the layer; NULL: none. */
static void run_layer(const struct step *step, const float *next)
{
    const struct cuda_workspace *work = &step->backend->workspace;
    const struct cuda_layer *layer = step->layer;

    make_scales(step);
    project_heads(step);
    attend_rows(step);
    project_back(step, &layer->attention_output, work->attended, layer->ffn_norm);
    make_scales(step);
    project_up(step);
    project_back(step, &layer->down, work->gated, next);
}

/* ------------------------------------------------------------------ the fast variant */

static bool is_fast(const struct step *step, uint32_t rows)
{
    return step->backend->fast.memory != NULL && rows >= CUDA_FAST_ROWS_MIN;
}

/* The rows of y are as long as the matrix has rows, but for queries, keys and values, which lie side by side. */
static void multiply_fast(const struct step *step, const struct cuda_fast_matrix *matrix,
                          const uint16_t *x, float *y)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_workspace *work = &backend->workspace;
    size_t heads = cuda_qkv_count(&backend->shape);
    bool is_heads = y >= work->qkv && y < work->qkv + heads;
    const struct cuda_dense dense = {.matrix = matrix->data,
                                     .x = x,
                                     .bias = matrix->bias,
                                     .y = y,
                                     .rows = matrix->rows,
                                     .columns = matrix->columns,
                                     .stride = is_heads ? (uint32_t)heads : matrix->rows,
                                     .tokens = y == work->logits ? step->logits : step->count,
                                     .is_added = y == work->x};

    cuda_device_dense(backend->device, &dense);
}

static void normalize(const struct step *step, const float *weight)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_norm_args args = {.x = backend->workspace.x,
                                        .weight = weight,
                                        .out = backend->workspace.normed,
                                        .count = backend->shape.hidden,
                                        .epsilon = backend->model->rms_epsilon};

    cuda_device_launch(backend->device, CUDA_KERNEL_NORM, grid(step->count, 1, 1), &args);
}

static void run_layer_fast(const struct step *step)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_workspace *work = &backend->workspace;
    const struct cuda_fast_layer *fast = &backend->fast.layer[step->layer_index];
    const struct cuda_activate_args activate = {.gate = work->gate,
                                                .up = work->up,
                                                .out = work->gated,
                                                .count =
                                                    (uint64_t)step->count * backend->shape.ffn};

    normalize(step, step->layer->attention_norm);
    multiply_fast(step, &fast->q, work->normed, work->qkv);
    multiply_fast(step, &fast->k, work->normed, work->qkv + fast->q.rows);
    multiply_fast(step, &fast->v, work->normed, work->qkv + fast->q.rows + fast->k.rows);
    attend_rows(step);
    multiply_fast(step, &fast->attention_output, work->attended, work->x);
    normalize(step, step->layer->ffn_norm);
    multiply_fast(step, &fast->gate, work->normed, work->gate);
    multiply_fast(step, &fast->up, work->normed, work->up);
    cuda_device_launch(backend->device, CUDA_KERNEL_ACTIVATE,
                       grid((uint32_t)((activate.count + 255) / 256), 1, 1), &activate);
    multiply_fast(step, &fast->down, work->gated, work->x);
}

/* ------------------------------------------------------------------ results */

static void make_logits(const struct step *step)
{
    const struct cuda_backend *backend = step->backend;
    const struct cuda_workspace *work = &backend->workspace;
    const struct cuda_norm_args norm = {.x = work->x,
                                        .heads = work->heads,
                                        .picks = step->picks,
                                        .weight = backend->weights.output_norm,
                                        .out = work->normed,
                                        .count = backend->shape.hidden,
                                        .epsilon = backend->model->rms_epsilon};
    const struct cuda_product_args head = {.matrix = backend->weights.output,
                                           .x = work->normed,
                                           .y = work->logits,
                                           .stride = backend->weights.output.rows,
                                           .tokens = step->logits};

    cuda_device_launch(backend->device, CUDA_KERNEL_NORM, grid(step->logits, 1, 1), &norm);
    if (is_fast(step, step->logits))
        multiply_fast(step, &backend->fast.output, head.x, head.y);
    else
        multiply(step, &head);
}

/* Tokens of the outputs that leave drawing to the backend. */
static void draw_tokens(const struct step *step)
{
    struct cuda_backend *backend = step->backend;

    backend->has_drawn = cuda_draws_fill(&backend->draws, &backend->shape, step->batch);
    if (backend->has_drawn)
        cuda_draws_queue(&backend->draws, backend->device, &backend->shape, &backend->workspace);
}

/* Logits in the order of their outputs, but those that a token was drawn from; hidden states from where they are. */
static void fetch_results(const struct step *step)
{
    struct cuda_backend *backend = step->backend;
    const struct engine_batch *batch = step->batch;
    const struct cuda_workspace *work = &backend->workspace;
    size_t vocab = backend->shape.vocab;
    size_t hidden = backend->shape.hidden;
    uint32_t logits = 0;

    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_output *output = &batch->outputs[i];
        float *result = backend->results + i * backend->result_stride;

        backend->outputs[i] = result;
        if (backend->draws.each[i].is_wanted != 0)
            logits++;
        else if (output->want == ENGINE_WANT_LOGITS)
            cuda_device_download(backend->device, result, work->logits + logits++ * vocab,
                                 vocab * sizeof *result);
        else if (output->is_head)
            memcpy(result, batch->heads[output->row], hidden * sizeof *result);
        else
            cuda_device_download(backend->device, result, work->x + output->row * hidden,
                                 hidden * sizeof *result);
    }
}

static void run_layers(struct step *step)
{
    const struct cuda_layer *layers = step->backend->weights.layer;
    const uint32_t count = step->backend->model->layers;
    bool by_library = is_fast(step, step->count);

    embed(step, by_library ? NULL : layers[0].attention_norm);
    for (uint32_t i = 0; i < count; i++) {
        step->layer = &layers[i];
        step->layer_index = i;
        if (by_library)
            run_layer_fast(step);
        else
            run_layer(step, i + 1 < count ? layers[i + 1].attention_norm : NULL);
    }
}

/* All kernels of a step. */
static void queue_kernels(const void *context)
{
    struct step step = *(const struct step *)context;

    if (step.count > 0)
        run_layers(&step);
    if (step.logits > 0)
        make_logits(&step);
}

void cuda_forward(struct cuda_backend *backend, const struct engine_batch *batch)
{
    struct step step = {.backend = backend, .batch = batch};
    struct cuda_bucket bucket = send_inputs(&step);

    if (bucket.rows == 0 || !cuda_graphs_run(&backend->graphs, bucket, queue_kernels, &step))
        queue_kernels(&step);
    draw_tokens(&step);
    fetch_results(&step);
}
