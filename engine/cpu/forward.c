/*
 * forward.c: see forward.h.
 *
 * A layer is projections.c, then attention (here), then feed_forward.c. For a few rows, one of each of as many
 * sequences, its pieces are five: docs/engine.md draws them.
 */
#include "engine/cpu/forward.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/step.h"
#include "lib/base/time.h"

/* Floats that a thread is done with sooner than with telling another one about them. */
#define FLOATS_ALONE 2048

/* Units of rows for each thread, so that none waits long for the last, and rows of one at most. */
#define ROW_UNITS     4
#define ROW_UNIT_ROWS 16 /* two threads in one group of K would take its lines from each other */

size_t cpu_forward_scratch_floats(const struct cpu_backend *backend)
{
    size_t norm = cpu_input_sums(backend->model->hidden);
    size_t attention = cpu_attention_scratch_floats(&backend->attention);
    size_t most = step_feed_forward_scratch_floats();

    most = attention > most ? attention : most;
    return norm > most ? norm : most;
}

/* ------------------------------------------------------------------ pieces */

float *step_scratch(const struct step *step, uint32_t thread)
{
    return step->backend->scratch + thread * step->backend->strides.scratch;
}

/* What was done since the last phase ended was this one. */
static void end_phase(struct step *step, enum cpu_phase phase)
{
    uint64_t now_ns = td_now_ns();

    step->backend->phases.ns[phase] += now_ns - step->since_ns;
    step->since_ns = now_ns;
}

void step_run(struct step *step, cpu_unit_fn unit_fn, uint32_t units, enum cpu_phase phase)
{
    cpu_team_run(step->backend->team, unit_fn, step, units);
    end_phase(step, phase);
}

void step_run_rows(struct step *step, cpu_unit_fn unit_fn, size_t floats, enum cpu_phase phase)
{
    uint32_t units_wanted = ROW_UNITS * step->backend->threads;

    step->unit_rows = (step->rows + units_wanted - 1) / units_wanted;
    if (step->unit_rows > ROW_UNIT_ROWS)
        step->unit_rows = ROW_UNIT_ROWS;
    if (step->rows * floats <= FLOATS_ALONE)
        step->unit_rows = step->rows;
    step_run(step, unit_fn, (step->rows + step->unit_rows - 1) / step->unit_rows, phase);
}

struct step_rows step_rows(const struct step *step, uint32_t unit)
{
    uint32_t first = unit * step->unit_rows;
    uint32_t left = step->rows - first;

    return (struct step_rows){first, first + (left < step->unit_rows ? left : step->unit_rows)};
}

static void product_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;

    (void)thread;
    cpu_products_unit(step->backend->kernels, &step->products, unit);
}

void step_run_products(struct step *step, enum cpu_phase phase)
{
    step_run(step, product_unit, cpu_cut_units(&step->products.cut), phase);
    step->products = (struct cpu_products){0};
}

void step_norm(const struct cpu_backend *backend, const float *x, const float *weight,
               uint32_t count, float *out)
{
    const struct cpu_row_kernels *kernels = backend->kernels->rows;
    float mean = kernels->sum_squares(x, count) / (float)count;

    kernels->scale(x, 1.0f / sqrtf(mean + backend->model->rms_epsilon), weight, count, out);
}

/* ------------------------------------------------------------------ embeddings */

/* The embeddings of the tokens, and the angles of the positions. */
static void embed_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    const struct model_matrix *embedding = &backend->model->embedding;
    uint32_t pairs = backend->rope.pairs;
    struct step_rows rows = step_rows(step, unit);

    (void)thread;
    for (uint32_t i = rows.first; i < rows.end; i++) {
        const struct engine_row *row = &step->batch->rows[i];

        model_matrix_row(embedding, row->token, backend->x + i * backend->strides.hidden);
        cpu_rope_angles(&backend->rope, row->position, backend->cosines + (size_t)i * pairs,
                        backend->sines + (size_t)i * pairs);
    }
}

/* ------------------------------------------------------------------ attention */

static void make_tiles(struct step *step)
{
    const struct cpu_backend *backend = step->backend;

    cpu_tiles_clear(backend->tiles);
    for (uint32_t i = 0; i < step->rows; i++) {
        const struct engine_row *row = &step->batch->rows[backend->active[i]];

        cpu_tiles_add(backend->tiles, &step->batch->sequences[row->sequence], row->position);
    }
    cpu_tiles_cut(backend->tiles);
}

/* What a unit of attention writes of a row: as many columns of what the next product reads. */
static uint32_t attention_columns(const struct cpu_backend *backend)
{
    return backend->model->heads / backend->model->kv_heads * backend->model->head_dim;
}

static bool has_whole_blocks(const struct cpu_backend *backend)
{
    return attention_columns(backend) % CPU_PACK_COLUMNS == 0;
}

/* Of some columns of a row. */
static void make_attended_parts(const struct step *step, uint32_t row, uint32_t begin, uint32_t end)
{
    const struct cpu_backend *backend = step->backend;
    float *attended = backend->attended + row * backend->strides.attention;

    cpu_matmul_make_parts(
        backend->kernels, step->parts, attended + begin,
        &(struct cpu_input_run){attended, step->weights->attention_output.columns, begin, end});
}

static void attend_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    const struct cpu_tiles_job job = {.q = backend->q,
                                      .q_stride = backend->strides.attention,
                                      .rows = backend->active,
                                      .out = backend->attended,
                                      .out_stride = backend->strides.attention,
                                      .layer = step->layer_index};
    struct cpu_tiles_unit part = cpu_tiles_unit(backend->tiles, unit);
    uint32_t end = part.tile->first + part.tile->rows;
    uint32_t columns = attention_columns(backend);

    for (uint32_t row = part.tile->first; step->attention_turns && row < end; row++) {
        step_turn(step, backend->active[row], part.kv_head);
        if (step->attention_places)
            step_place(step, backend->active[row], part.kv_head);
    }
    if (!cpu_tiles_attend(backend->tiles, &job, unit, step_scratch(step, thread)))
        return;
    for (uint32_t row = part.tile->first; has_whole_blocks(backend) && row < end; row++)
        make_attended_parts(step, row, part.kv_head * columns, (part.kv_head + 1) * columns);
}

static void parts_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    struct step_rows rows = step_rows(step, unit);

    (void)thread;
    for (uint32_t row = rows.first; row < rows.end; row++)
        make_attended_parts(step, row, 0, step->weights->attention_output.columns);
}

static void run_attention(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct cpu_matrix *matrix = &step->weights->attention_output;

    step->parts = cpu_matmul_parts(matrix, backend->is_whole);
    step_run(step, attend_unit, cpu_tiles_units(backend->tiles), CPU_PHASE_ATTENTION);
    if (!has_whole_blocks(backend))
        step_run_rows(step, parts_unit, matrix->columns, CPU_PHASE_INPUTS);
    cpu_products_add(&step->products,
                     (struct cpu_matmul){.matrix = matrix,
                                         .x = backend->attended,
                                         .x_stride = backend->strides.attention,
                                         .y = backend->x,
                                         .y_stride = backend->strides.hidden,
                                         .tokens = step->rows,
                                         .add = true,
                                         .is_whole = backend->is_whole},
                     backend->threads);
    step_run_products(step, CPU_PHASE_ATTENTION_OUTPUT);
}

/* ------------------------------------------------------------------ layers */

/* Marks the rows whose output is wanted; returns how many they are. */
static uint32_t mark_wanted(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct engine_batch *batch = step->batch;
    uint32_t count = 0;

    memset(backend->place, 0, batch->row_count * sizeof *backend->place);
    for (uint32_t i = 0; i < batch->output_count; i++) {
        uint32_t *mark = &backend->place[batch->outputs[i].row];

        if (batch->outputs[i].is_head || *mark != 0)
            continue;
        *mark = 1;
        count++;
    }
    return count;
}
/* In the last layer only the marked rows go on behind their keys and values. */
static void select_wanted(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct engine_batch *batch = step->batch;
    size_t stride = backend->strides.hidden;
    uint32_t count = 0;

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

static void run_layer(struct step *step, uint32_t index)
{
    struct cpu_backend *backend = step->backend;
    bool is_last = index + 1 == backend->model->layers;

    step->layer = &backend->model->layer[index];
    step->weights = &backend->weights->layer[index];
    step->layer_index = index;
    if (is_last && mark_wanted(step) != step->rows)
        step->attention_turns = step->attention_places = false; /* it has other tiles */
    step_run_projections(step);
    if (is_last)
        select_wanted(step);
    if (step->rows == 0)
        return;
    run_attention(step);
    step_run_feed_forward(step);
}

static void run_layers(struct step *step)
{
    struct cpu_backend *backend = step->backend;

    step->rows = step->batch->row_count;
    for (uint32_t row = 0; row < step->rows; row++)
        backend->active[row] = row;
    make_tiles(step);
    step->attention_turns = cpu_tiles_are_whole(backend->tiles);
    step->attention_places = cpu_tiles_are_alone(backend->tiles);
    step_run_rows(step, embed_unit, backend->model->hidden, CPU_PHASE_EMBED);
    for (uint32_t i = 0; i < backend->model->layers; i++)
        run_layer(step, i);
}

/* ------------------------------------------------------------------ outputs */

static void norm_output(const struct cpu_backend *backend, const float *state, float *out)
{
    uint32_t hidden = backend->model->hidden;

    step_norm(backend, state, backend->model->output_norm, hidden, out);
    cpu_matmul_make_parts(backend->kernels,
                          cpu_matmul_parts(&backend->weights->output, backend->is_whole), out,
                          &(struct cpu_input_run){.input = out, .columns = hidden, .end = hidden});
}

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
            norm_output(backend, state, backend->normed + place * stride);
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
    cpu_products_add(&step.products,
                     (struct cpu_matmul){.matrix = &backend->weights->output,
                                         .x = backend->normed,
                                         .x_stride = backend->strides.hidden,
                                         .y = backend->results,
                                         .y_stride = backend->strides.result,
                                         .tokens = step.logits_count,
                                         .is_whole = backend->is_whole},
                     backend->threads);
    step_run_products(&step, CPU_PHASE_HEAD);
}
