/* reference.c: the passes in plain C: the definition, and what other processors run; see logits.h. */
#include <math.h> /* INFINITY; nothing of libm is called */
#include <stddef.h>

#include "engine/logits/exponential.h"
#include "engine/logits/logits.h"

static void maxima(const float *logits, uint32_t count, float *maxima_out)
{
    for (uint32_t first = 0; first < count; first += ENGINE_LOGITS_TILE) {
        uint32_t tile = count - first < ENGINE_LOGITS_TILE ? count - first : ENGINE_LOGITS_TILE;
        float greatest = -INFINITY;

        for (uint32_t i = 0; i < tile; i++)
            if (logits[first + i] > greatest)
                greatest = logits[first + i];
        *maxima_out++ = greatest;
    }
}

static uint32_t collect(const float *logits, uint32_t count, float least, uint32_t first_id,
                        uint32_t *ids_out, float *values_out)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (logits[i] >= least) {
            ids_out[found] = first_id + i;
            values_out[found++] = logits[i];
        }
    }
    return found;
}

static uint64_t weigh(const float *logits, uint32_t count, float best, float temperature,
                      uint64_t *weights_out)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < count; i++) {
        float p = logits_exp((logits[i] - best) / temperature);
        uint64_t weight = (uint64_t)(p * (float)(UINT64_C(1) << ENGINE_WEIGHT_BITS));

        total += weight;
        if (weights_out != NULL)
            weights_out[i] = weight;
    }
    return total;
}

const struct engine_logits engine_logits_reference = {
    .name = "reference", .maxima = maxima, .collect = collect, .weigh = weigh};
