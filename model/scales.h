/*
 * scales.h: matrices of FP8 (F8_E4M3), whose scales are a tensor of their own beside them.
 *
 * Owns which shapes of scales there are, the check of every scale and of every weight, and what a row of such a matrix
 * means. Names and shapes follow the two forms in which Hugging Face folders come: "weight_scale_inv" with
 * blocks, and "weight_scale" for a row or a whole tensor. Scales of activations are asked for, so that they count as known, and
 * not used: activations are not rounded to FP8 here.
 */
#ifndef TANDEM_MODEL_SCALES_H
#define TANDEM_MODEL_SCALES_H

#include "lib/base/status.h"
#include "model/architecture.h"

/* Bounds of a scale: so no product of a scale and a weight is subnormal or infinite, nor a sum of a row. */
#define MODEL_SCALE_MIN 0x1p-96f
#define MODEL_SCALE_MAX 0x1p96f

/* Columns that have a scale of their own are a multiple of it: backends apply scales in blocks of so many. */
#define MODEL_SCALE_COLUMNS 64

/* What config.json says of FP8 weights. */
struct model_quantization {
    const char *
        suffix; /* of the tensor with the scales, behind the weight's name; NULL: there are no FP8 weights */
    uint32_t
        block_rows; /* that share a scale; 0: not blocks, but a scale for each row or for all */
    uint32_t block_columns; /* the same; a multiple of MODEL_SCALE_COLUMNS */
};

/* Scale of a weight: values[row / rows * across + column / columns]. */
struct model_scales {
    const float *values; /* NULL: all are 1 */
    uint32_t rows;       /* that share one */
    uint32_t columns;
    uint32_t across; /* scales of a row */
};

struct model_matrix;

/*
 * Finds the scales of a matrix that is F8_E4M3 and checks their shape. values of *scales_out stays NULL. TD_INVALID or
 * TD_UNSUPPORTED name a tensor.
 */
td_status_t model_scales_find(const struct model_tensors *tensors,
                              const struct model_tensor *weight, const char *name,
                              struct model_scales *scales_out, struct model_tensor *tensor_out,
                              struct td_error *error) TD_MUST_USE;

/* How many there are for so many rows. */
size_t model_scales_count(const struct model_scales *scales, uint64_t rows);

/* Copies the scales of a tensor as floats, and looks at each, and at each weight. TD_INVALID says where a number is missing. */
td_status_t model_scales_read(const struct model_tensor *tensor, const struct model_tensor *weight,
                              const char *name, size_t count, float *values,
                              struct td_error *error) TD_MUST_USE;

/* The scale of a weight. */
float model_scale_at(const struct model_matrix *matrix, uint32_t row, uint32_t column);

/* A row of a matrix of any type as floats: product of weight and scale, rounded once. */
void model_matrix_row(const struct model_matrix *matrix, uint32_t row, float *out);

#endif
