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

/* Up to so many tokens, weights are read from memory no slower than they are used. */
#define CPU_FEW_TOKENS 16

/* Rows of one unit at most: with few tokens, and with more. */
#define CPU_UNIT_ROWS_FEW  768
#define CPU_UNIT_ROWS_MANY 128

/* y[token][row] = (or += with add) W[row] . x[token], for tokens rows of x and y. Strides in floats. */
struct cpu_matmul {
    const struct cpu_matrix *matrix;
    const float *x; /* inputs of kernels.h: padded, with what stands behind them */
    size_t x_stride;
    float *y;
    size_t y_stride;
    uint32_t tokens;
    bool add;
    bool is_whole; /* these two as in struct cpu_product */
    bool has_rest;
};

/* The distance of rows of `floats` floats in memory: whole lanes, and no multiple of 1 KiB. */
size_t cpu_row_stride(size_t floats);

/* ---- inputs ---- */

/* The parts of an input (kernels/products.h) that products read: a set of these. */
enum cpu_input_parts {
    CPU_INPUT_FLOATS = 1,
    CPU_INPUT_SUMS = 2,
    CPU_INPUT_QUANTS = 4,
    CPU_INPUT_BFLOATS = 8,
    CPU_INPUT_REST = 16, /* of the quants, which are wanted too */
};

/* What products with this matrix read. A rest is the caller's wish. */
unsigned cpu_matmul_parts(const struct cpu_matrix *matrix, bool is_whole);

/* Some columns of an input: begin to end - 1 of `columns`, all of them whole blocks but perhaps the last of the input. */
struct cpu_input_run {
    float *input;
    uint32_t columns;
    uint32_t begin;
    uint32_t end;
};

/* Makes these parts of them out of their floats x, which may lie in the input; zeroes the rest of the last block of x. */
void cpu_matmul_make_parts(const struct cpu_kernels *kernels, unsigned parts, float *x,
                           const struct cpu_input_run *run);

/* ---- units ---- */

/*
 * How groups of rows become units: large ones first, for memory is read fastest in long runs, then smaller and
 * smaller ones, so that all threads are done at about the same time. Every unit but the last is a whole
 * number of blocks of what the rows become the input of.
 */
struct cpu_cut {
    uint32_t groups;
    uint32_t threads;
    uint32_t groups_max; /* of a unit */
};

/* Neighbouring groups. */
struct cpu_run {
    uint32_t first;
    uint32_t count;
};

struct cpu_cut cpu_cut(uint32_t groups, uint32_t tokens, uint32_t threads);
uint32_t cpu_cut_units(const struct cpu_cut *cut);
struct cpu_run cpu_cut_unit(const struct cpu_cut *cut, uint32_t unit);

/* Computes some groups; y is where the first of their rows goes. */
void cpu_matmul_run(const struct cpu_kernels *kernels, const struct cpu_matmul *matmul,
                    struct cpu_run run, float *y);

#define CPU_PRODUCTS_MAX 3

/* Products that are one piece of work, cut as if they were one matrix. Zero-initialised: none. */
struct cpu_products {
    struct cpu_matmul product[CPU_PRODUCTS_MAX];
    uint32_t count;
    struct cpu_cut cut;
};

/* All products have the same number of tokens. */
void cpu_products_add(struct cpu_products *products, struct cpu_matmul product, uint32_t threads);
void cpu_products_unit(const struct cpu_kernels *kernels, const struct cpu_products *products,
                       uint32_t unit);

#endif
