/*
 * rope.h: rotary position encoding: frequencies and angles. The rotation of heads is a kernel (kernels/rows.h).
 *
 * The frequencies come from model/rope.h; sines and cosines are computed as they are there, with
 * additions, multiplications and divisions of doubles only, in a fixed order, so that workers of one
 * numerics class agree bit for bit. Heads are read in either order of pairs and always written half-split (i, i +
 * head_dim / 2), which is the only form that the KV cache knows.
 */
#ifndef TANDEM_ENGINE_CPU_ROPE_H
#define TANDEM_ENGINE_CPU_ROPE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/rope.h"

struct cpu_rope {
    uint32_t pairs;      /* head_dim / 2 */
    bool is_interleaved; /* what is read has the two of a pair side by side */
    double magnitude;
    double frequency[MODEL_HEAD_DIM_MAX / 2]; /* radians per position */
};

void cpu_rope_init(struct cpu_rope *rope, const struct model_rope *encoding, uint32_t head_dim);

/* Cosines and sines of all pairs at a position: `pairs` values each. */
void cpu_rope_angles(const struct cpu_rope *rope, uint32_t position, float *cosines, float *sines);

#endif
