/*
 * gguf_build.h: makes GGUF files in memory, right ones and (by changing them afterwards) wrong ones;
 * and small models of any shape with random weights.
 */
#ifndef TANDEM_TESTS_MODEL_GGUF_BUILD_H
#define TANDEM_TESTS_MODEL_GGUF_BUILD_H

#include "lib/base/buf.h"
#include "model/gguf.h"
#include "model/model.h"
#include "model/quant.h"
#include "tests/support/support.h"

#define GGUF_BUILD_YARN_CONTEXT 64

struct gguf_build {
    uint32_t version;
    uint32_t alignment;
    struct td_buf keys;
    struct td_buf tensors; /* their descriptions */
    struct td_buf data;
    uint64_t key_count;
    uint64_t tensor_count;
};

/* What a finished file is: bytes (malloc, aligned), and where things are in it. */
struct gguf_bytes {
    uint8_t *bytes;
    size_t length;
    size_t header_length; /* up to the data, without the padding in front of it */
};

void gguf_build_init(struct gguf_build *build);

void gguf_build_u32(struct gguf_build *build, const char *key, uint32_t value);
void gguf_build_f32(struct gguf_build *build, const char *key, float value);
void gguf_build_text(struct gguf_build *build, const char *key, const char *value);
void gguf_build_texts(struct gguf_build *build, const char *key, const char *const *values,
                      uint64_t count);
/* Any scalar: its kind and little-endian bytes. */
void gguf_build_scalar(struct gguf_build *build, const char *key, enum model_gguf_kind kind,
                       const void *bytes, size_t length);

/* A matrix of rows x columns; rows 0: a vector. */
void gguf_build_tensor(struct gguf_build *build, const char *name, uint32_t type, uint64_t columns,
                       uint64_t rows, const void *data);

/* Joins everything and frees the parts. */
struct gguf_bytes gguf_build_finish(struct gguf_build *build);

/* The offset behind the first place where text stands in the file; fails the test if it does not. */
size_t gguf_bytes_behind(const struct gguf_bytes *file, const char *text);

/* ---- models ---- */

/* Shape of a model; the weights are random, the same for the same shape and seed. */
struct model_shape {
    uint32_t vocab;
    uint32_t hidden;
    uint32_t ffn;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    const char *architecture;    /* NULL: llama */
    enum model_type type;        /* of all matrices */
    enum model_type vector_type; /* of norms and biases; zero: F32 */
    bool is_tied;
    bool has_yarn; /* positions stretched by 4 from GGUF_BUILD_YARN_CONTEXT on; otherwise plain */
    /* Not zero: each sixth bias of keys is this, more or less; otherwise all are below 1. */
    float k_bias_scale;
    uint64_t seed;
};

void gguf_build_model(struct gguf_build *build, const struct model_shape *shape);

/* Builds a model and opens it; fails the test if it cannot be. The bytes are to be freed after the model. */
struct model *gguf_build_open(const struct model_shape *shape, struct gguf_bytes *file_out);

#endif
