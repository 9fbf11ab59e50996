/* matmul.c: see matmul.h. */
#include "engine/cpu/matmul.h"

#include <string.h>

/*
 * A panel is a few rows of weights as floats. With many tokens it should be large, for the
 * activations stream through the caches once per panel; it must still stay in the second-level cache
 * (1 MiB and up on servers, 256 KiB and up elsewhere). With few tokens it is used once or twice and should
 * stay in the first level (32 KiB).
 */
#define PANEL_BYTES_MANY  ((size_t)128 << 10)
#define PANEL_BYTES_FEW   ((size_t)16 << 10)
#define PANEL_TOKENS_MANY 24
#define PANEL_ROWS_MANY   32
#define UNIT_ROWS_FEW     64
#define STRIDE_CONFLICT   256 /* floats */

size_t cpu_row_stride(uint32_t count)
{
    size_t stride = cpu_pad(count);

    /* The kernels walk up to ten rows at once: spread them over the sets of the cache. */
    return stride % STRIDE_CONFLICT == 0 ? stride + CPU_LANES : stride;
}

static uint32_t panel_rows(uint32_t columns, uint32_t tokens)
{
    size_t bytes = tokens >= PANEL_TOKENS_MANY ? PANEL_BYTES_MANY : PANEL_BYTES_FEW;
    size_t rows = bytes / (cpu_row_stride(columns) * sizeof(float));

    if (rows > PANEL_ROWS_MANY)
        rows = PANEL_ROWS_MANY;
    rows -= rows % CPU_ROW_GROUP;
    return rows < CPU_ROW_GROUP ? CPU_ROW_GROUP : (uint32_t)rows;
}

uint32_t cpu_unit_rows(uint32_t rows, uint32_t columns, uint32_t tokens, uint32_t threads)
{
    uint32_t rows_max = CPU_UNIT_ROWS_MAX; /* gemv: four streams, 32 rows between them */
    uint32_t units;
    uint32_t unit_rows;

    if (tokens >= PANEL_TOKENS_MANY)
        rows_max = panel_rows(columns, tokens);
    else if (tokens > 1)
        rows_max = UNIT_ROWS_FEW;
    /* the same number of units for every thread, all of about the same size */
    units = (rows + threads * rows_max - 1) / (threads * rows_max) * threads;
    unit_rows = (rows + units - 1) / units;
    return (unit_rows + CPU_ROW_GROUP - 1) / CPU_ROW_GROUP * CPU_ROW_GROUP;
}

size_t cpu_panel_floats(uint32_t columns)
{
    uint32_t few = panel_rows(columns, 1);
    uint32_t many = panel_rows(columns, PANEL_TOKENS_MANY);

    return cpu_row_stride(columns) * (few > many ? few : many);
}

void cpu_unpack_row(const struct cpu_kernels *kernels, const struct model_matrix *matrix,
                    uint32_t row, float *out)
{
    const uint8_t *source = matrix->data + row * matrix->row_bytes;

    if (kernels->unpack[matrix->type] != NULL) {
        kernels->unpack[matrix->type](source, matrix->columns, out);
        return;
    }
    model_dequantize(matrix->type, source, matrix->columns, out);
    memset(out + matrix->columns, 0, (cpu_pad(matrix->columns) - matrix->columns) * sizeof *out);
}

static void multiply_one(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                         uint32_t first, uint32_t count)
{
    const struct model_matrix *matrix = matmul->matrix;
    struct cpu_gemv job = {.weights = matrix->data + first * matrix->row_bytes,
                           .row_bytes = matrix->row_bytes,
                           .rows = count,
                           .columns = matrix->columns,
                           .x = matmul->x,
                           .y = matmul->y + first,
                           .add = matmul->add};

    kernels->gemv[matrix->type](&job);
}

void cpu_matmul_rows(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                     uint32_t first, uint32_t count, float *panel)
{
    const struct model_matrix *matrix = matmul->matrix;
    size_t stride = cpu_row_stride(matrix->columns);
    uint32_t rows_max = panel_rows(matrix->columns, matmul->tokens);
    uint32_t end = first + count;

    if (matmul->tokens == 1 && kernels->gemv[matrix->type] != NULL) {
        multiply_one(kernels, matmul, first, count);
        return;
    }
    for (uint32_t row = first; row < end; row += rows_max) {
        uint32_t rows = end - row < rows_max ? end - row : rows_max;
        struct cpu_gemm job = {.panel = panel,
                               .panel_stride = stride,
                               .rows = rows,
                               .columns = matrix->columns,
                               .x = matmul->x,
                               .x_stride = matmul->x_stride,
                               .tokens = matmul->tokens,
                               .y = matmul->y + row,
                               .y_stride = matmul->y_stride,
                               .add = matmul->add};

        for (uint32_t i = 0; i < rows; i++)
            cpu_unpack_row(kernels, matrix, row + i, panel + i * stride);
        kernels->gemm(&job);
    }
}
