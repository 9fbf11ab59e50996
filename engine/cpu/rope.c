/* rope.c: see rope.h. All sums are written out so that their order is plain. */
#include "engine/cpu/rope.h"

#include <math.h>
#include <string.h>

/* pi / 2 in three parts; the products of the first two with whole numbers below 2^20 are exact. */
#define HALF_PI_1   0x1.921fb544p+0
#define HALF_PI_2   0x1.0b4611a6p-34
#define HALF_PI_3   0x1.3198a2e037073p-69
#define TWO_OVER_PI 0x1.45f306dc9c883p-1

/* Sine and cosine of x >= 0, by quadrants and the series around 0; exact to about 1e-15. */
static void sine_cosine(double x, double *sine_out, double *cosine_out)
{
    double n = floor(x * TWO_OVER_PI + 0.5);
    double r = ((x - n * HALF_PI_1) - n * HALF_PI_2) - n * HALF_PI_3;
    double square = r * r;
    double sine = 1.0;
    double cosine = 1.0;

    for (int term = 16; term >= 2; term -= 2) {
        sine = 1.0 - sine * square / (term * (term + 1));
        cosine = 1.0 - cosine * square / (term * (term - 1));
    }
    sine *= r;
    switch ((uint64_t)n % 4) {
    case 0: *sine_out = sine, *cosine_out = cosine; break;
    case 1: *sine_out = cosine, *cosine_out = -sine; break;
    case 2: *sine_out = -sine, *cosine_out = -cosine; break;
    default: *sine_out = -cosine, *cosine_out = sine; break;
    }
}

void cpu_rope_init(struct cpu_rope *rope, const struct model_rope *encoding, uint32_t head_dim)
{
    rope->pairs = head_dim / 2;
    rope->is_interleaved = encoding->pairs == MODEL_ROPE_INTERLEAVED;
    rope->magnitude = (double)encoding->magnitude;
    memcpy(rope->frequency, encoding->frequency, sizeof rope->frequency);
}

void cpu_rope_angles(const struct cpu_rope *rope, uint32_t position, float *cosines, float *sines)
{
    for (uint32_t i = 0; i < rope->pairs; i++) {
        double sine;
        double cosine;

        sine_cosine(position * rope->frequency[i], &sine, &cosine);
        cosines[i] = (float)(rope->magnitude * cosine);
        sines[i] = (float)(rope->magnitude * sine);
    }
}
