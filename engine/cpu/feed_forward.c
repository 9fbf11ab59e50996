/*
 * feed_forward.c: the last part of a layer: norm, gate and up, and down. See step.h.
 */
#include "engine/cpu/step.h"

/*
 * Rows of gate and up, silu(gate) * up of them, and what stands behind the input that they are then, all while it
 * is close.
 */
static void gate_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct step *step = context;
    const struct cpu_backend *backend = step->backend;
    uint32_t ffn = step->weights->gate.rows;
    uint32_t first = unit * step->unit_rows;
    uint32_t count = ffn - first < step->unit_rows ? ffn - first : step->unit_rows;
    float *up = step_scratch(step, thread);
    struct cpu_matmul product = {.matrix = &step->weights->gate,
                                 .x = backend->normed,
                                 .x_stride = backend->strides.hidden,
                                 .y_stride = backend->strides.ffn,
                                 .tokens = step->rows,
                                 .is_whole = backend->is_whole};

    cpu_matmul_unit(backend->kernels, &product, unit, step->unit_rows, backend->gate + first);
    product.matrix = &step->weights->up;
    product.y_stride = step->unit_rows;
    cpu_matmul_unit(backend->kernels, &product, unit, step->unit_rows, up);
    for (uint32_t token = 0; token < step->rows; token++) {
        float *gate = backend->gate + token * backend->strides.ffn;

        backend->kernels->rows->silu_multiply(gate + first, up + (size_t)token * step->unit_rows,
                                              count);
        cpu_matmul_make_parts(backend->kernels, step->parts, gate, ffn, first, first + count);
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
    step->unit_rows = cpu_unit_rows(ffn, step->rows, backend->threads, CPU_PACK_COLUMNS);
    step_run(step, gate_unit, (ffn + step->unit_rows - 1) / step->unit_rows, CPU_PHASE_GATE_UP);
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
