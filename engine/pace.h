/*
 * pace.h: how long a step will take, learnt from how long others took; part of the engine core.
 *
 * The duration of a step is taken for a sum of five costs: of the step itself (all weights are read once),
 * of each row that decodes and each row of a prompt, and for both kinds of what they attend to (their
 * position). The costs are learnt from every step, by the rule of Kaczmarz (1937), known as normalised
 * least mean squares: half of the error of the forecast is spread over the costs, in proportion to their share in
 * this step. So the forecast of a kind of step that is repeated gets twice as good with each, and a
 * model, a machine or a neighbour that changes is followed in a few steps. There is no history and no
 * clock: durations are what the backend says.
 *
 * Steps that all have the same mixture do not tell its costs apart: where a prompt is beside streams from the first
 * step on, or beside streams that get deeper and deeper, what they cost would be blamed on its rows, it would be held to
 * few rows, and no step would ever show that this is wrong. So now and then a step goes without prompts
 * (engine_pace_wants_alone): the first after ENGINE_PACE_MIXED_MIN mixed ones, then after twice as many, up to
 * ENGINE_PACE_MIXED_MAX. One that takes much longer than was foretold may have been held up: a second one follows then,
 * and the shorter of both counts.
 *
 * Nothing but the number of rows depends on this: results do not change with it (batch invariance).
 */
#ifndef TANDEM_ENGINE_PACE_H
#define TANDEM_ENGINE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define ENGINE_PACE_COSTS 5
#define ENGINE_PACE_PROBE_ROWS \
    32 /* of the first prompt, when nothing is known of rows of prompts */

/* Steps with both streams and prompts until one without prompts is due: at first, and at most. */
#define ENGINE_PACE_MIXED_MIN 4
#define ENGINE_PACE_MIXED_MAX 64

/* What a step has to do. */
struct engine_work {
    uint32_t decode_rows;    /* sequences that draw their next token: rows and heads */
    uint32_t prefill_rows;   /* rows of prompts */
    uint64_t decode_context; /* sums of their positions */
    uint64_t prefill_context;
};

/* Zero: nothing is known. */
struct engine_pace {
    double costs[ENGINE_PACE_COSTS]; /* ns, each in a unit of its own, see pace.c; never negative */
    bool knows_prefill;
    double last_ns; /* what the last step counted as */
    /* Of a step of streams alone that was wanted and surprised, until the second comes; otherwise 0. */
    double first_alone_ns;
    uint32_t mixed;  /* steps with both streams and prompts since the last with streams alone */
    uint32_t doubts; /* how often a step without prompts was due and came */
};

/* A step took so long. */
void engine_pace_learn(struct engine_pace *pace, const struct engine_work *work,
                       uint64_t duration_ns);

/* Whether it is time for a step of streams alone, so that their costs are told from those of prompts. */
bool engine_pace_wants_alone(const struct engine_pace *pace);

/* How long a step will take. */
double engine_pace_forecast(const struct engine_pace *pace, const struct engine_work *work);

/* What the next `rows` rows of a prompt add to a step, from a position on. */
double engine_pace_cost(const struct engine_pace *pace, uint32_t position, uint32_t rows);

/* How many rows of a prompt, at most rows_max, fit into a time; INFINITY is no bound. */
uint32_t engine_pace_fit(const struct engine_pace *pace, uint32_t position, uint32_t rows_max,
                         double ns);

#endif
