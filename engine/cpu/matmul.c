/* matmul.c: see matmul.h. */
#include "engine/cpu/matmul.h"

/*
 * With one token, a unit is four streams of weights, far enough apart. With many, the activations stream
 * through the first-level cache in tiles while the unit's weights stay in the second: 64 rows of 1,536
 * columns at 5 bits are 60 KiB.
 */
#define UNIT_ROWS_MANY  64
#define STRIDE_CONFLICT 256 /* floats */

size_t cpu_row_stride(size_t floats)
{
    size_t stride = (floats + CPU_LANES - 1) / CPU_LANES * CPU_LANES;

    /* The kernels walk up to twelve rows at once: spread them over the sets of the cache. */
    return stride % STRIDE_CONFLICT == 0 ? stride + CPU_LANES : stride;
}

uint32_t cpu_unit_rows(uint32_t rows, uint32_t tokens, uint32_t threads)
{
    uint32_t rows_max = tokens > 1 ? UNIT_ROWS_MANY : CPU_UNIT_ROWS_MAX;
    /* the same number of units for every thread, all of about the same size */
    uint32_t units = (rows + threads * rows_max - 1) / (threads * rows_max) * threads;
    uint32_t unit_rows = (rows + units - 1) / units;

    return (unit_rows + CPU_PACK_ROWS - 1) / CPU_PACK_ROWS * CPU_PACK_ROWS;
}

void cpu_matmul_unit(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                     uint32_t unit, uint32_t unit_rows, float *y)
{
    uint32_t groups = cpu_pack_groups(matmul->matrix->rows);
    uint32_t unit_groups = unit_rows / CPU_PACK_ROWS;
    uint32_t first = unit * unit_groups;
    struct cpu_product job = {.matrix = matmul->matrix,
                              .first = first,
                              .groups = groups - first < unit_groups ? groups - first : unit_groups,
                              .x = matmul->x,
                              .x_stride = matmul->x_stride,
                              .tokens = matmul->tokens,
                              .y = y,
                              .y_stride = matmul->y_stride,
                              .add = matmul->add,
                              .is_whole = matmul->is_whole};

    kernels->products->multiply(&job);
}
