/*
 * test_sample.c: tokens drawn on the device are those that engine/sample.h draws from the same logits, whatever the
 * logits and the sampling, and so are their log-probabilities; and a batch gets tokens or logits, as each output wants.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/sample.h"
#include "engine/logprobs.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define ROWS        4
#define VOCAB_MAX   9000
#define HISTORY_MAX 400
#define BIASES_MAX  40

/* ------------------------------------------------------------------ logits */

static float normal(struct td_rng *rng)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += td_rng_unit(rng);
    return (float)sum;
}

/* Shapes that logits have, or should not have. */
static const char *const kinds[] = {
    "as of a model", "flat",      "many ties", "extreme",
    "full of holes", "all equal", "steep",     "zeros of both signs"};

static float make_logit(uint32_t kind, uint32_t id, struct td_rng *rng)
{
    uint64_t dice = td_rng_below(rng, 100);

    switch (kind) {
    case 0: return normal(rng) * 3;
    case 1: return normal(rng) * 0.01f;
    case 2: return (float)(int)(normal(rng) * 4) / 2;
    case 3: return dice < 3 ? -FLT_MAX : dice < 5 ? FLT_MAX / 2 : normal(rng) * 1e30f;
    case 4: return dice < 60 ? (float)NAN : dice < 90 ? -INFINITY : normal(rng);
    case 5: return -7.25f;
    case 6: return -(float)id * 0.37f;
    default: return dice < 50 ? -0.0f : dice < 90 ? 0.0f : -normal(rng) * normal(rng);
    }
}

static struct engine_sampling make_sampling(struct td_rng *rng, uint32_t vocab)
{
    static const float temperatures[] = {0, 0.01f, 0.7f, 1, 1.9f, 50};
    static const float shares[] = {1, 1, 0.95f, 0.5f, 0.01f, 1e-9f};
    static const float least[] = {0, 0, 0.05f, 0.5f, 1, 1e-15f};
    struct engine_sampling sampling = {.temperature = temperatures[td_rng_below(rng, 6)],
                                       .top_p = shares[td_rng_below(rng, 6)],
                                       .min_p = least[td_rng_below(rng, 6)],
                                       .seed = td_rng_next(rng),
                                       .choice = (uint32_t)td_rng_below(rng, 3)};

    switch (td_rng_below(rng, 5)) {
    case 0: sampling.top_k = 1 + (uint32_t)td_rng_below(rng, 4); break;
    case 1: sampling.top_k = 50; break;
    case 2: sampling.top_k = 1 + (uint32_t)td_rng_below(rng, vocab + 3); break;
    default: break;
    }
    sampling.wants_logprobs = td_rng_below(rng, 2) == 0;
    sampling.top_logprobs = (uint32_t)td_rng_below(rng, ENGINE_TOP_LOGPROBS_MAX + 1);
    return sampling;
}

/* ------------------------------------------------------------------ requests */

/* A request, and what it has said. */
struct request {
    struct engine_sampling sampling;
    struct engine_bias biases[BIASES_MAX];
    uint32_t tokens[HISTORY_MAX];
    struct engine_tally_entry entries[HISTORY_MAX];
    struct engine_tally tally;
    struct engine_history history;
    uint32_t allowed[VOCAB_MAX / 32 + 1];
    bool is_masked;
};

/* Several of a token are side by side, as the core has them. */
static void make_biases(struct request *request, struct td_rng *rng, uint32_t vocab)
{
    uint32_t token = (uint32_t)td_rng_below(rng, vocab);

    request->sampling.bias_count = (uint32_t)td_rng_below(rng, BIASES_MAX + 1);
    request->sampling.biases = request->biases;
    for (uint32_t i = 0; i < request->sampling.bias_count; i++) {
        float value = td_rng_below(rng, 8) == 0 ? FLT_MAX : 10 * normal(rng);

        request->biases[i] = (struct engine_bias){.token = token, .value = value};
        if (td_rng_below(rng, 3) > 0)
            token += (uint32_t)td_rng_below(rng, (vocab - token) / 8 + 1);
    }
}

static void make_penalties(struct engine_sampling *sampling, struct td_rng *rng)
{
    static const float repetitions[] = {0, 1, 1.3f, 0.4f, 3e38f, 1e-40f};
    static const float penalties[] = {0, 0, 0.6f, -1.7f, FLT_MAX, -FLT_MAX};

    sampling->repetition_penalty = repetitions[td_rng_below(rng, 6)];
    sampling->frequency_penalty = penalties[td_rng_below(rng, 6)];
    sampling->presence_penalty = penalties[td_rng_below(rng, 6)];
}

/* Few tokens, or most; none at all now and then. */
static void make_mask(struct request *request, struct td_rng *rng)
{
    uint64_t dice = td_rng_below(rng, 12);

    request->is_masked = dice < 6;
    for (uint32_t i = 0; request->is_masked && i < VOCAB_MAX / 32 + 1; i++) {
        uint32_t bits = (uint32_t)td_rng_next(rng) & (uint32_t)td_rng_next(rng);

        request->allowed[i] = dice == 0 ? 0 : dice < 4 ? bits & (0u - (i % 3 == 0)) : ~bits;
    }
}

static void make_request(struct request *request, struct td_rng *rng, uint32_t vocab)
{
    uint64_t dice = td_rng_below(rng, 4);

    *request = (struct request){.sampling = make_sampling(rng, vocab)};
    request->tally.entries = request->entries;
    request->history.tokens = request->tokens;
    request->history.tally = &request->tally;
    request->history.prompt_count = 1 + (uint32_t)td_rng_below(rng, HISTORY_MAX / 2);
    request->history.count =
        request->history.prompt_count + (uint32_t)td_rng_below(rng, HISTORY_MAX / 2);
    for (uint32_t i = 0; i < request->history.count; i++)
        request->tokens[i] = (uint32_t)td_rng_below(rng, 1 + td_rng_below(rng, vocab));
    if (dice != 0)
        make_biases(request, rng, vocab);
    if (dice != 1)
        make_penalties(&request->sampling, rng);
    make_mask(request, rng);
}

static struct engine_draw draw_of(struct request *request, uint32_t vocab)
{
    static uint32_t counts[VOCAB_MAX];
    const struct engine_history *history = &request->history;
    struct engine_draw draw =
        engine_draw_of(&request->sampling, vocab, history->count - history->prompt_count);

    if (engine_penalty_wanted(&request->sampling))
        draw.changes = engine_changes_of(&request->sampling, history, counts);
    if (request->is_masked)
        draw.allowed = request->allowed;
    return draw;
}

/* What the definition makes of a request's logits. */
static void change_logits(const struct request *request, uint32_t vocab, float *logits)
{
    static uint32_t counts[VOCAB_MAX];
    struct engine_history history = request->history;

    history.tally = NULL; /* counted anew */
    if (engine_penalty_wanted(&request->sampling))
        engine_penalize(&request->sampling, &history, counts, logits);
    for (uint32_t id = 0; request->is_masked && id < vocab; id++)
        if ((request->allowed[id / 32] & UINT32_C(1) << id % 32) == 0)
            logits[id] = -INFINITY;
}

/* And which token is drawn from them. */
static uint32_t expected_token(struct engine_sampler *sampler, const struct request *request,
                               const float *logits)
{
    static float changed[VOCAB_MAX];
    struct engine_sampling sampling = request->sampling;
    uint32_t token;

    memcpy(changed, logits, sampler->vocab * sizeof *logits);
    change_logits(request, sampler->vocab, changed);
    sampling.bias_count = 0;
    sampling.repetition_penalty = sampling.frequency_penalty = sampling.presence_penalty = 0;
    if (engine_sample(sampler, changed, &sampling, &request->history, &token) != TD_OK)
        return ENGINE_DRAW_FAILED;
    return token;
}

/* ------------------------------------------------------------------ the kernels */

struct stage {
    struct cuda_device *device;
    struct cuda_shape shape;
    struct cuda_workspace work;
    struct cuda_draws draws;
};

static void *take(struct stage *stage, size_t bytes)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(stage->device, bytes, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    return memory;
}

static void stage_open(struct stage *stage, uint32_t vocab)
{
    struct td_error error = {0};

    *stage =
        (struct stage){.device = cuda_rig_device(), .shape = {.vocab = vocab, .outputs_max = ROWS}};
    stage->work.logits = take(stage, (size_t)ROWS * vocab * sizeof(float));
    stage->work.peaks = take(stage, (size_t)ROWS * cuda_peak_tiles(&stage->shape) * sizeof(float));
    stage->work.draws = take(stage, ROWS * sizeof(struct cuda_draw));
    stage->work.changes = take(stage, cuda_changes_max(&stage->shape) * sizeof(struct cuda_change));
    stage->work.masks =
        take(stage, (size_t)ROWS * cuda_mask_words(&stage->shape) * sizeof(uint32_t));
    stage->work.kept = take(stage, cuda_changes_max(&stage->shape) * sizeof(float));
    stage->work.surveys = take(stage, ROWS * sizeof(struct cuda_survey));
    stage->work.logprobs = take(stage, ROWS * sizeof(struct cuda_logprobs));
    stage->work.tokens = take(stage, ROWS * sizeof(uint32_t));
    if (cuda_draws_open(&stage->draws, stage->device, &stage->shape, &error) != TD_OK)
        fail_msg("%s", error.text);
}

static void stage_close(struct stage *stage)
{
    cuda_device_give(stage->device, stage->work.logits);
    cuda_device_give(stage->device, stage->work.peaks);
    cuda_device_give(stage->device, stage->work.draws);
    cuda_device_give(stage->device, stage->work.changes);
    cuda_device_give(stage->device, stage->work.masks);
    cuda_device_give(stage->device, stage->work.kept);
    cuda_device_give(stage->device, stage->work.surveys);
    cuda_device_give(stage->device, stage->work.logprobs);
    cuda_device_give(stage->device, stage->work.tokens);
    cuda_draws_close(&stage->draws, stage->device);
    cuda_device_close(stage->device);
}

/* A token for each row, its draw given; stage->draws has them, and log-probabilities. */
static void draw_rows(struct stage *stage, const float *logits, const struct engine_draw *how)
{
    struct engine_output outputs[ROWS];
    const struct engine_batch batch = {.outputs = outputs, .output_count = ROWS};
    struct td_error error = {0};

    for (uint32_t i = 0; i < ROWS; i++)
        outputs[i] = (struct engine_output){.want = ENGINE_WANT_LOGITS, .draw = &how[i]};
    assert_true(cuda_draws_fill(&stage->draws, &stage->shape, &batch));
    cuda_device_upload(stage->device, stage->work.logits, logits,
                       (size_t)ROWS * stage->shape.vocab * sizeof *logits);
    cuda_draws_queue(&stage->draws, stage->device, &stage->shape, &stage->work);
    if (cuda_device_wait(stage->device, &error) != TD_OK)
        fail_msg("%s", error.text);
}

/* To the bit. */
static void check_logprobs(const struct engine_logprobs *found,
                           const struct engine_logprobs *expected, const char *kind)
{
    if (memcmp(&found->chosen, &expected->chosen, sizeof found->chosen) != 0)
        fail_msg("%s: %a instead of %a", kind, (double)found->chosen, (double)expected->chosen);
    assert_int_equal(found->count, expected->count);
    for (uint32_t i = 0; i < found->count; i++)
        if (memcmp(&found->top[i], &expected->top[i], sizeof found->top[i]) != 0)
            fail_msg("%s, place %u: token %u with %a instead of %u with %a", kind, i,
                     found->top[i].token, (double)found->top[i].value, expected->top[i].token,
                     (double)expected->top[i].value);
}

static void check_draws(struct stage *stage, struct engine_sampler *sampler, uint32_t kind,
                        struct td_rng *rng)
{
    static float logits[ROWS][VOCAB_MAX];
    static float packed[ROWS * VOCAB_MAX];
    static struct request requests[ROWS];
    uint32_t vocab = stage->shape.vocab;
    struct engine_draw how[ROWS];

    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t id = 0; id < vocab; id++)
            logits[row][id] = make_logit(kind, id, rng);
        memcpy(packed + (size_t)row * vocab, logits[row], vocab * sizeof(float));
        make_request(&requests[row], rng, vocab);
        how[row] = draw_of(&requests[row], vocab);
    }
    draw_rows(stage, packed, how);
    for (uint32_t row = 0; row < ROWS; row++) {
        const struct engine_sampling *sampling = &requests[row].sampling;
        uint32_t expected = expected_token(sampler, &requests[row], logits[row]);
        struct engine_logprobs logprobs;
        uint32_t here = ENGINE_DRAW_FAILED;

        if (engine_sample_by(sampler, logits[row], &how[row], &here) != TD_OK)
            here = ENGINE_DRAW_FAILED;
        assert_int_equal(here, expected);
        if (stage->draws.tokens[row] != expected)
            fail_msg("%u logits, %s: token %u instead of %u (temperature %g, top_k %u, top_p %g, "
                     "min_p %g, repetition %g, frequency %g, presence %g, %u biases, %s)",
                     vocab, kinds[kind], stage->draws.tokens[row], expected,
                     (double)sampling->temperature, sampling->top_k, (double)sampling->top_p,
                     (double)sampling->min_p, (double)sampling->repetition_penalty,
                     (double)sampling->frequency_penalty, (double)sampling->presence_penalty,
                     sampling->bias_count, requests[row].is_masked ? "masked" : "any token");
        if (expected == ENGINE_DRAW_FAILED || !sampling->wants_logprobs)
            continue;
        assert_int_equal(
            engine_logprobs_of(sampler, logits[row], expected, sampling->top_logprobs, &logprobs),
            TD_OK);
        check_logprobs(&stage->draws.logprobs[row], &logprobs, kinds[kind]);
    }
}

static void tokens_are_those_that_the_core_draws(void **state)
{
    static const uint32_t vocabs[] = {1, 5, 256, 257, 1000, VOCAB_MAX};
    const uint32_t rounds = TEST_IS_SANITIZED ? 1 : 6;
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 11);
    for (size_t i = 0; i < sizeof vocabs / sizeof vocabs[0]; i++) {
        struct engine_sampler sampler;
        struct stage stage;

        stage_open(&stage, vocabs[i]);
        assert_int_equal(engine_sampler_init(&sampler, vocabs[i]), TD_OK);
        for (uint32_t kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++)
            for (uint32_t round = 0; round < rounds; round++)
                check_draws(&stage, &sampler, kind, &rng);
        engine_sampler_fini(&sampler);
        stage_close(&stage);
    }
}

/* Not the tokens alone: each logit, to the bit; and what names no token changes none. */
static void changed_logits_are_those_of_the_core(void **state)
{
    enum { VOCAB = 700 };
    static float logits[ROWS][VOCAB];
    static float found[ROWS][VOCAB];
    static struct request requests[ROWS];
    struct engine_draw how[ROWS];
    struct stage stage;
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 12);
    stage_open(&stage, VOCAB);
    for (uint32_t round = 0; round < (TEST_IS_SANITIZED ? 4u : 24u); round++) {
        for (uint32_t row = 0; row < ROWS; row++) {
            struct engine_bias *last;

            for (uint32_t id = 0; id < VOCAB; id++)
                logits[row][id] = make_logit(round % 8, id, &rng);
            make_request(&requests[row], &rng, VOCAB);
            how[row] = draw_of(&requests[row], VOCAB);
            if (row == 0 && how[row].changes.bias_count > 0) { /* nobody has let it in */
                last = &requests[row].biases[how[row].changes.bias_count - 1];
                last->token = round % 2 == 0 ? VOCAB : UINT32_MAX;
            }
        }
        draw_rows(&stage, logits[0], how);
        cuda_device_download(stage.device, found, stage.work.logits, sizeof found);
        assert_int_equal(cuda_device_wait(stage.device, NULL), TD_OK);
        for (uint32_t row = 0; row < ROWS; row++) {
            struct engine_sampling *sampling = &requests[row].sampling;

            sampling->bias_count -= row == 0 && sampling->bias_count > 0;
            change_logits(&requests[row], VOCAB, logits[row]);
            assert_memory_equal(found[row], logits[row], sizeof found[row]);
        }
    }
    stage_close(&stage);
}

/* What one step has no room for is left to the core, with logits as they were; the draws beside it are made. */
static void too_many_changes_are_left_to_the_core(void **state)
{
    enum { VOCAB = 9000, ROOM = ROWS * CUDA_CHANGES_EACH, FIRST = 8000 };
    static float logits[ROWS][VOCAB];
    static float found[ROWS][VOCAB];
    static struct engine_tally_entry seen[VOCAB];
    struct engine_draw how[ROWS] = {
        {.is_greedy = true}, {.is_greedy = true}, {.is_greedy = true}, {.is_greedy = true}};
    struct stage stage;

    (void)state;
    stage_open(&stage, VOCAB);
    for (uint32_t i = 0; i < VOCAB; i++)
        seen[i] = (struct engine_tally_entry){.token = i, .count = 1};
    for (uint32_t row = 0; row < ROWS; row++) {
        logits[row][8] = 0.5f;
        how[row].changes = (struct engine_changes){.seen = seen, .repetition = 1, .presence = 1};
    }
    how[1].changes.seen_count = FIRST;
    how[2].changes.seen_count = ROOM - FIRST + 1;
    how[3].changes.seen_count = ROOM - FIRST;
    draw_rows(&stage, logits[0], how);
    assert_int_equal(stage.draws.tokens[0], 8);
    assert_int_equal(stage.draws.tokens[1], FIRST); /* the first that was not seen */
    assert_int_equal(stage.draws.tokens[2], ENGINE_NOT_DRAWN);
    assert_int_equal(stage.draws.tokens[3], ROOM - FIRST);
    assert_true(stage.draws.has_left);
    cuda_device_download(stage.device, found, stage.work.logits, sizeof found);
    assert_int_equal(cuda_device_wait(stage.device, NULL), TD_OK);
    assert_memory_equal(found[2], logits[2], sizeof found[2]);
    stage_close(&stage);
}

static void logits_that_nobody_can_draw_from_are_told(void **state)
{
    static float logits[ROWS * 300];
    const struct engine_draw how[ROWS] = {
        {.is_greedy = true},
        {.temperature = 1, .top_p = 1, .reach = ENGINE_WEIGHT_REACH},
        {.is_greedy = true},
        {.is_greedy = true}};
    struct stage stage;

    (void)state;
    stage_open(&stage, 300);
    for (uint32_t i = 0; i < 300; i++) {
        logits[i] = (float)NAN;
        logits[300 + i] = -INFINITY;
        logits[600 + i] = i == 280 ? INFINITY : 1;
        logits[900 + i] = i == 280 ? -FLT_MAX : (float)NAN;
    }
    draw_rows(&stage, logits, how);
    assert_int_equal(stage.draws.tokens[0], ENGINE_DRAW_FAILED);
    assert_int_equal(stage.draws.tokens[1], ENGINE_DRAW_FAILED);
    assert_int_equal(stage.draws.tokens[2], ENGINE_DRAW_FAILED);
    assert_int_equal(stage.draws.tokens[3], 280);
    stage_close(&stage);
}

/* A mask may leave good logits of a broken backend, but there is nothing to compare them with. */
static void log_probabilities_beside_an_infinite_logit_are_none(void **state)
{
    static float logits[ROWS * 300];
    const uint32_t allowed[10] = {0x10};
    struct engine_draw how[ROWS];
    struct stage stage;

    (void)state;
    stage_open(&stage, 300);
    for (uint32_t row = 0; row < ROWS; row++) {
        logits[row * 300 + 280] = row == 1 ? INFINITY : 1;
        how[row] = (struct engine_draw){
            .is_greedy = true, .allowed = allowed, .wants_logprobs = true, .top_logprobs = row};
    }
    draw_rows(&stage, logits, how);
    for (uint32_t row = 0; row < ROWS; row++) {
        assert_int_equal(stage.draws.tokens[row], 4);
        assert_int_equal(stage.draws.logprobs[row].count, row == 1 ? CUDA_NO_LOGPROBS : row);
    }
    stage_close(&stage);
}

/* ------------------------------------------------------------------ a batch */

/* Some outputs leave drawing to the backend and some do not, and a hidden state is between them. */
static void each_output_gets_what_it_wants(void **state)
{
    enum { VOCAB = 300, TOKENS = 9 };
    static const struct model_shape shape = {.vocab = VOCAB,
                                             .hidden = 32,
                                             .ffn = 32,
                                             .layers = 1,
                                             .heads = 2,
                                             .kv_heads = 1,
                                             .head_dim = 16,
                                             .type = MODEL_TYPE_Q8_0,
                                             .seed = 20};
    const struct cuda_options options = {.outputs_max = TOKENS};
    const struct engine_sampling sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = 7};
    const struct engine_tally_entry seen[] = {{7, 2}, {31, 0}, {299, 1}};
    const uint32_t allowed[VOCAB / 32 + 1] = {0, 0xff00ff00u, 0x1234u};
    struct engine_draw how[3];
    float logits[TOKENS][VOCAB];
    struct engine_row rows[TOKENS];
    struct engine_output outputs[TOKENS];
    struct engine_batch batch = {
        .rows = rows, .row_count = TOKENS, .outputs = outputs, .output_count = TOKENS};
    struct engine_batch_sequence sequence = {.slot_count = 1};
    struct engine_sampler sampler;
    struct engine_logprobs logprobs;
    struct engine_result result;
    struct cuda_rig rig;
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&shape, &bytes);

    (void)state;
    how[1] = how[2] = engine_draw_of(&sampling, VOCAB, 3);
    how[2].changes = (struct engine_changes){.seen = seen, .seen_count = 3, .repetition = 2};
    how[2].allowed = allowed;
    how[2].wants_logprobs = true;
    how[2].top_logprobs = 4;
    cuda_rig_open(&rig, cuda_rig_device(), model, &options);
    rig.bytes = bytes;
    assert_int_equal(engine_sampler_init(&sampler, VOCAB), TD_OK);
    sequence.slots = rig.base.slots;
    batch.sequences = &sequence;
    batch.sequence_count = 1;
    for (uint32_t i = 0; i < TOKENS; i++) {
        rows[i] = (struct engine_row){.token = 31 * i, .position = i};
        outputs[i] = (struct engine_output){.row = i, .want = ENGINE_WANT_LOGITS};
    }
    result = cpu_rig_run(&rig.base, &batch);
    assert_null(result.tokens);
    for (uint32_t i = 0; i < TOKENS; i++)
        memcpy(logits[i], result.outputs[i], sizeof logits[i]);
    for (uint32_t i = 0; i < TOKENS; i++) {
        outputs[i].want = i == 4 ? ENGINE_WANT_HIDDEN : ENGINE_WANT_LOGITS;
        outputs[i].draw = i % 3 != 0 ? &how[i % 3] : NULL;
    }
    result = cpu_rig_run(&rig.base, &batch);
    for (uint32_t i = 0; i < TOKENS; i++) {
        uint32_t expected = ENGINE_NOT_DRAWN;

        if (i % 3 != 0 && i != 4) {
            assert_int_equal(engine_sample_by(&sampler, logits[i], &how[i % 3], &expected), TD_OK);
            assert_int_equal(engine_logprobs_of(&sampler, logits[i], expected, 4, &logprobs),
                             TD_OK);
        }
        if (i % 3 == 2)
            check_logprobs(&result.logprobs[i], &logprobs, "a model's");
        if (i % 3 == 0)
            assert_memory_equal(result.outputs[i], logits[i], sizeof logits[i]);
        assert_int_equal(result.tokens[i], expected);
    }
    engine_sampler_fini(&sampler);
    cuda_rig_close(&rig);
}

/* An argument chooses tests by their names: tests/gpu/run has slow tools run some. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_that_the_core_draws),
        cmocka_unit_test(changed_logits_are_those_of_the_core),
        cmocka_unit_test(too_many_changes_are_left_to_the_core),
        cmocka_unit_test(logits_that_nobody_can_draw_from_are_told),
        cmocka_unit_test(log_probabilities_beside_an_infinite_logit_are_none),
        cmocka_unit_test(each_output_gets_what_it_wants),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
