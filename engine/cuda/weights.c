/*
 * weights.c: see weights.h. One walk over the model, done twice: to add up sizes, and to copy.
 */
#include "engine/cuda/weights.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/cuda/loader.h"
#include "engine/cuda/pack.h"
#include "engine/cuda/plan.h"

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
    enum cuda_weights_form form;
    struct cuda_packer packer; /* or only how large its staging memory should be */
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

/* Where so many bytes go, or NULL while only sizes are added up. */
static td_status_t reserve(struct walk *walk, const char *name, size_t bytes, uint8_t **place_out)
{
    size_t end;

    if (__builtin_add_overflow(walk->at, bytes, &end) ||
        __builtin_add_overflow(end, (size_t)CUDA_ALIGNMENT - 1, &end))
        return named(walk, name, td_fail(walk->error, TD_LIMIT, "their size overflows"));
    *place_out = walk->device != NULL ? walk->memory + walk->at : NULL;
    walk->at = end / CUDA_ALIGNMENT * CUDA_ALIGNMENT;
    return TD_OK;
}

/* Behind what was queued for a tensor. */
static td_status_t check_device(struct walk *walk, const char *name)
{
    if (walk->device != NULL && walk->device->failure.status != TD_OK)
        return named(walk, name, cuda_device_wait(walk->device, walk->error));
    return TD_OK;
}

/* Some matrices one below the other. */
struct stack {
    const char *name;
    const struct model_matrix *const *matrices;
    uint32_t count;
    const struct model_matrix *mate; /* of a single one; NULL: none */
};

static td_status_t put_stack(struct walk *walk, const struct stack *stack,
                             struct cuda_matrix *matrix_out)
{
    struct cuda_pack_source source = {.matrix = stack->matrices[0],
                                      .mate = stack->mate,
                                      .seed = walk->at,
                                      .is_rounded = walk->form == CUDA_WEIGHTS_FP8 &&
                                                    walk->layer != NO_LAYER};
    struct cuda_matrix matrix = cuda_pack_describe(&source);
    uint8_t *place = NULL;
    size_t bytes = 0;
    td_status_t status;

    if (matrix.columns % CUDA_GROUP != 0)
        return named(walk, stack->name,
                     td_fail(walk->error, TD_UNSUPPORTED,
                             "a matrix of %" PRIu32 " x %" PRIu32
                             ": the CUDA backend needs columns in multiples of %d",
                             matrix.rows, matrix.columns, CUDA_GROUP));
    for (uint32_t i = 1; i < stack->count; i++)
        matrix.rows += stack->matrices[i]->rows;
    if (!cuda_packed_bytes(&matrix, &bytes))
        bytes = SIZE_MAX; /* which nothing can be added to */
    status = reserve(walk, stack->name, bytes, &place);
    if (status != TD_OK)
        return status;
    walk->packer.staging_bytes = cuda_pack_staging(source.matrix, walk->packer.staging_bytes);
    for (uint32_t i = 0; i < stack->count && place != NULL; i++) {
        source.matrix = stack->matrices[i];
        cuda_pack(&walk->packer, &source, &matrix, place);
        source.first_tile += source.matrix->rows / CUDA_TILE_ROWS;
        source.seed += source.matrix->rows * source.matrix->row_bytes;
    }
    matrix.data = place;
    *matrix_out = matrix;
    return check_device(walk, stack->name);
}

static td_status_t put_matrix(struct walk *walk, const char *name,
                              const struct model_matrix *source, struct cuda_matrix *matrix_out)
{
    const struct stack stack = {.name = name, .matrices = &source, .count = 1};

    return put_stack(walk, &stack, matrix_out);
}

static td_status_t put_vector(struct walk *walk, const char *name, const float *vector,
                              uint32_t count, const float **vector_out)
{
    uint8_t *place = NULL;
    td_status_t status;

    *vector_out = NULL;
    if (vector == NULL)
        return TD_OK;
    status = reserve(walk, name, count * sizeof *vector, &place);
    if (status != TD_OK)
        return status;
    if (place != NULL)
        cuda_loader_copy(walk->packer.loader, place, vector, count * sizeof *vector);
    *vector_out = (const float *)(const void *)place;
    return check_device(walk, name);
}

/* The biases of matrices that are one below the other. */
static td_status_t put_biases(struct walk *walk, const struct stack *stack,
                              const float *const *biases, const float **bias_out)
{
    uint8_t *place = NULL;
    size_t bytes = 0;
    td_status_t status;

    *bias_out = NULL;
    if (biases[0] == NULL)
        return TD_OK;
    for (uint32_t i = 0; i < stack->count; i++)
        bytes += stack->matrices[i]->rows * sizeof(float);
    status = reserve(walk, stack->name, bytes, &place);
    if (status != TD_OK)
        return status;
    *bias_out = (const float *)(const void *)place;
    for (uint32_t i = 0; i < stack->count && place != NULL; i++) {
        bytes = stack->matrices[i]->rows * sizeof(float);
        cuda_loader_copy(walk->packer.loader, place, biases[i], bytes);
        place += bytes;
    }
    return check_device(walk, stack->name);
}

/* Queries, keys and values, as few matrices as their types allow. */
static td_status_t put_heads(struct walk *walk, const struct model_layer *source,
                             struct cuda_layer *target)
{
    static const char *const names[3][3] = {
        {"q", "q and k", "q, k and v"}, {"k", "k and v"}, {"v"}}; /* from which on, how many */
    const struct model_matrix *const matrices[] = {&source->q, &source->k, &source->v};
    const float *const biases[] = {source->q_bias, source->k_bias, source->v_bias};
    td_status_t status = TD_OK;

    for (uint32_t first = 0; first < 3 && status == TD_OK;) {
        struct cuda_projection *projection = &target->qkv[target->qkv_count++];
        struct stack stack = {.matrices = &matrices[first], .count = 1};
        uint32_t rows = matrices[first]->rows;

        while (first + stack.count < 3 &&
               cuda_pack_can_join(matrices[first], rows, matrices[first + stack.count]) &&
               (biases[first] == NULL) == (biases[first + stack.count] == NULL))
            rows += matrices[first + stack.count++]->rows;
        stack.name = names[first][stack.count - 1];
        status = put_stack(walk, &stack, &projection->matrix);
        if (status == TD_OK)
            status = put_biases(walk, &stack, &biases[first], &projection->bias);
        first += stack.count;
    }
    return status;
}

static td_status_t put_gate_and_up(struct walk *walk, const struct model_layer *source,
                                   struct cuda_layer *target)
{
    const struct model_matrix *gate = &source->gate;
    const struct stack pair = {
        .name = "gate and up", .matrices = &gate, .count = 1, .mate = &source->up};
    td_status_t status;

    if (cuda_pack_can_pair(gate, &source->up))
        return put_stack(walk, &pair, &target->gate);
    status = put_matrix(walk, "gate", gate, &target->gate);
    return status == TD_OK ? put_matrix(walk, "up", &source->up, &target->up) : status;
}

static td_status_t put_layer(struct walk *walk, const struct model *model,
                             const struct model_layer *source, struct cuda_layer *target)
{
    const struct {
        const char *name;
        const float *source;
        uint32_t count;
        const float **target;
    } vectors[] = {
        {"attention_norm", source->attention_norm, model->hidden, &target->attention_norm},
        {"ffn_norm", source->ffn_norm, model->hidden, &target->ffn_norm},
        {"q_norm", source->q_norm, model->head_dim, &target->q_norm},
        {"k_norm", source->k_norm, model->head_dim, &target->k_norm},
    };
    td_status_t status = put_heads(walk, source, target);

    if (status == TD_OK)
        status = put_matrix(walk, "attention_output", &source->attention_output,
                            &target->attention_output);
    if (status == TD_OK)
        status = put_gate_and_up(walk, source, target);
    if (status == TD_OK)
        status = put_matrix(walk, "down", &source->down, &target->down);
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

/* Sizes of the weights and of staging memory. */
static td_status_t measure(const struct model *model, enum cuda_weights_form form,
                           size_t *bytes_out, size_t *staging_bytes_out, struct td_error *error)
{
    struct walk walk = {
        .form = form, .packer = {.staging_bytes = CUDA_STAGING_BYTES}, .error = error};
    struct cuda_weights weights = {0};
    td_status_t status = walk_model(model, &walk, &weights);

    free(weights.layer);
    if (status != TD_OK)
        return status;
    *bytes_out = weights.bytes;
    *staging_bytes_out = walk.packer.staging_bytes;
    return TD_OK;
}

td_status_t cuda_weights_bytes(const struct model *model, enum cuda_weights_form form,
                               size_t *bytes_out, struct td_error *error)
{
    size_t staging_bytes;

    return measure(model, form, bytes_out, &staging_bytes, error);
}

/* Into memory that was taken. Staging memory goes back before the KV pool takes what is left. */
static td_status_t load(const struct model *model, enum cuda_weights_form form,
                        struct cuda_device *device, const struct cuda_loader_options *options,
                        struct cuda_weights *weights, struct td_error *error)
{
    struct walk walk = {.device = device,
                        .form = form,
                        .memory = weights->memory,
                        .packer = {.device = device, .staging_bytes = CUDA_STAGING_BYTES},
                        .error = error};
    size_t weights_bytes;
    void *staging = NULL;
    td_status_t status = measure(model, form, &weights_bytes, &walk.packer.staging_bytes, error);

    if (status == TD_OK)
        status = cuda_device_take(device, walk.packer.staging_bytes, &staging, error);
    walk.packer.staging = staging;
    if (status == TD_OK)
        status = cuda_loader_open(device, options, &walk.packer.loader, error);
    if (status == TD_OK)
        status = walk_model(model, &walk, weights);
    cuda_loader_close(walk.packer.loader);
    if (status == TD_OK) {
        status = cuda_device_wait(device, error);
        if (status != TD_OK)
            td_fail_wrap(error, "the last weights, of layer %" PRIu32, model->layers - 1);
    }
    cuda_device_give(device, staging);
    return status;
}

td_status_t cuda_weights_open(const struct model *model, enum cuda_weights_form form,
                              struct cuda_device *device, struct cuda_progress progress,
                              struct cuda_weights *weights_out, struct td_error *error)
{
    struct cuda_loader_options options = {.progress = progress};
    struct cuda_weights weights = {0};
    size_t bytes = 0;
    void *memory = NULL;
    td_status_t status = cuda_weights_bytes(model, form, &bytes, error);

    if (status != TD_OK)
        return status;
    status = cuda_device_take(device, bytes, &memory, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "weights, all of them");
        return status;
    }
    weights.memory = memory;
    options.total_bytes = bytes;
    status = load(model, form, device, &options, &weights, error);
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
