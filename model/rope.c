/* rope.c: see rope.h. All sums are written out so that their order is plain. */
#include "model/rope.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "lib/base/hash.h"

#define LN2    0x1.62e42fefa39efp-1
#define TWO_PI 0x1.921fb54442d18p+2

/* Far beyond anything published; keeps angles in a range where they mean something. */
#define THETA_MAX            1e12
#define FACTOR_MIN           1e-3
#define FACTOR_MAX           1e6
#define CONTEXT_MAX          1e9
#define BETA_MAX             1e6
#define ATTENTION_FACTOR_MAX 100.0

/* transformers' guard against a ramp of no width */
#define RAMP_WIDTH_MIN 0.001

/* Natural logarithm of x > 0: ln(m 2^e) = e ln 2 + 2 atanh((m - 1) / (m + 1)). */
static double natural_log(double x)
{
    double exponent = 0.0;
    double s;
    double square;
    double sum = 0.0;

    for (; x > 1.5; x *= 0.5)
        exponent += 1.0;
    for (; x < 0.75; x *= 2.0)
        exponent -= 1.0;
    s = (x - 1.0) / (x + 1.0); /* |s| <= 0.2: 12 terms leave less than 1e-18 */
    square = s * s;
    for (int term = 25; term >= 1; term -= 2)
        sum = sum * square + 1.0 / term;
    return exponent * LN2 + 2.0 * s * sum;
}

/* e to the -x for x >= 0. */
static double negative_exp(double x)
{
    double n = floor(x / LN2);
    double r = -(x - n * LN2);
    double sum = 1.0;

    for (int term = 20; term >= 1; term--) /* |r| <= 0.7: 0.7^21 / 21! < 1e-22 */
        sum = 1.0 + sum * r / term;
    return ldexp(sum, -(int)n);
}

struct model_rope_description model_rope_describe(enum model_rope_form form,
                                                  enum model_rope_pairs pairs, uint32_t head_dim)
{
    return (struct model_rope_description){.form = form,
                                           .pairs = pairs,
                                           .head_dim = head_dim,
                                           .theta = 10000.0,
                                           .factor = 1.0,
                                           .low_frequency_factor = 1.0,
                                           .high_frequency_factor = 4.0,
                                           .beta_fast = 32.0,
                                           .beta_slow = 1.0};
}

double model_rope_attention_factor(double factor)
{
    return factor <= 1.0 ? 1.0 : 0.1 * natural_log(factor) + 1.0;
}

/* ------------------------------------------------------------------ checks */

/* Not a number is refused too. */
static td_status_t check_range(const char *field, double value, double min, double max,
                               struct td_error *error)
{
    if (value >= min && value <= max)
        return TD_OK;
    return td_fail(error, TD_INVALID, "%s is %g (%g to %g are possible)", field, value, min, max);
}

static td_status_t check_llama3(const struct model_rope_description *description,
                                struct td_error *error)
{
    td_status_t status =
        check_range("rope.scaling.low_freq_factor", description->low_frequency_factor, FACTOR_MIN,
                    FACTOR_MAX, error);

    if (status != TD_OK)
        return status;
    if (!(description->high_frequency_factor > description->low_frequency_factor &&
          description->high_frequency_factor <= FACTOR_MAX))
        return td_fail(error, TD_INVALID,
                       "rope.scaling.high_freq_factor is %g, which must be more than "
                       "low_freq_factor (%g)",
                       description->high_frequency_factor, description->low_frequency_factor);
    return TD_OK;
}

static td_status_t check_yarn(const struct model_rope_description *description,
                              struct td_error *error)
{
    td_status_t status = check_range("rope.scaling.yarn_beta_slow (beta_slow)",
                                     description->beta_slow, FACTOR_MIN, BETA_MAX, error);

    if (status == TD_OK)
        status = check_range("rope.scaling.yarn_beta_fast (beta_fast)", description->beta_fast,
                             description->beta_slow, BETA_MAX, error);
    if (status == TD_OK)
        status =
            check_range("rope.freq_base (rope_theta)", description->theta, 2.0, THETA_MAX, error);
    if (status == TD_OK && description->attention_factor != 0.0)
        status =
            check_range("rope.scaling.attn_factor (attention_factor)",
                        description->attention_factor, FACTOR_MIN, ATTENTION_FACTOR_MAX, error);
    return status;
}

static td_status_t check_divisors(const struct model_rope_description *description,
                                  struct td_error *error)
{
    if (description->divisors == NULL)
        return TD_OK;
    if (description->form != MODEL_ROPE_PLAIN && description->form != MODEL_ROPE_LINEAR)
        return td_fail(error, TD_UNSUPPORTED,
                       "rope_freqs.weight together with this rope scaling is not served");
    for (uint32_t i = 0; i < description->head_dim / 2; i++)
        if (!(description->divisors[i] >= (float)FACTOR_MIN &&
              description->divisors[i] <= (float)FACTOR_MAX))
            return td_fail(error, TD_INVALID, "tensor rope_freqs.weight: value %" PRIu32 " is %g",
                           i, (double)description->divisors[i]);
    return TD_OK;
}

static td_status_t check(const struct model_rope_description *description, struct td_error *error)
{
    bool is_long = description->form == MODEL_ROPE_LLAMA3 || description->form == MODEL_ROPE_YARN;
    td_status_t status;

    if (description->head_dim == 0 || description->head_dim % 2 != 0 ||
        description->head_dim > MODEL_HEAD_DIM_MAX)
        return td_fail(error, TD_UNSUPPORTED, "a head of %" PRIu32 " values cannot be rotated",
                       description->head_dim);
    status = check_range("rope.freq_base (rope_theta)", description->theta, 1.0, THETA_MAX, error);
    if (status == TD_OK && description->form != MODEL_ROPE_PLAIN)
        status =
            check_range("rope.scaling.factor", description->factor, FACTOR_MIN, FACTOR_MAX, error);
    if (status == TD_OK && is_long)
        status = check_range("rope.scaling.original_context_length "
                             "(original_max_position_embeddings)",
                             description->original_context, 1.0, CONTEXT_MAX, error);
    if (status == TD_OK && description->form == MODEL_ROPE_LLAMA3)
        status = check_llama3(description, error);
    if (status == TD_OK && description->form == MODEL_ROPE_YARN)
        status = check_yarn(description, error);
    return status == TD_OK ? check_divisors(description, error) : status;
}

/* ------------------------------------------------------------------ forms */

static double llama3_frequency(const struct model_rope_description *description, double frequency)
{
    double wavelength = TWO_PI / frequency;
    double context = description->original_context;
    double low = description->low_frequency_factor;
    double high = description->high_frequency_factor;
    double smooth;

    if (wavelength < context / high)
        return frequency;
    if (wavelength > context / low)
        return frequency / description->factor;
    smooth = (context / wavelength - low) / (high - low);
    return (1.0 - smooth) * frequency / description->factor + smooth * frequency;
}

/* The pair that turns so many times within the original context. */
static double yarn_correction(const struct model_rope_description *description, double turns)
{
    return description->head_dim * natural_log(description->original_context / (TWO_PI * turns)) /
           (2.0 * natural_log(description->theta));
}

/* Between which pairs the fast ones, left alone, go over into the slow ones, which are stretched. */
static td_status_t yarn_ramp(const struct model_rope_description *description, double *low_out,
                             double *high_out, struct td_error *error)
{
    double low = floor(yarn_correction(description, description->beta_fast));
    double high = ceil(yarn_correction(description, description->beta_slow));

    low = low > 0.0 ? low : 0.0;
    high = high < description->head_dim - 1.0 ? high : description->head_dim - 1.0;
    if (high < low)
        return td_fail(error, TD_INVALID,
                       "rope scaling yarn: no pair of %" PRIu32 " values per head turns %g to %g "
                       "times in %g positions with base %g",
                       description->head_dim, description->beta_slow, description->beta_fast,
                       description->original_context, description->theta);
    *low_out = low;
    *high_out = high > low ? high : low + RAMP_WIDTH_MIN;
    return TD_OK;
}

static double yarn_frequency(double frequency, double factor, double position)
{
    double ramp = position < 0.0 ? 0.0 : position > 1.0 ? 1.0 : position;

    return frequency / factor * ramp + frequency * (1.0 - ramp);
}

static td_status_t compute(const struct model_rope_description *description,
                           struct model_rope *rope, struct td_error *error)
{
    double log_theta = natural_log(description->theta);
    double linear = description->form == MODEL_ROPE_LINEAR ? description->factor : 1.0;
    double low = 0.0;
    double high = 1.0;

    if (description->form == MODEL_ROPE_YARN) {
        td_status_t status = yarn_ramp(description, &low, &high, error);

        if (status != TD_OK)
            return status;
        rope->magnitude = (float)(description->attention_factor != 0.0
                                      ? description->attention_factor
                                      : model_rope_attention_factor(description->factor));
    }
    for (uint32_t i = 0; i < description->head_dim / 2; i++) {
        double frequency = negative_exp(2.0 * i / description->head_dim * log_theta);
        double divisor = description->divisors != NULL ? (double)description->divisors[i] : 1.0;

        if (description->form == MODEL_ROPE_LLAMA3)
            frequency = llama3_frequency(description, frequency);
        else if (description->form == MODEL_ROPE_YARN)
            frequency = yarn_frequency(frequency, description->factor, (i - low) / (high - low));
        else
            frequency /= linear * divisor;
        rope->frequency[i] = frequency;
    }
    return TD_OK;
}

static const char *name_of(const struct model_rope_description *description)
{
    if (description->divisors != NULL)
        return "divided";
    switch (description->form) {
    case MODEL_ROPE_PLAIN: return "plain";
    case MODEL_ROPE_LINEAR: return description->factor == 1.0 ? "plain" : "linear";
    case MODEL_ROPE_LLAMA3: return "llama3";
    case MODEL_ROPE_YARN: return "yarn";
    }
    return "unknown";
}

/* For people the form, theta and factor; for comparing a hash of all numbers that come of them. */
static void write_text(const struct model_rope_description *description, struct model_rope *rope)
{
    double numbers[MODEL_HEAD_DIM_MAX / 2 + 1] = {(double)rope->magnitude};
    char digest[TD_U128_HEX_BYTES];
    int length;

    for (uint32_t i = 0; i < description->head_dim / 2; i++)
        numbers[i + 1] = rope->frequency[i];
    td_u128_hex(td_hash128(numbers, (description->head_dim / 2 + 1) * sizeof numbers[0]), digest);
    length = snprintf(rope->text, sizeof rope->text, "%s theta %.6g factor %.6g numbers %s",
                      name_of(description), description->theta,
                      description->form == MODEL_ROPE_PLAIN ? 1.0 : description->factor, digest);
    assert(length > 0 && (size_t)length < sizeof rope->text);
}

td_status_t model_rope_init(const struct model_rope_description *description,
                            struct model_rope *rope_out, struct td_error *error)
{
    struct model_rope rope = {.pairs = description->pairs, .magnitude = 1.0f};
    td_status_t status = check(description, error);

    if (status == TD_OK)
        status = compute(description, &rope, error);
    if (status != TD_OK)
        return status;
    write_text(description, &rope);
    *rope_out = rope;
    return TD_OK;
}
