/*
 * test_cpu_golden.c: the CPU backend against float32 computations of transformers and torch.
 *
 * Tiny models of each architecture: every logit (f32 KV). SmolLM2 and Qwen2.5-Coder: teacher-forced along
 * the golden continuations: log-probabilities of the 20 likeliest tokens, and the likeliest one where the
 * reference has a clear margin; with f32 KV close, with f16 and int8 KV wider. With --all: all prompts, and the
 * perplexity of a text.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "tests/engine/cpu_rig.h"

#define TOP_STEPS 8 /* steps for which the golden file has top20 */

static bool run_all;

/* ------------------------------------------------------------------ tiny models */

static void check_tiny_sequence(struct cpu_rig *rig, const struct td_json *sequence,
                                const char *golden, double difference_max)
{
    uint32_t token_count;
    uint32_t position_count;
    uint32_t *tokens = cpu_rig_integers(td_json_find(sequence, "tokens"), &token_count);
    uint32_t *positions = cpu_rig_integers(td_json_find(sequence, "positions"), &position_count);
    const float *expected =
        (const float *)(const void *)(golden +
                                      (size_t)td_json_find(sequence, "offset_bytes")->integer);
    const float *logits[64];
    double worst = 0;
    double sum = 0;

    assert_int_equal(positions[position_count - 1], token_count - 1);
    cpu_rig_feed(rig, 0, tokens, 0, token_count, ENGINE_WANT_LOGITS, position_count, logits);
    for (uint32_t i = 0; i < position_count; i++) {
        for (uint32_t id = 0; id < rig->model->vocab; id++) {
            double difference = fabs((double)logits[i][id] - expected[i * rig->model->vocab + id]);

            worst = difference > worst ? difference : worst;
            sum += difference;
            if (!(difference <= difference_max))
                fail_msg("position %u id %u: %g instead of %g", positions[i], id,
                         (double)logits[i][id], (double)expected[i * rig->model->vocab + id]);
        }
    }
    print_message("  %u positions, largest difference %.2g, mean %.2g\n", position_count, worst,
                  sum / position_count / rig->model->vocab);
    free(tokens);
    free(positions);
}

static void check_tiny_model(const char *name, enum cpu_numerics numerics, double difference_max)
{
    struct cpu_rig_options options = {
        .cpu = {.threads = 2, .kv_dtype = CPU_KV_F32, .numerics = numerics}};
    struct cpu_rig rig;
    struct td_arena arena;
    char path[64];
    size_t length;
    size_t golden_length;
    char *text;
    char *golden;

    snprintf(path, sizeof path, "%s/golden.json", name);
    text = test_read_file(test_data_path(path), &length);
    snprintf(path, sizeof path, "%s/golden_logits.f32", name);
    golden = test_read_file(test_data_path(path), &golden_length);
    snprintf(path, sizeof path, "%s/model.gguf", name);
    cpu_rig_json_open(&arena);
    cpu_rig_open_file(&rig, test_data_path(path), &options);
    td_json_for_each(sequence, td_json_find(cpu_rig_json(&arena, text, length), "sequences"))
        check_tiny_sequence(&rig, sequence, golden, difference_max);
    cpu_rig_close(&rig);
    td_arena_fini(&arena);
    free(text);
    free(golden);
}

static void tiny_llama_gives_every_golden_logit(void **state)
{
    (void)state;
    /* llama3's scaling as rope_freqs, an LM head of its own, BF16 */
    check_tiny_model("tiny-llama", CPU_NUMERICS_F32, 1e-3);
}

static void tiny_qwen2_gives_every_golden_logit(void **state)
{
    (void)state;
    check_tiny_model("tiny-qwen2", CPU_NUMERICS_F32, 1e-3); /* biases, tied */
}

static void tiny_qwen3_gives_every_golden_logit(void **state)
{
    (void)state;
    /* norms of heads, heads * head_dim is not hidden */
    check_tiny_model("tiny-qwen3", CPU_NUMERICS_F32, 1e-3);
}

/* Its weights are BF16: activations are rounded to such. */
static void tiny_llama_with_int8_is_close_to_every_golden_logit(void **state)
{
    (void)state;
    check_tiny_model("tiny-llama", CPU_NUMERICS_INT8, 0.1);
}

/* Of a numerics class there is one set of bits, from every compiler, processor and version. */
static void check_digest(const char *path, const char *expected)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2}};
    struct cpu_rig rig;
    uint32_t tokens[300];
    const float *logits;
    char digest[TD_U128_HEX_BYTES];

    for (uint32_t i = 0; i < 300; i++)
        tokens[i] = i * 7919 % 1024;
    cpu_rig_open_file(&rig, test_data_path(path), &options);
    cpu_rig_feed(&rig, 0, tokens, 0, 300, ENGINE_WANT_LOGITS, 1, &logits);
    td_u128_hex(td_hash128(logits, rig.model->vocab * sizeof *logits), digest);
    /* Whoever must change these bits gives the class another name. */
    assert_string_equal(rig.backend->info.numerics, "cpu-f32-3");
    assert_string_equal(digest, expected);
    cpu_rig_close(&rig);
}

static void the_numerics_class_has_not_changed_by_a_bit(void **state)
{
    (void)state;
    check_digest("tiny-llama/model.gguf", "bd3f819c1acfe3e25332e1a313148ea0");
    check_digest("tiny-qwen2/model.gguf", "44705d5d12afb4e8f1371921ef78de1f");
    check_digest("tiny-qwen3/model.gguf", "a2a88f7a7012520afbeec66d76449756");
}

/* ------------------------------------------------------------------ real models */

/* A model, its golden data, and how much of it is looked at without --all. */
struct subject {
    const char *(*path)(void);
    const char *hint; /* where the model comes from */
    const char *data; /* below tests/data */
    uint32_t prompts;
    uint32_t steps;
    double f16_difference_max;  /* of log-probabilities, with f16 KV */
    double f16_margin_min;      /* from which on the likeliest token must agree */
    double int8_difference_max; /* the same with int8 activations */
    double int8_mean_max;       /* of each prompt */
    double int8_margin_min;
    double int8_prompt_kl_max; /* mean of the steps of each prompt, in nats */
    double int8_kl_max;        /* mean of all steps */
    double int8_kv_mean_max;   /* of all steps, with int8 KV and floats elsewhere */
    double int8_kv_kl_max;
};

static const struct subject smollm2 = {.path = test_demo_model,
                                       .hint = "scripts/setup --model",
                                       .data = "engine/smollm2",
                                       .prompts = 3,
                                       .steps = 32,
                                       .f16_difference_max = 0.05,
                                       .f16_margin_min = 0.05,
                                       .int8_difference_max = 1.2,
                                       .int8_mean_max = 0.2,
                                       .int8_margin_min = 0.5,
                                       .int8_prompt_kl_max = 0.03,
                                       .int8_kl_max = 0.006,
                                       .int8_kv_mean_max = 0.12,
                                       .int8_kv_kl_max = 0.004};
static const struct subject qwen = {.path = test_golden_model,
                                    .hint = "scripts/setup --golden-model",
                                    .data = "engine/qwen2.5-coder",
                                    .prompts = 2,
                                    .steps = TOP_STEPS,
                                    .f16_difference_max = 0.2,
                                    .f16_margin_min = 0.15,
                                    .int8_difference_max = 0.8,
                                    .int8_mean_max = 0.12,
                                    .int8_margin_min = 0.2,
                                    .int8_prompt_kl_max = 0.003,
                                    .int8_kl_max = 0.0015,
                                    .int8_kv_mean_max = 0.08,
                                    .int8_kv_kl_max = 0.0015};

static char *read_golden(const struct subject *subject, const char *name, size_t *length_out)
{
    char path[64];

    snprintf(path, sizeof path, "%s/%s", subject->data, name);
    return test_read_file(test_data_path(path), length_out);
}

/* How close to the reference, and what came out. */
struct closeness {
    double log_probability_max; /* largest difference that is allowed */
    double margin_min;          /* the likeliest token must agree from this margin on */
    double prompt_mean_max;     /* mean difference of each prompt */
    double prompt_kl_max;       /* mean divergence of each prompt */
    double worst;
    double sum; /* of differences */
    uint32_t compared;
    double kl_sum; /* of the divergences of steps */
    uint32_t steps;
    uint32_t agreed;
    uint32_t decided;
};

/*
 * The divergence of ours from the reference, from its 20 likeliest tokens and all others taken as one: at most
 * the divergence over the whole vocabulary, and nearly all of it where those 20 have most of the weight.
 */
static double divergence(const struct td_json *top, const float *logits, double log_sum)
{
    double rest = 1.0;
    double rest_ours = 1.0;
    double sum = 0.0;

    td_json_for_each(pair, top)
    {
        double expected = cpu_rig_number(pair->items.first->next);
        double ours = logits[pair->items.first->integer] - log_sum;

        sum += exp(expected) * (expected - ours);
        rest -= exp(expected);
        rest_ours -= exp(ours);
    }
    return rest > 0.0 && rest_ours > 0.0 ? sum + rest * log(rest / rest_ours) : sum;
}

static void check_step(struct closeness *closeness, const struct td_json *prompt, uint32_t step,
                       const float *logits, uint32_t vocab)
{
    const struct td_json *top = td_json_find(prompt, "top20")->items.first;
    const struct td_json *margin = td_json_find(prompt, "margin")->items.first;
    const struct td_json *greedy = td_json_find(prompt, "greedy")->items.first;
    double log_sum = cpu_rig_log_sum(logits, vocab);

    for (uint32_t i = 0; i < step; i++) {
        margin = margin->next;
        greedy = greedy->next;
        top = top != NULL ? top->next : NULL;
    }
    if (cpu_rig_number(margin) >= closeness->margin_min) {
        closeness->decided++;
        if (cpu_rig_argmax(logits, vocab) != (uint32_t)greedy->integer)
            fail_msg("step %u: token %u instead of %d at margin %g", step,
                     cpu_rig_argmax(logits, vocab), (int)greedy->integer, cpu_rig_number(margin));
        closeness->agreed++;
    }
    if (top == NULL)
        return;
    closeness->kl_sum += divergence(top, logits, log_sum);
    closeness->steps++;
    td_json_for_each(pair, top)
    {
        uint32_t id = (uint32_t)pair->items.first->integer;
        double difference = fabs(logits[id] - log_sum - cpu_rig_number(pair->items.first->next));

        closeness->sum += difference;
        closeness->compared++;
        closeness->worst = difference > closeness->worst ? difference : closeness->worst;
        if (!(difference <= closeness->log_probability_max))
            fail_msg("step %u id %u: log-probability is off by %g", step, id, difference);
    }
}

/* The prompt in chunks of 64, then the golden continuation token by token. */
static void check_prompt(struct cpu_rig *rig, const struct td_json *prompt, uint32_t steps_max,
                         struct closeness *closeness)
{
    uint32_t token_count;
    uint32_t greedy_count;
    uint32_t *prompt_tokens = cpu_rig_integers(td_json_find(prompt, "tokens"), &token_count);
    uint32_t *greedy = cpu_rig_integers(td_json_find(prompt, "greedy"), &greedy_count);
    uint32_t *tokens = calloc(token_count + greedy_count, sizeof *tokens);
    uint32_t steps = steps_max < greedy_count ? steps_max : greedy_count;
    const float *logits = NULL;

    assert_non_null(tokens);
    memcpy(tokens, prompt_tokens, token_count * sizeof *tokens);
    memcpy(tokens + token_count, greedy, greedy_count * sizeof *tokens);
    for (uint32_t from = 0; from < token_count; from += 64) {
        uint32_t end = from + 64 < token_count ? from + 64 : token_count;

        cpu_rig_feed(rig, 0, tokens, from, end, ENGINE_WANT_LOGITS, end == token_count, &logits);
    }
    for (uint32_t step = 0; step < steps; step++) {
        check_step(closeness, prompt, step, logits, rig->model->vocab);
        cpu_rig_feed(rig, 0, tokens, token_count + step, token_count + step + 1, ENGINE_WANT_LOGITS,
                     1, &logits);
    }
    free(prompt_tokens);
    free(greedy);
    free(tokens);
}

/* What one prompt has added must keep to the bounds of a prompt. */
static void check_means(const struct closeness *before, const struct closeness *after)
{
    double mean = (after->sum - before->sum) / (after->compared - before->compared);
    double kl = (after->kl_sum - before->kl_sum) / (after->steps - before->steps);

    if (!(mean <= after->prompt_mean_max) || !(kl <= after->prompt_kl_max))
        fail_msg("log-probabilities are off by %g on average, divergence %g", mean, kl);
}

static void check_prompts(const struct subject *subject, enum cpu_kv_dtype kv_dtype,
                          enum cpu_numerics numerics, struct closeness *closeness)
{
    struct cpu_rig_options options = {
        .cpu = {.threads = 2, .kv_dtype = kv_dtype, .numerics = numerics}, .blocks = 128};
    uint32_t prompts_max = run_all ? UINT32_MAX : TEST_IS_SANITIZED ? 1 : subject->prompts;
    uint32_t steps_max = run_all ? UINT32_MAX : TEST_IS_SANITIZED ? TOP_STEPS : subject->steps;
    struct cpu_rig rig;
    struct td_arena arena;
    size_t length;
    char *text = read_golden(subject, "golden.jsonl", &length);
    uint32_t prompts = 0;

    cpu_rig_open_file(&rig, subject->path(), &options);
    for (char *line = text; *line != '\0' && prompts < prompts_max; prompts++) {
        size_t line_length = strcspn(line, "\n");
        const struct closeness before = *closeness;
        const struct td_json *prompt;

        cpu_rig_json_open(&arena);
        prompt = cpu_rig_json(&arena, line, line_length);
        check_prompt(&rig, prompt, steps_max, closeness);
        check_means(&before, closeness);
        td_arena_fini(&arena);
        line += line_length + (line[line_length] == '\n');
    }
    print_message("  %u prompts: largest difference %.2g, mean %.2g, divergence %.2g, %u of %u "
                  "likeliest tokens\n",
                  prompts, closeness->worst, closeness->sum / closeness->compared,
                  closeness->kl_sum / closeness->steps, closeness->agreed, closeness->decided);
    cpu_rig_close(&rig);
    free(text);
}

static void check_f32_kv(const struct subject *subject)
{
    struct closeness closeness = {.log_probability_max = 1e-3,
                                  .margin_min = 0.01,
                                  .prompt_mean_max = 1e-4,
                                  .prompt_kl_max = 1e-5};

    if (subject->path() == NULL)
        test_skip("no model: %s fetches it", subject->hint);
    check_prompts(subject, CPU_KV_F32, CPU_NUMERICS_F32, &closeness);
}

static void check_f16_kv(const struct subject *subject)
{
    struct closeness closeness = {.log_probability_max = subject->f16_difference_max,
                                  .margin_min = subject->f16_margin_min,
                                  .prompt_mean_max = 0.05,
                                  .prompt_kl_max = 0.001};

    if (subject->path() == NULL)
        test_skip("no model: %s fetches it", subject->hint);
    check_prompts(subject, CPU_KV_F16, CPU_NUMERICS_F32, &closeness);
}

/* Means over all steps tell nothing of a few steps of one prompt, which is all that sanitizers have the time for. */
static void check_all_steps(const struct closeness *closeness, double mean_max, double kl_max)
{
    if (TEST_IS_SANITIZED && !run_all)
        return;
    assert_true(closeness->sum / closeness->compared <= mean_max);
    assert_true(closeness->kl_sum / closeness->steps <= kl_max);
}

/* With activations as other engines have them: within the bounds of the golden data for such. */
static void check_int8(const struct subject *subject)
{
    struct closeness closeness = {.log_probability_max = subject->int8_difference_max,
                                  .margin_min = subject->int8_margin_min,
                                  .prompt_mean_max = subject->int8_mean_max,
                                  .prompt_kl_max = subject->int8_prompt_kl_max};

    if (subject->path() == NULL)
        test_skip("no model: %s fetches it", subject->hint);
    check_prompts(subject, CPU_KV_F16, CPU_NUMERICS_INT8, &closeness);
    assert_true(closeness.kl_sum / closeness.steps <= subject->int8_kl_max);
}

/* With int8 KV, alone and with activations as workers have them. */
static void check_int8_kv(const struct subject *subject)
{
    struct closeness alone = {.log_probability_max = subject->int8_difference_max,
                              .margin_min = subject->int8_margin_min,
                              .prompt_mean_max = 0.2,
                              .prompt_kl_max = 0.03};
    struct closeness both = alone;

    if (subject->path() == NULL)
        test_skip("no model: %s fetches it", subject->hint);
    check_prompts(subject, CPU_KV_INT8, CPU_NUMERICS_F32, &alone);
    check_all_steps(&alone, subject->int8_kv_mean_max, subject->int8_kv_kl_max);
    check_prompts(subject, CPU_KV_INT8, CPU_NUMERICS_INT8, &both);
    check_all_steps(&both, both.prompt_mean_max, subject->int8_kl_max);
}

static void smollm2_with_f32_kv_is_close_to_the_reference(void **state)
{
    (void)state;
    check_f32_kv(&smollm2);
}

static void smollm2_with_f16_kv_is_close_to_the_reference(void **state)
{
    (void)state;
    check_f16_kv(&smollm2);
}

static void qwen_with_f32_kv_is_close_to_the_reference(void **state)
{
    (void)state;
    check_f32_kv(&qwen);
}

static void qwen_with_f16_kv_is_close_to_the_reference(void **state)
{
    (void)state;
    check_f16_kv(&qwen);
}

static void smollm2_with_int8_activations_is_close_to_the_reference(void **state)
{
    (void)state;
    check_int8(&smollm2);
}

static void qwen_with_int8_activations_is_close_to_the_reference(void **state)
{
    (void)state;
    check_int8(&qwen);
}

static void smollm2_with_int8_kv_is_close_to_the_reference(void **state)
{
    (void)state;
    check_int8_kv(&smollm2);
}

static void qwen_with_int8_kv_is_close_to_the_reference(void **state)
{
    (void)state;
    check_int8_kv(&qwen);
}

/* Mean negative log-likelihood of a window, each token but the first predicted from those before. */
static double window_loss(struct cpu_rig *rig, const uint32_t *tokens, uint32_t window)
{
    double loss = 0;

    for (uint32_t from = 0; from < window; from += 32) {
        const float *logits[32];

        cpu_rig_feed(rig, 0, tokens, from, from + 32, ENGINE_WANT_LOGITS, 32, logits);
        for (uint32_t i = 0; i < 32 && from + i + 1 < window; i++)
            loss += cpu_rig_log_sum(logits[i], rig->model->vocab) - logits[i][tokens[from + i + 1]];
    }
    return loss / (window - 1);
}

static void check_perplexity(const struct subject *subject, enum cpu_kv_dtype kv_dtype,
                             enum cpu_numerics numerics, double difference_max)
{
    struct cpu_rig_options options = {
        .cpu = {.threads = 2, .kv_dtype = kv_dtype, .numerics = numerics}};
    struct cpu_rig rig;
    struct td_arena arena;
    const struct td_json *ledger;
    size_t length;
    char *text;
    uint32_t *tokens;
    uint32_t token_count;
    double loss = 0;

    if (!run_all)
        test_skip("a long test: run with --all");
    if (subject->path() == NULL)
        test_skip("no model: %s fetches it", subject->hint);
    text = read_golden(subject, "perplexity.json", &length);
    cpu_rig_json_open(&arena);
    ledger = td_json_find(cpu_rig_json(&arena, text, length), "ledger.txt");
    tokens = cpu_rig_integers(td_json_find(ledger, "tokens"), &token_count);
    cpu_rig_open_file(&rig, subject->path(), &options);
    for (uint32_t window = 0; window < 3; window++)
        loss += window_loss(&rig, tokens + (size_t)window * 512, 512) / 3;
    print_message("  mean negative log-likelihood %.6f, golden %.6f\n", loss,
                  cpu_rig_number(td_json_find(ledger, "mean_nll")));
    assert_true(fabs(loss - cpu_rig_number(td_json_find(ledger, "mean_nll"))) <= difference_max);
    cpu_rig_close(&rig);
    td_arena_fini(&arena);
    free(tokens);
    free(text);
}

static void smollm2_has_the_golden_perplexity(void **state)
{
    (void)state;
    check_perplexity(&smollm2, CPU_KV_F16, CPU_NUMERICS_F32, 0.0005);
    check_perplexity(&smollm2, CPU_KV_F16, CPU_NUMERICS_INT8, 0.02);
    check_perplexity(&smollm2, CPU_KV_INT8, CPU_NUMERICS_F32, 0.01);
    check_perplexity(&smollm2, CPU_KV_INT8, CPU_NUMERICS_INT8, 0.02);
}

static void qwen_has_the_golden_perplexity(void **state)
{
    (void)state;
    check_perplexity(&qwen, CPU_KV_F16, CPU_NUMERICS_F32, 0.0005);
    check_perplexity(&qwen, CPU_KV_F16, CPU_NUMERICS_INT8, 0.02);
    check_perplexity(&qwen, CPU_KV_INT8, CPU_NUMERICS_F32, 0.01);
    check_perplexity(&qwen, CPU_KV_INT8, CPU_NUMERICS_INT8, 0.02);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_llama_gives_every_golden_logit),
        cmocka_unit_test(tiny_qwen2_gives_every_golden_logit),
        cmocka_unit_test(tiny_qwen3_gives_every_golden_logit),
        cmocka_unit_test(tiny_llama_with_int8_is_close_to_every_golden_logit),
        cmocka_unit_test(the_numerics_class_has_not_changed_by_a_bit),
        cmocka_unit_test(smollm2_with_f32_kv_is_close_to_the_reference),
        cmocka_unit_test(smollm2_with_f16_kv_is_close_to_the_reference),
        cmocka_unit_test(smollm2_with_int8_activations_is_close_to_the_reference),
        cmocka_unit_test(smollm2_with_int8_kv_is_close_to_the_reference),
        cmocka_unit_test(smollm2_has_the_golden_perplexity),
        cmocka_unit_test(qwen_with_f32_kv_is_close_to_the_reference),
        cmocka_unit_test(qwen_with_f16_kv_is_close_to_the_reference),
        cmocka_unit_test(qwen_with_int8_activations_is_close_to_the_reference),
        cmocka_unit_test(qwen_with_int8_kv_is_close_to_the_reference),
        cmocka_unit_test(qwen_has_the_golden_perplexity),
    };

    run_all = argc > 1 && strcmp(argv[1], "--all") == 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
