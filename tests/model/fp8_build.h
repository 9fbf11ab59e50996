/*
 * fp8_build.h: FP8 folders for tests: the matrices of tests/data/tiny-qwen3 rounded to E4M3, in each of the forms that are
 * served, and beside it the same model as floats that mean the same.
 */
#ifndef TANDEM_TESTS_MODEL_FP8_BUILD_H
#define TANDEM_TESTS_MODEL_FP8_BUILD_H

#include "tests/model/hf_build.h"

enum fp8_form {
    FP8_BLOCKS, /* quant_method fp8, weight_scale_inv for 48 x 64 weights each: the last blocks are cut */
    FP8_ROWS,   /* compressed-tensors, weight_scale as BF16, rows x 1 */
    FP8_TENSOR, /* quant_method fp8, one weight_scale, and an input_scale that nobody needs */
    FP8_FORMS
};

/* Zero-initialised but for the form: a right folder. What else is set is wrong in all matrices. */
struct fp8_build {
    enum fp8_form form;
    const char *config;      /* instead of its quantization_config; "": none */
    const char *left_out;    /* the suffix of a tensor that is not written */
    const char *scale_dtype; /* what scales are said to be; of the same size */
    float scale;             /* the first scale; 0: its own */
    uint32_t more_scales;    /* rows of scales */
    bool has_nan;            /* the last weight */
};

/* Writes a folder; and, unless NULL, one that means the same in F32. Both are fresh. */
void fp8_build_folder(const struct fp8_build *fp8, const struct hf_build *build,
                      const struct hf_build *twin);

#endif
