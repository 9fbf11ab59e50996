/* sampling.c: the fields of a request, and a model's defaults for them; see sampling.h. */
#include "front/sampling.h"

#include "lib/api/options.h"
#include "lib/text/generation.h"

/* Whether the model's default takes the place of a field that the request did not say. */
static bool stands_in(const struct api_options *options, enum api_given given,
                      const struct text_generation *defaults, enum text_generation_field field)
{
    return (options->given & (unsigned)given) == 0 && (defaults->present & (uint32_t)field) != 0;
}

void front_sampling_settle(const struct api_options *options,
                           const struct text_generation *defaults, enum front_generation whose,
                           struct front_sampling *sampling_out)
{
    struct front_sampling sampling = {.temperature = options->temperature,
                                      .top_k = options->top_k,
                                      .top_p = options->top_p,
                                      .min_p = options->min_p,
                                      .repetition_penalty = options->repetition_penalty,
                                      .presence_penalty = options->presence_penalty,
                                      .frequency_penalty = options->frequency_penalty,
                                      .has_seed = options->has_seed,
                                      .seed = options->seed};

#define DEFAULT(NAME, member)                                                                  \
    (stands_in(options, API_GIVEN_##NAME, defaults, TEXT_GENERATION_##NAME) ? defaults->member \
                                                                            : options->member)
    if (whose == FRONT_GENERATION_AUTO) {
        sampling.temperature = DEFAULT(TEMPERATURE, temperature);
        sampling.top_k = DEFAULT(TOP_K, top_k);
        sampling.top_p = DEFAULT(TOP_P, top_p);
        sampling.min_p = DEFAULT(MIN_P, min_p);
        sampling.repetition_penalty = DEFAULT(REPETITION_PENALTY, repetition_penalty);
    }
#undef DEFAULT
    *sampling_out = sampling;
}

uint32_t front_sampling_tokens_max(const struct api_options *options,
                                   const struct text_generation *defaults,
                                   enum front_generation whose)
{
    if (options->max_tokens != 0 || whose != FRONT_GENERATION_AUTO ||
        (defaults->present & TEXT_GENERATION_MAX_NEW_TOKENS) == 0)
        return options->max_tokens;
    return defaults->max_new_tokens;
}
