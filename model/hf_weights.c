/* hf_weights.c: the safetensors files of a folder as one set of tensors; see hf_weights.h. */
#include "model/hf_weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "model/gguf.h"
#include "model/map.h"
#include "model/quant.h"
#include "model/safetensors.h"

#define SUFFIX          ".safetensors"
#define FILE_BYTES_MAX  255
#define SHOWN_BYTES     80
#define INDEX_DEPTH_MAX 8

/* What is known of a tensor, beside its file's own index. */
enum { LISTED = 1, USED = 2 };

struct shard {
    char name[FILE_BYTES_MAX + 1];
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
                           "tensor %s (in %s) has type %s; served are F32, F16 and BF16",
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

/* ------------------------------------------------------------------ the index */

/* A file's name, and nothing that could lead out of the folder. */
static bool is_file_name(struct td_span name)
{
    size_t suffix = strlen(SUFFIX);

    if (name.length <= suffix || name.length > FILE_BYTES_MAX || name.bytes[0] == '.' ||
        memcmp(name.bytes + name.length - suffix, SUFFIX, suffix) != 0)
        return false;
    for (size_t i = 0; i < name.length; i++)
        if (name.bytes[i] < 0x20 || name.bytes[i] == '/' || name.bytes[i] == '\\' ||
            name.bytes[i] == 0x7f)
            return false;
    return true;
}

static int compare_shards(const void *a, const void *b)
{
    const struct shard *left = a;
    const struct shard *right = b;

    return strcmp(left->name, right->name);
}

static struct shard *find_shard(const struct model_hf_weights *weights, const char *name)
{
    for (size_t i = 0; i < weights->count; i++)
        if (strcmp(weights->shards[i].name, name) == 0)
            return &weights->shards[i];
    return NULL;
}

/* Collects the distinct names of files. */
static td_status_t list_shards(struct model_hf_weights *weights, const struct td_json *map,
                               struct td_error *error)
{
    td_json_for_each(entry, map)
    {
        char shown[SHOWN_BYTES];

        if (entry->kind != TD_JSON_STRING || !is_file_name(entry->string))
            return td_fail(error, TD_INVALID,
                           "tensor %s is not in a file of this folder with a name that ends "
                           "in " SUFFIX,
                           model_gguf_show(entry->key, shown, sizeof shown));
        if (find_shard(weights, entry->string.bytes) != NULL)
            continue;
        if (weights->count == MODEL_HF_SHARDS_MAX)
            return td_fail(error, TD_LIMIT, "more than %d files", MODEL_HF_SHARDS_MAX);
        memcpy(weights->shards[weights->count++].name, entry->string.bytes, entry->string.length);
    }
    qsort(weights->shards, weights->count, sizeof *weights->shards, compare_shards);
    return TD_OK;
}

/* Every tensor of the index must be in the file that it names. */
static td_status_t mark_listed(struct model_hf_weights *weights, const struct td_json *map,
                               struct td_error *error)
{
    td_json_for_each(entry, map)
    {
        struct shard *shard = find_shard(weights, entry->string.bytes);
        const struct model_safetensors_tensor *tensor =
            model_safetensors_tensor(shard->file, entry->key.bytes);
        char shown[SHOWN_BYTES];

        if (tensor == NULL || strlen(entry->key.bytes) != entry->key.length)
            return td_fail(error, TD_INVALID, "tensor %s is not in %s, where the index has it",
                           model_gguf_show(entry->key, shown, sizeof shown), shard->name);
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

static td_status_t open_listed(const char *folder, const struct td_json *map,
                               struct model_hf_weights *weights, struct td_error *error)
{
    td_status_t status = list_shards(weights, map, error);

    if (status != TD_OK) {
        td_fail_wrap(error, "%s", MODEL_HF_INDEX);
        return status;
    }
    for (size_t i = 0; i < weights->count && status == TD_OK; i++)
        status = open_shard(folder, &weights->shards[i], error);
    if (status != TD_OK)
        return status;
    status = mark_listed(weights, map, error);
    return status == TD_OK ? check_listed(weights, error) : status;
}

/* The object weight_map of the index's text. */
static td_status_t read_index(struct td_arena *arena, struct td_span text,
                              const struct td_json **map_out, struct td_error *error)
{
    const struct td_json_limits limits = {
        .bytes_max = MODEL_HF_INDEX_BYTES_MAX,
        .nodes_max = (uint32_t)MODEL_SAFETENSORS_TENSORS_MAX * 2,
        .depth_max = INDEX_DEPTH_MAX,
    };
    const struct td_json *root = NULL;
    td_status_t status = td_json_parse(arena, text, &limits, &root, error);

    if (status == TD_OK && root->kind != TD_JSON_OBJECT)
        status = td_fail(error, TD_INVALID, "byte 0: the document is no object");
    if (status == TD_OK)
        status = td_json_object(td_json_get(root, "weight_map"), map_out, error);
    if (status == TD_OK && (*map_out == NULL || (*map_out)->items.count == 0))
        status = td_fail(error, TD_INVALID, "'weight_map' names no tensor");
    if (status != TD_OK)
        td_fail_wrap(error, "%s", MODEL_HF_INDEX);
    return status;
}

static td_status_t open_index(const char *folder, const struct model_map *index,
                              struct model_hf_weights **weights_out, struct td_error *error)
{
    struct model_hf_weights *weights = NULL;
    const struct td_json *map = NULL;
    struct td_arena arena;
    td_status_t status;

    td_arena_init(&arena, 2 * MODEL_HF_INDEX_BYTES_MAX);
    status =
        read_index(&arena, td_span_over((const char *)index->bytes, index->length), &map, error);
    if (status == TD_OK)
        status = weights_new(MODEL_HF_SHARDS_MAX, &weights, error);
    if (status == TD_OK)
        status = open_listed(folder, map, weights, error);
    if (status == TD_OK)
        *weights_out = weights;
    else
        model_hf_weights_close(weights);
    td_arena_fini(&arena);
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
