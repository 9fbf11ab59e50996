/*
 * test_rope.c: position encodings of every form against the formulas in double precision, computed
 * with the C library; and what is refused.
 */
#include <math.h>
#include <string.h>

#include "model/rope.h"
#include "tests/support/support.h"

#define TWO_PI 6.283185307179586476925286766559

/* Bases and head sizes of published models, and odd ones. */
static const struct {
    double theta;
    uint32_t head_dim;
} sizes[] = {{10000.0, 64}, {500000.0, 128}, {1e6, 128}, {1.3e5, 64},
             {2.5, 2},      {1e9, 256},      {7e3, 18}};

static struct model_rope make(const struct model_rope_description *description)
{
    struct model_rope rope = {0};
    struct td_error error = {0};

    if (model_rope_init(description, &rope, &error) != TD_OK)
        fail_msg("%s", error.text);
    return rope;
}

static void check_near(const char *what, uint32_t i, double actual, double expected)
{
    if (!(fabs(actual - expected) <= 1e-13 * fabs(expected)))
        fail_msg("%s: pair %u turns by %.17g instead of %.17g", what, i, actual, expected);
}

static double plain(const struct model_rope_description *description, uint32_t i)
{
    return pow(description->theta, -2.0 * i / description->head_dim);
}

/* ---- forms ---- */

static void plain_and_linear_are_powers_of_the_base(void **state)
{
    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct model_rope_description description =
            model_rope_describe(MODEL_ROPE_PLAIN, MODEL_ROPE_HALF, sizes[s].head_dim);
        struct model_rope rope;
        struct model_rope linear;

        description.theta = sizes[s].theta;
        rope = make(&description);
        description.form = MODEL_ROPE_LINEAR;
        description.factor = 3.0;
        linear = make(&description);
        assert_true(rope.magnitude == 1.0f && linear.magnitude == 1.0f);
        for (uint32_t i = 0; i < sizes[s].head_dim / 2; i++) {
            check_near("plain", i, rope.frequency[i], plain(&description, i));
            check_near("linear", i, linear.frequency[i], plain(&description, i) / 3.0);
        }
    }
}

static void divisors_slow_each_pair_down(void **state)
{
    static const float divisors[] = {1.0f, 2.0f, 8.0f, 32.0f};
    struct model_rope_description description =
        model_rope_describe(MODEL_ROPE_PLAIN, MODEL_ROPE_INTERLEAVED, 8);
    struct model_rope rope;

    (void)state;
    description.divisors = divisors;
    rope = make(&description);
    assert_int_equal(rope.pairs, MODEL_ROPE_INTERLEAVED);
    for (uint32_t i = 0; i < 4; i++)
        check_near("divisors", i, rope.frequency[i], plain(&description, i) / (double)divisors[i]);
}

static double llama3(const struct model_rope_description *description, uint32_t i)
{
    double frequency = plain(description, i);
    double wavelength = TWO_PI / frequency;
    double smooth;

    if (wavelength < description->original_context / description->high_frequency_factor)
        return frequency;
    if (wavelength > description->original_context / description->low_frequency_factor)
        return frequency / description->factor;
    smooth = (description->original_context / wavelength - description->low_frequency_factor) /
             (description->high_frequency_factor - description->low_frequency_factor);
    return (1 - smooth) * frequency / description->factor + smooth * frequency;
}

static void llama3_leaves_the_fast_pairs_and_slows_the_others(void **state)
{
    static const struct {
        double theta;
        uint32_t head_dim;
        double factor;
        double context;
    } cases[] = {
        {500000.0, 128, 8.0, 8192.0}, {500000.0, 64, 32.0, 8192.0}, {10000.0, 32, 8.0, 128.0}};

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct model_rope_description description =
            model_rope_describe(MODEL_ROPE_LLAMA3, MODEL_ROPE_HALF, cases[c].head_dim);
        struct model_rope rope;

        description.theta = cases[c].theta;
        description.factor = cases[c].factor;
        description.original_context = cases[c].context;
        rope = make(&description);
        assert_true(rope.frequency[0] == 1.0);
        for (uint32_t i = 0; i < cases[c].head_dim / 2; i++)
            check_near("llama3", i, rope.frequency[i], llama3(&description, i));
    }
}

/* transformers' _compute_yarn_parameters. */
static double yarn(const struct model_rope_description *description, uint32_t i)
{
    double dim = description->head_dim;
    double low =
        floor(dim * log(description->original_context / (description->beta_fast * TWO_PI)) /
              (2 * log(description->theta)));
    double high =
        ceil(dim * log(description->original_context / (description->beta_slow * TWO_PI)) /
             (2 * log(description->theta)));
    double ramp;

    low = fmax(low, 0);
    high = fmin(high, dim - 1);
    if (low == high)
        high += 0.001;
    ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return plain(description, i) / description->factor * ramp + plain(description, i) * (1 - ramp);
}

static void yarn_interpolates_between_the_fast_and_the_slow_pairs(void **state)
{
    static const struct {
        double theta;
        uint32_t head_dim;
        double factor;
        double context;
        double beta_fast;
        double beta_slow;
    } cases[] = {{1e6, 128, 4.0, 32768.0, 32.0, 1.0},
                 {1e6, 64, 4.0, 32768.0, 32.0, 1.0},
                 {10000.0, 128, 16.0, 4096.0, 32.0, 1.0},
                 {10000.0, 16, 2.0, 128.0, 32.0, 1.0}, /* the fast end below the first pair */
                 {500000.0, 64, 2.5, 2048.0, 4.0, 4.0}};

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        struct model_rope_description description =
            model_rope_describe(MODEL_ROPE_YARN, MODEL_ROPE_HALF, cases[c].head_dim);
        struct model_rope rope;

        description.theta = cases[c].theta;
        description.factor = cases[c].factor;
        description.original_context = cases[c].context;
        description.beta_fast = cases[c].beta_fast;
        description.beta_slow = cases[c].beta_slow;
        rope = make(&description);
        for (uint32_t i = 0; i < cases[c].head_dim / 2; i++)
            check_near("yarn", i, rope.frequency[i], yarn(&description, i));
        assert_true(rope.magnitude == (float)(0.1 * log(cases[c].factor) + 1.0));
        description.attention_factor = 1.25;
        assert_true(make(&description).magnitude == 1.25f);
    }
}

/* 0.1 ln(factor) + 1, worked out elsewhere. */
static void the_attention_factor_has_its_default(void **state)
{
    (void)state;
    assert_true(model_rope_attention_factor(0.5) == 1.0);
    assert_true(model_rope_attention_factor(1.0) == 1.0);
    assert_true(fabs(model_rope_attention_factor(4.0) - 1.1386294361119891) < 1e-15);
    assert_true(fabs(model_rope_attention_factor(40.0) - 1.3688879454113936) < 1e-15);
}

static void equal_texts_mean_equal_numbers(void **state)
{
    struct model_rope_description description =
        model_rope_describe(MODEL_ROPE_YARN, MODEL_ROPE_HALF, 64);
    struct model_rope first;
    struct model_rope same;
    struct model_rope other;

    (void)state;
    description.original_context = 1024.0;
    description.factor = 4.0;
    first = make(&description);
    description.pairs =
        MODEL_ROPE_INTERLEAVED; /* how rows lie in a file changes no key in the cache */
    same = make(&description);
    assert_string_equal(first.text, same.text);
    assert_non_null(strstr(first.text, "yarn theta 10000 factor 4 "));
    description.attention_factor = 1.0;
    other = make(&description);
    assert_string_not_equal(first.text, other.text);
    description.attention_factor = 0.0;
    description.beta_slow = 1.5;
    other = make(&description);
    assert_string_not_equal(first.text, other.text);
}

/* ---- what is refused ---- */

static void check_refused(const struct model_rope_description *description, const char *field)
{
    struct model_rope rope;
    struct td_error error = {0};

    if (model_rope_init(description, &rope, &error) == TD_OK || strstr(error.text, field) == NULL)
        fail_msg("expected an error that names %s: %s", field, error.text);
}

static void numbers_that_make_no_sense_are_refused_by_name(void **state)
{
    static const double bad[] = {-1.0, 1e30, NAN, INFINITY};
    static const float divisors[32] = {0.0f};
    struct model_rope_description right = model_rope_describe(MODEL_ROPE_YARN, MODEL_ROPE_HALF, 64);
    struct model_rope_description wrong;

    (void)state;
    right.original_context = 4096.0;
    right.factor = 2.0;
    make(&right);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
#define REFUSED(form_, field, name) \
    wrong = right;                  \
    wrong.form = form_;             \
    wrong.field = bad[i];           \
    check_refused(&wrong, name)
        REFUSED(MODEL_ROPE_PLAIN, theta, "rope_theta");
        REFUSED(MODEL_ROPE_LINEAR, factor, "factor");
        REFUSED(MODEL_ROPE_LLAMA3, original_context, "original_max_position_embeddings");
        REFUSED(MODEL_ROPE_LLAMA3, low_frequency_factor, "low_freq_factor");
        REFUSED(MODEL_ROPE_LLAMA3, high_frequency_factor, "high_freq_factor");
        REFUSED(MODEL_ROPE_YARN, beta_fast, "beta_fast");
        REFUSED(MODEL_ROPE_YARN, beta_slow, "beta_slow");
        REFUSED(MODEL_ROPE_YARN, attention_factor, "attention_factor");
#undef REFUSED
    }
    wrong = right;
    wrong.head_dim = 7;
    check_refused(&wrong, "a head of 7 values");
    wrong.head_dim = MODEL_HEAD_DIM_MAX + 2;
    check_refused(&wrong, "a head of 258 values");
    wrong = right;
    wrong.theta = 1.0; /* all pairs alike: no ramp */
    check_refused(&wrong, "rope_theta");
    wrong = right;
    wrong.original_context = 2.0; /* not one turn */
    check_refused(&wrong, "yarn");
    wrong = right;
    wrong.divisors = divisors;
    check_refused(&wrong, "rope_freqs.weight");
    wrong.form = MODEL_ROPE_PLAIN;
    check_refused(&wrong, "rope_freqs.weight: value 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_linear_are_powers_of_the_base),
        cmocka_unit_test(divisors_slow_each_pair_down),
        cmocka_unit_test(llama3_leaves_the_fast_pairs_and_slows_the_others),
        cmocka_unit_test(yarn_interpolates_between_the_fast_and_the_slow_pairs),
        cmocka_unit_test(the_attention_factor_has_its_default),
        cmocka_unit_test(equal_texts_mean_equal_numbers),
        cmocka_unit_test(numbers_that_make_no_sense_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
