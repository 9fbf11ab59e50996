/* pace.c: learning what a step costs; see pace.h. */
#include "engine/pace.h"

#include <math.h>

#define LEARN_SHARE 0.5 /* of the error of a forecast */

/* A step that the machine held up says little: it counts as at most so many times the forecast, or the step before. */
#define SURPRISE_MAX 4.0

/* A step of streams alone that took more times its forecast is believed when a second says the same. */
#define SURPRISE_ALONE 2.0

enum { COST_STEP, COST_DECODE, COST_PREFILL, COST_DECODE_CONTEXT, COST_PREFILL_CONTEXT };

/*
 * One over the unit of each cost. An error goes to a cost in proportion to the square of its measure, so
 * the units say who is blamed as long as steps have not told the costs apart: rows of prompts before
 * streams, whose costs steps without prompts have taught; and rows before what they attend to, unless that is
 * long.
 */
static const double scales[ENGINE_PACE_COSTS] = {
    [COST_STEP] = 1.0 / 4,
    [COST_DECODE] = 1.0 / 32,
    [COST_PREFILL] = 1.0 / 16,
    [COST_DECODE_CONTEXT] = 1.0 / (32 * 8192),
    [COST_PREFILL_CONTEXT] = 1.0 / (16 * 8192),
};

static void measure(const struct engine_work *work, double measures_out[static ENGINE_PACE_COSTS])
{
    measures_out[COST_STEP] = scales[COST_STEP];
    measures_out[COST_DECODE] = scales[COST_DECODE] * work->decode_rows;
    measures_out[COST_PREFILL] = scales[COST_PREFILL] * work->prefill_rows;
    measures_out[COST_DECODE_CONTEXT] = scales[COST_DECODE_CONTEXT] * (double)work->decode_context;
    measures_out[COST_PREFILL_CONTEXT] =
        scales[COST_PREFILL_CONTEXT] * (double)work->prefill_context;
}

static double dot(const double *a, const double *b)
{
    double sum = 0;

    for (int i = 0; i < ENGINE_PACE_COSTS; i++)
        sum += a[i] * b[i];
    return sum;
}

double engine_pace_forecast(const struct engine_pace *pace, const struct engine_work *work)
{
    double measures[ENGINE_PACE_COSTS];

    measure(work, measures);
    return dot(pace->costs, measures);
}

bool engine_pace_wants_alone(const struct engine_pace *pace)
{
    uint32_t patience = ENGINE_PACE_MIXED_MIN;

    for (uint32_t i = 0; i < pace->doubts && patience < ENGINE_PACE_MIXED_MAX; i++)
        patience *= 2;
    return pace->mixed >= patience;
}

static bool is_alone(const struct engine_work *work)
{
    return work->decode_rows > 0 && work->prefill_rows == 0;
}

/*
 * A step of streams alone that was wanted is learnt in full, and mixed steps would not show for long that it was held up:
 * after a surprising one another is wanted, and the shorter of both is learnt. False: the other is to come.
 */
static bool believe_alone(struct engine_pace *pace, double forecast, double *duration)
{
    if (pace->first_alone_ns == 0 && *duration > SURPRISE_ALONE * forecast) {
        pace->first_alone_ns = *duration;
        return false;
    }
    if (pace->first_alone_ns > 0)
        *duration = fmin(*duration, pace->first_alone_ns);
    return true;
}

/* Counts a step that is learnt: how many mixed ones there were since the last of streams alone. */
static void count(struct engine_pace *pace, const struct engine_work *work, bool was_wanted)
{
    pace->first_alone_ns = 0;
    pace->doubts += was_wanted;
    if (is_alone(work))
        pace->mixed = 0;
    else if (work->decode_rows > 0)
        pace->mixed++;
}

void engine_pace_learn(struct engine_pace *pace, const struct engine_work *work,
                       uint64_t duration_ns)
{
    double measures[ENGINE_PACE_COSTS];
    double duration = (double)duration_ns;
    bool was_wanted = is_alone(work) && engine_pace_wants_alone(pace);
    double share = was_wanted ? 1 : LEARN_SHARE;
    double forecast;
    double change;

    measure(work, measures);
    forecast = dot(pace->costs, measures);
    if (was_wanted && !believe_alone(pace, forecast, &duration))
        return;
    count(pace, work, was_wanted);
    if (work->prefill_rows > 0 && !pace->knows_prefill) {
        pace->knows_prefill = true;
        share = 1;
    } else if (forecast > 0) {
        duration = fmin(duration, SURPRISE_MAX * fmax(forecast, pace->last_ns));
    }
    pace->last_ns = duration;
    change = share * (duration - forecast) / dot(measures, measures);
    for (int i = 0; i < ENGINE_PACE_COSTS; i++)
        pace->costs[i] = fmax(0, pace->costs[i] + change * measures[i]);
}

double engine_pace_cost(const struct engine_pace *pace, uint32_t position, uint32_t rows)
{
    double context = (double)rows * (position + (rows - 1.0) / 2);

    return pace->costs[COST_PREFILL] * scales[COST_PREFILL] * rows +
           pace->costs[COST_PREFILL_CONTEXT] * scales[COST_PREFILL_CONTEXT] * context;
}

uint32_t engine_pace_fit(const struct engine_pace *pace, uint32_t position, uint32_t rows_max,
                         double ns)
{
    uint32_t fits = 0;
    uint32_t rows = rows_max;

    if (ns == INFINITY)
        return rows_max;
    while (fits < rows) { /* the greatest in [fits, rows] whose cost is within ns */
        uint32_t middle = rows - (rows - fits) / 2;

        if (engine_pace_cost(pace, position, middle) <= ns)
            fits = middle;
        else
            rows = middle - 1;
    }
    return fits;
}
