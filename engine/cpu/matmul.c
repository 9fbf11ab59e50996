/* matmul.c: see matmul.h. */
#include "engine/cpu/matmul.h"

#include <assert.h>

#define STRIDE_CONFLICT 256 /* floats */

size_t cpu_row_stride(size_t floats)
{
    size_t stride = (floats + CPU_LANES - 1) / CPU_LANES * CPU_LANES;

    /* The kernels walk up to twelve rows at once: spread them over the sets of the cache. */
    return stride % STRIDE_CONFLICT == 0 ? stride + CPU_LANES : stride;
}

/* ------------------------------------------------------------------ inputs */

unsigned cpu_matmul_parts(const struct cpu_matrix *matrix, bool is_whole)
{
    switch (cpu_pack_forms[matrix->type].scales) {
    case CPU_SCALES_NONE: return 0;
    case CPU_SCALES_MINIMUM:
    case CPU_SCALES_K: return is_whole ? CPU_INPUT_QUANTS : CPU_INPUT_SUMS;
    default: return is_whole ? CPU_INPUT_QUANTS : 0;
    }
}

void cpu_matmul_make_parts(const struct cpu_kernels *kernels, unsigned parts, float *x,
                           uint32_t columns, uint32_t begin, uint32_t end)
{
    uint32_t first = begin / CPU_PACK_COLUMNS;
    uint32_t last = cpu_pack_blocks(end);

    assert(begin % CPU_PACK_COLUMNS == 0 && (end % CPU_PACK_COLUMNS == 0 || end == columns));
    if ((parts & CPU_INPUT_SUMS) != 0)
        kernels->products->block_sums(x, columns, first, last);
    if ((parts & CPU_INPUT_QUANTS) != 0)
        kernels->products->quantize(x, columns, first, last);
}

/* ------------------------------------------------------------------ units */

/*
 * With one token, a unit is four streams of weights, far enough apart. With many, the activations stream
 * through the first-level cache in tiles while the unit's weights stay in the second: 64 rows of 1,536
 * columns at 5 bits are 60 KiB.
 */
uint32_t cpu_unit_rows(uint32_t rows, uint32_t tokens, uint32_t threads, uint32_t multiple)
{
    uint32_t rows_max = tokens > 1 ? CPU_UNIT_ROWS_MANY : CPU_UNIT_ROWS_ONE;
    /* the same number of units for every thread, all of about the same size */
    uint32_t units = (rows + threads * rows_max - 1) / (threads * rows_max) * threads;
    uint32_t unit_rows = (rows + units - 1) / units;

    return (unit_rows + multiple - 1) / multiple * multiple;
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

void cpu_products_add(struct cpu_products *products, struct cpu_matmul product, uint32_t threads)
{
    uint32_t index = products->count++;
    uint32_t rows = product.matrix->rows;
    uint32_t unit_rows = cpu_unit_rows(rows, product.tokens, threads, CPU_PACK_ROWS);

    assert(index < CPU_PRODUCTS_MAX);
    products->product[index] = product;
    products->unit_rows[index] = unit_rows;
    products->units[index] = (rows + unit_rows - 1) / unit_rows;
}

uint32_t cpu_products_units(const struct cpu_products *products)
{
    uint32_t units = 0;

    for (uint32_t i = 0; i < products->count; i++)
        units += products->units[i];
    return units;
}

void cpu_products_unit(const struct cpu_kernels *kernels, const struct cpu_products *products,
                       uint32_t unit)
{
    const struct cpu_matmul *product;
    uint32_t index = 0;
    uint32_t rows;

    for (; unit >= products->units[index]; index++)
        unit -= products->units[index];
    product = &products->product[index];
    rows = products->unit_rows[index];
    cpu_matmul_unit(kernels, product, unit, rows, product->y + unit * rows);
}
