/* hf_index.c: see hf_index.h. */
#include "model/hf_index.h"

#include <stdbool.h>
#include <string.h>

#include "lib/base/json.h"
#include "model/safetensors.h"
#include "model/show.h"

#define SUFFIX      ".safetensors"
#define SHOWN_BYTES 80
#define DEPTH_MAX   8

/* A file's name, and nothing that could lead out of the folder. */
static bool is_file_name(struct td_span name)
{
    size_t suffix = strlen(SUFFIX);

    if (name.length <= suffix || name.length > MODEL_HF_FILE_BYTES_MAX || name.bytes[0] == '.' ||
        memcmp(name.bytes + name.length - suffix, SUFFIX, suffix) != 0)
        return false;
    for (size_t i = 0; i < name.length; i++)
        if ((unsigned char)name.bytes[i] < 0x20 || name.bytes[i] == '/' || name.bytes[i] == '\\' ||
            name.bytes[i] == 0x7f)
            return false;
    return true;
}

/* The place of a name among the files, which it joins if it is new. Tensors of a file come together. */
static td_status_t find_file(struct model_hf_index *index, const char *name, uint32_t *file_out,
                             struct td_error *error)
{
    for (uint32_t i = index->file_count; i > 0; i--) {
        if (strcmp(index->files[i - 1], name) == 0) {
            *file_out = i - 1;
            return TD_OK;
        }
    }
    if (index->file_count == MODEL_HF_FILES_MAX)
        return td_fail(error, TD_LIMIT, "more than %d files", MODEL_HF_FILES_MAX);
    index->files[index->file_count] = name;
    *file_out = index->file_count++;
    return TD_OK;
}

static td_status_t read_place(struct model_hf_index *index, const struct td_json *entry,
                              struct td_error *error)
{
    struct model_hf_place *place = &index->places[index->place_count];
    char shown[SHOWN_BYTES];

    model_show(entry->key, shown, sizeof shown);
    if (memchr(entry->key.bytes, '\0', entry->key.length) != NULL)
        return td_fail(error, TD_INVALID, "tensor %s: its name has a NUL", shown);
    if (entry->kind != TD_JSON_STRING || !is_file_name(entry->string))
        return td_fail(error, TD_INVALID,
                       "tensor %s is not in a file of this folder with a name that ends in " SUFFIX,
                       shown);
    place->tensor = entry->key.bytes;
    index->place_count++;
    return find_file(index, entry->string.bytes, &place->file, error);
}

static td_status_t read_places(struct model_hf_index *index, const struct td_json *map,
                               struct td_error *error)
{
    td_status_t status = TD_OK;

    index->places = td_arena_array(&index->arena, map->items.count, sizeof *index->places);
    if (index->places == NULL)
        return td_fail(error, index->arena.status, "no memory for the index");
    td_json_for_each(entry, map)
    {
        status = read_place(index, entry, error);
        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

static td_status_t read_index(struct model_hf_index *index, struct td_span text,
                              struct td_error *error)
{
    const struct td_json_limits limits = {
        .bytes_max = MODEL_HF_INDEX_BYTES_MAX,
        .nodes_max = (uint32_t)MODEL_SAFETENSORS_TENSORS_MAX * 2,
        .depth_max = DEPTH_MAX,
    };
    const struct td_json *root = NULL;
    const struct td_json *map = NULL;
    td_status_t status = td_json_parse(&index->arena, text, &limits, &root, error);

    if (status != TD_OK)
        return status;
    if (root->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "byte 0: the document is no object");
    status = td_json_object(td_json_get(root, "weight_map"), &map, error);
    if (status == TD_OK && (map == NULL || map->items.count == 0))
        return td_fail(error, TD_INVALID, "'weight_map' names no tensor");
    return status == TD_OK ? read_places(index, map, error) : status;
}

td_status_t model_hf_index_read(struct td_span text, struct model_hf_index *index_out,
                                struct td_error *error)
{
    td_status_t status;

    *index_out = (struct model_hf_index){0};
    td_arena_init(&index_out->arena, 2 * MODEL_HF_INDEX_BYTES_MAX);
    status = read_index(index_out, text, error);
    if (status != TD_OK)
        model_hf_index_fini(index_out);
    return status;
}

void model_hf_index_fini(struct model_hf_index *index)
{
    td_arena_fini(&index->arena);
    *index = (struct model_hf_index){0};
}
