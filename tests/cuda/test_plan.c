/* test_plan.c: what lies where in a GPU's memory, without a GPU. */
#include "tests/support/support.h"

#include <string.h>

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/plan.h"

#define GIB ((size_t)1 << 30)

static const struct cuda_shape llama_8b = {.vocab = 128256,
                                           .hidden = 4096,
                                           .ffn = 14336,
                                           .heads = 32,
                                           .kv_heads = 8,
                                           .head_dim = 128,
                                           .max_context = 131072,
                                           .block_tokens = 16,
                                           .rows_max = 2048,
                                           .outputs_max = 256};

static struct cuda_plan_input h200(void)
{
    return (struct cuda_plan_input){.memory_bytes = 140 * GIB,
                                    .free_bytes = 139 * GIB,
                                    .fraction = 0.9,
                                    .weights_bytes = 15 * GIB,
                                    .workspace_bytes = GIB,
                                    .graphs_bytes = GIB,
                                    .block_bytes = (size_t)2 << 20,
                                    .blocks_min = 1};
}

static void kv_gets_what_is_left_of_the_share(void **state)
{
    struct cuda_plan_input input = h200();
    struct cuda_plan plan;

    (void)state;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.block_count,
                     (126 - 17) * 512 - 384 - 1); /* 0.9 * 140 = 126, less 768 MiB of context */
    assert_int_equal(plan.kv_bytes, (plan.block_count + 1) * input.block_bytes);
}

/* The same share whether the process is alone with its context, or others have taken far more. */
static void a_context_counts_as_part_of_the_share(void **state)
{
    const size_t mib = (size_t)1 << 20;
    struct cuda_plan_input input = h200();
    struct cuda_plan plan;

    (void)state;
    input.fraction = 0.25; /* 35 GiB */
    input.free_bytes = input.memory_bytes - 500 * mib;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.context_bytes, 500 * mib);
    assert_int_equal(plan.kv_bytes, (35 - 17) * GIB - 500 * mib);
    input.free_bytes = input.memory_bytes / 2;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.context_bytes, CUDA_CONTEXT_BYTES_MAX);
    assert_int_equal(plan.kv_bytes, (35 - 17) * GIB - 768 * mib);
    input.fraction = 0.001; /* less than a context */
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_NO_MEMORY);
}

static void what_others_have_taken_is_not_planned(void **state)
{
    struct cuda_plan_input input = h200();
    struct cuda_plan plan;

    (void)state;
    input.free_bytes = 20 * GIB;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.block_count, 3 * 512 - 128 - 1); /* 256 MiB are left free */
}

static void some_of_what_is_free_is_left(void **state)
{
    struct cuda_plan_input input = h200();
    struct cuda_plan plan;

    (void)state;
    input.weights_bytes = input.workspace_bytes = input.graphs_bytes = 0;
    input.free_bytes = CUDA_RESERVE_BYTES + 2 * input.block_bytes;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.kv_bytes, 2 * input.block_bytes);
    input.free_bytes = CUDA_RESERVE_BYTES - 1;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_NO_MEMORY);
    input.memory_bytes = input.free_bytes = 64 * input.block_bytes; /* a small one */
    input.fraction = 1;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.kv_bytes, 62 * input.block_bytes);
}

static void a_wanted_number_of_blocks_is_taken_as_it_is(void **state)
{
    struct cuda_plan_input input = h200();
    struct cuda_plan plan;

    (void)state;
    input.blocks_wanted = 1000;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_OK);
    assert_int_equal(plan.block_count, 1000);
    input.blocks_wanted = 109 * 512;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_NO_MEMORY);
}

static void what_does_not_fit_is_said_with_all_sizes(void **state)
{
    struct cuda_plan_input input = h200();
    struct td_error error = {0};
    struct cuda_plan plan;

    (void)state;
    input.free_bytes = 12 * GIB;
    assert_int_equal(cuda_plan_memory(&input, &plan, &error), TD_NO_MEMORY);
    assert_non_null(strstr(error.text, "weights 15.00"));
    assert_non_null(strstr(error.text, "workspace 1.00"));
    assert_non_null(strstr(error.text, "graphs 1.00"));
    assert_non_null(strstr(error.text, "12.00 of 140.00 GiB are free"));
}

static void a_share_must_be_one(void **state)
{
    static const double wrong[] = {0, -0.5, 1.01, 0.0 / 0.0};
    struct cuda_plan_input input = h200();
    struct cuda_plan plan;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        input.fraction = wrong[i];
        assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_INVALID);
    }
}

static void sizes_that_overflow_are_refused(void **state)
{
    struct cuda_plan_input input = h200();
    struct cuda_shape shape = llama_8b;
    struct cuda_plan plan;
    size_t bytes;

    (void)state;
    input.weights_bytes = SIZE_MAX;
    assert_int_equal(cuda_plan_memory(&input, &plan, NULL), TD_LIMIT);
    shape.rows_max = shape.vocab = shape.hidden = shape.outputs_max = UINT32_MAX;
    assert_int_equal(cuda_workspace_bytes(&shape, &bytes, NULL), TD_LIMIT);
}

/* Every array begins where it may, behind the one before it, and the last ends within the whole. */
static void the_workspace_is_cut_without_overlaps(void **state)
{
    static uint8_t nothing;
    struct cuda_workspace work;
    size_t bytes;
    size_t end = 0;

    (void)state;
    assert_int_equal(cuda_workspace_bytes(&llama_8b, &bytes, NULL), TD_OK);
    cuda_workspace_cut(&llama_8b, &nothing, &work);
    {
        const struct cuda_shape *s = &llama_8b;

#define X(name, type, count, each)                                                     \
    assert_true((size_t)((uint8_t *)work.name - &nothing) >= end);                     \
    assert_int_equal(((size_t)((uint8_t *)work.name - &nothing)) % CUDA_ALIGNMENT, 0); \
    end = (size_t)((uint8_t *)work.name - &nothing) + (size_t)(count) * (each) * sizeof(type);
        CUDA_WORKSPACE(X)
#undef X
    }
    assert_true(end <= bytes && bytes < end + CUDA_ALIGNMENT);
}

static void the_longest_row_has_room_for_its_splits(void **state)
{
    struct cuda_shape shape = llama_8b;

    (void)state;
    assert_int_equal(cuda_splits_kept(&shape), CUDA_SPLITS_KEPT);
    shape.max_context = CUDA_SPLITS_KEPT * CUDA_SPLIT + 1;
    assert_int_equal(cuda_splits_kept(&shape), CUDA_SPLITS_KEPT + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_gets_what_is_left_of_the_share),
        cmocka_unit_test(a_context_counts_as_part_of_the_share),
        cmocka_unit_test(what_others_have_taken_is_not_planned),
        cmocka_unit_test(some_of_what_is_free_is_left),
        cmocka_unit_test(a_wanted_number_of_blocks_is_taken_as_it_is),
        cmocka_unit_test(what_does_not_fit_is_said_with_all_sizes),
        cmocka_unit_test(a_share_must_be_one),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(the_workspace_is_cut_without_overlaps),
        cmocka_unit_test(the_longest_row_has_room_for_its_splits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
