/*
 * model.h: a model file as matrices, numbers and text, checked and ready for a backend.
 *
 * Owns the meaning of a model file: hyperparameters with defaults and bounds, the exact set of tensors
 * with their shapes and types (architecture.h), the position encoding (rope.h), and the arrays that lib/text
 * needs. Matrices stay where they lie in the mapping, which all workers of a host share; norms,
 * biases and scales are copied as floats. It computes nothing. Immutable after opening: any thread may read it.
 */
#ifndef TANDEM_MODEL_MODEL_H
#define TANDEM_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"
#include "lib/text/source.h"
#include "model/architecture.h"
#include "model/gguf.h"
#include "model/quant.h"
#include "model/rope.h"
#include "model/scales.h"

#define MODEL_LAYERS_MAX  1024
#define MODEL_HIDDEN_MAX  ((uint32_t)1 << 16)
#define MODEL_FFN_MAX     ((uint32_t)1 << 20)
#define MODEL_HEADS_MAX   1024
#define MODEL_VOCAB_MAX   ((uint32_t)1 << 22)
#define MODEL_CONTEXT_MAX ((uint32_t)1 << 22)

/* Row r starts at data + r * row_bytes and holds `columns` values of the type; model_matrix_row says what they mean. */
struct model_matrix {
    enum model_type type;
    uint32_t rows;
    uint32_t columns;
    const uint8_t *data;
    size_t row_bytes;
    struct model_scales scales; /* of F8_E4M3 */
};

/* Biases and norms that an architecture does not have are NULL. */
struct model_layer {
    const float *attention_norm; /* hidden */
    struct model_matrix q;       /* heads * head_dim x hidden; see model_rope.pairs */
    struct model_matrix k;       /* kv_heads * head_dim x hidden; the same */
    struct model_matrix v;
    const float *q_bias;                  /* heads * head_dim, in the order of q's rows */
    const float *k_bias;                  /* kv_heads * head_dim, in the order of k's rows */
    const float *v_bias;                  /* kv_heads * head_dim */
    const float *q_norm;                  /* head_dim: of each head of Q, before the rotation */
    const float *k_norm;                  /* head_dim: of each head of K */
    struct model_matrix attention_output; /* hidden x heads * head_dim */
    const float *ffn_norm;                /* hidden */
    struct model_matrix gate;             /* ffn x hidden */
    struct model_matrix up;               /* ffn x hidden */
    struct model_matrix down;             /* hidden x ffn */
};

struct model {
    char name[128];
    const struct model_architecture *architecture;
    uint32_t vocab; /* rows of the embedding and of the LM head */
    uint32_t hidden;
    uint32_t ffn;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads; /* divides heads */
    uint32_t head_dim; /* even */
    uint32_t max_context;
    float rms_epsilon;
    struct model_rope rope;
    struct model_matrix embedding;  /* vocab x hidden */
    struct model_matrix output;     /* the LM head; the embedding itself where they are tied */
    const float *output_norm;       /* hidden */
    struct model_layer *layer;      /* [layers] */
    float *vectors;                 /* memory behind norms and biases */
    float *scales;                  /* the same behind scales of FP8 weights */
    struct td_u128 weights_digest;  /* XXH3-128 of all bytes, see docs/models.md */
    bool has_text;                  /* the file has a tokenizer */
    struct text_source text;        /* borrows from this model */
    struct model_gguf *file;        /* NULL: it came from a folder */
    struct model_hf_folder *folder; /* NULL: it came from a GGUF file */
};

/*
 * model_open: map, check and describe a model.
 * path is a GGUF file, any part of a split one, or a folder with config.json and safetensors. Reads all weights
 * once, for their digest. TD_UNSUPPORTED names what is not known here (an architecture, tensor type, rope
 * scaling, tokenizer), TD_INVALID or TD_LIMIT the key or tensor.
 */
td_status_t model_open(const char *path, struct model **model_out,
                       struct td_error *error) TD_MUST_USE;

/* The same from a parsed file. The file moves to the model on success only. */
td_status_t model_from_gguf(struct model_gguf *file, struct model **model_out,
                            struct td_error *error) TD_MUST_USE;

void model_close(struct model *model);

/*
 * model_is_unchanged: whether the weights still have the digest that they had when the model was opened.
 * Reads all of them again. For who keeps something under that digest: somebody may have written to the file since.
 */
bool model_is_unchanged(const struct model *model);

/*
 * model_name_of_path: what a model is called after its file or folder.
 * Without the folders above it, ".gguf" and the number of a part: "m/Q.Q4_1-00001-of-00002.gguf" is "Q.Q4_1".
 * In the cache of huggingface_hub "models--Qwen--Qwen3-0.6B/snapshots/c1899de" is "Qwen3-0.6B".
 */
void model_name_of_path(const char *path, char *out, size_t size);

/*
 * model_content_id: what makes KV of two workers interchangeable bit for bit, as one hash.
 * Over a canonical text of the weights digest, the position encoding, the KV type ("f16"), the
 * numerics class ("cpu-f32-3") and the adapter (none yet).
 */
struct td_u128 model_content_id(struct td_u128 weights_digest, const char *rope,
                                const char *kv_dtype, const char *numerics);

/* For model.c alone: fills the text parts of a model from its file (gguf_text.c). */
td_status_t model_read_text(struct model *model, struct td_error *error) TD_MUST_USE;

#endif
