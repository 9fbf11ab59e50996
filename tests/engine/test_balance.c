/*
 * test_balance.c: divisors of keys are powers of two, the same for both elements that turn together, and follow
 * large biases alone.
 */
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/balance.h"

#define LAYERS   2
#define KV_HEADS 2
#define HEAD_DIM 8
#define PAIRS    (HEAD_DIM / 2)

static struct model_layer layers[LAYERS];
static float biases[LAYERS][KV_HEADS * HEAD_DIM];

static struct model model_with(enum model_rope_pairs pairs)
{
    struct model model = {
        .layers = LAYERS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .layer = layers};

    model.rope.pairs = pairs;
    memset(layers, 0, sizeof layers);
    memset(biases, 0, sizeof biases);
    for (int i = 0; i < LAYERS; i++)
        layers[i].k_bias = biases[i];
    return model;
}

static float *open_balance(const struct model *model)
{
    float *divisors = NULL;
    struct td_error error = {0};

    if (cpu_balance_open(model, &divisors, &error) != TD_OK)
        fail_msg("%s", error.text);
    return divisors;
}

static void a_model_without_biases_has_no_divisors(void **state)
{
    struct model model = model_with(MODEL_ROPE_HALF);

    (void)state;
    for (int i = 0; i < LAYERS; i++)
        layers[i].k_bias = NULL;
    assert_null(open_balance(&model));
    assert_null(cpu_balance_of(NULL, &model, 1, 1));
}

static void ordinary_biases_divide_by_one(void **state)
{
    struct model model = model_with(MODEL_ROPE_HALF);
    float *divisors;

    (void)state;
    layers[1].k_bias = NULL; /* some layers only */
    for (int i = 0; i < KV_HEADS * HEAD_DIM; i++)
        biases[0][i] =
            i % 2 == 0 ? 3.9f : -3.9f; /* a pair of them is below 4 times the root of 2 */
    divisors = open_balance(&model);
    for (int i = 0; i < LAYERS * KV_HEADS * HEAD_DIM; i++)
        assert_true(divisors[i] == 1.0f);
    free(divisors);
}

/* The pair `pair` of a head, where elements a and b of the bias turn together. */
static void check_pair(enum model_rope_pairs pairs, uint32_t pair, uint32_t a, uint32_t b)
{
    static const struct {
        float a;
        float b;
        float divisor;
    } cases[] = {
        {0.0f, 0.0f, 1.0f},        {6.0f, 0.0f, 2.0f},       {0.0f, -150.0f, 32.0f},
        {300.0f, -400.0f, 128.0f}, {3e38f, 3e38f, 65536.0f}, {NAN, 1.0f, 1.0f},
    };
    struct model model = model_with(pairs);

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float *divisors;
        const float *head;

        biases[1][HEAD_DIM + a] = cases[i].a;
        biases[1][HEAD_DIM + b] = cases[i].b;
        divisors = open_balance(&model);
        head = cpu_balance_of(divisors, &model, 1, 1);
        for (uint32_t d = 0; d < HEAD_DIM; d++)
            assert_true(head[d] == (d % PAIRS == pair ? cases[i].divisor : 1.0f));
        assert_true(cpu_balance_of(divisors, &model, 0, 1)[pair] == 1.0f);
        free(divisors);
    }
}

static void a_large_bias_divides_both_elements_of_its_pair(void **state)
{
    (void)state;
    check_pair(MODEL_ROPE_HALF, 3, 3, 7);
    check_pair(MODEL_ROPE_INTERLEAVED, 3, 6,
               7); /* turned keys are half-split, whoever wrote them */
    check_pair(MODEL_ROPE_INTERLEAVED, 0, 0, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_without_biases_has_no_divisors),
        cmocka_unit_test(ordinary_biases_divide_by_one),
        cmocka_unit_test(a_large_bias_divides_both_elements_of_its_pair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
