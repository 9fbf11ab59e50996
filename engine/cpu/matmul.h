/*
 * matmul.h: weights times activations, cut into units of rows for the team.
 *
 * Owns the choice between the two kernels (gemv for one token, unpacked panels and gemm for more) and
 * the sizes of units and panels. Neither choice changes a bit of any result; see kernels.h.
 */
#ifndef TANDEM_ENGINE_CPU_MATMUL_H
#define TANDEM_ENGINE_CPU_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels.h"
#include "model/model.h"

/* Rows of one unit at most; also the most rows that a panel is asked for. */
#define CPU_UNIT_ROWS_MAX 128

/* y[token][row] = (or += with add) W[row] . x[token], for tokens rows of x and y. Strides in floats. */
struct cpu_matmul {
    const struct model_matrix *matrix;
    const float *x; /* padded rows */
    size_t x_stride;
    float *y;
    size_t y_stride;
    uint32_t tokens;
    bool add;
};

/* The distance of rows of `count` floats in memory: padded, and no multiple of 1 KiB. */
size_t cpu_row_stride(uint32_t count);

/* How many rows one unit should have, for a matrix of so many rows and a team of so many threads. */
uint32_t cpu_unit_rows(uint32_t rows, uint32_t columns, uint32_t tokens, uint32_t threads);

/* Floats that a panel for rows of so many columns takes. */
size_t cpu_panel_floats(uint32_t columns);

/*
 * One row of a matrix as floats, zeros behind them up to cpu_pad of the columns; with the kernel of its type, or the
 * plain definition where there is none.
 */
void cpu_unpack_row(const struct cpu_kernels *kernels, const struct model_matrix *matrix,
                    uint32_t row, float *out);

/* Computes rows first to first + count - 1; panel is the thread's own memory. y starts at row 0. */
void cpu_matmul_rows(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                     uint32_t first, uint32_t count, float *panel);

#endif
