/*
 * kernel_values.h: what tests of CPU kernels share: the sets of this processor, values of several kinds to give them, and
 * comparison of bits. One thread; failures end the test.
 */
#ifndef TANDEM_TESTS_ENGINE_KERNEL_VALUES_H
#define TANDEM_TESTS_ENGINE_KERNEL_VALUES_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels.h"
#include "lib/base/random.h"

enum kernel_flavor {
    KERNEL_ORDINARY, /* about as large as weights and activations are */
    KERNEL_WIDE, /* all magnitudes, subnormals and zeros of both signs; sums may become infinite */
    KERNEL_HOSTILE, /* any bits: infinities and NaN too */
    KERNEL_FLAVORS,
};

/* The sets of this processor; the first is plain C. */
extern const struct cpu_kernels *kernel_sets[CPU_KERNELS_MAX];
extern uint32_t kernel_set_count;
extern struct td_rng kernel_rng;

/* First thing in main: fills kernel_sets, prints their names, and seeds kernel_rng. */
void kernel_values_begin(uint64_t seed);

float kernel_float(enum kernel_flavor flavor);
void kernel_fill(float *values, size_t count, enum kernel_flavor flavor);

/*
 * The same bits. Where a NaN may come out, any NaN will do: its sign and payload depend on the order of operands.
 */
void kernel_assert_same(const float *got, const float *want, size_t count, const char *what);

/* What stands behind a result, and must be there still when the kernel has run. */
void kernel_plant_canaries(float *values, size_t count);
void kernel_assert_untouched(const float *values, size_t count, const char *what);

#endif
