/* test_model.c: what a model file must say, and what is refused, by name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cpu.h"
#include "model/model.h"
#include "tests/model/gguf_build.h"

static const struct model_shape small = {.vocab = 10,
                                         .hidden = 8,
                                         .ffn = 256,
                                         .layers = 1,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_dim = 4,
                                         .type = MODEL_TYPE_F32};

/* Adds to a build, or changes a finished file. */
struct change {
    void (*build)(struct gguf_build *build);
    const char *text; /* `size` bytes `behind` bytes behind it become value; NULL: nothing does */
    int behind;
    uint64_t value;
    size_t size;
    size_t cut; /* then so many bytes are taken from the end */
};

static struct gguf_bytes make_file(const struct change *change)
{
    struct gguf_build build;
    struct gguf_bytes file;

    gguf_build_init(&build);
    gguf_build_model(&build, &small);
    if (change->build != NULL)
        change->build(&build);
    file = gguf_build_finish(&build);
    if (change->text != NULL)
        memcpy(file.bytes + gguf_bytes_behind(&file, change->text) + change->behind, &change->value,
               change->size);
    file.length -= change->cut;
    return file;
}

/* NULL and the error, or the model; bytes live in *file_out. */
static struct model *open_model(const struct change *change, struct gguf_bytes *file_out,
                                td_status_t *status_out, struct td_error *error)
{
    struct model_gguf *gguf = NULL;
    struct model *model = NULL;

    *error = (struct td_error){0};
    *file_out = make_file(change);
    if (model_gguf_parse(file_out->bytes, file_out->length, &gguf, error) != TD_OK)
        fail_msg("%s", error->text);
    *status_out = model_from_gguf(gguf, &model, error);
    if (*status_out != TD_OK)
        model_gguf_close(gguf);
    return model;
}

static void check_refused(const struct change *change, td_status_t status, const char *part)
{
    struct gguf_bytes file;
    struct td_error error;
    td_status_t actual;
    struct model *model = open_model(change, &file, &actual, &error);

    if (actual != status || strstr(error.text, part) == NULL)
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)status, part, (int)actual,
                 error.text);
    assert_null(model);
    free(file.bytes);
}

static void check_accepted(const struct change *change, void (*check)(const struct model *))
{
    struct gguf_bytes file;
    struct td_error error;
    td_status_t status;
    struct model *model = open_model(change, &file, &status, &error);

    if (status != TD_OK)
        fail_msg("%s", error.text);
    if (check != NULL)
        check(model);
    model_close(model);
    free(file.bytes);
}

/* ---- what is right ---- */

static void the_tiny_model_is_described_right(void **state)
{
    struct model *model;
    struct td_error error = {0};

    (void)state;
    if (model_open(test_data_path("tiny-llama/model.gguf"), &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(model->layers, 2);
    assert_int_equal(model->hidden, 128);
    assert_int_equal(model->ffn, 256);
    assert_int_equal(model->heads, 4);
    assert_int_equal(model->kv_heads, 2);
    assert_int_equal(model->head_dim, 32);
    assert_int_equal(model->vocab, 1024);
    assert_int_equal(model->embedding.type, MODEL_TYPE_BF16);
    assert_ptr_not_equal(model->output.data, model->embedding.data);
    assert_int_equal(model->rope.pairs, MODEL_ROPE_INTERLEAVED);
    assert_true(model->rope.frequency[0] == 1.0 && model->rope.magnitude == 1.0f);
    assert_true(fabs(model->rope.frequency[15] * 8 - pow(10000.0, -30.0 / 32)) < 1e-12);
    assert_true(model->has_text);
    assert_int_equal(model->text.token_count, 1024);
    assert_true(model->text.ignore_merges && model->text.add_bos);
    model_close(model);
}

/* The same scaling as config.json would have it: the file's divisors are floats, hence not bit for bit. */
static void llama3_scaling_is_the_same_in_both_of_its_forms(void **state)
{
    struct model_rope_description description =
        model_rope_describe(MODEL_ROPE_LLAMA3, MODEL_ROPE_HALF, 32);
    struct model_rope expected;
    struct model *model;

    (void)state;
    description.factor = 8.0;
    description.original_context = 128.0;
    assert_int_equal(model_rope_init(&description, &expected, NULL), TD_OK);
    assert_int_equal(model_open(test_data_path("tiny-llama/model.gguf"), &model, NULL), TD_OK);
    for (uint32_t i = 0; i < 16; i++)
        assert_true(fabs(model->rope.frequency[i] / expected.frequency[i] - 1.0) < 1e-7);
    model_close(model);
}

static void check_defaults(const struct model *model)
{
    assert_true(model->rope.frequency[0] == 1.0);
    assert_true(fabs(model->rope.frequency[1] - 0.01) < 1e-15);
    assert_false(model->has_text);
    assert_string_equal(model->name, "test");
    assert_int_equal(model->kv_heads, 1);
}

static void check_tied(const struct model *model)
{
    assert_ptr_equal(model->output.data, model->embedding.data);
}

static void add_linear_scaling(struct gguf_build *build)
{
    gguf_build_text(build, "llama.rope.scaling.type", "linear");
    gguf_build_f32(build, "llama.rope.scaling.factor", 4.0f);
    gguf_build_f32(build, "llama.rope.freq_base", 500000.0f);
}

static void check_linear_scaling(const struct model *model)
{
    assert_true(model->rope.frequency[0] == 0.25);
    assert_true(fabs(model->rope.frequency[1] * 4 - pow(500000.0, -0.5)) < 1e-15);
    assert_non_null(strstr(model->rope.text, "linear theta 500000 factor 4 "));
}

static void what_may_be_left_out_has_its_default(void **state)
{
    struct gguf_build build;
    struct model_shape tied = small;
    struct gguf_bytes file;
    struct model_gguf *gguf;
    struct model *model;

    (void)state;
    check_accepted(&(struct change){0}, check_defaults);
    check_accepted(&(struct change){.build = add_linear_scaling}, check_linear_scaling);
    /* without head_count_kv as many as heads: then the shapes of k and v are wrong */
    check_refused(&(struct change){.text = "head_count_k", .value = 'x', .size = 1}, TD_INVALID,
                  "attn_k.weight has shape");
    tied.is_tied = true;
    gguf_build_init(&build);
    gguf_build_model(&build, &tied);
    file = gguf_build_finish(&build);
    assert_int_equal(model_gguf_parse(file.bytes, file.length, &gguf, NULL), TD_OK);
    assert_int_equal(model_from_gguf(gguf, &model, NULL), TD_OK);
    check_tied(model);
    model_close(model);
    free(file.bytes);
}

/* ---- what is wrong ---- */

static void keys_that_are_missing_or_out_of_bounds_are_named(void **state)
{
    static const char *const needed[] = {
        "llama.block_count",          "llama.context_length",
        "llama.embedding_length",     "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon",
        "general.architecture"};

    (void)state;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        struct change away = {.text = needed[i], .behind = -1, .value = '_', .size = 1};

        check_refused(&away, TD_INVALID, needed[i]);
    }
    for (size_t i = 0; i < 5; i++) {
        struct change zero = {.text = needed[i], .behind = 4, .value = 0, .size = 4};
        struct change huge = {.text = needed[i], .behind = 4, .value = UINT32_MAX, .size = 4};

        check_refused(&zero, TD_LIMIT, needed[i]);
        check_refused(&huge, TD_LIMIT, needed[i]);
    }
    check_refused(
        &(struct change){.text = "rms_epsilon", .behind = 4, .value = 0x7fc00000, .size = 4},
        TD_INVALID, "rms_epsilon");
    check_refused(
        &(struct change){.text = "rms_epsilon", .behind = 4, .value = 0xbf800000, .size = 4},
        TD_INVALID, "rms_epsilon");
}

static void heads_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    check_refused(&(struct change){.text = "head_count_kv", .behind = 4, .value = 3, .size = 4},
                  TD_LIMIT, "head_count_kv");
    check_refused(&(struct change){.text = "key_length", .behind = 4, .value = 5, .size = 4},
                  TD_UNSUPPORTED, "head of 5");
    check_refused(&(struct change){.text = "key_length", .behind = 4, .value = 258, .size = 4},
                  TD_LIMIT, "key_length");
    check_refused(&(struct change){.text = "value_length", .behind = 4, .value = 6, .size = 4},
                  TD_UNSUPPORTED, "value length 6");
    check_refused(&(struct change){.text = "key_length", .behind = 4, .value = 6, .size = 4},
                  TD_UNSUPPORTED, "key length 6");
}

static void tensors_that_do_not_fit_are_named(void **state)
{
    static const char *const needed[] = {
        "token_embd.weight",     "output_norm.weight",       "blk.0.attn_norm.weight",
        "blk.0.ffn_norm.weight", "blk.0.attn_q.weight",      "blk.0.attn_k.weight",
        "blk.0.attn_v.weight",   "blk.0.attn_output.weight", "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight",   "blk.0.ffn_down.weight"};

    (void)state;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        struct change away = {.text = needed[i], .behind = -1, .value = '_', .size = 1};
        bool is_vector = strstr(needed[i], "norm") != NULL;
        struct change other = {
            .text = needed[i], .behind = is_vector ? 12 : 20, .value = 26, .size = 4};

        check_refused(&away, TD_INVALID, needed[i]);
        check_refused(&other, TD_UNSUPPORTED, needed[i]); /* I32: of the same size */
        check_refused(&other, TD_UNSUPPORTED, "type I32");
    }
    check_refused(&(struct change){.text = "blk.0.ffn_down.weight",
                                   .behind = 20,
                                   .value = 10,
                                   .size = 4,
                                   .cut = 8 * (256 * sizeof(float) - 84)}, /* Q2_K is smaller */
                  TD_UNSUPPORTED,
                  "tensor blk.0.ffn_down.weight has type Q2_K; served are " MODEL_TYPES_SERVED);
    check_refused(&(struct change){.text = "embedding_length", .behind = 4, .value = 9, .size = 4},
                  TD_INVALID, "tensor token_embd.weight has shape [8, 10] where [9, 10]");
    check_refused(&(struct change){.text = "block_count", .behind = 4, .value = 2, .size = 4},
                  TD_INVALID, "blk.1.");
}

static void add_stranger(struct gguf_build *build)
{
    static const float values[4] = {0};

    gguf_build_tensor(build, "blk.0.attn_q.bias", MODEL_TYPE_F32, 4, 0, values);
}

static void add_longrope(struct gguf_build *build)
{
    gguf_build_text(build, "llama.rope.scaling.type", "longrope");
}

static void add_endless_factor(struct gguf_build *build)
{
    gguf_build_text(build, "llama.rope.scaling.type", "yarn");
    gguf_build_f32(build, "llama.rope.scaling.factor", INFINITY);
}

static void add_no_number(struct gguf_build *build)
{
    gguf_build_f32(build, "llama.rope.scaling.attn_factor", NAN);
}

static void add_bad_factor(struct gguf_build *build)
{
    gguf_build_f32(build, "llama.rope.scaling.factor", -1.0f);
}

static void add_bad_base(struct gguf_build *build)
{
    gguf_build_f32(build, "llama.rope.freq_base", 0.0f);
}

static void add_bad_frequencies(struct gguf_build *build)
{
    static const float values[2] = {1.0f, 0.0f};

    gguf_build_tensor(build, "rope_freqs.weight", MODEL_TYPE_F32, 2, 0, values);
}

static void add_experts(struct gguf_build *build)
{
    gguf_build_u32(build, "llama.expert_count", 8);
}

static void add_window(struct gguf_build *build)
{
    gguf_build_u32(build, "llama.attention.sliding_window", 1024);
}

static void add_wordpiece(struct gguf_build *build)
{
    gguf_build_text(build, "tokenizer.ggml.model", "bert");
}

static void add_tokenizer_without_tokens(struct gguf_build *build)
{
    gguf_build_text(build, "tokenizer.ggml.model", "gpt2");
}

static void what_is_not_known_is_refused_and_not_ignored(void **state)
{
    uint64_t gemma = 0;

    (void)state;
    memcpy(&gemma, "gemma", 5);
    check_refused(&(struct change){.text = "llama", .behind = -5, .value = gemma, .size = 5},
                  TD_UNSUPPORTED, "gemma is not served; llama, qwen2 and qwen3 are");
    check_refused(&(struct change){.build = add_stranger}, TD_UNSUPPORTED, "blk.0.attn_q.bias");
    check_refused(&(struct change){.build = add_longrope}, TD_UNSUPPORTED, "longrope");
    check_refused(&(struct change){.build = add_bad_factor}, TD_INVALID, "scaling.factor");
    check_refused(&(struct change){.build = add_endless_factor}, TD_INVALID, "factor is inf");
    check_refused(&(struct change){.build = add_no_number}, TD_INVALID, "attn_factor is nan");
    check_refused(&(struct change){.build = add_bad_base}, TD_INVALID, "freq_base");
    check_refused(&(struct change){.build = add_bad_frequencies}, TD_INVALID, "rope_freqs.weight");
    check_refused(&(struct change){.build = add_experts}, TD_UNSUPPORTED, "expert_count");
    check_refused(&(struct change){.build = add_window}, TD_UNSUPPORTED, "sliding_window");
    check_refused(&(struct change){.build = add_wordpiece}, TD_UNSUPPORTED,
                  "tokenizer.ggml.model 'bert'");
    check_refused(&(struct change){.build = add_tokenizer_without_tokens}, TD_INVALID,
                  "tokenizer.ggml.tokens");
}

/* ---- the other architectures ---- */

static struct model *open_shape(const struct model_shape *shape,
                                void (*more)(struct gguf_build *build), struct gguf_bytes *file_out,
                                td_status_t *status_out, struct td_error *error)
{
    struct gguf_build build;
    struct model_gguf *gguf = NULL;
    struct model *model = NULL;

    *error = (struct td_error){0};
    gguf_build_init(&build);
    gguf_build_model(&build, shape);
    if (more != NULL)
        more(&build);
    *file_out = gguf_build_finish(&build);
    if (model_gguf_parse(file_out->bytes, file_out->length, &gguf, error) != TD_OK)
        fail_msg("%s", error->text);
    *status_out = model_from_gguf(gguf, &model, error);
    if (*status_out != TD_OK)
        model_gguf_close(gguf);
    return model;
}

static void each_architecture_has_its_tensors_and_pairs(void **state)
{
    static const enum model_type vector_types[] = {MODEL_TYPE_F32, MODEL_TYPE_F16};
    const struct model_architecture *architecture;

    (void)state;
    for (size_t i = 0; (architecture = model_architecture_at(i)) != NULL; i++) {
        for (size_t t = 0; t < sizeof vector_types / sizeof vector_types[0]; t++) {
            struct model_shape shape = small;
            struct gguf_bytes file;
            struct td_error error;
            td_status_t status;
            struct model *model;

            shape.architecture = architecture->gguf;
            shape.vector_type = vector_types[t];
            model = open_shape(&shape, NULL, &file, &status, &error);
            if (status != TD_OK)
                fail_msg("%s: %s", architecture->gguf, error.text);
            assert_ptr_equal(model->architecture, architecture);
            assert_int_equal(model->rope.pairs, architecture->gguf_pairs);
            assert_int_equal(model->layer[0].q_bias != NULL, architecture->id == MODEL_QWEN2);
            assert_int_equal(model->layer[0].v_bias != NULL, architecture->id == MODEL_QWEN2);
            assert_int_equal(model->layer[0].q_norm != NULL, architecture->id == MODEL_QWEN3);
            assert_int_equal(model->layer[0].k_norm != NULL, architecture->id == MODEL_QWEN3);
            assert_in_range((int)(model->output_norm[0] * 100), 50, 150);
            model_close(model);
            free(file.bytes);
        }
    }
}

/* Renames one tensor of a file and expects that its absence is named. */
static void check_needed(const char *architecture, const char *tensor)
{
    struct model_shape shape = small;
    struct gguf_build build;
    struct gguf_bytes file;
    struct model_gguf *gguf = NULL;
    struct model *model = NULL;
    struct td_error error = {0};

    shape.architecture = architecture;
    gguf_build_init(&build);
    gguf_build_model(&build, &shape);
    file = gguf_build_finish(&build);
    file.bytes[gguf_bytes_behind(&file, tensor) - 1] = '_';
    assert_int_equal(model_gguf_parse(file.bytes, file.length, &gguf, &error), TD_OK);
    assert_int_equal(model_from_gguf(gguf, &model, &error), TD_INVALID);
    assert_non_null(strstr(error.text, tensor));
    model_gguf_close(gguf);
    free(file.bytes);
}

static void what_an_architecture_needs_is_missed_by_name(void **state)
{
    (void)state;
    check_needed("qwen2", "blk.0.attn_q.bias");
    check_needed("qwen2", "blk.0.attn_k.bias");
    check_needed("qwen2", "blk.0.attn_v.bias");
    check_needed("qwen3", "blk.0.attn_q_norm.weight");
    check_needed("qwen3", "blk.0.attn_k_norm.weight");
}

static void add_fused(struct gguf_build *build)
{
    static const float values[128] = {0};

    gguf_build_tensor(build, "blk.0.attn_qkv.weight", MODEL_TYPE_F32, 8, 16, values);
}

static void add_output_bias(struct gguf_build *build)
{
    static const float values[8] = {0};

    gguf_build_tensor(build, "blk.0.attn_output.bias", MODEL_TYPE_F32, 8, 0, values);
}

static void add_attention_factor(struct gguf_build *build)
{
    gguf_build_f32(build, "qwen2.rope.scaling.attn_factor", 1.5f);
}

static void add_extrapolation(struct gguf_build *build)
{
    gguf_build_f32(build, "qwen2.rope.scaling.yarn_ext_factor", 0.0f);
}

static void add_slow_beta(struct gguf_build *build)
{
    gguf_build_f32(build, "qwen2.rope.scaling.yarn_beta_slow", 33.0f);
}

static void add_wide_window(struct gguf_build *build)
{
    gguf_build_u32(build, "qwen2.attention.sliding_window", 2048);
}

static void add_narrow_window(struct gguf_build *build)
{
    gguf_build_u32(build, "qwen2.attention.sliding_window", 2047);
}

static void check_qwen2(bool has_yarn, void (*more)(struct gguf_build *build), td_status_t expected,
                        const char *part)
{
    struct model_shape shape = small;
    struct gguf_bytes file;
    struct td_error error;
    td_status_t status;
    struct model *model;

    shape.architecture = "qwen2";
    shape.has_yarn = has_yarn;
    model = open_shape(&shape, more, &file, &status, &error);
    if (status != expected || strstr(error.text, part) == NULL)
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)expected, part, (int)status,
                 error.text);
    model_close(model);
    free(file.bytes);
}

static void variants_of_an_architecture_are_refused_by_name(void **state)
{
    (void)state;
    check_qwen2(false, add_fused, TD_UNSUPPORTED, "tensor blk.0.attn_qkv.weight");
    check_qwen2(false, add_output_bias, TD_UNSUPPORTED, "tensor blk.0.attn_output.bias");
    check_qwen2(false, add_attention_factor, TD_UNSUPPORTED, "qwen2.rope.scaling.attn_factor");
    check_qwen2(true, add_extrapolation, TD_UNSUPPORTED, "qwen2.rope.scaling.yarn_ext_factor");
    check_qwen2(true, add_slow_beta, TD_INVALID, "rope.scaling.yarn_beta_fast");
    check_qwen2(false, add_narrow_window, TD_UNSUPPORTED, "qwen2.attention.sliding_window");
    check_qwen2(false, add_wide_window, TD_OK, "");
}

/* attn_factor is on top of the default, as llama.cpp reads it. */
static void yarn_is_read_from_its_keys(void **state)
{
    struct model_shape shape = small;
    struct model_rope_description description =
        model_rope_describe(MODEL_ROPE_YARN, MODEL_ROPE_HALF, small.head_dim);
    struct model_rope expected;
    struct gguf_bytes file;
    struct td_error error;
    td_status_t status;
    struct model *model;

    (void)state;
    shape.architecture = "qwen2";
    shape.has_yarn = true;
    description.factor = 4.0;
    description.original_context = 64.0;
    description.attention_factor = 1.5 * model_rope_attention_factor(4.0);
    assert_int_equal(model_rope_init(&description, &expected, &error), TD_OK);
    model = open_shape(&shape, add_attention_factor, &file, &status, &error);
    assert_int_equal(status, TD_OK);
    assert_memory_equal(&model->rope, &expected, sizeof expected);
    model_close(model);
    free(file.bytes);
}

static void messages_name_the_architectures_that_are_served(void **state)
{
    const struct model_architecture *architecture;
    const struct model_role *role;

    (void)state;
    for (size_t i = 0; (architecture = model_architecture_at(i)) != NULL; i++) {
        assert_non_null(strstr(MODEL_ARCHITECTURES_SERVED, architecture->gguf));
        assert_non_null(strstr(MODEL_HF_CLASSES_SERVED, architecture->hf_class));
        assert_ptr_equal(model_architecture_of_gguf(td_span_of(architecture->gguf)), architecture);
        assert_ptr_equal(
            model_architecture_of_hf(td_span_of(architecture->hf_class), td_span_of("other")),
            architecture);
        assert_ptr_equal(
            model_architecture_of_hf((struct td_span){0}, td_span_of(architecture->hf_type)),
            architecture);
    }
    assert_null(model_architecture_of_gguf(td_span_of("llam")));
    for (size_t i = 0; (role = model_role_at(i)) != NULL; i++) /* ten digits for a layer */
        assert_true(strlen(role->hf) + 10 < MODEL_TENSOR_NAME_BYTES);
}

/* ---- identity ---- */

static void models_are_called_after_their_file_or_folder(void **state)
{
    static const char *const names[][2] = {
        {"models/SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q4_1"},
        {"/m/Qwen-00001-of-00003.gguf", "Qwen"},
        {"Qwen-00001-of-0003.gguf", "Qwen-00001-of-0003"},
        {"-00001-of-00003.gguf", "-00001-of-00003"},
        {"models/Qwen2.5-0.5B/", "Qwen2.5-0.5B"},
        {"models//Qwen2.5-0.5B//", "Qwen2.5-0.5B"},
        {"hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de/", "Qwen3-0.6B"},
        {"models--a--b--c/snapshots//0", "b--c"},
        {"/hub/models--gpt/snapshots/c1", "gpt"},
        {"/hub/models--/snapshots/c1", "c1"},
        {"/hub/models--a--b/snapshots/c1/m.gguf", "m"},
        {"snapshots/c1", "c1"},
        {".gguf", ".gguf"},
        {"/", ""},
        {"", ""},
    };
    char name[64];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        model_name_of_path(names[i][0], name, sizeof name);
        assert_string_equal(name, names[i][1]);
    }
    model_name_of_path("models/SmolLM2.gguf", name, 4);
    assert_string_equal(name, "Smo");
}

static void the_content_id_covers_all_that_changes_kv(void **state)
{
    struct td_u128 weights = {.hi = 1, .lo = 2};
    struct td_u128 others = {.hi = 1, .lo = 3};
    struct td_u128 id = model_content_id(weights, "rope a", "f16", "class a");

    (void)state;
    assert_true(td_u128_equal(id, model_content_id(weights, "rope a", "f16", "class a")));
    assert_false(td_u128_equal(id, model_content_id(others, "rope a", "f16", "class a")));
    assert_false(td_u128_equal(id, model_content_id(weights, "rope b", "f16", "class a")));
    assert_false(td_u128_equal(id, model_content_id(weights, "rope a", "f32", "class a")));
    assert_false(td_u128_equal(id, model_content_id(weights, "rope a", "f16", "cpu-f32-2")));
}

static void pools_that_do_not_fit_the_model_are_refused(void **state)
{
    struct model *model;
    struct engine_backend *backend;
    struct engine_kv kv;
    struct td_error error = {0};
    size_t bytes = 0;

    (void)state;
    assert_int_equal(model_open(test_data_path("tiny-llama/model.gguf"), &model, NULL), TD_OK);
    assert_int_equal(cpu_block_bytes(model, CPU_KV_F16, 8, &bytes, &error), TD_INVALID);
    assert_int_equal(cpu_block_bytes(model, CPU_KV_F16, 24, &bytes, &error), TD_INVALID);
    assert_int_equal(cpu_block_bytes(model, CPU_KV_F16, 512, &bytes, &error), TD_INVALID);
    assert_int_equal(cpu_block_bytes(model, CPU_KV_F16, 16, &bytes, &error), TD_OK);
    assert_int_equal(bytes, 2 * 2 * 2 * 16 * 32 * 2); /* kv heads, layers, k|v, tokens, dim, f16 */
    assert_int_equal(engine_kv_open(4, 16, bytes, &kv, &error), TD_OK);
    assert_int_equal(cpu_backend_open(model, &kv, &(struct cpu_options){.kv_dtype = CPU_KV_F32},
                                      &backend, &error),
                     TD_INVALID);
    assert_non_null(strstr(error.text, "f32"));
    assert_int_equal(
        cpu_backend_open(model, &kv, &(struct cpu_options){.threads = 100000}, &backend, &error),
        TD_LIMIT);
    assert_int_equal(cpu_backend_open(model, &kv,
                                      &(struct cpu_options){.rows_max = CPU_ROWS_MAX + 1}, &backend,
                                      &error),
                     TD_LIMIT);
    engine_kv_close(&kv);
    model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tiny_model_is_described_right),
        cmocka_unit_test(llama3_scaling_is_the_same_in_both_of_its_forms),
        cmocka_unit_test(what_may_be_left_out_has_its_default),
        cmocka_unit_test(keys_that_are_missing_or_out_of_bounds_are_named),
        cmocka_unit_test(heads_that_do_not_fit_are_refused),
        cmocka_unit_test(tensors_that_do_not_fit_are_named),
        cmocka_unit_test(what_is_not_known_is_refused_and_not_ignored),
        cmocka_unit_test(each_architecture_has_its_tensors_and_pairs),
        cmocka_unit_test(what_an_architecture_needs_is_missed_by_name),
        cmocka_unit_test(variants_of_an_architecture_are_refused_by_name),
        cmocka_unit_test(yarn_is_read_from_its_keys),
        cmocka_unit_test(messages_name_the_architectures_that_are_served),
        cmocka_unit_test(models_are_called_after_their_file_or_folder),
        cmocka_unit_test(the_content_id_covers_all_that_changes_kv),
        cmocka_unit_test(pools_that_do_not_fit_the_model_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
