/*
 * sampling.h: how the tokens of one request are drawn: what it says, and defaults for what it does not.
 *
 * Plain data and one rule, the same on routers and workers: a field of the request wins; then, unless the
 * operator does not want it, what the model's authors say (vLLM's --generation-config auto); then
 * the neutral values of the OpenAI API. It is settled once, before a request goes anywhere, so that every
 * try of it draws alike.
 */
#ifndef TANDEM_FRONT_SAMPLING_H
#define TANDEM_FRONT_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

struct api_options;
struct text_generation;

/* Whose defaults hold; the values count the choices of the flag. */
enum front_generation {
    FRONT_GENERATION_AUTO = 0, /* the model's, where it has some */
    FRONT_GENERATION_OPENAI,   /* the API's: temperature 1, nothing cut off, nothing penalised */
};

/* For the flag --generation-config of every program with an OpenAI port. */
#define FRONT_GENERATION_CHOICES \
    {                            \
        "auto", "openai", NULL   \
    }
#define FRONT_GENERATION_HELP                                                                  \
    "Defaults of requests that do not say how to sample: auto takes those that came with the " \
    "model, openai is temperature 1 and nothing else."

/* What is added to the logit of a token that exists. */
struct front_bias {
    uint32_t token;
    float value;
};

/* Ranges as in engine_sampling: what comes from here has been checked. */
struct front_sampling {
    float temperature;
    uint32_t top_k;
    float top_p;
    float min_p;
    float repetition_penalty;
    float presence_penalty;
    float frequency_penalty;
    bool has_seed;
    uint64_t seed;
};

/* Settles the sampling. defaults: the model's. */
void front_sampling_settle(const struct api_options *options,
                           const struct text_generation *defaults, enum front_generation whose,
                           struct front_sampling *sampling_out);

/* The most tokens that are wanted; 0: as many as there is room for. */
uint32_t front_sampling_tokens_max(const struct api_options *options,
                                   const struct text_generation *defaults,
                                   enum front_generation whose);

#endif
