/*
 * test_hf_folder.c: folders of the three small models are read right, in one file or in several; folders with
 * anything missing, added, moved, cut or contradictory are refused by file and name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/hf_weights.h"
#include "model/model.h"
#include "tests/model/hf_build.h"

static struct model *open_right(const char *path)
{
    struct model *model = NULL;
    struct td_error error = {0};

    if (model_open(path, &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    return model;
}

static void assert_path_refused(const char *path, td_status_t status, const char *part)
{
    struct model *model = NULL;
    struct td_error error = {0};
    td_status_t actual = model_open(path, &model, &error);

    if (actual != status || strstr(error.text, part) == NULL)
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)status, part, (int)actual,
                 error.text);
    assert_null(model);
}

static void assert_refused(const struct hf_build *build, td_status_t status, const char *part)
{
    assert_path_refused(build->path, status, part);
}

/* ---- what is right ---- */

static void the_small_models_are_described_right(void **state)
{
    struct model *model = open_right(test_data_path("tiny-llama"));

    (void)state;
    assert_int_equal(model->architecture->id, MODEL_LLAMA);
    assert_string_equal(model->name, "tiny-llama");
    assert_int_equal(model->layers, 2);
    assert_int_equal(model->head_dim, 32);
    assert_int_equal(model->embedding.type, MODEL_TYPE_BF16);
    assert_ptr_not_equal(model->output.data, model->embedding.data);
    assert_int_equal(model->rope.pairs, MODEL_ROPE_HALF);
    assert_non_null(strstr(model->rope.text, "llama3"));
    assert_null(model->layer[1].q_bias);
    model_close(model);
    model = open_right(test_data_path("tiny-qwen2"));
    assert_int_equal(model->architecture->id, MODEL_QWEN2);
    assert_int_equal(model->layers, 3);
    assert_int_equal(model->head_dim, 16);
    assert_ptr_equal(model->output.data, model->embedding.data);
    assert_non_null(model->layer[2].v_bias);
    assert_null(model->layer[2].q_norm);
    model_close(model);
    model = open_right(test_data_path("tiny-qwen3"));
    assert_int_equal(model->architecture->id, MODEL_QWEN3);
    assert_int_equal(model->head_dim, 32);
    assert_int_equal(model->layer[0].q.rows, 128);
    assert_non_null(model->layer[2].k_norm);
    model_close(model);
}

static void assert_same_matrix(const struct model_matrix *a, const struct model_matrix *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->columns, b->columns);
    assert_int_equal(a->row_bytes, b->row_bytes);
    assert_memory_equal(a->data, b->data, a->rows * a->row_bytes);
}

static void assert_same_weights(const struct model *a, const struct model *b)
{
    assert_same_matrix(&a->embedding, &b->embedding);
    assert_same_matrix(&a->output, &b->output);
    assert_memory_equal(a->output_norm, b->output_norm, a->hidden * sizeof(float));
    for (uint32_t i = 0; i < a->layers; i++) {
        const struct model_layer *left = &a->layer[i];
        const struct model_layer *right = &b->layer[i];

        assert_same_matrix(&left->q, &right->q);
        assert_same_matrix(&left->k, &right->k);
        assert_same_matrix(&left->v, &right->v);
        assert_same_matrix(&left->attention_output, &right->attention_output);
        assert_same_matrix(&left->gate, &right->gate);
        assert_same_matrix(&left->up, &right->up);
        assert_same_matrix(&left->down, &right->down);
        assert_memory_equal(left->attention_norm, right->attention_norm, a->hidden * sizeof(float));
        assert_memory_equal(left->ffn_norm, right->ffn_norm, a->hidden * sizeof(float));
    }
}

static void a_folder_and_a_gguf_file_of_one_model_say_the_same(void **state)
{
    static const char *const names[] = {"tiny-qwen2", "tiny-qwen3"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct model *folder = open_right(test_data_path(names[i]));
        struct model *file;
        char path[64];

        snprintf(path, sizeof path, "%s/model.gguf", names[i]);
        file = open_right(test_data_path(path));
        assert_same_weights(folder, file);
        assert_string_equal(strstr(folder->rope.text, " theta"), strstr(file->rope.text, " theta"));
        assert_true(folder->rms_epsilon == file->rms_epsilon);
        assert_int_equal(folder->max_context, file->max_context);
        assert_int_equal(folder->rope.pairs, file->rope.pairs);
        model_close(folder);
        model_close(file);
    }
}

/* The tensors of tests/data/tiny-qwen3, by and by. */
static struct model_safetensors *open_qwen3(void)
{
    struct model_safetensors *file = NULL;
    struct td_error error = {0};

    if (model_safetensors_open(test_data_path("tiny-qwen3/model.safetensors"), &file, &error) !=
        TD_OK)
        fail_msg("%s", error.text);
    return file;
}

static void data_at_odd_addresses_is_read_right(void **state)
{
    struct model_safetensors *source = open_qwen3();
    struct model *expected = open_right(test_data_path("tiny-qwen3"));

    (void)state;
    for (size_t misalignment = 1; misalignment < 8; misalignment += 2) {
        struct hf_build build;
        struct hf_weights weights;
        struct model *model;

        hf_build_init(&build);
        hf_build_copy_all(&build, "tiny-qwen3");
        hf_weights_init(&weights);
        for (size_t i = 0; i < model_safetensors_count(source); i++)
            hf_weights_add_copy(&weights, model_safetensors_at(source, i)->name,
                                model_safetensors_at(source, i));
        hf_weights_finish(&weights, &build, "model.safetensors", misalignment);
        model = open_right(build.path);
        assert_int_equal((uintptr_t)model->embedding.data % 8, misalignment % 8);
        assert_same_weights(model, expected);
        model_close(model);
        hf_build_fini(&build);
    }
    model_close(expected);
    model_safetensors_close(source);
}

static void config_forms_of_one_model_give_the_same_model(void **state)
{
    struct model *expected = open_right(test_data_path("tiny-qwen3"));
    struct hf_build build;
    struct model *model;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_put_text(&build, "config.json",
                      "{\"architectures\":[\"Qwen3ForCausalLM\"],\"vocab_size\":1024,"
                      "\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":3,"
                      "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":32,"
                      "\"max_position_embeddings\":1024,\"tie_word_embeddings\":true,"
                      "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000,\"rope_scaling\":null,"
                      "\"torch_dtype\":\"float32\",\"eos_token_id\":[1021,1023]}");
    model = open_right(build.path);
    assert_same_weights(model, expected);
    assert_string_equal(model->rope.text, expected->rope.text);
    assert_true(model->rms_epsilon == expected->rms_epsilon);
    /* other bytes of config.json: KV is not exchanged, though it could be */
    assert_false(td_u128_equal(model->weights_digest, expected->weights_digest));
    model_close(model);
    model_close(expected);
    hf_build_fini(&build);
}

/* In the cache of huggingface_hub the folder is called after a commit, and the files are links. */
static void a_folder_of_the_download_cache_has_the_name_of_its_model(void **state)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    static const char *const folders[] = {"models--some-org--Some-Model-1B", "snapshots", "0123ab"};
    struct hf_build build;
    struct hf_build cached;
    struct model *model;

    (void)state;
    hf_build_init(&build);
    cached = build;
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        size_t length = strlen(cached.path);

        snprintf(cached.path + length, sizeof cached.path - length, "/%s", folders[i]);
        assert_int_equal(mkdir(cached.path, 0700), 0);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        hf_build_copy(&cached, "tiny-qwen3", files[i]);
    model = open_right(cached.path);
    assert_string_equal(model->name, "Some-Model-1B");
    assert_false(model->has_text);
    model_close(model);
    hf_build_fini(&cached);
    for (size_t i = 1; i < sizeof folders / sizeof folders[0]; i++) {
        *strrchr(cached.path, '/') = '\0';
        assert_int_equal(rmdir(cached.path), 0);
    }
    hf_build_fini(&build);
}

static void the_digest_covers_every_weight_file_and_the_config(void **state)
{
    struct model *model = open_right(test_data_path("tiny-qwen2"));
    struct td_u128 before = model->weights_digest;
    struct hf_build build;

    (void)state;
    model_close(model);
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen2");
    model = open_right(build.path);
    assert_true(td_u128_equal(model->weights_digest, before)); /* wherever it lies */
    model_close(model);
    hf_build_replace(&build, "config.json", "1e-06", "2e-06");
    model = open_right(build.path);
    assert_false(td_u128_equal(model->weights_digest, before));
    model_close(model);
    hf_build_copy(&build, "tiny-qwen2", "config.json");
    for (int shard = 1; shard <= 2; shard++) {
        char name[64];
        char path[512];
        size_t length;
        char *bytes;

        snprintf(name, sizeof name, "model-0000%d-of-00002.safetensors", shard);
        snprintf(path, sizeof path, "%s/%s", build.path, name);
        bytes = test_read_file(path, &length);
        bytes[length - 1] ^= 1;
        hf_build_put(&build, name, bytes, length);
        model = open_right(build.path);
        assert_false(td_u128_equal(model->weights_digest, before));
        model_close(model);
        bytes[length - 1] ^= 1;
        hf_build_put(&build, name, bytes, length);
        free(bytes);
    }
    hf_build_fini(&build);
}

/* ---- the LM head ---- */

static void an_lm_head_beside_a_tied_embedding_must_be_the_same(void **state)
{
    struct model_safetensors *source = open_qwen3();
    const struct model_safetensors_tensor *embedding =
        model_safetensors_tensor(source, "model.embed_tokens.weight");
    struct hf_build build;
    struct hf_weights weights;
    struct model *model;
    uint8_t *changed = malloc(embedding->bytes);

    (void)state;
    assert_non_null(changed);
    memcpy(changed, embedding->data, embedding->bytes);
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    for (int is_other = 0; is_other <= 1; is_other++) {
        changed[embedding->bytes - 1] ^= (uint8_t)is_other;
        hf_weights_init(&weights);
        for (size_t i = 0; i < model_safetensors_count(source); i++)
            hf_weights_add_copy(&weights, model_safetensors_at(source, i)->name,
                                model_safetensors_at(source, i));
        hf_weights_add(&weights, "lm_head.weight", "F32", embedding->dims[0], embedding->dims[1],
                       changed, embedding->bytes);
        hf_weights_finish(&weights, &build, "model.safetensors", 0);
        if (is_other) {
            assert_refused(&build, TD_INVALID, "lm_head.weight differs");
            continue;
        }
        model = open_right(build.path);
        assert_ptr_equal(model->output.data, model->embedding.data);
        model_close(model);
    }
    hf_build_replace(&build, "config.json", "\"tie_word_embeddings\": true",
                     "\"tie_word_embeddings\": false"); /* then it is the head, whatever it holds */
    model = open_right(build.path);
    assert_ptr_not_equal(model->output.data, model->embedding.data);
    assert_memory_equal(model->output.data, changed, embedding->bytes);
    model_close(model);
    hf_build_copy(&build, "tiny-qwen3", "model.safetensors");
    assert_refused(&build, TD_INVALID, "lm_head.weight is missing");
    hf_build_fini(&build);
    free(changed);
    model_safetensors_close(source);
}

/* ---- tensors ---- */

/* tiny-qwen3 with one tensor left out, renamed or given another shape or type. */
static void check_weights(const char *tensor, const char *name, const char *dtype, uint64_t rows,
                          uint64_t columns, td_status_t status, const char *part)
{
    struct model_safetensors *source = open_qwen3();
    struct hf_build build;
    struct hf_weights weights;

    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_weights_init(&weights);
    for (size_t i = 0; i < model_safetensors_count(source); i++) {
        const struct model_safetensors_tensor *each = model_safetensors_at(source, i);

        if (strcmp(each->name, tensor) != 0)
            hf_weights_add_copy(&weights, each->name, each);
        else if (name != NULL && dtype == NULL)
            hf_weights_add_copy(&weights, name, each);
        else if (name != NULL)
            hf_weights_add(&weights, name, dtype, rows, columns, each->data, each->bytes);
    }
    hf_weights_finish(&weights, &build, "model.safetensors", 0);
    assert_refused(&build, status, part);
    hf_build_fini(&build);
    model_safetensors_close(source);
}

static void tensors_that_are_missing_or_strange_are_refused_by_name(void **state)
{
    (void)state;
    check_weights("model.layers.1.mlp.up_proj.weight", NULL, NULL, 0, 0, TD_INVALID,
                  "tensor model.layers.1.mlp.up_proj.weight is missing");
    check_weights("model.norm.weight", NULL, NULL, 0, 0, TD_INVALID,
                  "tensor model.norm.weight is missing");
    check_weights("model.layers.2.self_attn.q_norm.weight", NULL, NULL, 0, 0, TD_INVALID,
                  "tensor model.layers.2.self_attn.q_norm.weight is missing");
    check_weights("model.layers.1.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight", NULL, 0,
                  0, TD_INVALID, "tensor model.layers.1.mlp.up_proj.weight is missing");
    check_weights("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight", "F32",
                  64, 128, TD_INVALID,
                  "tensor model.layers.0.mlp.up_proj.weight has shape [64, 128] where [128, 64]");
    check_weights("model.embed_tokens.weight", "model.embed_tokens.weight", "F32", 512, 128,
                  TD_INVALID,
                  "tensor model.embed_tokens.weight has shape [512, 128] where [1024, 64]");
    check_weights("model.embed_tokens.weight", "model.embed_tokens.weight", "I32", 1024, 64,
                  TD_UNSUPPORTED,
                  "tensor model.embed_tokens.weight (in model.safetensors) has type I32");
    check_weights("model.norm.weight", "model.norm.weight", "F8_E5M2", 0, 256, TD_UNSUPPORTED,
                  "tensor model.norm.weight (in model.safetensors) has type F8_E5M2");
}

static void tensors_of_no_known_part_are_refused_but_tables_of_frequencies(void **state)
{
    struct model_safetensors *source = open_qwen3();
    const float values[16] = {0};
    struct hf_build build;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    for (int is_known = 0; is_known <= 1; is_known++) {
        struct hf_weights weights;

        hf_weights_init(&weights);
        for (size_t i = 0; i < model_safetensors_count(source); i++)
            hf_weights_add_copy(&weights, model_safetensors_at(source, i)->name,
                                model_safetensors_at(source, i));
        hf_weights_add(&weights,
                       is_known ? "model.layers.0.self_attn.rotary_emb.inv_freq"
                                : "model.layers.0.self_attn.q_proj.bias",
                       "F32", 0, 16, values, sizeof values);
        hf_weights_finish(&weights, &build, "model.safetensors", 0);
        if (is_known)
            model_close(open_right(build.path));
        else
            assert_refused(&build, TD_UNSUPPORTED,
                           "tensor model.layers.0.self_attn.q_proj.bias (in model.safetensors)");
    }
    hf_build_fini(&build);
    model_safetensors_close(source);
}

/* ---- the index ---- */

#define SECOND "model-00002-of-00002.safetensors"

static void check_index(const char *before, const char *after, td_status_t status, const char *part)
{
    struct hf_build build;

    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen2");
    hf_build_replace(&build, "model.safetensors.index.json", before, after);
    assert_refused(&build, status, part);
    hf_build_fini(&build);
}

static void an_index_that_lies_is_refused(void **state)
{
    static const char norm[] = "\"model.norm.weight\": \"" SECOND "\"";

    (void)state;
    check_index(norm, "\"model.norm.weight\": \"model-00001-of-00002.safetensors\"", TD_INVALID,
                "tensor model.norm.weight is not in model-00001-of-00002.safetensors");
    check_index(norm, "\"other\": \"" SECOND "\"", TD_INVALID, "tensor other is not in " SECOND);
    check_index(",\n    "
                "\"model.norm.weight\": \"" SECOND "\"",
                "", TD_INVALID, "tensor model.norm.weight is in " SECOND ", but not in the index");
    check_index(norm, "\"model.norm.weight\": \"model-00003-of-00002.safetensors\"", TD_IO,
                "model-00003-of-00002.safetensors");
    check_index(norm, "\"model.norm.weight\": 7", TD_INVALID, "tensor model.norm.weight");
    check_index(norm, "\"model.norm.weight\\u0000x\": \"" SECOND "\"", TD_INVALID,
                "tensor model.norm.weight?x: its name has a NUL");
    check_index("\"weight_map\"", "\"map\"", TD_INVALID, "'weight_map'");
    check_index("\"weight_map\": {", "\"weight_map\": {{", TD_INVALID,
                "model.safetensors.index.json: byte");
}

static void an_index_cannot_lead_out_of_the_folder(void **state)
{
    static const char *const names[] = {
        "../tiny-qwen2/" SECOND, "/etc/passwd",       "sub/" SECOND, "..\\\\" SECOND,
        ".safetensors",          "..safetensors",     "config.json", "",
        "a\\u0000b.safetensors", "a\\nb.safetensors",
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char after[128];

        snprintf(after, sizeof after, "\"model.norm.weight\": \"%s\"", names[i]);
        check_index("\"model.norm.weight\": \"" SECOND "\"", after, TD_INVALID,
                    "tensor model.norm.weight is not in a file of this folder");
    }
}

static void a_tensor_in_two_files_is_refused(void **state)
{
    struct model_safetensors *source = NULL;
    struct hf_build build;
    struct hf_weights weights;
    char path[512];

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen2");
    snprintf(path, sizeof path, "%s/" SECOND, build.path);
    assert_int_equal(model_safetensors_open(path, &source, NULL), TD_OK);
    hf_weights_init(&weights);
    for (size_t i = 0; i < model_safetensors_count(source); i++)
        hf_weights_add_copy(&weights, model_safetensors_at(source, i)->name,
                            model_safetensors_at(source, i));
    hf_weights_add_copy(&weights, "model.layers.0.input_layernorm.weight",
                        model_safetensors_tensor(source, "model.norm.weight"));
    hf_build_remove(&build, SECOND); /* it is still mapped */
    hf_weights_finish(&weights, &build, SECOND, 0);
    model_safetensors_close(source);
    assert_refused(&build, TD_INVALID,
                   "tensor model.layers.0.input_layernorm.weight is in " SECOND
                   ", but not in the index");
    hf_build_fini(&build);
}

static void a_file_that_was_cut_is_refused_by_name(void **state)
{
    struct hf_build build;
    char path[512];
    size_t length;
    char *bytes;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen2");
    snprintf(path, sizeof path, "%s/" SECOND, build.path);
    bytes = test_read_file(path, &length);
    hf_build_put(&build, SECOND, bytes, length - 1);
    assert_refused(&build, TD_INVALID, SECOND);
    hf_build_put(&build, SECOND, bytes, 0);
    assert_refused(&build, TD_INVALID, SECOND " is empty");
    hf_build_remove(&build, SECOND);
    assert_refused(&build, TD_IO, SECOND);
    free(bytes);
    hf_build_fini(&build);
}

/* ---- folders that are something else ---- */

static void a_folder_without_a_model_says_what_it_is_and_what_to_do(void **state)
{
    struct hf_build build;

    (void)state;
    hf_build_init(&build);
    assert_refused(&build, TD_INVALID, "the folder has no config.json; a model is");
    hf_build_put_text(&build, "b.gguf", "x");
    hf_build_put_text(&build, "a.gguf", "x");
    assert_refused(&build, TD_INVALID, "no config.json, but a.gguf: name that file");
    hf_build_copy(&build, "tiny-qwen3", "config.json");
    assert_refused(&build, TD_INVALID, "but a.gguf: name that file");
    hf_build_remove(&build, "a.gguf");
    hf_build_remove(&build, "b.gguf");
    hf_build_put_text(&build, "pytorch_model.bin", "x");
    assert_refused(&build, TD_INVALID, "pytorch_model.bin: weights in PyTorch's format");
    hf_build_put_text(&build, "consolidated.safetensors", "x");
    assert_refused(&build, TD_INVALID, "but consolidated.safetensors");
    hf_build_fini(&build);
}

static void a_file_of_a_folder_is_not_the_folder(void **state)
{
    (void)state;
    assert_path_refused(test_data_path("tiny-qwen3/model.safetensors"), TD_INVALID,
                        "name its folder");
    assert_path_refused(test_data_path("tiny-qwen3/config.json"), TD_INVALID, "name its folder");
    assert_path_refused("no/such/folder", TD_IO, "no/such/folder");
}

static void a_config_that_does_not_fit_is_refused_by_file_and_key(void **state)
{
    struct hf_build build;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_replace(&build, "config.json", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"");
    assert_refused(&build, TD_UNSUPPORTED, "config.json: 'hidden_act'");
    hf_build_copy(&build, "tiny-qwen3", "config.json");
    hf_build_replace(&build, "config.json", "\"num_key_value_heads\": 2",
                     "\"num_key_value_heads\": 3");
    assert_refused(&build, TD_INVALID, "config.json: 4 heads do not share 3 KV heads");
    hf_build_copy(&build, "tiny-qwen3", "config.json");
    hf_build_replace(&build, "config.json", "\"head_dim\": 32", "\"head_dim\": 31");
    assert_refused(&build, TD_UNSUPPORTED, "config.json: a head of 31 values");
    hf_build_copy(&build, "tiny-qwen3", "config.json");
    hf_build_replace(&build, "config.json", "Qwen3ForCausalLM", "Qwen2ForCausalLM");
    assert_refused(&build, TD_UNSUPPORTED, "config.json: 'model_type' is qwen3");
    hf_build_fini(&build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_small_models_are_described_right),
        cmocka_unit_test(a_folder_and_a_gguf_file_of_one_model_say_the_same),
        cmocka_unit_test(data_at_odd_addresses_is_read_right),
        cmocka_unit_test(config_forms_of_one_model_give_the_same_model),
        cmocka_unit_test(a_folder_of_the_download_cache_has_the_name_of_its_model),
        cmocka_unit_test(the_digest_covers_every_weight_file_and_the_config),
        cmocka_unit_test(an_lm_head_beside_a_tied_embedding_must_be_the_same),
        cmocka_unit_test(tensors_that_are_missing_or_strange_are_refused_by_name),
        cmocka_unit_test(tensors_of_no_known_part_are_refused_but_tables_of_frequencies),
        cmocka_unit_test(an_index_that_lies_is_refused),
        cmocka_unit_test(an_index_cannot_lead_out_of_the_folder),
        cmocka_unit_test(a_tensor_in_two_files_is_refused),
        cmocka_unit_test(a_file_that_was_cut_is_refused_by_name),
        cmocka_unit_test(a_folder_without_a_model_says_what_it_is_and_what_to_do),
        cmocka_unit_test(a_file_of_a_folder_is_not_the_folder),
        cmocka_unit_test(a_config_that_does_not_fit_is_refused_by_file_and_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
