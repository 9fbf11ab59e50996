/*
 * rope.h: how a model encodes positions: from what its file says to radians per position.
 *
 * Owns the forms of scaling (plain, linear, llama3, yarn, one divisor for each pair) and their numbers. These
 * are computed with additions, multiplications and divisions of doubles only, in a fixed order, because the
 * C library's pow, log and exp differ between versions and processors, and workers of one numerics
 * class must agree bit for bit. It knows no file format: a reader fills a description.
 *
 * Formulas: transformers' modeling_rope_utils.py; YaRN is Peng et al. 2023, "YaRN: Efficient Context Window
 * Extension of Large Language Models".
 */
#ifndef TANDEM_MODEL_ROPE_H
#define TANDEM_MODEL_ROPE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

#define MODEL_HEAD_DIM_MAX 256

/* Where the two halves of rotated pair i lie within a head of Q and K. */
enum model_rope_pairs {
    MODEL_ROPE_INTERLEAVED, /* rows 2i and 2i + 1: llama in GGUF, whose converter permuted the rows */
    MODEL_ROPE_HALF, /* rows i and i + head_dim / 2: qwen in GGUF, everything of Hugging Face */
};

enum model_rope_form {
    MODEL_ROPE_PLAIN,
    MODEL_ROPE_LINEAR,
    MODEL_ROPE_LLAMA3,
    MODEL_ROPE_YARN,
};

/*
 * What a file says. A field that its form does not use is ignored; fill the defaults with
 * model_rope_describe first. theta_i = theta^(-2i / head_dim) for i from 0 to head_dim / 2 - 1.
 */
struct model_rope_description {
    enum model_rope_form form;
    enum model_rope_pairs pairs;
    uint32_t head_dim;            /* even, all of it rotated */
    double theta;                 /* the base; 10000 */
    double factor;                /* linear, llama3, yarn: by how much the context grows; 1 */
    double original_context;      /* llama3, yarn: positions before it grew; no default */
    double low_frequency_factor;  /* llama3; 1 */
    double high_frequency_factor; /* llama3; 4 */
    double beta_fast;             /* yarn; 32 */
    double beta_slow;             /* yarn; 1 */
    double attention_factor;      /* yarn: on cosine and sine; 0: model_rope_attention_factor */
    const float *divisors;        /* head_dim / 2, for plain and linear; NULL: all 1 */
};

/* The position encoding, ready to use: the angle of pair i at a position is position * frequency[i]. */
struct model_rope {
    enum model_rope_pairs pairs;
    double frequency[MODEL_HEAD_DIM_MAX / 2]; /* radians per position, scaling applied */
    float magnitude;                          /* multiplies cosine and sine; 1 but for yarn */
    char text[96];                            /* canonical: equal texts encode positions alike */
};

/* The description of a form with all defaults. */
struct model_rope_description model_rope_describe(enum model_rope_form form,
                                                  enum model_rope_pairs pairs, uint32_t head_dim);

/* yarn's attention factor where the file names none: 0.1 ln(factor) + 1. */
double model_rope_attention_factor(double factor);

/*
 * model_rope_init: the frequencies of a description.
 * TD_UNSUPPORTED for a head that cannot be rotated; TD_INVALID names the field, as GGUF and (in parentheses)
 * config.json call it.
 */
td_status_t model_rope_init(const struct model_rope_description *description,
                            struct model_rope *rope_out, struct td_error *error) TD_MUST_USE;

#endif
