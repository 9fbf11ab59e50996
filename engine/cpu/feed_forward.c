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
    struct cpu_run run = cpu_cut_unit(&step->cut, unit);
    uint32_t first = run.first * CPU_PACK_ROWS;
    uint32_t count =
        run.count * CPU_PACK_ROWS < ffn - first ? run.count * CPU_PACK_ROWS : ffn - first;
    float *up = step_scratch(step, thread);
    struct cpu_matmul product = {.matrix = &step->weights->gate,
                                 .x = backend->normed,
                                 .x_stride = backend->strides.hidden,
                                 .y_stride = backend->strides.ffn,
                                 .tokens = step->rows,
                                 .is_whole = backend->is_whole};

    cpu_matmul_run(backend->kernels, &product, run, backend->gate + first);
    product.matrix = &step->weights->up;
    product.y_stride = count;
    cpu_matmul_run(backend->kernels, &product, run, up);
    for (uint32_t token = 0; token < step->rows; token++) {
        float *gate = backend->gate + token * backend->strides.ffn;

        backend->kernels->rows->silu_multiply(gate + first, up + (size_t)token * count, count);
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
