/* safetensors.c: parsing and indexing of safetensors files; see safetensors.h. */
#include "model/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/bytes.h"
#include "lib/base/hash.h"
#include "lib/base/json.h"
#include "model/map.h"
#include "model/quant.h"

#define LENGTH_BYTES 8

/* A tensor takes eight values (itself, dtype, the shape and the offsets with two numbers each). */
#define NODES_MAX (uint32_t)(MODEL_SAFETENSORS_TENSORS_MAX * 10)
#define DEPTH_MAX 3 /* the document, a tensor, its shape */

struct model_safetensors {
    struct model_map map; /* empty if the caller keeps the bytes */
    const uint8_t *bytes;
    size_t length;
    size_t data_offset; /* of the first byte behind the header */
    struct td_arena arena;
    struct model_safetensors_tensor *tensors; /* in the arena, as are the names */
    size_t count;
};

/* The element types of the format with a whole number of bytes. */
struct dtype {
    const char *name;
    uint32_t bytes;
    uint32_t type;
};

static const struct dtype dtypes[] = {
    {"F32", 4, MODEL_TYPE_F32},
    {"F16", 2, MODEL_TYPE_F16},
    {"BF16", 2, MODEL_TYPE_BF16},
    {"F64", 8, MODEL_SAFETENSORS_NO_TYPE},
    {"F8_E4M3", 1, MODEL_TYPE_F8_E4M3},
    {"F8_E5M2", 1, MODEL_SAFETENSORS_NO_TYPE},
    {"F8_E8M0", 1, MODEL_SAFETENSORS_NO_TYPE},
    {"C64", 8, MODEL_SAFETENSORS_NO_TYPE},
    {"I64", 8, MODEL_SAFETENSORS_NO_TYPE},
    {"I32", 4, MODEL_SAFETENSORS_NO_TYPE},
    {"I16", 2, MODEL_SAFETENSORS_NO_TYPE},
    {"I8", 1, MODEL_SAFETENSORS_NO_TYPE},
    {"U64", 8, MODEL_SAFETENSORS_NO_TYPE},
    {"U32", 4, MODEL_SAFETENSORS_NO_TYPE},
    {"U16", 2, MODEL_SAFETENSORS_NO_TYPE},
    {"U8", 1, MODEL_SAFETENSORS_NO_TYPE},
    {"BOOL", 1, MODEL_SAFETENSORS_NO_TYPE},
};

/* ------------------------------------------------------------------ one tensor */

static td_status_t read_name(const struct td_json *member, const char **name_out,
                             struct td_error *error)
{
    struct td_span name = member->key;
    bool is_printable = true;

    for (size_t i = 0; i < name.length; i++)
        is_printable = is_printable && name.bytes[i] >= 0x20 && name.bytes[i] <= 0x7e;
    if (!is_printable || name.length == 0 || name.length > MODEL_SAFETENSORS_NAME_BYTES_MAX)
        return td_fail(error, TD_INVALID,
                       "header: the name of a tensor must be 1 to %d printable ASCII bytes",
                       MODEL_SAFETENSORS_NAME_BYTES_MAX);
    *name_out = name.bytes;
    return TD_OK;
}

static td_status_t read_dtype(const struct td_json *object, struct model_safetensors_tensor *tensor,
                              uint32_t *element_bytes_out, struct td_error *error)
{
    const struct td_json *value = td_json_find(object, "dtype");

    if (value == NULL || value->kind != TD_JSON_STRING)
        return td_fail(error, TD_INVALID, "tensor %s has no dtype", tensor->name);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (!td_span_is(value->string, dtypes[i].name))
            continue;
        tensor->dtype = dtypes[i].name;
        tensor->type = dtypes[i].type;
        *element_bytes_out = dtypes[i].bytes;
        return TD_OK;
    }
    return td_fail(error, TD_UNSUPPORTED,
                   "tensor %s has a dtype that is not known; served are " MODEL_PLAIN_TYPES_SERVED,
                   tensor->name);
}

static td_status_t read_shape(const struct td_json *object, struct model_safetensors_tensor *tensor,
                              struct td_error *error)
{
    const struct td_json *shape = td_json_find(object, "shape");

    if (shape == NULL || shape->kind != TD_JSON_ARRAY)
        return td_fail(error, TD_INVALID, "tensor %s has no shape", tensor->name);
    if (shape->items.count > MODEL_SAFETENSORS_RANK_MAX)
        return td_fail(error, TD_UNSUPPORTED, "tensor %s has %zu dimensions (at most %d)",
                       tensor->name, shape->items.count, MODEL_SAFETENSORS_RANK_MAX);
    for (size_t i = 0; i < MODEL_SAFETENSORS_RANK_MAX; i++)
        tensor->dims[i] = 1;
    td_json_for_each(dim, shape)
    {
        if (dim->kind != TD_JSON_INTEGER || dim->integer < 0)
            return td_fail(error, TD_INVALID,
                           "tensor %s: dimension %" PRIu32 " of its shape is no count",
                           tensor->name, tensor->rank);
        tensor->dims[tensor->rank++] = (uint64_t)dim->integer;
    }
    return TD_OK;
}

/* What the shape says that the data has. A 0 anywhere makes it 0, so it is looked for first. */
static td_status_t measure(struct model_safetensors_tensor *tensor, uint32_t element_bytes,
                           struct td_error *error)
{
    tensor->bytes = element_bytes;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] == 0) {
            tensor->bytes = 0;
            return TD_OK;
        }
    }
    for (uint32_t i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(tensor->bytes, tensor->dims[i], &tensor->bytes))
            return td_fail(error, TD_INVALID, "tensor %s: its size overflows", tensor->name);
    return TD_OK;
}

/* The place of the data, which must have the size that the shape says and lie inside the file. */
static td_status_t read_place(const struct model_safetensors *file, const struct td_json *object,
                              struct model_safetensors_tensor *tensor, struct td_error *error)
{
    const struct td_json *offsets = td_json_find(object, "data_offsets");
    const struct td_json *begin;
    const struct td_json *end;
    size_t data_bytes = file->length - file->data_offset;

    if (offsets == NULL || offsets->kind != TD_JSON_ARRAY || offsets->items.count != 2)
        return td_fail(error, TD_INVALID, "tensor %s has no two data_offsets", tensor->name);
    begin = offsets->items.first;
    end = begin->next;
    if (begin->kind != TD_JSON_INTEGER || end->kind != TD_JSON_INTEGER || begin->integer < 0 ||
        end->integer < begin->integer)
        return td_fail(error, TD_INVALID, "tensor %s: its data_offsets are no rising counts",
                       tensor->name);
    if ((uint64_t)end->integer > data_bytes)
        return td_fail(error, TD_INVALID,
                       "tensor %s: its data ends at offset %" PRIu64
                       ", past the end of the file (%zu bytes); is the download complete?",
                       tensor->name, (uint64_t)end->integer + file->data_offset, file->length);
    if ((uint64_t)(end->integer - begin->integer) != tensor->bytes)
        return td_fail(error, TD_INVALID,
                       "tensor %s: %" PRId64 " bytes of data where its shape needs %zu",
                       tensor->name, end->integer - begin->integer, tensor->bytes);
    tensor->data = file->bytes + file->data_offset + (size_t)begin->integer;
    return TD_OK;
}

/* Keys that nobody knows might change what the data means. */
static td_status_t check_keys(const struct td_json *object, const char *name,
                              struct td_error *error)
{
    td_json_for_each(member, object)
    {
        if (!td_span_is(member->key, "dtype") && !td_span_is(member->key, "shape") &&
            !td_span_is(member->key, "data_offsets"))
            return td_fail(error, TD_UNSUPPORTED,
                           "tensor %s has a key besides dtype, shape and data_offsets", name);
    }
    return TD_OK;
}

static td_status_t read_tensor(const struct model_safetensors *file, const struct td_json *member,
                               struct model_safetensors_tensor *tensor, struct td_error *error)
{
    uint32_t element_bytes = 0;
    td_status_t status = read_name(member, &tensor->name, error);

    if (status != TD_OK)
        return status;
    if (member->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "tensor %s: its description is no object", tensor->name);
    status = check_keys(member, tensor->name, error);
    if (status == TD_OK)
        status = read_dtype(member, tensor, &element_bytes, error);
    if (status == TD_OK)
        status = read_shape(member, tensor, error);
    if (status == TD_OK)
        status = measure(tensor, element_bytes, error);
    return status == TD_OK ? read_place(file, member, tensor, error) : status;
}

/* ------------------------------------------------------------------ all tensors */

static int compare_places(const void *a, const void *b)
{
    const struct model_safetensors_tensor *left = a;
    const struct model_safetensors_tensor *right = b;

    if (left->data != right->data)
        return left->data < right->data ? -1 : 1;
    return (left->bytes > right->bytes) - (left->bytes < right->bytes); /* empty ones first */
}

static int compare_names(const void *a, const void *b)
{
    const struct model_safetensors_tensor *left = a;
    const struct model_safetensors_tensor *right = b;

    return strcmp(left->name, right->name);
}

/* One behind the other, from the first byte to the last. Leaves the tensors in that order. */
static td_status_t check_places(struct model_safetensors *file, struct td_error *error)
{
    const uint8_t *end = file->bytes + file->data_offset;

    qsort(file->tensors, file->count, sizeof *file->tensors, compare_places);
    for (size_t i = 0; i < file->count; i++) {
        const struct model_safetensors_tensor *tensor = &file->tensors[i];

        if (tensor->data != end)
            return td_fail(error, TD_INVALID,
                           "tensor %s: offset %zu where %zu was expected: tensors %s", tensor->name,
                           (size_t)(tensor->data - file->bytes), (size_t)(end - file->bytes),
                           tensor->data < end ? "overlap" : "leave a hole");
        end += tensor->bytes;
    }
    if (end != file->bytes + file->length)
        return td_fail(error, TD_INVALID, "offset %zu: %zu bytes that belong to no tensor",
                       (size_t)(end - file->bytes), (size_t)(file->bytes + file->length - end));
    return TD_OK;
}

static td_status_t read_tensors(struct model_safetensors *file, const struct td_json *root,
                                struct td_error *error)
{
    size_t count_max = root->items.count;
    td_status_t status;

    if (count_max > MODEL_SAFETENSORS_TENSORS_MAX)
        return td_fail(error, TD_LIMIT, "header: %zu tensors (at most %zu)", count_max,
                       MODEL_SAFETENSORS_TENSORS_MAX);
    file->tensors = td_arena_array(&file->arena, count_max + 1, sizeof *file->tensors);
    if (file->tensors == NULL)
        return td_fail(error, file->arena.status, "no memory for the index of the file");
    td_json_for_each(member, root)
    {
        if (td_span_is(member->key, "__metadata__")) /* of the writer, for nobody in particular */
            continue;
        status = read_tensor(file, member, &file->tensors[file->count], error);
        if (status != TD_OK)
            return status;
        file->count++;
    }
    status = check_places(file, error);
    if (status == TD_OK)
        qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    return status;
}

/* ------------------------------------------------------------------ the file */

static td_status_t read_header(struct model_safetensors *file, const struct td_json **root_out,
                               struct td_error *error)
{
    const struct td_json_limits limits = {
        .bytes_max = MODEL_SAFETENSORS_HEADER_BYTES_MAX,
        .nodes_max = NODES_MAX,
        .depth_max = DEPTH_MAX,
    };
    struct td_reader reader = td_reader_over(file->bytes, file->length);
    uint64_t length = td_read_u64(&reader);
    struct td_span text;
    td_status_t status;

    if (!reader.ok)
        return td_fail(error, TD_INVALID,
                       "offset 0: %zu bytes are no safetensors file; is the download complete?",
                       file->length);
    if (length > MODEL_SAFETENSORS_HEADER_BYTES_MAX)
        return td_fail(error, TD_LIMIT,
                       "offset 0: a header of %" PRIu64 " bytes (at most %" PRIu64
                       "); this is no safetensors file",
                       length, MODEL_SAFETENSORS_HEADER_BYTES_MAX);
    if (length > td_reader_left(&reader))
        return td_fail(
            error, TD_INVALID,
            "offset 0: a header of %" PRIu64
            " bytes runs past the end of the file (%zu bytes); is the download complete?",
            length, file->length);
    if (length == 0 || reader.cursor[0] != '{')
        return td_fail(error, TD_INVALID,
                       "offset %d: no header begins here; this is no safetensors file",
                       LENGTH_BYTES);
    file->data_offset = LENGTH_BYTES + (size_t)length;
    text = td_span_over((const char *)reader.cursor, (size_t)length);
    status = td_json_parse(&file->arena, text, &limits, root_out, error);
    if (status != TD_OK)
        td_fail_wrap(error, "header (from offset %d)", LENGTH_BYTES);
    return status;
}

static td_status_t parse(struct model_safetensors *file, struct td_error *error)
{
    const struct td_json *root = NULL;
    td_status_t status = read_header(file, &root, error);

    return status == TD_OK ? read_tensors(file, root, error) : status;
}

/* The map moves to the file on success only; it may be empty. */
static td_status_t open_bytes(const uint8_t *bytes, size_t length, const struct model_map *map,
                              struct model_safetensors **file_out, struct td_error *error)
{
    struct model_safetensors *file = calloc(1, sizeof *file);
    td_status_t status;

    if (file == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a model file");
    file->bytes = bytes;
    file->length = length;
    td_arena_init(&file->arena, MODEL_SAFETENSORS_INDEX_BYTES_MAX);
    status = parse(file, error);
    if (status != TD_OK) {
        model_safetensors_close(file);
        return status;
    }
    file->map = *map;
    *file_out = file;
    return TD_OK;
}

td_status_t model_safetensors_parse(const uint8_t *bytes, size_t length,
                                    struct model_safetensors **file_out, struct td_error *error)
{
    return open_bytes(bytes, length, &(struct model_map){0}, file_out, error);
}

td_status_t model_safetensors_open(const char *path, struct model_safetensors **file_out,
                                   struct td_error *error)
{
    struct model_map map = {0};
    td_status_t status = model_map_open(path, &map, error);

    if (status != TD_OK)
        return status;
    status = open_bytes(map.bytes, map.length, &map, file_out, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "%s", path);
        model_map_close(&map);
    }
    return status;
}

void model_safetensors_close(struct model_safetensors *file)
{
    if (file == NULL)
        return;
    td_arena_fini(&file->arena);
    model_map_close(&file->map);
    free(file);
}

const struct model_safetensors_tensor *model_safetensors_tensor(
    const struct model_safetensors *file, const char *name)
{
    const struct model_safetensors_tensor wanted = {.name = name};

    return bsearch(&wanted, file->tensors, file->count, sizeof wanted, compare_names);
}

size_t model_safetensors_count(const struct model_safetensors *file)
{
    return file->count;
}

const struct model_safetensors_tensor *model_safetensors_at(const struct model_safetensors *file,
                                                            size_t index)
{
    return index < file->count ? &file->tensors[index] : NULL;
}

struct td_u128 model_safetensors_digest(const struct model_safetensors *file, struct td_u128 parent)
{
    return td_hash128_chain(parent, file->bytes, file->length);
}
