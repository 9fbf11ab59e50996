/*
 * forward.c: see forward.h.
 *
 * A step is a sequence of pieces of work, each cut into units that the team shares; between two pieces
 * all threads have finished the first. Small pieces have one unit, which the leader does alone.
 */
#include "engine/cpu/forward.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/matmul.h"
#include "lib/base/time.h"

/* Rows of one unit where a row is little work (norms, rotation). */
#define GRAIN 8

#define PRODUCTS_MAX 3

/* A step while it runs: what the units of the present piece need to know. */
struct step {
    struct cpu_backend *backend;
    const struct engine_batch *batch;
    const struct model_layer *layer;
    const struct cpu_layer *weights;
    uint32_t layer_index;
    uint32_t
        rows; /* of the batch, and after the selection in the last layer, of those that go on */
    uint32_t tile_count;
    uint32_t logits_count;
    uint64_t since_ns; /* when the phase before this one ended */
    /* of a norm */
    const float *norm_weight;
    /* of the sums of inputs */
    float *inputs;
    size_t inputs_stride;
    uint32_t inputs_columns;
    /* of a list of products that share their input */
    struct cpu_matmul products[PRODUCTS_MAX];
    uint32_t product_unit_rows[PRODUCTS_MAX];
    uint32_t product_units[PRODUCTS_MAX];
    uint32_t product_count;
    /* of gate and up */
    uint32_t gate_unit_rows;
};

/* What was done since the last phase ended was this one. */
static void end_phase(struct step *step, enum cpu_phase phase)
{
    uint64_t now_ns = td_now_ns();

    step->backend->phases.ns[phase] += now_ns - step->since_ns;
    step->since_ns = now_ns;
}

static uint32_t units_of(uint32_t count, uint32_t per_unit)
{
    return (count + per_unit - 1) / per_unit;
}

static float *scratch_of(const struct cpu_backend *backend, uint32_t thread)
{
    return backend->scratch + thread * backend->strides.scratch;
}

size_t cpu_forward_scratch_floats(const struct cpu_backend *backend)
{
    size_t attention = cpu_attention_scratch_floats(&backend->attention);
    size_t up = (size_t)backend->base.rows_max * CPU_UNIT_ROWS_MAX; /* of one unit of gate and up */

    return attention > up ? attention : up;
}

/* ------------------------------------------------------------------ products */

static void add_product(struct step *step, struct cpu_matmul product)
{
    uint32_t index = step->product_count++;
    uint32_t unit_rows =
        cpu_unit_rows(product.matrix->rows, product.tokens, step->backend->threads);

    step->products[index] = product;
    step->product_unit_rows[index] = unit_rows;
    step->product_units[index] = units_of(product.matrix->rows, unit_rows);
}

static void product_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_matmul *product;
    uint32_t index = 0;
    uint32_t rows;

    (void)thread;
    for (; unit >= step->product_units[index]; index++)
        unit -= step->product_units[index];
    product = &step->products[index];
    rows = step->product_unit_rows[index];
    cpu_matmul_unit(step->backend->kernels, product, unit, rows, product->y + unit * rows);
}

static void run_products(struct step *step, enum cpu_phase phase)
{
    uint32_t units = 0;

    for (uint32_t i = 0; i < step->product_count; i++)
        units += step->product_units[i];
    cpu_team_run(step->backend->team, product_unit, step, units);
    step->product_count = 0;
    end_phase(step, phase);
}

/* ------------------------------------------------------------------ inputs of products */

static void sum_input(const struct cpu_backend *backend, float *x, uint32_t columns)
{
    backend->kernels->products->block_sums(x, columns, 0, cpu_pack_blocks(columns));
    if (backend->is_whole)
        backend->kernels->products->quantize(x, columns, 0, cpu_pack_blocks(columns));
}

static void sums_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;

    (void)thread;
    for (uint32_t row = unit * GRAIN; row < step->rows && row < (unit + 1) * GRAIN; row++)
        sum_input(step->backend, step->inputs + row * step->inputs_stride, step->inputs_columns);
}

/* Makes inputs of rows that several units have written parts of. */
static void run_sums(struct step *step, float *inputs, size_t stride, uint32_t columns)
{
    step->inputs = inputs;
    step->inputs_stride = stride;
    step->inputs_columns = columns;
    cpu_team_run(step->backend->team, sums_unit, step, units_of(step->rows, GRAIN));
    end_phase(step, CPU_PHASE_INPUTS);
}

/* ------------------------------------------------------------------ rows */

/* x and out may be the same. */
static void norm(const struct cpu_backend *backend, const float *x, const float *weight,
                 uint32_t count, float *out)
{
    float mean = backend->kernels->rows->sum_squares(x, count) / (float)count;
    float scale = 1.0f / sqrtf(mean + backend->model->rms_epsilon);

    for (uint32_t i = 0; i < count; i++)
        out[i] = x[i] * scale * weight[i];
}

static void norm_input(const struct cpu_backend *backend, const float *x, const float *weight,
                       float *out)
{
    norm(backend, x, weight, backend->model->hidden, out);
    sum_input(backend, out, backend->model->hidden);
}

static void norm_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    size_t stride = backend->strides.hidden;

    (void)thread;
    for (uint32_t row = unit * GRAIN; row < step->rows && row < (unit + 1) * GRAIN; row++)
        norm_input(backend, backend->x + row * stride, step->norm_weight,
                   backend->normed + row * stride);
}

static void run_norm(struct step *step, const float *weight)
{
    step->norm_weight = weight;
    cpu_team_run(step->backend->team, norm_unit, step, units_of(step->rows, GRAIN));
    end_phase(step, CPU_PHASE_NORM);
}

/* The embeddings of the tokens, and the angles of the positions. */
static void embed_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    const struct model_matrix *embedding = &backend->model->embedding;
    uint32_t pairs = backend->rope.pairs;

    (void)thread;
    for (uint32_t i = unit * GRAIN; i < step->rows && i < (unit + 1) * GRAIN; i++) {
        const struct engine_row *row = &step->batch->rows[i];

        model_dequantize(embedding->type, embedding->data + row->token * embedding->row_bytes,
                         embedding->columns, backend->x + i * backend->strides.hidden);
        cpu_rope_angles(&backend->rope, row->position, backend->cosines + (size_t)i * pairs,
                        backend->sines + (size_t)i * pairs);
    }
}

static void add_bias(float *x, const float *bias, uint32_t count)
{
    for (uint32_t i = 0; bias != NULL && i < count; i++)
        x[i] += bias[i];
}

static void norm_heads(const struct cpu_backend *backend, float *x, const float *weight,
                       uint32_t heads)
{
    uint32_t head_dim = backend->model->head_dim;

    for (uint32_t head = 0; weight != NULL && head < heads; head++)
        norm(backend, x + head * head_dim, weight, head_dim, x + head * head_dim);
}

/* What some architectures do to the projections of a row before they are rotated. */
static void finish_projections(const struct step *step, float *q, float *k, float *v)
{
    const struct cpu_backend *backend = step->backend;
    const struct model *model = backend->model;

    add_bias(q, step->layer->q_bias, model->heads * model->head_dim);
    add_bias(k, step->layer->k_bias, model->kv_heads * model->head_dim);
    add_bias(v, step->layer->v_bias, model->kv_heads * model->head_dim);
    norm_heads(backend, q, step->layer->q_norm, model->heads);
    norm_heads(backend, k, step->layer->k_norm, model->kv_heads);
}

/* Rotates a row's queries in place, and writes its keys and values to the pool. */
static void place_row(const struct step *step, uint32_t index)
{
    const struct cpu_backend *backend = step->backend;
    const struct engine_row *row = &step->batch->rows[index];
    const struct engine_batch_sequence *sequence = &step->batch->sequences[row->sequence];
    uint32_t head_dim = backend->model->head_dim;
    const float *cosines = backend->cosines + (size_t)index * backend->rope.pairs;
    const float *sines = backend->sines + (size_t)index * backend->rope.pairs;
    float *q = backend->q + index * backend->strides.attention;
    float *k = backend->k + index * backend->strides.kv;
    float *v = backend->v + index * backend->strides.kv;
    float scale = 1.0f / sqrtf((float)head_dim);
    float rotated[MODEL_HEAD_DIM_MAX];

    finish_projections(step, q, k, v);
    for (uint32_t head = 0; head < backend->model->heads; head++) {
        cpu_rope_rotate(&backend->rope, cosines, sines, q + head * head_dim, scale, rotated);
        memcpy(q + head * head_dim, rotated, head_dim * sizeof *q);
    }
    for (uint32_t head = 0; head < backend->model->kv_heads; head++) {
        cpu_rope_rotate(&backend->rope, cosines, sines, k + head * head_dim, 1.0f, rotated);
        cpu_kv_store(&backend->attention,
                     cpu_kv_entry(&backend->attention, sequence, row->position, step->layer_index,
                                  head, false),
                     rotated);
        cpu_kv_store(&backend->attention,
                     cpu_kv_entry(&backend->attention, sequence, row->position, step->layer_index,
                                  head, true),
                     v + head * head_dim);
    }
}

static void place_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;

    (void)thread;
    for (uint32_t row = unit * GRAIN; row < step->rows && row < (unit + 1) * GRAIN; row++)
        place_row(step, row);
}

/* ------------------------------------------------------------------ attention */

/* Neighbours of one sequence at consecutive positions share a tile. */
static bool joins(const struct step *step, const struct cpu_tile *tile,
                  const struct engine_row *row)
{
    return tile->sequence == &step->batch->sequences[row->sequence] &&
           tile->position + tile->rows == row->position &&
           tile->rows < cpu_attention_tile_rows(&step->backend->attention);
}

static void make_tiles(struct step *step)
{
    const struct cpu_backend *backend = step->backend;

    step->tile_count = 0;
    for (uint32_t i = 0; i < step->rows; i++) {
        const struct engine_row *row = &step->batch->rows[backend->active[i]];
        struct cpu_tile *tile = &backend->tiles[step->tile_count];

        if (i > 0 && joins(step, tile - 1, row)) {
            tile[-1].rows++;
            continue;
        }
        *tile = (struct cpu_tile){.sequence = &step->batch->sequences[row->sequence],
                                  .position = row->position,
                                  .rows = 1,
                                  .first = i};
        step->tile_count++;
    }
}

/* The last tiles of a prompt see the most: they go first, so that no thread is left with a long one. */
static void attend_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    uint32_t kv_heads = backend->model->kv_heads;
    const struct cpu_tile *tile = &backend->tiles[step->tile_count - 1 - unit / kv_heads];
    struct cpu_attention_unit work = {.tile = tile,
                                      .q = backend->q,
                                      .rows = backend->active + tile->first,
                                      .q_stride = backend->strides.attention,
                                      .out = backend->attended +
                                             tile->first * backend->strides.attention,
                                      .out_stride = backend->strides.attention,
                                      .kv_head = unit % kv_heads,
                                      .layer = step->layer_index};

    cpu_attend(&backend->attention, &work, scratch_of(backend, thread));
}

/* ------------------------------------------------------------------ feed-forward */

/* Rows of gate and up, and silu(gate) * up of them, while they are close. */
static void gate_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    uint32_t first = unit * step->gate_unit_rows;
    uint32_t left = step->weights->gate.rows - first;
    uint32_t count = left < step->gate_unit_rows ? left : step->gate_unit_rows;
    float *up = scratch_of(backend, thread);
    struct cpu_matmul product = {.matrix = &step->weights->gate,
                                 .x = backend->normed,
                                 .x_stride = backend->strides.hidden,
                                 .y_stride = backend->strides.ffn,
                                 .tokens = step->rows,
                                 .is_whole = backend->is_whole};

    cpu_matmul_unit(backend->kernels, &product, unit, step->gate_unit_rows, backend->gate + first);
    product.matrix = &step->weights->up;
    product.y_stride = step->gate_unit_rows;
    cpu_matmul_unit(backend->kernels, &product, unit, step->gate_unit_rows, up);
    for (uint32_t token = 0; token < step->rows; token++)
        backend->kernels->rows->silu_multiply(backend->gate + token * backend->strides.ffn + first,
                                              up + (size_t)token * step->gate_unit_rows, count);
}

/* ------------------------------------------------------------------ layers */

static void run_attention(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    uint32_t kv_heads = backend->model->kv_heads;

    cpu_team_run(backend->team, attend_unit, step, step->tile_count * kv_heads);
    end_phase(step, CPU_PHASE_ATTENTION);
    run_sums(step, backend->attended, backend->strides.attention,
             step->weights->attention_output.columns);
    add_product(step, (struct cpu_matmul){.matrix = &step->weights->attention_output,
                                          .x = backend->attended,
                                          .x_stride = backend->strides.attention,
                                          .y = backend->x,
                                          .y_stride = backend->strides.hidden,
                                          .tokens = step->rows,
                                          .add = true,
                                          .is_whole = backend->is_whole});
    run_products(step, CPU_PHASE_ATTENTION_OUTPUT);
}

static void run_feed_forward(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    uint32_t ffn = step->weights->gate.rows;

    run_norm(step, step->layer->ffn_norm);
    step->gate_unit_rows = cpu_unit_rows(ffn, step->rows, backend->threads);
    cpu_team_run(backend->team, gate_unit, step, units_of(ffn, step->gate_unit_rows));
    end_phase(step, CPU_PHASE_GATE_UP);
    run_sums(step, backend->gate, backend->strides.ffn, ffn);
    add_product(step, (struct cpu_matmul){.matrix = &step->weights->down,
                                          .x = backend->gate,
                                          .x_stride = backend->strides.ffn,
                                          .y = backend->x,
                                          .y_stride = backend->strides.hidden,
                                          .tokens = step->rows,
                                          .add = true,
                                          .is_whole = backend->is_whole});
    run_products(step, CPU_PHASE_DOWN);
}

/* Queries, keys and values of all rows; keys and values go to the pool. */
static void run_projections(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    struct cpu_matmul product = {
        .x = backend->normed, .x_stride = backend->strides.hidden, .tokens = step->rows};

    run_norm(step, step->layer->attention_norm);
    product.matrix = &step->weights->q;
    product.y = backend->q;
    product.y_stride = backend->strides.attention;
    product.is_whole = backend->is_whole;
    add_product(step, product);
    product.is_whole =
        false; /* what every later token reads: little work, and most of the exactness */
    product.matrix = &step->weights->k;
    product.y = backend->k;
    product.y_stride = backend->strides.kv;
    add_product(step, product);
    product.matrix = &step->weights->v;
    product.y = backend->v;
    add_product(step, product);
    run_products(step, CPU_PHASE_QKV);
    cpu_team_run(backend->team, place_unit, step, units_of(step->rows, GRAIN));
    end_phase(step, CPU_PHASE_PLACE);
}

/* In the last layer only the rows that somebody wants go on behind their keys and values. */
static void select_wanted(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct engine_batch *batch = step->batch;
    size_t stride = backend->strides.hidden;
    uint32_t count = 0;

    memset(backend->place, 0, batch->row_count * sizeof *backend->place);
    for (uint32_t i = 0; i < batch->output_count; i++)
        if (!batch->outputs[i].is_head)
            backend->place[batch->outputs[i].row] = 1;
    for (uint32_t row = 0; row < batch->row_count; row++) {
        if (backend->place[row] == 0)
            continue;
        backend->active[count] = row;
        backend->place[row] = count;
        if (count != row)
            memcpy(backend->x + count * stride, backend->x + row * stride, stride * sizeof(float));
        count++;
    }
    step->rows = count;
    make_tiles(step);
}

static void run_layers(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct model *model = backend->model;

    step->rows = step->batch->row_count;
    for (uint32_t row = 0; row < step->rows; row++)
        backend->active[row] = row;
    make_tiles(step);
    cpu_team_run(backend->team, embed_unit, step, units_of(step->rows, GRAIN));
    end_phase(step, CPU_PHASE_EMBED);
    for (uint32_t i = 0; i < model->layers; i++) {
        step->layer = &model->layer[i];
        step->weights = &backend->weights->layer[i];
        step->layer_index = i;
        run_projections(step);
        if (i + 1 == model->layers)
            select_wanted(step);
        if (step->rows == 0)
            return;
        run_attention(step);
        run_feed_forward(step);
    }
}

/* ------------------------------------------------------------------ outputs */

/* Normalizes the states that logits are wanted of; hands out hidden states. Logits come first. */
static void prepare_outputs(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct engine_batch *batch = step->batch;
    size_t stride = backend->strides.hidden;
    uint32_t hidden_place = 0;

    step->logits_count = 0;
    for (uint32_t i = 0; i < batch->output_count; i++)
        hidden_place += batch->outputs[i].want == ENGINE_WANT_LOGITS;
    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_output *output = &batch->outputs[i];
        const float *state = output->is_head ? batch->heads[output->row]
                                             : backend->x + backend->place[output->row] * stride;
        bool is_logits = output->want == ENGINE_WANT_LOGITS;
        uint32_t place = is_logits ? step->logits_count++ : hidden_place++;
        float *result = backend->results + place * backend->strides.result;

        if (is_logits)
            norm_input(backend, state, backend->model->output_norm,
                       backend->normed + place * stride);
        else
            memcpy(result, state, backend->model->hidden * sizeof *result);
        backend->outputs[i] = result;
    }
}

void cpu_forward(struct cpu_backend *backend, const struct engine_batch *batch)
{
    struct step step = {.backend = backend, .batch = batch, .since_ns = td_now_ns()};

    backend->phases.steps++;
    if (batch->row_count > 0)
        run_layers(&step);
    prepare_outputs(&step);
    end_phase(&step, CPU_PHASE_OUTPUTS);
    if (step.logits_count == 0)
        return;
    add_product(&step, (struct cpu_matmul){.matrix = &backend->weights->output,
                                           .x = backend->normed,
                                           .x_stride = backend->strides.hidden,
                                           .y = backend->results,
                                           .y_stride = backend->strides.result,
                                           .tokens = step.logits_count,
                                           .is_whole = backend->is_whole});
    run_products(&step, CPU_PHASE_HEAD);
}
