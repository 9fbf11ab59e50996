/*
 * test_batch_invariance.c: the same logits, bit for bit, whatever else happens: through the whole core
 * over the CPU backend.
 *
 * Each case compares all logits of a request with those of the same request alone in an engine of its
 * own, prefilled in one piece. Prompts are longer than a split of attention (256) where the model is
 * tiny, and end inside a block. The demo model is tested too when it is there, with less.
 */
#include "tests/engine/cpu_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/kernels.h"
#include "lib/base/random.h"

#define PROMPT_MAX 512
#define MATES      5

/* A model, and sizes that its speed allows. */
struct subject {
    const char *path;
    uint32_t vocab;
    uint32_t prompt; /* tokens */
    uint32_t new_tokens;
    uint32_t blocks; /* of a pool with room for everything */
    enum cpu_kv_dtype kv_dtype;
    enum cpu_numerics numerics;
};

static struct cpu_core_config config_of(const struct subject *subject)
{
    return (struct cpu_core_config){
        .model = subject->path,
        .rig = {.cpu = {.threads = 1,
                        .kv_dtype = subject->kv_dtype,
                        .numerics = subject->numerics,
                        .outputs_max = 16},
                .blocks = subject->blocks},
    };
}

/* Another prompt for each number; even ones share their first half with number 0. */
static struct question question_of(const struct subject *subject, uint32_t number, uint32_t *tokens)
{
    struct td_rng rng;
    struct question question = {.goal = ENGINE_GENERATE,
                                .tokens = tokens,
                                .count = subject->prompt - number * subject->prompt / 8,
                                .max_new_tokens = subject->new_tokens};

    td_rng_init(&rng, 1);
    for (uint32_t i = 0; i < question.count; i++) {
        if ((number % 2 == 1 && i == 0) || (number != 0 && i == subject->prompt / 2))
            td_rng_init(&rng, 100 + number);
        tokens[i] = (uint32_t)td_rng_below(&rng, subject->vocab);
    }
    return question;
}

/* Question `number` alone, in one piece, in an engine of its own. */
static struct transcript alone(const struct subject *subject, uint32_t number)
{
    struct cpu_core_config config = config_of(subject);
    static struct cpu_core core;
    uint32_t tokens[PROMPT_MAX];
    struct question question = question_of(subject, number, tokens);
    struct transcript transcript;

    cpu_core_open(&core, &config);
    transcript = *cpu_core_ask(&core, 1, &question);
    assert_int_equal(transcript.cached_tokens, 0);
    cpu_core_close(&core);
    return transcript;
}

/* ---- cases ---- */

static void check_chunks(const struct subject *subject)
{
    static const uint32_t sizes[] = {1, 7, 16, 64};
    struct transcript expected = alone(subject, 0);
    uint32_t tokens[PROMPT_MAX];
    struct question question = question_of(subject, 0, tokens);
    static struct cpu_core core;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct cpu_core_config config = config_of(subject);
        char what[32];

        config.core.step_rows = sizes[i];
        cpu_core_open(&core, &config);
        snprintf(what, sizeof what, "chunks of %u", sizes[i]);
        cpu_core_assert_equal(cpu_core_ask(&core, 1, &question), &expected, what);
        cpu_core_close(&core);
    }
}

static void check_threads_and_kernels(const struct subject *subject)
{
    const struct cpu_kernels *kernels[CPU_KERNELS_MAX];
    uint32_t count = cpu_kernels_available(kernels);
    struct transcript expected = alone(subject, 0);
    uint32_t tokens[PROMPT_MAX];
    struct question question = question_of(subject, 0, tokens);
    static struct cpu_core core;

    for (uint32_t i = 0; i < count; i++)
        for (uint32_t threads = 1; threads <= 2; threads++) {
            struct cpu_core_config config = config_of(subject);

            config.rig.kernels = kernels[i]->name;
            config.rig.cpu.threads = threads;
            cpu_core_open(&core, &config);
            cpu_core_assert_equal(cpu_core_ask(&core, 1, &question), &expected, kernels[i]->name);
            cpu_core_close(&core);
        }
}

/* Mates that come one step after the other and go at other times, in chunks, with two threads. */
static void check_mates(const struct subject *subject)
{
    struct cpu_core_config config = config_of(subject);
    struct transcript expected[MATES];
    static struct cpu_core core;

    config.core.step_rows = 24;
    config.rig.cpu.threads = 2;
    for (uint32_t i = 0; i < MATES; i++)
        expected[i] = alone(subject, i);
    cpu_core_open(&core, &config);
    for (uint32_t i = 0; i < MATES; i++) {
        uint32_t tokens[PROMPT_MAX];
        struct question question = question_of(subject, i, tokens);

        cpu_core_submit(&core, i + 1, &question);
        cpu_core_step(&core);
        cpu_core_step(&core);
    }
    cpu_core_run(&core);
    for (uint32_t i = 0; i < MATES; i++)
        cpu_core_assert_equal(&core.transcripts[i + 1], &expected[i], "with mates");
    cpu_core_close(&core);
}

/* A pool that is too small: sequences lose their blocks, and prefill what decode had written. */
static void check_preemption(const struct subject *subject)
{
    struct cpu_core_config config = config_of(subject);
    uint32_t each = (subject->prompt + subject->new_tokens) / CPU_RIG_BLOCK_TOKENS + 1;
    struct transcript expected[3];
    static struct cpu_core core;

    config.rig.blocks = each + each / 2;
    for (uint32_t i = 0; i < 3; i++)
        expected[i] = alone(subject, 2 * i + 1); /* nothing shared */
    cpu_core_open(&core, &config);
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t tokens[PROMPT_MAX];
        struct question question = question_of(subject, 2 * i + 1, tokens);

        cpu_core_submit(&core, i + 1, &question);
    }
    cpu_core_run(&core);
    assert_int_not_equal(core.load.preemptions, 0);
    for (uint32_t i = 0; i < 3; i++)
        cpu_core_assert_equal(&core.transcripts[i + 1], &expected[i], "after preemption");
    cpu_core_close(&core);
}

/* Prompt and answer as the next prompt: from blocks that decode has written, and all anew. */
static void check_cache(const struct subject *subject)
{
    struct cpu_core_config config = config_of(subject);
    struct transcript first = alone(subject, 0);
    uint32_t tokens[PROMPT_MAX];
    struct question question = question_of(subject, 0, tokens);
    static struct cpu_core cold;
    static struct cpu_core warm;
    const struct transcript *again;

    cpu_core_open(&warm, &config);
    cpu_core_assert_equal(cpu_core_ask(&warm, 1, &question), &first, "cold");
    again = cpu_core_ask(&warm, 2, &question);
    assert_in_range(again->cached_tokens, 1, question.count - 1);
    cpu_core_assert_equal(again, &first, "cached");

    memcpy(tokens + question.count, first.tokens, first.count * sizeof *tokens);
    question.count += first.count;
    cpu_core_open(&cold, &config);
    again = cpu_core_ask(&warm, 3, &question);
    assert_in_range(again->cached_tokens, subject->prompt + 1, question.count - 1);
    cpu_core_assert_equal(again, cpu_core_ask(&cold, 3, &question),
                          "over an answer that is cached");
    cpu_core_close(&cold);
    cpu_core_close(&warm);
}

/* The same bytes in the pool, not only the same results: what a peer gets does not depend on it. */
static void check_written_bytes(const struct subject *subject)
{
    struct cpu_core_config config = config_of(subject);
    uint32_t tokens[PROMPT_MAX];
    struct question question = question_of(subject, 0, tokens);
    static struct cpu_core decoded;
    static struct cpu_core prefilled;
    const struct transcript *answer;
    const struct parcel *a;
    const struct parcel *b;

    cpu_core_open(&decoded, &config);
    config.core.step_rows = 7;
    config.rig.cpu.threads = 2;
    cpu_core_open(&prefilled, &config);
    answer = cpu_core_ask(&decoded, 1, &question);
    memcpy(tokens + question.count, answer->tokens, answer->count * sizeof *tokens);
    question.count += answer->count;
    a = cpu_core_prefill(&decoded, 2, tokens, question.count);
    b = cpu_core_prefill(&prefilled, 2, tokens, question.count);
    assert_in_range(decoded.transcripts[2].cached_tokens, subject->prompt + 1, question.count - 1);
    assert_int_equal(prefilled.transcripts[2].cached_tokens, 0);
    assert_int_equal(a->block_count, b->block_count);
    for (uint32_t i = 0; i < a->block_count; i++) {
        assert_true(td_u128_equal(a->blocks[i].key, b->blocks[i].key));
        assert_true(td_u128_equal(a->blocks[i].hash, b->blocks[i].hash));
    }
    assert_memory_equal(a->bytes, b->bytes, a->block_count * decoded.rig.kv.block_bytes);
    assert_memory_equal(a->hidden, b->hidden, decoded.rig.backend->info.hidden * sizeof(float));
    cpu_core_close(&decoded);
    cpu_core_close(&prefilled);
}

/* KV from another engine with other kernels, all of it and behind a cached prefix. */
static void check_import(const struct subject *subject)
{
    struct cpu_core_config config = config_of(subject);
    struct transcript expected = alone(subject, 0);
    uint32_t tokens[PROMPT_MAX];
    struct question question = question_of(subject, 0, tokens);
    const struct cpu_kernels *kernels[CPU_KERNELS_MAX];
    uint32_t count = cpu_kernels_available(kernels);
    static struct cpu_core prefill;
    static struct cpu_core decode;
    const struct parcel *parcel;
    struct question half = question;

    config.core.step_rows = 16;
    config.rig.kernels = count > 1 ? kernels[count - 2]->name : NULL;
    cpu_core_open(&prefill, &config);
    parcel = cpu_core_prefill(&prefill, 1, tokens, question.count);
    config.rig.kernels = NULL;
    question.goal = ENGINE_IMPORT;
    cpu_core_open(&decode, &config);
    cpu_core_assert_equal(cpu_core_import(&decode, 1, &question, parcel), &expected, "imported");
    cpu_core_close(&decode);

    half.count /= 2;
    half.max_new_tokens = 1;
    cpu_core_open(&decode, &config);
    cpu_core_ask(&decode, 1, &half);
    cpu_core_assert_equal(cpu_core_import(&decode, 2, &question, parcel), &expected,
                          "imported behind a cached prefix");
    assert_int_not_equal(decode.reserved_cached, 0);
    cpu_core_close(&decode);
    cpu_core_close(&prefill);
}

/* ---- subjects ---- */

static char *path_copy(const char *path)
{
    char *copy = strdup(path);

    assert_non_null(copy);
    return copy;
}

static void with_tiny(const char *name, enum cpu_kv_dtype kv_dtype, enum cpu_numerics numerics,
                      void (*check)(const struct subject *))
{
    char *path = path_copy(test_data_path(name));
    struct subject subject = {.path = path,
                              .vocab = 1024,
                              .prompt = 299,
                              .new_tokens = 40,
                              .blocks = 150,
                              .kv_dtype = kv_dtype,
                              .numerics = numerics};

    check(&subject);
    free(path);
}

static void with_smollm2(uint32_t prompt, uint32_t new_tokens,
                         void (*check)(const struct subject *))
{
    struct subject subject = {.vocab = 49152, .blocks = 64};

    if (test_demo_model() == NULL)
        test_skip("no demo model");
    if (TEST_IS_SANITIZED)
        test_skip("too slow under a sanitizer");
    subject.path = path_copy(test_demo_model());
    subject.prompt = prompt;
    subject.new_tokens = new_tokens;
    check(&subject);
    subject.numerics = CPU_NUMERICS_INT8;
    check(&subject);
    free((void *)(uintptr_t)subject.path);
}

/*
 * All architectures: what a row gets before its rotation must not depend on its mates either. tiny-llama's weights are
 * BF16, which int8 makes a difference to; the others' are floats.
 */
#define TINY_TEST(name, check)                                                     \
    static void tiny_models_##name(void **state)                                   \
    {                                                                              \
        (void)state;                                                               \
        with_tiny("tiny-llama/model.gguf", CPU_KV_F16, CPU_NUMERICS_F32, check);   \
        with_tiny("tiny-llama/model.gguf", CPU_KV_F32, CPU_NUMERICS_F32, check);   \
        with_tiny("tiny-llama/model.gguf", CPU_KV_F16, CPU_NUMERICS_INT8, check);  \
        with_tiny("tiny-llama/model.gguf", CPU_KV_INT8, CPU_NUMERICS_F32, check);  \
        with_tiny("tiny-qwen2/model.gguf", CPU_KV_F16, CPU_NUMERICS_F32, check);   \
        with_tiny("tiny-qwen2/model.gguf", CPU_KV_INT8, CPU_NUMERICS_INT8, check); \
        with_tiny("tiny-qwen3/model.gguf", CPU_KV_F16, CPU_NUMERICS_F32, check);   \
    }
#define SMOLLM2_TEST(name, check, prompt, new_tokens) \
    static void smollm2_##name(void **state)          \
    {                                                 \
        (void)state;                                  \
        with_smollm2(prompt, new_tokens, check);      \
    }

TINY_TEST(do_not_depend_on_chunks, check_chunks)
TINY_TEST(do_not_depend_on_threads_or_kernels, check_threads_and_kernels)
TINY_TEST(do_not_depend_on_mates, check_mates)
TINY_TEST(do_not_depend_on_preemption, check_preemption)
TINY_TEST(do_not_depend_on_the_cache, check_cache)
TINY_TEST(write_the_same_bytes_by_decode_and_by_prefill, check_written_bytes)
TINY_TEST(go_on_from_imported_kv, check_import)

SMOLLM2_TEST(does_not_depend_on_chunks, check_chunks, 75, 6)
SMOLLM2_TEST(does_not_depend_on_threads_or_kernels, check_threads_and_kernels, 5, 2)
SMOLLM2_TEST(does_not_depend_on_mates, check_mates, 75, 6)
SMOLLM2_TEST(does_not_depend_on_preemption, check_preemption, 60, 24)
SMOLLM2_TEST(does_not_depend_on_the_cache, check_cache, 60, 24)
SMOLLM2_TEST(writes_the_same_bytes_by_decode_and_by_prefill, check_written_bytes, 60, 24)
SMOLLM2_TEST(goes_on_from_imported_kv, check_import, 75, 6)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_models_do_not_depend_on_chunks),
        cmocka_unit_test(tiny_models_do_not_depend_on_threads_or_kernels),
        cmocka_unit_test(tiny_models_do_not_depend_on_mates),
        cmocka_unit_test(tiny_models_do_not_depend_on_preemption),
        cmocka_unit_test(tiny_models_do_not_depend_on_the_cache),
        cmocka_unit_test(tiny_models_write_the_same_bytes_by_decode_and_by_prefill),
        cmocka_unit_test(tiny_models_go_on_from_imported_kv),
        cmocka_unit_test(smollm2_does_not_depend_on_chunks),
        cmocka_unit_test(smollm2_does_not_depend_on_threads_or_kernels),
        cmocka_unit_test(smollm2_does_not_depend_on_mates),
        cmocka_unit_test(smollm2_does_not_depend_on_preemption),
        cmocka_unit_test(smollm2_does_not_depend_on_the_cache),
        cmocka_unit_test(smollm2_writes_the_same_bytes_by_decode_and_by_prefill),
        cmocka_unit_test(smollm2_goes_on_from_imported_kv),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
