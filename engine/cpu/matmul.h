/*
 * matmul.h: weights times activations, cut into units of groups of rows for the team.
 *
 * Owns the size of units. It changes no bit of any result; see kernels.h.
 */
#ifndef TANDEM_ENGINE_CPU_MATMUL_H
#define TANDEM_ENGINE_CPU_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels.h"

/* Rows of one unit at most. */
#define CPU_UNIT_ROWS_MAX 128

/* y[token][row] = (or += with add) W[row] . x[token], for tokens rows of x and y. Strides in floats. */
struct cpu_matmul {
    const struct cpu_matrix *matrix;
    const float *x; /* inputs of kernels.h: padded, with what stands behind them */
    size_t x_stride;
    float *y;
    size_t y_stride;
    uint32_t tokens;
    bool add;
    bool is_whole;
};

/* The distance of rows of `floats` floats in memory: whole lanes, and no multiple of 1 KiB. */
size_t cpu_row_stride(size_t floats);

/* How many rows one unit should have, for a matrix of so many rows and a team of so many threads. */
uint32_t cpu_unit_rows(uint32_t rows, uint32_t tokens, uint32_t threads);

/* Computes unit number `unit` of so many rows; y is where the first of its rows goes. */
void cpu_matmul_unit(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                     uint32_t unit, uint32_t unit_rows, float *y);

#endif
