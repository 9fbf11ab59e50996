/* matmul.c: see matmul.h. */
#include "engine/cpu/matmul.h"

#include <assert.h>
#include <string.h>

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
    const struct cpu_pack_form *form = &cpu_pack_forms[matrix->type];

    if (is_whole) {
        switch (cpu_rounded_operand(form->quants, form->scales)) {
        case CPU_OPERAND_QUANTS: return CPU_INPUT_QUANTS;
        case CPU_OPERAND_BFLOATS: return CPU_INPUT_BFLOATS;
        case CPU_OPERAND_FLOATS: break;
        }
    }
    return form->scales == CPU_SCALES_MINIMUM || form->scales == CPU_SCALES_K
               ? CPU_INPUT_FLOATS | CPU_INPUT_SUMS
               : CPU_INPUT_FLOATS;
}

void cpu_matmul_make_parts(const struct cpu_kernels *kernels, unsigned parts, float *x,
                           const struct cpu_input_run *run)
{
    const struct cpu_product_kernels *products = kernels->products;
    uint32_t columns = run->columns;
    uint32_t first = run->begin / CPU_PACK_COLUMNS;
    uint32_t end = cpu_pack_blocks(run->end);
    size_t floats = (size_t)(end - first) * CPU_PACK_COLUMNS;
    size_t used = run->end - run->begin;

    assert(run->begin % CPU_PACK_COLUMNS == 0 &&
           (run->end % CPU_PACK_COLUMNS == 0 || run->end == columns));
    memset(x + used, 0, (floats - used) * sizeof *x);
    if ((parts & CPU_INPUT_FLOATS) != 0 && x != run->input + run->begin)
        memcpy(run->input + run->begin, x, floats * sizeof *x);
    if ((parts & CPU_INPUT_SUMS) != 0)
        products->block_sums(x, run->input, columns, first, end);
    if ((parts & CPU_INPUT_QUANTS) != 0)
        products->quantize(x, run->input, columns, first, end);
    if ((parts & CPU_INPUT_REST) != 0)
        products->quantize_rest(x, run->input, columns, first, end);
    if ((parts & CPU_INPUT_BFLOATS) != 0)
        products->bfloats(x, run->input, columns, first, end);
}

/* ------------------------------------------------------------------ units */

/* The smallest units, in groups: a whole block of 32 columns of what they are the input of. */
#define UNIT_GROUPS_MIN (CPU_PACK_COLUMNS / CPU_PACK_ROWS)

/* While there is enough left, units are whole numbers of so many groups: each begins a run of memory anew. */
#define UNIT_GROUPS_STEP 4

/*
 * With few tokens long runs of memory are what counts. With many, the activations stream through the first-level
 * cache in tiles while the unit's weights stay in the second: 128 rows of 1,536 columns at 5 bits are 120 KiB.
 */
struct cpu_cut cpu_cut(uint32_t groups, uint32_t tokens, uint32_t threads)
{
    uint32_t rows_max = tokens <= CPU_FEW_TOKENS ? CPU_UNIT_ROWS_FEW : CPU_UNIT_ROWS_MANY;

    return (struct cpu_cut){groups, threads, rows_max / CPU_PACK_ROWS};
}

/* The size of the next units, one for each thread: together four fifths of what is left. */
static uint32_t next_size(const struct cpu_cut *cut, uint32_t left)
{
    uint32_t size = left / cut->threads * 4 / 5;

    if (size > cut->groups_max)
        size = cut->groups_max;
    if (size < UNIT_GROUPS_STEP && left / cut->threads >= UNIT_GROUPS_STEP)
        size = UNIT_GROUPS_STEP;
    if (size >= UNIT_GROUPS_STEP)
        return size / UNIT_GROUPS_STEP * UNIT_GROUPS_STEP;
    return UNIT_GROUPS_MIN;
}

uint32_t cpu_cut_units(const struct cpu_cut *cut)
{
    uint32_t units = 0;
    uint32_t left = cut->groups;

    while (left > 0) {
        uint32_t size = next_size(cut, left);
        uint32_t count = cut->threads;

        if ((uint64_t)count * size > left)
            count = (left + size - 1) / size;
        units += count;
        left -= left < count * size ? left : count * size;
    }
    return units;
}

struct cpu_run cpu_cut_unit(const struct cpu_cut *cut, uint32_t unit)
{
    uint32_t first = 0;
    uint32_t size = next_size(cut, cut->groups);

    for (; unit >= cut->threads; unit -= cut->threads) {
        first += cut->threads * size;
        size = next_size(cut, cut->groups - first);
    }
    first += unit * size;
    return (struct cpu_run){first, cut->groups - first < size ? cut->groups - first : size};
}

void cpu_matmul_run(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                    struct cpu_run run, float *y)
{
    struct cpu_product job = {.matrix = matmul->matrix,
                              .first = run.first,
                              .groups = run.count,
                              .x = matmul->x,
                              .x_stride = matmul->x_stride,
                              .tokens = matmul->tokens,
                              .y = y,
                              .y_stride = matmul->y_stride,
                              .add = matmul->add,
                              .is_whole = matmul->is_whole,
                              .has_rest = matmul->has_rest};

    kernels->products->multiply(&job);
}

void cpu_products_add(struct cpu_products *products, struct cpu_matmul product, uint32_t threads)
{
    assert(products->count < CPU_PRODUCTS_MAX);
    products->product[products->count++] = product;
    products->cut = cpu_cut(products->cut.groups + cpu_pack_groups(product.matrix->rows),
                            product.tokens, threads);
}

/* A unit may be the end of one product and the beginning of the next. */
void cpu_products_unit(const struct cpu_kernels *kernels, const struct cpu_products *products,
                       uint32_t unit)
{
    struct cpu_run run = cpu_cut_unit(&products->cut, unit);

    for (uint32_t i = 0; i < products->count && run.count > 0; i++) {
        const struct cpu_matmul *product = &products->product[i];
        uint32_t groups = cpu_pack_groups(product->matrix->rows);
        struct cpu_run part = run;

        if (run.first >= groups) {
            run.first -= groups;
            continue;
        }
        if (part.count > groups - part.first)
            part.count = groups - part.first;
        cpu_matmul_run(kernels, product, part, product->y + (size_t)part.first * CPU_PACK_ROWS);
        run = (struct cpu_run){0, run.count - part.count};
    }
}
