/*
 * feed_forward.c: the last part of a layer: norm, gate and up, and down. See step.h.
 */
#include "engine/cpu/step.h"

/* Gate and up of so many tokens, of which a unit makes its rows of the next input before they leave the cache. */
#define TOKENS_TOGETHER 48

size_t step_feed_forward_scratch_floats(void)
{
    size_t few = (size_t)CPU_FEW_TOKENS * CPU_UNIT_ROWS_FEW;
    size_t many = (size_t)TOKENS_TOGETHER * CPU_UNIT_ROWS_MANY;

    return 2 * (few > many ? few : many);
}

/* Rows of gate and up, and what they become of the input of down, silu(gate) * up, for the tokens first to end - 1. */
static void activate(const struct step *step, struct cpu_run run, uint32_t first, uint32_t end,
                     float *scratch)
{
    const struct cpu_backend *backend = step->backend;
    uint32_t ffn = step->weights->gate.rows;
    uint32_t row = run.first * CPU_PACK_ROWS;
    uint32_t room = cpu_pack_blocks(run.count * CPU_PACK_ROWS) * CPU_PACK_COLUMNS;
    uint32_t rows = room < ffn - row ? room : ffn - row;
    float *up = scratch + (size_t)(end - first) * room;
    struct cpu_matmul product = {.matrix = &step->weights->gate,
                                 .x = backend->normed + first * backend->strides.hidden,
                                 .x_stride = backend->strides.hidden,
                                 .y_stride = room,
                                 .tokens = end - first,
                                 .is_whole = backend->is_whole};

    cpu_matmul_run(backend->kernels, &product, run, scratch);
    product.matrix = &step->weights->up;
    cpu_matmul_run(backend->kernels, &product, run, up);
    for (uint32_t token = first; token < end; token++, scratch += room, up += room) {
        backend->kernels->rows->silu_multiply(scratch, up, rows);
        cpu_matmul_make_parts(
            backend->kernels, step->parts, scratch,
            &(struct cpu_input_run){.input = backend->gate + token * backend->strides.ffn,
                                    .columns = ffn,
                                    .begin = row,
                                    .end = row + rows});
    }
}

static void gate_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    struct cpu_run run = cpu_cut_unit(&step->cut, unit);
    uint32_t end;

    for (uint32_t first = 0; first < step->rows; first = end) {
        end = step->rows - first < TOKENS_TOGETHER ? step->rows : first + TOKENS_TOGETHER;
        activate(step, run, first, end, step_scratch(step, thread));
    }
}

void step_run_feed_forward(struct step *step)
{
    struct cpu_backend *backend = step->backend;
    const struct cpu_layer *weights = step->weights;
    uint32_t ffn = weights->gate.rows;

    step_run_norm(step, step->layer->ffn_norm,
                  cpu_matmul_parts(&weights->gate, backend->is_whole) |
                      cpu_matmul_parts(&weights->up, backend->is_whole));
    step->parts = cpu_matmul_parts(&weights->down, backend->is_whole);
    step->cut = cpu_cut(cpu_pack_groups(ffn), step->rows, backend->threads);
    step_run(step, gate_unit, cpu_cut_units(&step->cut), CPU_PHASE_GATE_UP);
    cpu_products_add(&step->products,
                     (struct cpu_matmul){.matrix = &weights->down,
                                         .x = backend->gate,
                                         .x_stride = backend->strides.ffn,
                                         .y = backend->x,
                                         .y_stride = backend->strides.hidden,
                                         .tokens = step->rows,
                                         .add = true,
                                         .is_whole = backend->is_whole},
                     backend->threads);
    step_run_products(step, CPU_PHASE_DOWN);
}
