/* gguf_build.c: see gguf_build.h. */
#include "tests/model/gguf_build.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"

#define BYTES_MAX ((size_t)64 << 20)

void gguf_build_init(struct gguf_build *build)
{
    *build = (struct gguf_build){.version = 3, .alignment = 32};
    td_buf_init(&build->keys, BYTES_MAX);
    td_buf_init(&build->tensors, BYTES_MAX);
    td_buf_init(&build->data, BYTES_MAX);
}

static void put_u32(struct td_buf *buf, uint32_t value)
{
    td_buf_append(buf, &value, sizeof value);
}

static void put_u64(struct td_buf *buf, uint64_t value)
{
    td_buf_append(buf, &value, sizeof value);
}

static void put_string(struct td_buf *buf, const char *text)
{
    put_u64(buf, strlen(text));
    td_buf_append_text(buf, text);
}

void gguf_build_scalar(struct gguf_build *build, const char *key, enum model_gguf_kind kind,
                       const void *bytes, size_t length)
{
    put_string(&build->keys, key);
    put_u32(&build->keys, kind);
    if (length > 0)
        td_buf_append(&build->keys, bytes, length);
    build->key_count++;
}

void gguf_build_u32(struct gguf_build *build, const char *key, uint32_t value)
{
    gguf_build_scalar(build, key, MODEL_GGUF_U32, &value, sizeof value);
}

void gguf_build_f32(struct gguf_build *build, const char *key, float value)
{
    gguf_build_scalar(build, key, MODEL_GGUF_F32, &value, sizeof value);
}

void gguf_build_text(struct gguf_build *build, const char *key, const char *value)
{
    gguf_build_scalar(build, key, MODEL_GGUF_STRING, NULL, 0);
    put_string(&build->keys, value);
}

void gguf_build_texts(struct gguf_build *build, const char *key, const char *const *values,
                      uint64_t count)
{
    gguf_build_scalar(build, key, MODEL_GGUF_ARRAY, NULL, 0);
    put_u32(&build->keys, MODEL_GGUF_STRING);
    put_u64(&build->keys, count);
    for (uint64_t i = 0; i < count; i++)
        put_string(&build->keys, values[i]);
}

static void pad(struct td_buf *buf, uint32_t alignment)
{
    while (buf->length % alignment != 0)
        td_buf_append_char(buf, '\0');
}

void gguf_build_tensor(struct gguf_build *build, const char *name, uint32_t type, uint64_t columns,
                       uint64_t rows, const void *data)
{
    size_t row_bytes = 0;

    assert_true(model_type_row_bytes(type, columns, &row_bytes));
    put_string(&build->tensors, name);
    put_u32(&build->tensors, rows == 0 ? 1 : 2);
    put_u64(&build->tensors, columns);
    if (rows > 0)
        put_u64(&build->tensors, rows);
    put_u32(&build->tensors, type);
    pad(&build->data, build->alignment);
    put_u64(&build->tensors, build->data.length);
    td_buf_append(&build->data, data, row_bytes * (rows == 0 ? 1 : rows));
    build->tensor_count++;
}

struct gguf_bytes gguf_build_finish(struct gguf_build *build)
{
    struct gguf_bytes file = {0};
    struct td_buf whole;

    td_buf_init(&whole, BYTES_MAX);
    td_buf_append_text(&whole, "GGUF");
    put_u32(&whole, build->version);
    put_u64(&whole, build->tensor_count);
    put_u64(&whole, build->key_count);
    td_buf_append(&whole, build->keys.data, build->keys.length);
    td_buf_append(&whole, build->tensors.data, build->tensors.length);
    file.header_length = whole.length;
    if (build->tensor_count > 0) {
        pad(&whole, build->alignment);
        td_buf_append(&whole, build->data.data, build->data.length);
    }
    assert_true(build->keys.status == TD_OK && build->tensors.status == TD_OK &&
                build->data.status == TD_OK && whole.status == TD_OK);
    td_buf_fini(&build->keys);
    td_buf_fini(&build->tensors);
    td_buf_fini(&build->data);
    file.bytes = (uint8_t *)td_buf_take(&whole, &file.length);
    assert_non_null(file.bytes);
    return file;
}

size_t gguf_bytes_behind(const struct gguf_bytes *file, const char *text)
{
    const uint8_t *found = memmem(file->bytes, file->length, text, strlen(text));

    if (found == NULL)
        fail_msg("%s is not in the file", text);
    return (size_t)(found - file->bytes) + strlen(text);
}

/* ---- models ---- */

/* Where the half floats of a block are, and by how much the integers beside them enlarge a scale. */
static void put_halves(enum model_type type, uint8_t *block, float value)
{
    static const struct {
        enum model_type type;
        int scale;
        int minimum; /* 0: there is none */
        float scale_by;
        float minimum_by;
    } places[] = {
        {MODEL_TYPE_Q4_0, 0, 0, 8, 1},        {MODEL_TYPE_Q4_1, 0, 2, 8, -1},
        {MODEL_TYPE_Q5_0, 0, 0, 16, 1},       {MODEL_TYPE_Q5_1, 0, 2, 16, -1},
        {MODEL_TYPE_Q8_0, 0, 0, 128, 1},      {MODEL_TYPE_Q4_K, 0, 2, 8 * 32, 32},
        {MODEL_TYPE_Q5_K, 0, 2, 16 * 32, 32}, {MODEL_TYPE_Q6_K, 208, 0, 32 * 64, 1},
    };

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint16_t scale = model_float_to_half(value / places[i].scale_by);
        uint16_t minimum = model_float_to_half(value / places[i].minimum_by);

        if (places[i].type != type)
            continue;
        memcpy(block + places[i].scale, &scale, sizeof scale);
        if (places[i].minimum != 0)
            memcpy(block + places[i].minimum, &minimum, sizeof minimum);
    }
}

/* Rows of packed values whose floats are about as large as trained weights are. */
static uint8_t *random_rows(enum model_type type, size_t bytes, struct td_rng *rng)
{
    uint8_t *rows = malloc(bytes);
    size_t block_bytes = model_type_info(type)->block_bytes;

    assert_non_null(rows);
    for (size_t i = 0; i < bytes; i++)
        rows[i] = (uint8_t)td_rng_next(rng);
    for (size_t i = 0; i < bytes; i += block_bytes) {
        float value = (float)(td_rng_unit(rng) - 0.5);
        uint16_t half = model_float_to_half(value);
        uint32_t bits;

        memcpy(&bits, &value, sizeof bits);
        switch (type) {
        case MODEL_TYPE_F32: memcpy(rows + i, &value, sizeof value); break;
        case MODEL_TYPE_F16: memcpy(rows + i, &half, sizeof half); break;
        case MODEL_TYPE_BF16: memcpy(rows + i, (uint8_t *)&bits + 2, 2); break;
        default: put_halves(type, rows + i, value); break;
        }
    }
    return rows;
}

static void add_matrix(struct gguf_build *build, const struct model_shape *shape,
                       struct td_rng *rng, const char *name, uint32_t columns, uint32_t rows)
{
    size_t row_bytes = 0;
    uint8_t *data;

    assert_true(model_type_row_bytes(shape->type, columns, &row_bytes));
    data = random_rows(shape->type, row_bytes * rows, rng);
    gguf_build_tensor(build, name, shape->type, columns, rows, data);
    free(data);
}

/* A norm or a bias, with values from `from` to from + 1; each sixth is +-large instead, unless that is zero. */
static void add_spiked(struct gguf_build *build, const struct model_shape *shape,
                       struct td_rng *rng, const char *name, uint32_t count, float from,
                       float large)
{
    bool is_half = shape->vector_type == MODEL_TYPE_F16;
    float *values = calloc(count, sizeof *values);
    uint16_t *halves = calloc(count, sizeof *halves);

    assert_true(values != NULL && halves != NULL);
    for (uint32_t i = 0; i < count; i++) {
        values[i] = from + (float)td_rng_unit(rng);
        if (large != 0 && i % 6 == 0)
            values[i] = copysignf(large, values[i]);
        halves[i] = model_float_to_half(values[i]);
    }
    gguf_build_tensor(build, name, shape->vector_type, count, 0,
                      is_half ? (const void *)halves : values);
    free(halves);
    free(values);
}

static void add_vector(struct gguf_build *build, const struct model_shape *shape,
                       struct td_rng *rng, const char *name, uint32_t count, float from)
{
    add_spiked(build, shape, rng, name, count, from, 0);
}

static const char *architecture_of(const struct model_shape *shape)
{
    return shape->architecture != NULL ? shape->architecture : "llama";
}

/* What some architectures have besides matrices and the norms of layers. */
static void add_extras(struct gguf_build *build, const struct model_shape *shape,
                       struct td_rng *rng, uint32_t layer)
{
    const struct {
        const char *architecture;
        const char *name;
        uint32_t count;
        float from;
        float large;
    } extras[] = {
        {"qwen2", "attn_q.bias", shape->heads * shape->head_dim, -0.5f, 0},
        {"qwen2", "attn_k.bias", shape->kv_heads * shape->head_dim, -0.5f, shape->k_bias_scale},
        {"qwen2", "attn_v.bias", shape->kv_heads * shape->head_dim, -0.5f, 0},
        {"qwen3", "attn_q_norm.weight", shape->head_dim, 0.5f, 0},
        {"qwen3", "attn_k_norm.weight", shape->head_dim, 0.5f, 0},
    };
    char name[64];

    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        if (strcmp(extras[i].architecture, architecture_of(shape)) != 0)
            continue;
        snprintf(name, sizeof name, "blk.%" PRIu32 ".%s", layer, extras[i].name);
        add_spiked(build, shape, rng, name, extras[i].count, extras[i].from, extras[i].large);
    }
}

static void add_layer(struct gguf_build *build, const struct model_shape *shape, struct td_rng *rng,
                      uint32_t layer)
{
    uint32_t q = shape->heads * shape->head_dim;
    uint32_t kv = shape->kv_heads * shape->head_dim;
    const struct {
        const char *name;
        uint32_t columns;
        uint32_t rows;
    } matrices[] = {
        {"attn_q", shape->hidden, q},
        {"attn_k", shape->hidden, kv},
        {"attn_v", shape->hidden, kv},
        {"attn_output", q, shape->hidden},
        {"ffn_gate", shape->hidden, shape->ffn},
        {"ffn_up", shape->hidden, shape->ffn},
        {"ffn_down", shape->ffn, shape->hidden},
    };
    char name[64];

    snprintf(name, sizeof name, "blk.%" PRIu32 ".attn_norm.weight", layer);
    add_vector(build, shape, rng, name, shape->hidden, 0.5f);
    snprintf(name, sizeof name, "blk.%" PRIu32 ".ffn_norm.weight", layer);
    add_vector(build, shape, rng, name, shape->hidden, 0.5f);
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        snprintf(name, sizeof name, "blk.%" PRIu32 ".%s.weight", layer, matrices[i].name);
        add_matrix(build, shape, rng, name, matrices[i].columns, matrices[i].rows);
    }
    add_extras(build, shape, rng, layer);
}

static void add_yarn(struct gguf_build *build, const char *architecture)
{
    char key[64];

    snprintf(key, sizeof key, "%s.rope.scaling.type", architecture);
    gguf_build_text(build, key, "yarn");
    snprintf(key, sizeof key, "%s.rope.scaling.factor", architecture);
    gguf_build_f32(build, key, 4.0f);
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", architecture);
    gguf_build_u32(build, key, GGUF_BUILD_YARN_CONTEXT);
}

void gguf_build_model(struct gguf_build *build, const struct model_shape *shape)
{
    const struct {
        const char *name;
        uint32_t value;
    } counts[] = {
        {"block_count", shape->layers},
        {"context_length", 2048},
        {"embedding_length", shape->hidden},
        {"feed_forward_length", shape->ffn},
        {"attention.head_count", shape->heads},
        {"attention.head_count_kv", shape->kv_heads},
        {"attention.key_length", shape->head_dim},
        {"attention.value_length", shape->head_dim},
    };
    struct td_rng rng;
    char key[64];

    td_rng_init(&rng, shape->seed);
    gguf_build_text(build, "general.architecture", architecture_of(shape));
    gguf_build_text(build, "general.name", "test");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", architecture_of(shape), counts[i].name);
        gguf_build_u32(build, key, counts[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture_of(shape));
    gguf_build_f32(build, key, 1e-5f);
    if (shape->has_yarn)
        add_yarn(build, architecture_of(shape));
    add_matrix(build, shape, &rng, "token_embd.weight", shape->hidden, shape->vocab);
    add_vector(build, shape, &rng, "output_norm.weight", shape->hidden, 0.5f);
    if (!shape->is_tied)
        add_matrix(build, shape, &rng, "output.weight", shape->hidden, shape->vocab);
    for (uint32_t layer = 0; layer < shape->layers; layer++)
        add_layer(build, shape, &rng, layer);
}

struct model *gguf_build_open(const struct model_shape *shape, struct gguf_bytes *file_out)
{
    struct gguf_build build;
    struct gguf_bytes file;
    struct model_gguf *gguf = NULL;
    struct model *model = NULL;
    struct td_error error = {0};

    gguf_build_init(&build);
    gguf_build_model(&build, shape);
    file = gguf_build_finish(&build);
    if (model_gguf_parse(file.bytes, file.length, &gguf, &error) != TD_OK ||
        model_from_gguf(gguf, &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    *file_out = file;
    return model;
}
