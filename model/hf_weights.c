/* hf_weights.c: the safetensors files of a folder as one set of tensors; see hf_weights.h. */
#include "model/hf_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/hf_index.h"
#include "model/map.h"
#include "model/quant.h"
#include "model/safetensors.h"
#include "model/show.h"

#define SHOWN_BYTES 80

/* What is known of a tensor, beside its file's own index. */
enum { LISTED = 1, USED = 2 };

struct shard {
    char name[MODEL_HF_FILE_BYTES_MAX + 1];
    struct model_safetensors *file;
    uint8_t *marks; /* by the place in the file's order */
};

struct model_hf_weights {
    struct shard *shards; /* ordered by name */
    size_t count;
};

td_status_t model_hf_path(const char *folder, const char *name, char path[MODEL_HF_PATH_BYTES],
                          struct td_error *error)
{
    int length = snprintf(path, MODEL_HF_PATH_BYTES, "%s/%s", folder, name);

    if (length < 0 || length >= MODEL_HF_PATH_BYTES)
        return td_fail(error, TD_LIMIT, "the path of %s is too long", name);
    return TD_OK;
}

/* ------------------------------------------------------------------ files */

static bool may_be_ignored(const char *name)
{
    static const char suffix[] = ".rotary_emb.inv_freq";
    size_t length = strlen(name);

    return length >= sizeof suffix - 1 && strcmp(name + length - (sizeof suffix - 1), suffix) == 0;
}

/* Element types that nothing is computed with come with quantised and other foreign weights. */
static td_status_t check_types(const struct shard *shard, struct td_error *error)
{
    for (size_t i = 0; i < model_safetensors_count(shard->file); i++) {
        const struct model_safetensors_tensor *tensor = model_safetensors_at(shard->file, i);

        if (tensor->type == MODEL_SAFETENSORS_NO_TYPE && !may_be_ignored(tensor->name))
            return td_fail(error, TD_UNSUPPORTED,
                           "tensor %s (in %s) has type %s; served are " MODEL_PLAIN_TYPES_SERVED,
                           tensor->name, shard->name, tensor->dtype);
    }
    return TD_OK;
}

static td_status_t open_shard(const char *folder, struct shard *shard, struct td_error *error)
{
    char path[MODEL_HF_PATH_BYTES];
    td_status_t status = model_hf_path(folder, shard->name, path, error);

    if (status == TD_OK)
        status = model_safetensors_open(path, &shard->file, error);
    if (status == TD_OK)
        status = check_types(shard, error);
    if (status != TD_OK)
        return status;
    shard->marks = calloc(model_safetensors_count(shard->file) + 1, 1);
    return shard->marks != NULL ? TD_OK : td_fail(error, TD_NO_MEMORY, "no memory for the weights");
}

/* Room for count files. */
static td_status_t weights_new(size_t count, struct model_hf_weights **weights_out,
                               struct td_error *error)
{
    struct model_hf_weights *weights = calloc(1, sizeof *weights);

    if (weights != NULL)
        weights->shards = calloc(count, sizeof *weights->shards);
    if (weights == NULL || weights->shards == NULL) {
        free(weights);
        return td_fail(error, TD_NO_MEMORY, "no memory for the weights");
    }
    *weights_out = weights;
    return TD_OK;
}

void model_hf_weights_close(struct model_hf_weights *weights)
{
    if (weights == NULL)
        return;
    for (size_t i = 0; i < weights->count; i++) {
        model_safetensors_close(weights->shards[i].file);
        free(weights->shards[i].marks);
    }
    free(weights->shards);
    free(weights);
}

static td_status_t open_single(const char *folder, struct model_hf_weights **weights_out,
                               struct td_error *error)
{
    struct model_hf_weights *weights = NULL;
    td_status_t status = weights_new(1, &weights, error);

    if (status != TD_OK)
        return status;
    weights->count = 1;
    snprintf(weights->shards[0].name, sizeof weights->shards[0].name, "%s", MODEL_HF_SINGLE);
    status = open_shard(folder, &weights->shards[0], error);
    if (status != TD_OK) {
        model_hf_weights_close(weights);
        return status;
    }
    memset(weights->shards[0].marks, LISTED, model_safetensors_count(weights->shards[0].file));
    *weights_out = weights;
    return TD_OK;
}

/* ------------------------------------------------------------------ many files */

static int compare_shards(const void *a, const void *b)
{
    const struct shard *left = a;
    const struct shard *right = b;

    return strcmp(left->name, right->name);
}

/* Every tensor of the index must be in the file that it names. */
static td_status_t mark_listed(struct model_hf_weights *weights, const struct model_hf_index *index,
                               struct td_error *error)
{
    for (size_t i = 0; i < index->place_count; i++) {
        const struct model_hf_place *place = &index->places[i];
        struct shard *shard = &weights->shards[place->file];
        const struct model_safetensors_tensor *tensor =
            model_safetensors_tensor(shard->file, place->tensor);
        char shown[SHOWN_BYTES];

        if (tensor == NULL)
            return td_fail(error, TD_INVALID, "tensor %s is not in %s, where the index has it",
                           model_show(td_span_of(place->tensor), shown, sizeof shown), shard->name);
        shard->marks[tensor - model_safetensors_at(shard->file, 0)] |= LISTED;
    }
    return TD_OK;
}

/* A tensor that the index does not name, or has elsewhere, is not to be taken for another. */
static td_status_t check_listed(const struct model_hf_weights *weights, struct td_error *error)
{
    for (size_t i = 0; i < weights->count; i++) {
        const struct shard *shard = &weights->shards[i];

        for (size_t j = 0; j < model_safetensors_count(shard->file); j++)
            if ((shard->marks[j] & LISTED) == 0)
                return td_fail(error, TD_INVALID, "tensor %s is in %s, but not in the index",
                               model_safetensors_at(shard->file, j)->name, shard->name);
    }
    return TD_OK;
}

static td_status_t open_listed(const char *folder, const struct model_hf_index *index,
                               struct model_hf_weights *weights, struct td_error *error)
{
    td_status_t status = TD_OK;

    for (uint32_t i = 0; i < index->file_count && status == TD_OK; i++) {
        struct shard *shard = &weights->shards[weights->count++];

        snprintf(shard->name, sizeof shard->name, "%s", index->files[i]);
        status = open_shard(folder, shard, error);
    }
    if (status == TD_OK)
        status = mark_listed(weights, index, error);
    if (status == TD_OK)
        status = check_listed(weights, error);
    qsort(weights->shards, weights->count, sizeof *weights->shards, compare_shards);
    return status;
}

static td_status_t open_index(const char *folder, const struct model_map *file,
                              struct model_hf_weights **weights_out, struct td_error *error)
{
    struct model_hf_weights *weights = NULL;
    struct model_hf_index index;
    td_status_t status =
        model_hf_index_read(td_span_over((const char *)file->bytes, file->length), &index, error);

    if (status != TD_OK) {
        td_fail_wrap(error, "%s", MODEL_HF_INDEX);
        return status;
    }
    status = weights_new(index.file_count, &weights, error);
    if (status == TD_OK)
        status = open_listed(folder, &index, weights, error);
    if (status == TD_OK)
        *weights_out = weights;
    else
        model_hf_weights_close(weights);
    model_hf_index_fini(&index);
    return status;
}

td_status_t model_hf_weights_open(const char *folder, struct model_hf_weights **weights_out,
                                  struct td_error *error)
{
    char path[MODEL_HF_PATH_BYTES];
    struct model_map index = {0};
    td_status_t status = model_hf_path(folder, MODEL_HF_SINGLE, path, error);

    if (status != TD_OK)
        return status;
    if (access(path, F_OK) == 0)
        return open_single(folder, weights_out, error);
    status = model_hf_path(folder, MODEL_HF_INDEX, path, error);
    if (status != TD_OK)
        return status;
    if (access(path, F_OK) != 0)
        return td_fail(error, TD_NOT_FOUND,
                       "there is neither " MODEL_HF_SINGLE " nor " MODEL_HF_INDEX);
    status = model_map_open(path, &index, error);
    if (status != TD_OK)
        return status;
    status = open_index(folder, &index, weights_out, error);
    model_map_close(&index);
    return status;
}

/* ------------------------------------------------------------------ tensors */

/* dims of model_tensor begin with the columns; those of the file with the outermost. */
static struct model_tensor convert(const struct model_safetensors_tensor *tensor)
{
    struct model_tensor converted = {
        .type = tensor->type, .rank = tensor->rank, .dims = {1, 1, 1, 1}, .data = tensor->data};

    for (uint32_t i = 0; i < tensor->rank; i++)
        converted.dims[i] = tensor->dims[tensor->rank - 1 - i];
    if (tensor->bytes > 0)
        converted.row_bytes =
            tensor->bytes / (converted.dims[1] * converted.dims[2] * converted.dims[3]);
    return converted;
}

bool model_hf_weights_find(struct model_hf_weights *weights, const char *name,
                           struct model_tensor *tensor_out)
{
    for (size_t i = 0; i < weights->count; i++) {
        struct shard *shard = &weights->shards[i];
        const struct model_safetensors_tensor *tensor = model_safetensors_tensor(shard->file, name);

        if (tensor != NULL) {
            shard->marks[tensor - model_safetensors_at(shard->file, 0)] |= USED;
            *tensor_out = convert(tensor);
            return true;
        }
    }
    return false;
}

td_status_t model_hf_weights_check_all_used(const struct model_hf_weights *weights,
                                            const struct model_architecture *architecture,
                                            struct td_error *error)
{
    for (size_t i = 0; i < weights->count; i++) {
        const struct shard *shard = &weights->shards[i];

        for (size_t j = 0; j < model_safetensors_count(shard->file); j++) {
            const char *name = model_safetensors_at(shard->file, j)->name;

            if ((shard->marks[j] & USED) == 0 && !may_be_ignored(name))
                return td_fail(error, TD_UNSUPPORTED,
                               "tensor %s (in %s) is no part of this model, which is a %s: are "
                               "config.json and weights of the same model?",
                               name, shard->name, architecture->hf_class);
        }
    }
    return TD_OK;
}

struct td_u128 model_hf_weights_digest(const struct model_hf_weights *weights,
                                       struct td_u128 parent)
{
    for (size_t i = 0; i < weights->count; i++)
        parent = model_safetensors_digest(weights->shards[i].file, parent);
    return parent;
}
