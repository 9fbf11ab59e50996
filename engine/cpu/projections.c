/*
 * projections.c: the first part of a layer: norm, queries, keys and values, and their places. See step.h.
 */
#include <string.h>

#include "engine/cpu/balance.h"
#include "engine/cpu/step.h"

static void norm_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    uint32_t hidden = backend->model->hidden;
    struct step_rows rows = step_rows(step, unit);
    float *normed = step_scratch(step, thread);

    for (uint32_t row = rows.first; row < rows.end; row++) {
        step_norm(backend, backend->x + row * backend->strides.hidden, step->norm_weight, hidden,
                  normed);
        cpu_matmul_make_parts(
            backend->kernels, step->parts, normed,
            &(struct cpu_input_run){.input = backend->normed + row * backend->strides.hidden,
                                    .columns = hidden,
                                    .end = hidden});
    }
}

void step_run_norm(struct step *step, const float *weight, unsigned parts)
{
    step->norm_weight = weight;
    step->parts = parts;
    step_run_rows(step, norm_unit, step->backend->model->hidden, CPU_PHASE_NORM);
}

/* ------------------------------------------------------------------ places */

/* What some architectures do to heads before they are turned. */
static void finish_heads(const struct cpu_backend *backend, float *x, const float *bias,
                         const float *norm_weight, uint32_t first, uint32_t heads)
{
    uint32_t head_dim = backend->model->head_dim;

    x += (size_t)first * head_dim;
    if (bias != NULL)
        backend->kernels->rows->add(x, bias + (size_t)first * head_dim, heads * head_dim);
    for (uint32_t head = 0; norm_weight != NULL && head < heads; head++)
        step_norm(backend, x + head * head_dim, norm_weight, head_dim, x + head * head_dim);
}

static struct cpu_rotation rotation_of(const struct cpu_backend *backend, uint32_t row)
{
    return (struct cpu_rotation){.cosines = backend->cosines + (size_t)row * backend->rope.pairs,
                                 .sines = backend->sines + (size_t)row * backend->rope.pairs,
                                 .pairs = backend->rope.pairs,
                                 .is_interleaved = backend->rope.is_interleaved};
}

void step_turn(const struct step *step, uint32_t row, uint32_t kv_head)
{
    const struct cpu_backend *backend = step->backend;
    const struct model_layer *layer = step->layer;
    const struct cpu_rotation rotation = rotation_of(backend, row);
    uint32_t head_dim = backend->model->head_dim;
    uint32_t group = backend->model->heads / backend->model->kv_heads;
    const float *balance =
        cpu_balance_of(backend->balance, backend->model, step->layer_index, kv_head);
    float *q = backend->q + row * backend->strides.attention;
    float turned[MODEL_HEAD_DIM_MAX];

    finish_heads(backend, q, layer->q_bias, layer->q_norm, kv_head * group, group);
    q += (size_t)kv_head * group * head_dim;
    for (uint32_t head = 0; head < group; head++, q += head_dim) {
        backend->kernels->rows->rotate(&rotation, q, backend->attention.query_scale, turned);
        memcpy(q, turned, head_dim * sizeof *q);
        for (uint32_t d = 0; balance != NULL && d < head_dim; d++)
            q[d] *= balance[d];
    }
}

void step_place(const struct step *step, uint32_t row, uint32_t kv_head)
{
    const struct cpu_backend *backend = step->backend;
    const struct model_layer *layer = step->layer;
    const struct engine_row *about = &step->batch->rows[row];
    const struct cpu_kv_place place = {.sequence = &step->batch->sequences[about->sequence],
                                       .position = about->position,
                                       .layer = step->layer_index,
                                       .kv_head = kv_head};
    const struct cpu_rotation rotation = rotation_of(backend, row);
    uint32_t head_dim = backend->model->head_dim;
    const float *balance =
        cpu_balance_of(backend->balance, backend->model, step->layer_index, kv_head);
    float *k = backend->k + row * backend->strides.kv;
    float *v = backend->v + row * backend->strides.kv;
    float turned[MODEL_HEAD_DIM_MAX];

    finish_heads(backend, k, layer->k_bias, layer->k_norm, kv_head, 1);
    finish_heads(backend, v, layer->v_bias, NULL, kv_head, 1);
    backend->kernels->rows->rotate(&rotation, k + kv_head * head_dim, 1.0f, turned);
    for (uint32_t d = 0; balance != NULL && d < head_dim; d++)
        turned[d] /= balance[d];
    cpu_kv_store(&backend->attention.kv, &place, turned, v + kv_head * head_dim);
}

static void place_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    struct step_rows rows = step_rows(step, unit);

    (void)thread;
    for (uint32_t row = rows.first; row < rows.end; row++)
        for (uint32_t kv_head = 0; kv_head < step->backend->model->kv_heads; kv_head++) {
            step_place(step, row, kv_head);
            if (!step->attention_turns)
                step_turn(step, row, kv_head);
        }
}

/* ------------------------------------------------------------------ products */

/*
 * Keys and values are what every later token reads: of them little is lost. Returns the parts of the input that the
 * product reads.
 */
static unsigned add_kept(struct step *step, const struct cpu_matrix *matrix, float *y)
{
    const struct cpu_backend *backend = step->backend;
    struct cpu_matmul product = {.matrix = matrix,
                                 .x = backend->normed,
                                 .x_stride = backend->strides.hidden,
                                 .y = y,
                                 .y_stride = backend->strides.kv,
                                 .tokens = step->rows};

    product.is_whole = product.has_rest =
        backend->is_whole && cpu_matmul_parts(matrix, true) == CPU_INPUT_QUANTS;
    cpu_products_add(&step->products, product, backend->threads);
    return cpu_matmul_parts(matrix, product.is_whole) | (product.has_rest ? CPU_INPUT_REST : 0);
}

static unsigned add_queries(struct step *step)
{
    const struct cpu_backend *backend = step->backend;
    const struct cpu_matrix *matrix = &step->weights->q;

    cpu_products_add(&step->products,
                     (struct cpu_matmul){.matrix = matrix,
                                         .x = backend->normed,
                                         .x_stride = backend->strides.hidden,
                                         .y = backend->q,
                                         .y_stride = backend->strides.attention,
                                         .tokens = step->rows,
                                         .is_whole = backend->is_whole},
                     backend->threads);
    return cpu_matmul_parts(matrix, backend->is_whole);
}

void step_run_projections(struct step *step)
{
    const struct cpu_backend *backend = step->backend;
    unsigned parts = add_kept(step, &step->weights->k, backend->k);

    parts |= add_kept(step, &step->weights->v, backend->v);
    parts |= add_queries(step);
    step_run_norm(step, step->layer->attention_norm, parts);
    step_run_products(step, CPU_PHASE_QKV);
    if (!step->attention_places)
        step_run_rows(step, place_unit, backend->strides.attention + 2 * backend->strides.kv,
                      CPU_PHASE_PLACE);
}
