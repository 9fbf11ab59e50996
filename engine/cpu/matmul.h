/*
 * matmul.h: weights times activations, cut into units of groups of rows for the team.
 *
 * Owns the size of units, and which parts of an input a product reads. It changes no bit of any result; see
 * kernels.h.
 */
#ifndef TANDEM_ENGINE_CPU_MATMUL_H
#define TANDEM_ENGINE_CPU_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels.h"

/* Rows of one unit at most: with one token, and with more. */
#define CPU_UNIT_ROWS_ONE  128
#define CPU_UNIT_ROWS_MANY 64

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

#define CPU_PRODUCTS_MAX 3

/* Products that are one piece of work: no unit of one needs anything of another. Zero-initialised: none. */
struct cpu_products {
    struct cpu_matmul product[CPU_PRODUCTS_MAX];
    uint32_t unit_rows[CPU_PRODUCTS_MAX];
    uint32_t units[CPU_PRODUCTS_MAX];
    uint32_t count;
};

/* The distance of rows of `floats` floats in memory: whole lanes, and no multiple of 1 KiB. */
size_t cpu_row_stride(size_t floats);

/* ---- inputs ---- */

/* What stands behind the floats of an input (kernels/products.h): a set of these. */
enum cpu_input_parts {
    CPU_INPUT_SUMS = 1,
    CPU_INPUT_QUANTS = 2,
};

/* What products with this matrix read besides the floats. */
unsigned cpu_matmul_parts(const struct cpu_matrix *matrix, bool is_whole);

/*
 * Makes these parts for the columns begin to end - 1 of an input of `columns` columns, all of them whole blocks
 * but perhaps the last of the input.
 */
void cpu_matmul_make_parts(const struct cpu_kernels *kernels, unsigned parts, float *x,
                           uint32_t columns, uint32_t begin, uint32_t end);

/* ---- units ---- */

/*
 * How many rows one unit should have, for a matrix of so many rows and a team of so many threads: a multiple of
 * `multiple`, which is one of CPU_PACK_ROWS.
 */
uint32_t cpu_unit_rows(uint32_t rows, uint32_t tokens, uint32_t threads, uint32_t multiple);

/* Computes unit number `unit` of so many rows; y is where the first of its rows goes. */
void cpu_matmul_unit(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                     uint32_t unit, uint32_t unit_rows, float *y);

void cpu_products_add(struct cpu_products *products, struct cpu_matmul product, uint32_t threads);
uint32_t cpu_products_units(const struct cpu_products *products);
void cpu_products_unit(const struct cpu_kernels *kernels, const struct cpu_products *products,
                       uint32_t unit);

#endif
