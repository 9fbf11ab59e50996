/* balance.c: see balance.h. */
#include "engine/cpu/balance.h"

#include <stdbool.h>
#include <stdlib.h>

/* A pair of elements with a bias of this magnitude is as large as others are: it is halved from root 2 of it on. */
#define ORDINARY 4.0

#define DIVISOR_MAX 65536.0

/* The power of two that is nearest to magnitude / ORDINARY, at least 1; from the magnitude's square. */
static float divisor(double square)
{
    double divisor = 1.0;

    while (divisor < DIVISOR_MAX && square > 2.0 * (ORDINARY * divisor) * (ORDINARY * divisor))
        divisor *= 2.0;
    return (float)divisor;
}

static void fill_head(const float *bias, uint32_t head_dim, bool is_interleaved, float *out)
{
    uint32_t pairs = head_dim / 2;

    for (uint32_t i = 0; i < pairs; i++) {
        double a = (double)bias[is_interleaved ? 2 * i : i];
        double b = (double)bias[is_interleaved ? 2 * i + 1 : i + pairs];

        out[i] = out[i + pairs] = divisor(a * a + b * b);
    }
}

static bool has_biases(const struct model *model)
{
    for (uint32_t i = 0; i < model->layers; i++)
        if (model->layer[i].k_bias != NULL)
            return true;
    return false;
}

td_status_t cpu_balance_open(const struct model *model, float **divisors_out,
                             struct td_error *error)
{
    static const float nothing[MODEL_HEAD_DIM_MAX];
    bool is_interleaved = model->rope.pairs == MODEL_ROPE_INTERLEAVED;
    size_t heads = (size_t)model->layers * model->kv_heads;
    float *divisors;

    *divisors_out = NULL;
    if (!has_biases(model))
        return TD_OK;
    divisors = calloc(heads, model->head_dim * sizeof *divisors);
    if (divisors == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the divisors of keys");
    for (size_t head = 0; head < heads; head++) {
        const float *bias = model->layer[head / model->kv_heads].k_bias;

        fill_head(bias == NULL ? nothing : bias + head % model->kv_heads * model->head_dim,
                  model->head_dim, is_interleaved, divisors + head * model->head_dim);
    }
    *divisors_out = divisors;
    return TD_OK;
}

const float *cpu_balance_of(const float *divisors, const struct model *model, uint32_t layer,
                            uint32_t kv_head)
{
    if (divisors == NULL)
        return NULL;
    return divisors + ((size_t)layer * model->kv_heads + kv_head) * model->head_dim;
}
