/*
 * rope.h: rotary position encoding: angles, and the rotation of heads.
 *
 * The frequencies come from model/rope.h; sines and cosines are computed as they are there, with
 * additions, multiplications and divisions of doubles only, in a fixed order, so that workers of one
 * numerics class agree bit for bit. Reads heads in either order of pairs and always writes them half-split (i, i +
 * head_dim / 2), which is the only form that the KV cache knows.
 */
#ifndef TANDEM_ENGINE_CPU_ROPE_H
#define TANDEM_ENGINE_CPU_ROPE_H

#include <stdint.h>

#include "model/rope.h"

struct cpu_rope {
    uint32_t pairs;        /* head_dim / 2 */
    uint32_t first_stride; /* pair i of what is read is at first_stride * i ... */
    uint32_t second;       /* ... and this far behind it */
    double magnitude;
    double frequency[MODEL_HEAD_DIM_MAX / 2]; /* radians per position */
};

void cpu_rope_init(struct cpu_rope *rope, const struct model_rope *encoding, uint32_t head_dim);

/* Cosines and sines of all pairs at a position: `pairs` values each. */
void cpu_rope_angles(const struct cpu_rope *rope, uint32_t position, float *cosines, float *sines);

/* out[i], out[i + pairs] = scale * the rotated pair i of in. in and out are different. */
void cpu_rope_rotate(const struct cpu_rope *rope, const float *cosines, const float *sines,
                     const float *restrict in, float scale, float *restrict out);

#endif
