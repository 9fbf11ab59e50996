/*
 * test_cpu_folders.c: the CPU backend with models from Hugging Face folders.
 *
 * Every logit of the small models is that of transformers; a GGUF file with the same weights, another cut into
 * files, data at odd addresses and another form of config.json give the same bits.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "tests/engine/cpu_rig.h"
#include "tests/model/fp8_build.h"
#include "tests/model/hf_build.h"

#define TOLERANCE   1e-3
#define OUTPUTS_MAX 64

/* ------------------------------------------------------------------ golden logits */

static void check_sequence(struct cpu_rig *rig, const struct td_json *sequence, const char *golden)
{
    uint32_t token_count;
    uint32_t position_count;
    uint32_t vocab = rig->model->vocab;
    uint32_t *tokens = cpu_rig_integers(td_json_find(sequence, "tokens"), &token_count);
    uint32_t *positions = cpu_rig_integers(td_json_find(sequence, "positions"), &position_count);
    const float *expected =
        (const float *)(const void *)(golden +
                                      (size_t)td_json_find(sequence, "offset_bytes")->integer);
    const float *logits[OUTPUTS_MAX];

    assert_in_range(position_count, 1, OUTPUTS_MAX);
    cpu_rig_feed(rig, 0, tokens, 0, token_count, ENGINE_WANT_LOGITS, position_count, logits);
    for (uint32_t i = 0; i < position_count; i++)
        for (uint32_t id = 0; id < vocab; id++)
            if (!(fabs((double)logits[i][id] - (double)expected[i * vocab + id]) <= TOLERANCE))
                fail_msg("position %u id %u: %g instead of %g", positions[i], id,
                         (double)logits[i][id], (double)expected[i * vocab + id]);
    free(tokens);
    free(positions);
}

static void check_golden(const char *name)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2, .kv_dtype = CPU_KV_F32}};
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
    cpu_rig_json_open(&arena);
    cpu_rig_open_file(&rig, test_data_path(name), &options);
    td_json_for_each(sequence, td_json_find(cpu_rig_json(&arena, text, length), "sequences"))
        check_sequence(&rig, sequence, golden);
    cpu_rig_close(&rig);
    td_arena_fini(&arena);
    free(text);
    free(golden);
}

static void folders_give_every_golden_logit(void **state)
{
    (void)state;
    check_golden("tiny-llama"); /* llama3's scaling in config.json, BF16, an LM head of its own */
    check_golden("tiny-qwen2"); /* two files, biases */
    check_golden("tiny-qwen3"); /* rope_parameters, norms of heads */
}

/* ------------------------------------------------------------------ the same bits */

static struct td_u128 logits_of(const char *path)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2}};
    struct cpu_rig rig;
    struct td_u128 digest = {0};
    uint32_t tokens[200];
    const float *logits[OUTPUTS_MAX];

    for (uint32_t i = 0; i < 200; i++)
        tokens[i] = i * 7919 % 1024;
    cpu_rig_open_file(&rig, path, &options);
    cpu_rig_feed(&rig, 0, tokens, 0, 200, ENGINE_WANT_LOGITS, OUTPUTS_MAX, logits);
    for (uint32_t i = 0; i < OUTPUTS_MAX; i++)
        digest = td_hash128_chain(digest, logits[i], rig.model->vocab * sizeof *logits[i]);
    cpu_rig_close(&rig);
    return digest;
}

static void assert_same_logits(const char *a, const char *b)
{
    char first[512];

    snprintf(first, sizeof first, "%s", a); /* test_data_path has one buffer */
    assert_true(td_u128_equal(logits_of(first), logits_of(b)));
}

static void a_folder_and_a_gguf_file_give_the_same_bits(void **state)
{
    static const char *const names[] = {"tiny-qwen2", "tiny-qwen3"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char folder[512];
        char file[64];

        snprintf(folder, sizeof folder, "%s", test_data_path(names[i]));
        snprintf(file, sizeof file, "%s/model.gguf", names[i]);
        assert_same_logits(folder, test_data_path(file));
    }
}

/*
 * Llama's rows of Q and K lie in another order in GGUF, which changes no bit. Its stretched positions
 * come there as divisors that were rounded to floats, which does: here both have plain ones.
 */
static void llama_gives_the_same_bits_in_both_orders_of_rows(void **state)
{
    struct model_gguf *file = NULL;
    struct hf_build build;
    char path[512];
    size_t length;
    char *bytes = test_read_file(test_data_path("tiny-llama/model.gguf"), &length);
    const struct model_gguf_tensor *divisors;
    const float one = 1.0f;

    (void)state;
    assert_int_equal(model_gguf_parse((uint8_t *)bytes, length, &file, NULL), TD_OK);
    divisors = model_gguf_tensor(file, "rope_freqs.weight");
    assert_non_null(divisors);
    for (uint64_t i = 0; i < divisors->dims[0]; i++)
        memcpy(bytes + (divisors->data - (const uint8_t *)bytes) + i * sizeof one, &one,
               sizeof one);
    model_gguf_close(file);
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-llama");
    hf_build_replace(&build, "config.json", "\"llama3\"", "\"default\"");
    hf_build_put(&build, "model.gguf", bytes, length);
    snprintf(path, sizeof path, "%s/model.gguf", build.path);
    assert_same_logits(build.path, path);
    free(bytes);
    hf_build_fini(&build);
}

/* tiny-qwen3's tensors in so many files, with the data `misalignment` bytes off. */
static void write_in_files(const struct hf_build *build, uint32_t files, size_t misalignment)
{
    struct model_safetensors *source = NULL;
    struct td_buf index;

    assert_int_equal(
        model_safetensors_open(test_data_path("tiny-qwen3/model.safetensors"), &source, NULL),
        TD_OK);
    td_buf_init(&index, 1 << 20);
    td_buf_append_text(&index, "{\"weight_map\":{");
    for (uint32_t file = 0; file < files; file++) {
        struct hf_weights weights;
        char name[64];

        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", file + 1, files);
        hf_weights_init(&weights);
        for (size_t i = file; i < model_safetensors_count(source); i += files) {
            const struct model_safetensors_tensor *tensor = model_safetensors_at(source, i);

            hf_weights_add_copy(&weights, tensor->name, tensor);
            td_buf_printf(&index, "%s\"%s\":\"%s\"", index.length > 20 ? "," : "", tensor->name,
                          name);
        }
        hf_weights_finish(&weights, build, name, misalignment);
    }
    td_buf_append_text(&index, "}}");
    assert_int_equal(index.status, TD_OK);
    hf_build_put(build, "model.safetensors.index.json", index.data, index.length);
    td_buf_fini(&index);
    model_safetensors_close(source);
}

static void files_and_addresses_change_no_bit(void **state)
{
    (void)state;
    for (uint32_t files = 1; files <= 3; files++) {
        for (size_t misalignment = 0; misalignment <= 3; misalignment++) {
            struct hf_build build;

            hf_build_init(&build);
            hf_build_copy(&build, "tiny-qwen3", "config.json");
            write_in_files(&build, files, misalignment);
            assert_same_logits(build.path, test_data_path("tiny-qwen3"));
            hf_build_fini(&build);
        }
    }
}

static void the_old_form_of_a_config_gives_the_same_bits(void **state)
{
    struct hf_build build;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_replace(&build, "config.json", "\"rope_parameters\": {",
                     "\"rope_theta\": 1e6, \"rope_scaling\": null, \"task_specific_params\": {");
    assert_same_logits(build.path, test_data_path("tiny-qwen3"));
    hf_build_fini(&build);
}

/* ------------------------------------------------------------------ FP8 */

/* Only the scales' place in sums differs: behind 32 columns, where floats have them in each weight. */
static void fp8_folders_give_the_logits_of_the_floats_they_mean(void **state)
{
    enum { COUNT = 40, OUTPUTS = 3 };
    const struct cpu_rig_options options = {.cpu = {.threads = 2, .kv_dtype = CPU_KV_F32}};
    uint32_t tokens[COUNT];

    (void)state;
    cpu_rig_tokens(1024, 5, tokens, COUNT);
    for (int form = 0; form < FP8_FORMS; form++) {
        const struct fp8_build fp8 = {.form = (enum fp8_form)form};
        struct hf_build builds[2];
        struct cpu_rig rigs[2];
        const float *logits[2][OUTPUTS];

        hf_build_init(&builds[0]);
        hf_build_init(&builds[1]);
        fp8_build_folder(&fp8, &builds[0], &builds[1]);
        for (uint32_t i = 0; i < 2; i++) {
            cpu_rig_open_file(&rigs[i], builds[i].path, &options);
            cpu_rig_feed(&rigs[i], 0, tokens, 0, COUNT, ENGINE_WANT_LOGITS, OUTPUTS, logits[i]);
        }
        for (uint32_t i = 0; i < OUTPUTS; i++)
            for (uint32_t id = 0; id < rigs[0].model->vocab; id++)
                if (!(fabs((double)logits[0][i][id] - (double)logits[1][i][id]) <= 1e-4))
                    fail_msg("form %d output %u id %u: %g instead of %g", form, i, id,
                             (double)logits[0][i][id], (double)logits[1][i][id]);
        for (uint32_t i = 0; i < 2; i++) {
            cpu_rig_close(&rigs[i]);
            hf_build_fini(&builds[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_give_every_golden_logit),
        cmocka_unit_test(a_folder_and_a_gguf_file_give_the_same_bits),
        cmocka_unit_test(llama_gives_the_same_bits_in_both_orders_of_rows),
        cmocka_unit_test(files_and_addresses_change_no_bit),
        cmocka_unit_test(the_old_form_of_a_config_gives_the_same_bits),
        cmocka_unit_test(fp8_folders_give_the_logits_of_the_floats_they_mean),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
