/*
 * test_rows.c: what the CPU engine does with rows of floats (norms, sums, rotations, SiLU): every set of kernels gives the
 * bits of plain C, for odd sizes and extreme values, and writes nothing behind its result.
 */
#include "tests/support/support.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/math.h"
#include "tests/engine/kernel_values.h"

#define COUNT_MAX 640

/* Aligned memory, so that one element further is certainly not. */
static float xs[COUNT_MAX];
static float others[COUNT_MAX];
static float expected[COUNT_MAX];
static float actual[COUNT_MAX];

static void sum_squares_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t count = 1; count < 600; count += count < 70 ? 1 : 53)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                float got;
                float want;

                kernel_fill(xs + 1, count, (enum kernel_flavor)flavor);
                got = kernel_sets[s]->rows->sum_squares(xs + 1, count);
                want = cpu_row_reference.sum_squares(xs + 1, count);
                kernel_assert_same(&got, &want, 1, "sum of squares");
            }
}

static void rows_are_scaled_and_added_with_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t count = 1; count < 300; count += count < 40 ? 1 : 37)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                float factor = kernel_float((enum kernel_flavor)flavor);

                kernel_plant_canaries(expected, count + 33);
                kernel_fill(xs + 1, count, (enum kernel_flavor)flavor);
                kernel_fill(others + 1, count, (enum kernel_flavor)flavor);
                memcpy(actual, expected, (count + 33) * sizeof *actual);
                cpu_row_reference.scale(xs + 1, factor, others + 1, count, expected + 1);
                kernel_sets[s]->rows->scale(xs + 1, factor, others + 1, count, actual + 1);
                kernel_assert_same(actual + 1, expected + 1, count, "scale");
                cpu_row_reference.add(expected + 1, xs + 1, count);
                kernel_sets[s]->rows->add(actual + 1, xs + 1, count);
                kernel_assert_same(actual + 1, expected + 1, count, "add");
                cpu_row_reference.scale(expected + 1, factor, others + 1, count, expected + 1);
                kernel_sets[s]->rows->scale(actual + 1, factor, others + 1, count, actual + 1);
                kernel_assert_same(actual + 1, expected + 1, count, "scale in place");
                kernel_assert_untouched(actual + 1 + count, 32, "scale or add");
            }
}

static void check_rotate(const struct cpu_kernels *set, uint32_t pairs, bool is_interleaved,
                         enum kernel_flavor flavor)
{
    const struct cpu_rotation rotation = {.cosines = others + 1,
                                          .sines = others + 1 + pairs,
                                          .pairs = pairs,
                                          .is_interleaved = is_interleaved};

    kernel_plant_canaries(expected, 2 * pairs + 33);
    kernel_fill(xs + 1, 2 * pairs, flavor);
    kernel_fill(others + 1, 2 * pairs, flavor);
    memcpy(actual, expected, (2 * pairs + 33) * sizeof *actual);
    cpu_row_reference.rotate(&rotation, xs + 1, 0.125f, expected + 1);
    set->rows->rotate(&rotation, xs + 1, 0.125f, actual + 1);
    kernel_assert_same(actual + 1, expected + 1, 2 * (size_t)pairs, "rotate");
    kernel_assert_untouched(actual + 1 + 2 * pairs, 32, "rotate");
}

static void rotate_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t pairs = 1; pairs <= 128; pairs += pairs < 40 ? 1 : 11)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                check_rotate(kernel_sets[s], pairs, false, (enum kernel_flavor)flavor);
                check_rotate(kernel_sets[s], pairs, true, (enum kernel_flavor)flavor);
            }
}

/* A quarter turn of pairs in either order: both come out half-split. */
static void rotate_turns_pairs_and_splits_them(void **state)
{
    static const float cosines[] = {0.0f, 1.0f};
    static const float sines[] = {1.0f, 0.0f};
    static const float half_split[] = {2.0f, 4.0f, 3.0f, 5.0f};
    static const float interleaved[] = {2.0f, 3.0f, 4.0f, 5.0f};
    static const float turned[] = {-6.0f, 8.0f, 4.0f, 10.0f};

    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++) {
        struct cpu_rotation rotation = {.cosines = cosines, .sines = sines, .pairs = 2};

        kernel_sets[s]->rows->rotate(&rotation, half_split, 2.0f, actual);
        assert_memory_equal(actual, turned, sizeof turned);
        rotation.is_interleaved = true;
        kernel_sets[s]->rows->rotate(&rotation, interleaved, 2.0f, actual);
        assert_memory_equal(actual, turned, sizeof turned);
    }
}

static void silu_multiply_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t count = 1; count < 300; count += count < 40 ? 1 : 37)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                kernel_plant_canaries(expected, count + 33);
                kernel_fill(expected + 1, count, (enum kernel_flavor)flavor);
                kernel_fill(xs + 1, count, (enum kernel_flavor)flavor);
                memcpy(actual, expected, (count + 33) * sizeof *actual);
                cpu_row_reference.silu_multiply(expected + 1, xs + 1, count);
                kernel_sets[s]->rows->silu_multiply(actual + 1, xs + 1, count);
                kernel_assert_same(actual + 1, expected + 1, count, "silu");
                kernel_assert_untouched(actual + 1 + count, 32, "silu");
            }
}

static void the_exponential_is_close_to_the_true_one(void **state)
{
    double worst = 0.0;

    (void)state;
    for (double x = -86.9; x < 87.9; x += 0.00137) {
        double truth = exp((double)(float)x);
        double error = fabs((double)cpu_exp((float)x) - truth) / truth;

        worst = error > worst ? error : worst;
    }
    assert_true(worst < 1.2e-7);
    assert_true(cpu_exp(0.0f) == 1.0f);
    assert_true(cpu_exp(-1e30f) > 0.0f && cpu_exp(-INFINITY) < 1e-37f);
    assert_true(cpu_exp(INFINITY) > 1e37f && isfinite(cpu_exp(INFINITY)));
    assert_true(isnan(cpu_exp(NAN)));
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sum_squares_gives_the_same_bits),
        cmocka_unit_test(rows_are_scaled_and_added_with_the_same_bits),
        cmocka_unit_test(rotate_gives_the_same_bits),
        cmocka_unit_test(rotate_turns_pairs_and_splits_them),
        cmocka_unit_test(silu_multiply_gives_the_same_bits),
        cmocka_unit_test(the_exponential_is_close_to_the_true_one),
    };

    kernel_values_begin(20261121);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
