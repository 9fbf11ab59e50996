/* kernel_values.c: see kernel_values.h. */
#include "tests/engine/kernel_values.h"

#include <math.h>
#include <string.h>

#include "tests/support/support.h"

#define CANARY 0x5ca1ab1eu

const struct cpu_kernels *kernel_sets[CPU_KERNELS_MAX];
uint32_t kernel_set_count;
struct td_rng kernel_rng;

void kernel_values_begin(uint64_t seed)
{
    td_rng_init(&kernel_rng, seed);
    kernel_set_count = cpu_kernels_available(kernel_sets);
    print_message("kernels of this processor:");
    for (uint32_t s = 0; s < kernel_set_count; s++)
        print_message(" %s", kernel_sets[s]->name);
    print_message("\n");
}

float kernel_float(enum kernel_flavor flavor)
{
    uint32_t bits = (uint32_t)td_rng_next(&kernel_rng);
    float value;

    if (flavor == KERNEL_ORDINARY)
        return (float)(td_rng_unit(&kernel_rng) - 0.5) * 4.0f;
    if (flavor == KERNEL_WIDE && td_rng_below(&kernel_rng, 8) == 0)
        bits &= 0x800fffff; /* zeros and subnormals */
    if (flavor == KERNEL_WIDE && (bits & 0x7f800000) == 0x7f800000)
        bits &= 0xbfffffff;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void kernel_fill(float *values, size_t count, enum kernel_flavor flavor)
{
    for (size_t i = 0; i < count; i++)
        values[i] = kernel_float(flavor);
}

void kernel_assert_same(const float *got, const float *want, size_t count, const char *what)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: value %zu of %zu is %a instead of %a", what, i, count, (double)got[i],
                     (double)want[i]);
}

void kernel_plant_canaries(float *values, size_t count)
{
    uint32_t canary = CANARY;

    for (size_t i = 0; i < count; i++)
        memcpy(&values[i], &canary, sizeof canary);
}

void kernel_assert_untouched(const float *values, size_t count, const char *what)
{
    uint32_t canary = CANARY;

    for (size_t i = 0; i < count; i++)
        if (memcmp(&values[i], &canary, sizeof canary) != 0)
            fail_msg("%s: wrote beyond its result", what);
}
