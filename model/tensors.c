/*
 * tensors.c: from the table of roles to the matrices and vectors of a model; see architecture.h.
 *
 * Matrices stay where the reader has them. Vectors and scales are small, come in several types and need the
 * alignment of floats: all of them are copied into an array of each.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/architecture.h"
#include "model/model.h"

#define SHAPE_BYTES 96 /* four numbers of 20 digits, commas and the NUL */

struct taking {
    struct model *model;
    const struct model_tensors *tensors;
    size_t vector_floats; /* of all vectors together */
    float *next_vector;   /* where the next one is copied to */
    size_t scale_floats;  /* the same of scales */
    float *next_scale;
    struct td_error *error;
};

/* What is done with one tensor of the table; base is the struct that its role's offset is in. */
typedef td_status_t (*visit_fn)(struct taking *taking, const struct model_role *role, char *base,
                                const char *name);

/* ------------------------------------------------------------------ numbers */

static td_status_t check_count(const char *what, uint32_t count, uint32_t count_max,
                               struct td_error *error)
{
    if (count > 0 && count <= count_max)
        return TD_OK;
    return td_fail(error, TD_LIMIT, "%" PRIu32 " %s (1 to %" PRIu32 " are possible)", count, what,
                   count_max);
}

td_status_t model_check_numbers(const struct model *model, struct td_error *error)
{
    const struct {
        const char *what;
        uint32_t count;
        uint32_t count_max;
    } counts[] = {
        {"layers", model->layers, MODEL_LAYERS_MAX},
        {"values in a hidden state", model->hidden, MODEL_HIDDEN_MAX},
        {"values in the feed-forward part", model->ffn, MODEL_FFN_MAX},
        {"heads", model->heads, MODEL_HEADS_MAX},
        {"KV heads", model->kv_heads, model->heads},
        {"positions", model->max_context, MODEL_CONTEXT_MAX},
    };

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        td_status_t status =
            check_count(counts[i].what, counts[i].count, counts[i].count_max, error);

        if (status != TD_OK)
            return status;
    }
    if (model->heads % model->kv_heads != 0)
        return td_fail(error, TD_INVALID,
                       "%" PRIu32 " heads do not share %" PRIu32 " KV heads evenly", model->heads,
                       model->kv_heads);
    if (model->head_dim == 0 || model->head_dim % 2 != 0 || model->head_dim > MODEL_HEAD_DIM_MAX)
        return td_fail(error, TD_UNSUPPORTED,
                       "a head of %" PRIu32 " values is not supported (even, up to %d)",
                       model->head_dim, MODEL_HEAD_DIM_MAX);
    if (!(model->rms_epsilon >= 0.0f && model->rms_epsilon < 1.0f))
        return td_fail(error, TD_INVALID, "the epsilon of the norms is %g",
                       (double)model->rms_epsilon);
    return TD_OK;
}

/* ------------------------------------------------------------------ tensors */

uint32_t model_extent_count(const struct model *model, enum model_extent extent)
{
    switch (extent) {
    case MODEL_EXTENT_NONE: return 1;
    case MODEL_EXTENT_VOCAB: return model->vocab;
    case MODEL_EXTENT_HIDDEN: return model->hidden;
    case MODEL_EXTENT_FFN: return model->ffn;
    case MODEL_EXTENT_Q: return model->heads * model->head_dim;
    case MODEL_EXTENT_KV: return model->kv_heads * model->head_dim;
    case MODEL_EXTENT_HEAD_DIM: return model->head_dim;
    }
    return 0;
}

/* The embedding says how large the vocabulary is, where nothing else has. */
static td_status_t take_vocab(struct taking *taking, const struct model_tensor *tensor,
                              const char *name)
{
    if (tensor->dims[1] > MODEL_VOCAB_MAX)
        return td_fail(taking->error, TD_LIMIT,
                       "tensor %s has %" PRIu64 " rows (at most %" PRIu32 ")", name,
                       tensor->dims[1], MODEL_VOCAB_MAX);
    taking->model->vocab = (uint32_t)tensor->dims[1];
    return TD_OK;
}

/* As its file writes it: GGUF begins with the columns, safetensors with the rows. */
static const char *show_shape(const uint64_t *dims, uint32_t rank, bool is_hf,
                              char out[SHAPE_BYTES])
{
    size_t length = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < rank; i++)
        length += (size_t)snprintf(out + length, SHAPE_BYTES - length, "%s%" PRIu64,
                                   i > 0 ? ", " : "", dims[is_hf ? rank - 1 - i : i]);
    return out;
}

static td_status_t check_shape(struct taking *taking, const struct model_role *role,
                               const struct model_tensor *tensor, const char *name)
{
    const uint64_t wanted[] = {model_extent_count(taking->model, role->columns),
                               model_extent_count(taking->model, role->rows)};
    bool is_hf = taking->tensors->has_hf_names;
    char actual_text[SHAPE_BYTES];
    char wanted_text[SHAPE_BYTES];

    if (tensor->dims[0] != wanted[0] || tensor->dims[1] != wanted[1] || tensor->dims[2] != 1 ||
        tensor->dims[3] != 1)
        return td_fail(
            taking->error, TD_INVALID, "tensor %s has shape [%s] where [%s] was expected", name,
            show_shape(tensor->dims, tensor->rank, is_hf, actual_text),
            show_shape(wanted, role->rows == MODEL_EXTENT_NONE ? 1 : 2, is_hf, wanted_text));
    return TD_OK;
}

static td_status_t take_vector(struct taking *taking, const struct model_tensor *tensor,
                               const char *name, const float **vector_out)
{
    if (tensor->type == MODEL_TYPE_F8_E4M3)
        return td_fail(taking->error, TD_UNSUPPORTED,
                       "tensor %s has type F8_E4M3, which only matrices may have", name);
    model_dequantize((enum model_type)tensor->type, tensor->data, (size_t)tensor->dims[0],
                     taking->next_vector);
    *vector_out = taking->next_vector;
    taking->next_vector += tensor->dims[0];
    return TD_OK;
}

static td_status_t take_matrix(struct taking *taking, const struct model_tensor *tensor,
                               const char *name, struct model_matrix *matrix_out)
{
    struct model_matrix matrix = {.type = (enum model_type)tensor->type,
                                  .rows = (uint32_t)tensor->dims[1],
                                  .columns = (uint32_t)tensor->dims[0],
                                  .data = tensor->data,
                                  .row_bytes = tensor->row_bytes};
    struct model_tensor scales;
    size_t count;
    td_status_t status = TD_OK;

    if (tensor->type == MODEL_TYPE_F8_E4M3) {
        status = model_scales_find(taking->tensors, tensor, name, &matrix.scales, &scales,
                                   taking->error);
        if (status != TD_OK)
            return status;
        count = model_scales_count(&matrix.scales, matrix.rows);
        matrix.scales.values = taking->next_scale;
        status = model_scales_read(&scales, tensor, name, count, taking->next_scale, taking->error);
        taking->next_scale += count;
    }
    if (status == TD_OK)
        *matrix_out = matrix;
    return status;
}

/* Finds and checks one tensor and puts it where base + offset says. */
static td_status_t take_one(struct taking *taking, const struct model_role *role, char *base,
                            const char *name)
{
    struct model_tensor tensor = {0};
    td_status_t status = TD_OK;

    if (!taking->tensors->find(taking->tensors->context, name, &tensor)) {
        if (role->is_optional)
            return TD_OK;
        return td_fail(taking->error, TD_INVALID, "tensor %s is missing", name);
    }
    if (role->rows == MODEL_EXTENT_VOCAB && taking->model->vocab == 0)
        status = take_vocab(taking, &tensor, name);
    if (status == TD_OK)
        status = check_shape(taking, role, &tensor, name);
    if (status != TD_OK)
        return status;
    if (!model_type_info(tensor.type)->is_supported)
        return td_fail(taking->error, TD_UNSUPPORTED,
                       "tensor %s has type %s; served are " MODEL_TYPES_SERVED, name,
                       model_type_info(tensor.type)->name);
    if (role->rows == MODEL_EXTENT_NONE)
        return take_vector(taking, &tensor, name, (const float **)(void *)(base + role->offset));
    return take_matrix(taking, &tensor, name, (struct model_matrix *)(void *)(base + role->offset));
}

/* A matrix of a wrong shape is refused when it is taken: then it needs no scales. */
static td_status_t count_scales(struct taking *taking, const struct model_tensor *weight,
                                const char *name)
{
    struct model_scales scales;
    struct model_tensor tensor;
    td_status_t status;

    if (weight->type != MODEL_TYPE_F8_E4M3 || weight->dims[0] > UINT32_MAX ||
        weight->dims[1] > UINT32_MAX)
        return TD_OK;
    status = model_scales_find(taking->tensors, weight, name, &scales, &tensor, taking->error);
    if (status == TD_OK)
        taking->scale_floats += model_scales_count(&scales, weight->dims[1]);
    return status;
}

/* Room for the vectors and scales that are really there: what a file only claims takes no memory. */
static td_status_t count_one(struct taking *taking, const struct model_role *role, char *base,
                             const char *name)
{
    struct model_tensor tensor = {0};

    (void)base;
    if (!taking->tensors->find(taking->tensors->context, name, &tensor))
        return TD_OK;
    if (role->rows == MODEL_EXTENT_NONE) {
        uint32_t count = model_extent_count(taking->model, role->columns);

        taking->vector_floats += tensor.dims[0] < count ? (uint32_t)tensor.dims[0] : count;
        return TD_OK;
    }
    return count_scales(taking, &tensor, name);
}

/* Visits the tensors of a role with their names: one, or one of each layer. */
static td_status_t walk_role(struct taking *taking, const struct model_role *role, visit_fn visit)
{
    struct model *model = taking->model;
    uint32_t count = role->is_of_layer ? model->layers : 1;
    td_status_t status = TD_OK;

    for (uint32_t i = 0; i < count && status == TD_OK; i++) {
        char *base = role->is_of_layer ? (char *)&model->layer[i] : (char *)model;
        char name[MODEL_TENSOR_NAME_BYTES];

        model_role_name(role, taking->tensors->has_hf_names, i, name);
        status = visit(taking, role, base, name);
    }
    return status;
}

static td_status_t walk(struct taking *taking, visit_fn visit)
{
    const struct model_role *role;
    td_status_t status = TD_OK;

    for (size_t i = 0; (role = model_role_at(i)) != NULL && status == TD_OK; i++)
        if ((role->architectures & (unsigned)taking->model->architecture->id) != 0)
            status = walk_role(taking, role, visit);
    return status;
}

td_status_t model_take_tensors(struct model *model, const struct model_tensors *tensors,
                               struct td_error *error)
{
    struct taking taking = {.model = model, .tensors = tensors, .error = error};
    td_status_t status;

    model->layer = calloc(model->layers, sizeof *model->layer);
    if (model->layer == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for %" PRIu32 " layers", model->layers);
    status = walk(&taking, count_one);
    if (status != TD_OK)
        return status;
    model->vectors = calloc(taking.vector_floats + 1, sizeof *model->vectors);
    model->scales = calloc(taking.scale_floats + 1, sizeof *model->scales);
    if (model->vectors == NULL || model->scales == NULL)
        return td_fail(error, TD_NO_MEMORY,
                       "no memory for the norms and scales of %" PRIu32 " layers", model->layers);
    taking.next_vector = model->vectors;
    taking.next_scale = model->scales;
    status = walk(&taking, take_one);
    if (status == TD_OK && model->output.data == NULL)
        model->output = model->embedding; /* tied */
    return status;
}
