/*
 * architecture.h: the table of architectures, and the table of the tensors that make a model.
 *
 * Owns names: of architectures and tensors, in GGUF files and in Hugging Face folders; and the shape of each
 * tensor in terms of the model's numbers. Both readers fill struct model through model_take_tensors, which
 * walks the table and asks the reader for each tensor by name. A new architecture that computes as
 * these do is a row here; one that computes differently also needs engine/cpu/forward.c.
 */
#ifndef TANDEM_MODEL_ARCHITECTURE_H
#define TANDEM_MODEL_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/span.h"
#include "lib/base/status.h"
#include "model/rope.h"

/* For messages; a test compares them with the table. */
#define MODEL_ARCHITECTURES_SERVED "llama, qwen2 and qwen3"
#define MODEL_HF_CLASSES_SERVED    "LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM"

#define MODEL_TENSOR_NAME_BYTES 96 /* of any name that the table makes, with the NUL */
#define MODEL_RANK_MAX          4

/* Bits: in which architectures a tensor occurs. */
enum model_architecture_id {
    MODEL_LLAMA = 1,
    MODEL_QWEN2 = 2,
    MODEL_QWEN3 = 4,
};

struct model_architecture {
    enum model_architecture_id id;
    const char *gguf;                 /* general.architecture, and the prefix of its keys */
    const char *hf_class;             /* architectures[0] of config.json */
    const char *hf_type;              /* model_type of config.json */
    enum model_rope_pairs gguf_pairs; /* Hugging Face always has MODEL_ROPE_HALF */
    const char *families;             /* models that are of it, for people */
};

/* By the name in GGUF; by class, or without one by type, in config.json. NULL: not served. */
const struct model_architecture *model_architecture_of_gguf(struct td_span name);
const struct model_architecture *model_architecture_of_hf(struct td_span class_name,
                                                          struct td_span type_name);

/* The rows of the table, for messages and pages; NULL behind the last. */
const struct model_architecture *model_architecture_at(size_t index);

/* What a dimension of a tensor is, in terms of struct model. */
enum model_extent {
    MODEL_EXTENT_NONE, /* a vector has no rows */
    MODEL_EXTENT_VOCAB,
    MODEL_EXTENT_HIDDEN,
    MODEL_EXTENT_FFN,
    MODEL_EXTENT_Q,  /* heads * head_dim */
    MODEL_EXTENT_KV, /* kv_heads * head_dim */
    MODEL_EXTENT_HEAD_DIM,
};

/* One kind of tensor. In names, "%u" stands for the layer; a role without it occurs once. */
struct model_role {
    const char *gguf;
    const char *hf;
    enum model_extent rows; /* NONE: a vector, which the model copies as floats */
    enum model_extent columns;
    unsigned architectures; /* bits */
    bool is_optional;       /* its place stays empty */
    bool is_of_layer;       /* offset is within struct model_layer, otherwise within struct model */
    size_t offset;          /* of a struct model_matrix, or of a const float * for a vector */
};

/* The rows of the table, for pages; NULL behind the last. */
const struct model_role *model_role_at(size_t index);

/* What a role is called in a layer, in a folder or in a GGUF file. */
void model_role_name(const struct model_role *role, bool is_hf, uint32_t layer,
                     char out[static MODEL_TENSOR_NAME_BYTES]);

/*
 * A tensor as a reader finds it. dims[0] is the contiguous dimension (the columns), those behind
 * rank are 1; the reader has checked that the rows lie in memory. Data needs no alignment.
 */
struct model_tensor {
    uint32_t type; /* a known id of model/quant.h, not necessarily a supported one */
    uint32_t rank;
    uint64_t dims[MODEL_RANK_MAX];
    const uint8_t *data;
    size_t row_bytes;
};

struct model_quantization;

/* Where tensors come from. */
struct model_tensors {
    bool has_hf_names;
    /* Whether there is a tensor of that name. The reader may note that it was asked for. */
    bool (*find)(void *context, const char *name, struct model_tensor *tensor_out);
    void *context;
    const struct model_quantization *quantization; /* scales.h; NULL: no FP8 weights */
};

struct model;

/* How many values an extent has in a model whose numbers are set; 1 for MODEL_EXTENT_NONE. */
uint32_t model_extent_count(const struct model *model, enum model_extent extent);

/*
 * model_check_numbers: whether the numbers of a model fit each other and the limits of model.h.
 * Before model_take_tensors; the vocabulary may still be 0.
 */
td_status_t model_check_numbers(const struct model *model, struct td_error *error) TD_MUST_USE;

/*
 * model_take_tensors: fills all matrices and vectors of a model whose architecture and numbers are set.
 * A vocabulary of 0 is taken from the embedding. Without an LM head the embedding takes its place.
 * Allocates the layers and the copies of vectors and scales, which model_close frees. TD_INVALID names a tensor
 * that is missing or has a wrong shape, TD_UNSUPPORTED one whose type is not served. Tensors that
 * were never asked for are the reader's to refuse.
 */
td_status_t model_take_tensors(struct model *model, const struct model_tensors *tensors,
                               struct td_error *error) TD_MUST_USE;

#endif
