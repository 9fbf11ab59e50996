/*
 * weights.c: see weights.h. One walk over the model, done twice: to add up sizes, and to copy.
 */
#include "engine/cuda/weights.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/cuda/loader.h"
#include "engine/cuda/plan.h"
#include "lib/base/bytes.h"

#define X(name, member, id) \
    _Static_assert((int)CUDA_TYPE_##member == (int)MODEL_TYPE_##member, "ids of " #name);
CUDA_TYPES(X)
#undef X

#define NO_LAYER UINT32_MAX

/* The walk. Without a device it only adds up. */
struct walk {
    struct cuda_device *device;
    uint8_t *memory;
    size_t at; /* bytes so far, aligned */
    uint32_t layer;
    struct cuda_loader *loader;
    struct td_error *error;
};

/* Says which tensor it is about. */
static td_status_t named(struct walk *walk, const char *name, td_status_t status)
{
    if (walk->layer == NO_LAYER)
        td_fail_wrap(walk->error, "weights %s", name);
    else
        td_fail_wrap(walk->error, "weights %s of layer %" PRIu32, name, walk->layer);
    return status;
}

/* Random weights of about the size that real ones have: sums over a row keep the size of what they are made from. */
static void make_random(struct walk *walk, const struct model_matrix *matrix, size_t bytes)
{
    const struct model_type_info *info = model_type_info((uint32_t)matrix->type);
    float largest = 1; /* quant, or scale times quant, of a block */
    struct cuda_fill_args args = {.data = walk->memory + walk->at,
                                  .blocks = bytes / info->block_bytes,
                                  .seed = walk->at,
                                  .type = (uint32_t)matrix->type,
                                  .block_bytes = info->block_bytes};

    switch (matrix->type) {
    case MODEL_TYPE_Q4_1:
    case MODEL_TYPE_Q5_1: args.has_minimum = true; /* fall through */
    case MODEL_TYPE_Q4_0:
    case MODEL_TYPE_Q5_0: largest = 16; break;
    case MODEL_TYPE_Q8_0: largest = 128; break;
    case MODEL_TYPE_Q4_K:
    case MODEL_TYPE_Q5_K: args.has_minimum = true, largest = 63 * 16; break;
    case MODEL_TYPE_Q6_K: args.scale_at = 208, largest = 128 * 32; break;
    case MODEL_TYPE_F32:
    case MODEL_TYPE_F16:
    case MODEL_TYPE_BF16: break;
    }
    args.range = 1.0f / sqrtf((float)matrix->columns) / largest;
    cuda_device_launch(walk->device, CUDA_KERNEL_FILL,
                       (struct cuda_grid){(uint32_t)((args.blocks + 255) / 256), 1, 1}, &args);
}

/* Where bytes of the model go, or NULL while only sizes are added up. */
static td_status_t put(struct walk *walk, const char *name, const void *data, size_t bytes,
                       const uint8_t **place_out)
{
    size_t end;

    if (__builtin_add_overflow(walk->at, bytes, &end) ||
        __builtin_add_overflow(end, (size_t)CUDA_ALIGNMENT - 1, &end))
        return named(walk, name, td_fail(walk->error, TD_LIMIT, "their size overflows"));
    *place_out = NULL;
    if (walk->device != NULL) {
        *place_out = walk->memory + walk->at;
        if (data != NULL)
            cuda_loader_copy(walk->loader, walk->memory + walk->at, data, bytes);
        if (walk->device->failure.status != TD_OK)
            return named(walk, name, cuda_device_wait(walk->device, walk->error));
    }
    walk->at = end / CUDA_ALIGNMENT * CUDA_ALIGNMENT;
    return TD_OK;
}

static td_status_t put_matrix(struct walk *walk, const char *name,
                              const struct model_matrix *matrix, struct cuda_matrix *matrix_out)
{
    size_t bytes = 0;
    const uint8_t *place;
    td_status_t status;

    if (matrix->columns % CUDA_GROUP != 0)
        return named(walk, name,
                     td_fail(walk->error, TD_UNSUPPORTED,
                             "a matrix of %" PRIu32 " x %" PRIu32
                             ": the CUDA backend needs columns in multiples of %d",
                             matrix->rows, matrix->columns, CUDA_GROUP));
    if (!td_size_add(&bytes, matrix->rows, matrix->row_bytes))
        return named(walk, name, td_fail(walk->error, TD_LIMIT, "their size overflows"));
    if (walk->device != NULL && matrix->data == NULL)
        make_random(walk, matrix, bytes);
    status = put(walk, name, matrix->data, bytes, &place);
    if (status != TD_OK)
        return status;
    *matrix_out = (struct cuda_matrix){.data = place,
                                       .row_bytes = matrix->row_bytes,
                                       .rows = matrix->rows,
                                       .columns = matrix->columns,
                                       .type = (uint32_t)matrix->type};
    return TD_OK;
}

static td_status_t put_vector(struct walk *walk, const char *name, const float *vector,
                              uint32_t count, const float **vector_out)
{
    const uint8_t *place = NULL;
    td_status_t status = TD_OK;

    if (vector != NULL)
        status = put(walk, name, vector, count * sizeof *vector, &place);
    if (status == TD_OK)
        *vector_out = (const float *)(const void *)place;
    return status;
}

static td_status_t put_layer(struct walk *walk, const struct model *model,
                             const struct model_layer *source, struct cuda_layer *target)
{
    uint32_t queries = model->heads * model->head_dim;
    uint32_t keys = model->kv_heads * model->head_dim;
    const struct {
        const char *name;
        const struct model_matrix *source;
        struct cuda_matrix *target;
    } matrices[] = {
        {"q", &source->q, &target->q},
        {"k", &source->k, &target->k},
        {"v", &source->v, &target->v},
        {"attention_output", &source->attention_output, &target->attention_output},
        {"gate", &source->gate, &target->gate},
        {"up", &source->up, &target->up},
        {"down", &source->down, &target->down},
    };
    const struct {
        const char *name;
        const float *source;
        uint32_t count;
        const float **target;
    } vectors[] = {
        {"attention_norm", source->attention_norm, model->hidden, &target->attention_norm},
        {"ffn_norm", source->ffn_norm, model->hidden, &target->ffn_norm},
        {"q_bias", source->q_bias, queries, &target->q_bias},
        {"k_bias", source->k_bias, keys, &target->k_bias},
        {"v_bias", source->v_bias, keys, &target->v_bias},
        {"q_norm", source->q_norm, model->head_dim, &target->q_norm},
        {"k_norm", source->k_norm, model->head_dim, &target->k_norm},
    };
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0] && status == TD_OK; i++)
        status = put_matrix(walk, matrices[i].name, matrices[i].source, matrices[i].target);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0] && status == TD_OK; i++)
        status = put_vector(walk, vectors[i].name, vectors[i].source, vectors[i].count,
                            vectors[i].target);
    return status;
}

/* An LM head without data is one of its own: model/model.h ties by address. */
static bool is_tied(const struct model *model)
{
    return model->output.data == model->embedding.data && model->output.data != NULL;
}

static td_status_t put_all(struct walk *walk, const struct model *model,
                           struct cuda_weights *weights)
{
    td_status_t status;

    walk->layer = NO_LAYER;
    status = put_matrix(walk, "embedding", &model->embedding, &weights->embedding);

    weights->output = weights->embedding;
    if (status == TD_OK && !is_tied(model))
        status = put_matrix(walk, "output", &model->output, &weights->output);
    if (status == TD_OK)
        status = put_vector(walk, "output_norm", model->output_norm, model->hidden,
                            &weights->output_norm);
    for (uint32_t i = 0; i < model->layers && status == TD_OK; i++) {
        walk->layer = i;
        status = put_layer(walk, model, &model->layer[i], &weights->layer[i]);
    }
    weights->bytes = walk->at;
    return status;
}

/* With a device: into memory of the size that the walk without one found. */
static td_status_t walk_model(const struct model *model, struct walk *walk,
                              struct cuda_weights *weights)
{
    weights->layer = calloc(model->layers, sizeof *weights->layer);
    if (weights->layer == NULL)
        return td_fail(walk->error, TD_NO_MEMORY, "no memory for the list of weights");
    return put_all(walk, model, weights);
}

td_status_t cuda_weights_bytes(const struct model *model, size_t *bytes_out, struct td_error *error)
{
    struct walk walk = {.error = error};
    struct cuda_weights weights = {0};
    td_status_t status = walk_model(model, &walk, &weights);

    free(weights.layer);
    if (status == TD_OK)
        *bytes_out = weights.bytes;
    return status;
}

/* Into memory that was taken. */
static td_status_t load(const struct model *model, struct cuda_device *device, size_t bytes,
                        struct cuda_weights *weights, struct td_error *error)
{
    const struct cuda_loader_options options = {.total_bytes = bytes};
    struct walk walk = {.device = device, .memory = weights->memory, .error = error};
    td_status_t status = cuda_loader_open(device, &options, &walk.loader, error);

    if (status == TD_OK)
        status = walk_model(model, &walk, weights);
    cuda_loader_close(walk.loader);
    return status == TD_OK ? cuda_device_wait(device, error) : status;
}

td_status_t cuda_weights_open(const struct model *model, struct cuda_device *device,
                              struct cuda_weights *weights_out, struct td_error *error)
{
    struct cuda_weights weights = {0};
    size_t bytes = 0;
    void *memory = NULL;
    td_status_t status = cuda_weights_bytes(model, &bytes, error);

    if (status == TD_OK)
        status = cuda_device_take(device, bytes, &memory, error);
    if (status != TD_OK)
        return status;
    weights.memory = memory;
    status = load(model, device, bytes, &weights, error);
    if (status != TD_OK) {
        cuda_weights_close(&weights, device);
        return status;
    }
    *weights_out = weights;
    return TD_OK;
}

void cuda_weights_close(struct cuda_weights *weights, struct cuda_device *device)
{
    cuda_device_give(device, weights->memory);
    free(weights->layer);
    *weights = (struct cuda_weights){0};
}
