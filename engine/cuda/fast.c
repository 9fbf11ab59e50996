/* fast.c: see fast.h. As weights.c, it walks over the model twice: to add up sizes, and to copy. */
#include "engine/cuda/fast.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "engine/cuda/loader.h"
#include "engine/cuda/plan.h"

struct walk {
    struct cuda_device *device; /* NULL: only sizes are added up */
    struct cuda_loader *loader;
    uint8_t *memory;
    size_t at;
    struct td_error *error;
};

/* Where so many bytes go; NULL while only sizes are added up. */
static td_status_t reserve(struct walk *walk, size_t bytes, uint8_t **place_out)
{
    size_t end;

    if (__builtin_add_overflow(walk->at, bytes, &end) ||
        __builtin_add_overflow(end, (size_t)CUDA_ALIGNMENT - 1, &end))
        return td_fail(walk->error, TD_LIMIT, "the size of the weights overflows");
    *place_out = walk->device != NULL ? walk->memory + walk->at : NULL;
    walk->at = end / CUDA_ALIGNMENT * CUDA_ALIGNMENT;
    return TD_OK;
}

/* A matrix without data gets random weights, as in weights.h. */
static void make_random(struct walk *walk, const struct model_matrix *source, uint8_t *place)
{
    const struct cuda_fill_args args = {.data = place,
                                        .blocks = (uint64_t)source->rows * source->columns,
                                        .seed = walk->at,
                                        .type = CUDA_TYPE_BF16,
                                        .block_bytes = sizeof(uint16_t),
                                        .range = 1.0f / sqrtf((float)source->columns)};

    cuda_device_launch(walk->device, CUDA_KERNEL_FILL,
                       (struct cuda_grid){(uint32_t)((args.blocks + 255) / 256), 1, 1}, &args);
}

static td_status_t put(struct walk *walk, const struct model_matrix *source, const float *bias,
                       struct cuda_fast_matrix *target)
{
    size_t bytes = source->rows * source->row_bytes; /* as large as what weights.c has counted */
    uint8_t *place = NULL;
    uint8_t *bias_place = NULL;
    td_status_t status;

    if (source->type != MODEL_TYPE_BF16)
        return td_fail(walk->error, TD_UNSUPPORTED,
                       "the fast variant is for weights of BF16, and some are %s",
                       model_type_info((uint32_t)source->type)->name);
    status = reserve(walk, bytes, &place);
    if (status == TD_OK && bias != NULL)
        status = reserve(walk, source->rows * sizeof *bias, &bias_place);
    if (status != TD_OK)
        return status;
    if (place != NULL && source->data != NULL)
        cuda_loader_copy(walk->loader, place, source->data, bytes);
    else if (place != NULL)
        make_random(walk, source, place);
    if (bias_place != NULL)
        cuda_loader_copy(walk->loader, bias_place, bias, source->rows * sizeof *bias);
    *target = (struct cuda_fast_matrix){.data = (const uint16_t *)(const void *)place,
                                        .bias = (const float *)(const void *)bias_place,
                                        .rows = source->rows,
                                        .columns = source->columns};
    return TD_OK;
}

static td_status_t put_layer(struct walk *walk, const struct model_layer *source,
                             struct cuda_fast_layer *target)
{
    const struct {
        const struct model_matrix *source;
        const float *bias;
        struct cuda_fast_matrix *target;
    } matrices[] = {
        {&source->q, source->q_bias, &target->q},
        {&source->k, source->k_bias, &target->k},
        {&source->v, source->v_bias, &target->v},
        {&source->attention_output, NULL, &target->attention_output},
        {&source->gate, NULL, &target->gate},
        {&source->up, NULL, &target->up},
        {&source->down, NULL, &target->down},
    };
    td_status_t status = TD_OK;

    if ((source->q.rows | source->k.rows) % (CUDA_DENSE_ALIGNMENT / sizeof(float)) != 0)
        return td_fail(walk->error, TD_UNSUPPORTED,
                       "the fast variant needs queries and keys in multiples of %zu",
                       CUDA_DENSE_ALIGNMENT / sizeof(float));
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0] && status == TD_OK; i++)
        status = put(walk, matrices[i].source, matrices[i].bias, matrices[i].target);
    return status;
}

static td_status_t walk_model(struct walk *walk, const struct model *model, struct cuda_fast *fast)
{
    td_status_t status;

    fast->layer = calloc(model->layers, sizeof *fast->layer);
    if (fast->layer == NULL)
        return td_fail(walk->error, TD_NO_MEMORY, "no memory for the list of weights");
    status = put(walk, &model->output, NULL, &fast->output);
    for (uint32_t i = 0; i < model->layers && status == TD_OK; i++)
        status = put_layer(walk, &model->layer[i], &fast->layer[i]);
    return status;
}

/* Without the library's workspace, which is in front. */
static td_status_t measure(const struct model *model, size_t *bytes_out, struct td_error *error)
{
    struct walk walk = {.error = error};
    struct cuda_fast fast = {0};
    td_status_t status = walk_model(&walk, model, &fast);

    free(fast.layer);
    if (status == TD_OK)
        *bytes_out = walk.at;
    return status;
}

td_status_t cuda_fast_bytes(const struct model *model, size_t *bytes_out, struct td_error *error)
{
    size_t bytes = 0;
    td_status_t status = measure(model, &bytes, error);

    if (status == TD_OK && __builtin_add_overflow(bytes, CUDA_FAST_WORKSPACE_BYTES, bytes_out))
        return td_fail(error, TD_LIMIT, "the size of the weights overflows");
    return status;
}

static td_status_t load(const struct model *model, struct cuda_device *device, size_t bytes,
                        struct cuda_fast *fast, struct td_error *error)
{
    const struct cuda_loader_options options = {.total_bytes = bytes};
    struct walk walk = {
        .device = device, .memory = fast->memory + CUDA_FAST_WORKSPACE_BYTES, .error = error};
    td_status_t status = cuda_loader_open(device, &options, &walk.loader, error);

    if (status == TD_OK)
        status = walk_model(&walk, model, fast);
    cuda_loader_close(walk.loader);
    if (status == TD_OK)
        status = cuda_device_wait(device, error);
    if (status != TD_OK)
        td_fail_wrap(error, "weights of the fast variant");
    return status;
}

td_status_t cuda_fast_open(const struct model *model, struct cuda_device *device,
                           struct cuda_fast *fast_out, struct td_error *error)
{
    struct cuda_fast fast = {0};
    size_t bytes = 0;
    void *memory = NULL;
    td_status_t status = cuda_fast_bytes(model, &bytes, error);

    if (status == TD_OK)
        status = cuda_device_take(device, bytes, &memory, error);
    if (status != TD_OK)
        return status;
    fast.memory = memory;
    status = cuda_device_open_dense(device, fast.memory, CUDA_FAST_WORKSPACE_BYTES, error);
    if (status == TD_OK)
        status = load(model, device, bytes, &fast, error);
    if (status != TD_OK) {
        cuda_fast_close(&fast, device);
        return status;
    }
    *fast_out = fast;
    return TD_OK;
}

void cuda_fast_close(struct cuda_fast *fast, struct cuda_device *device)
{
    cuda_device_give(device, fast->memory);
    free(fast->layer);
    *fast = (struct cuda_fast){0};
}
