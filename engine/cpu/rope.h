/*
 * rope.h: rotary position encoding: frequencies, angles, and the rotation of heads.
 *
 * Owns the numbers: they are computed with additions, multiplications and divisions of doubles only, in a
 * fixed order, because the C library's pow, sin and cos differ between versions and processors, and
 * workers of one numerics class must agree bit for bit. Reads heads as GGUF's llama files have them
 * (pairs 2i, 2i + 1) and writes them half-split (i, i + head_dim / 2).
 */
#ifndef TANDEM_ENGINE_CPU_ROPE_H
#define TANDEM_ENGINE_CPU_ROPE_H

#include <stdint.h>

#include "model/model.h"

struct cpu_rope {
    uint32_t pairs;                           /* head_dim / 2 */
    double frequency[MODEL_HEAD_DIM_MAX / 2]; /* radians per position */
};

void cpu_rope_init(struct cpu_rope *rope, const struct model_rope *encoding, uint32_t head_dim);

/* Cosines and sines of all pairs at a position: `pairs` values each. */
void cpu_rope_angles(const struct cpu_rope *rope, uint32_t position, float *cosines, float *sines);

/* out[i], out[i + pairs] = scale * the rotated pair (in[2i], in[2i + 1]). in and out are different. */
void cpu_rope_rotate(const struct cpu_rope *rope, const float *cosines, const float *sines,
                     const float *restrict in, float scale, float *restrict out);

#endif
