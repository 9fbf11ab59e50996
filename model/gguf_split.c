/*
 * gguf_split.c: models that were split into several GGUF files; see gguf.h.
 *
 * Each part is a GGUF file of its own, which gguf.c has checked. Here they are found by name and joined.
 * llama.cpp's gguf-split writes keys split.no (from 0), split.count and split.tensors.count into every
 * part, all other keys into the first alone, and names the files PREFIX-00001-of-00003.gguf.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "model/gguf_internal.h"
#include "model/show.h"

#define KEY_NUMBER  "split.no"
#define KEY_COUNT   "split.count"
#define KEY_TENSORS "split.tensors.count"

/* "-00001-of-00003.gguf" */
#define DIGITS       5
#define SUFFIX_BYTES (1 + DIGITS + 4 + DIGITS + 5)

/* ------------------------------------------------------------------ joining */

/* A key that every part must have. Messages count parts from 1, as file names do. */
static td_status_t part_number(const struct model_gguf *part, uint32_t index, const char *key,
                               uint32_t *value_out, struct td_error *error)
{
    td_status_t status = model_gguf_get_u32(part, key, value_out, error);

    if (status == TD_NOT_FOUND)
        return td_fail(error, TD_INVALID, "part %" PRIu32 ": key %s is missing", index + 1, key);
    if (status != TD_OK)
        td_fail_wrap(error, "part %" PRIu32, index + 1);
    return status;
}

static td_status_t expect_number(const struct model_gguf *part, uint32_t index, const char *key,
                                 uint32_t expected, struct td_error *error)
{
    uint32_t value = 0;
    td_status_t status = part_number(part, index, key, &value, error);

    if (status == TD_OK && value != expected)
        return td_fail(error, TD_INVALID,
                       "part %" PRIu32 ": key %s is %" PRIu32 " where %" PRIu32 " was expected",
                       index + 1, key, value, expected);
    return status;
}

static bool same_value(const struct model_gguf_value *a, const struct model_gguf_value *b)
{
    return a->kind == b->kind && a->element == b->element && a->count == b->count &&
           a->length == b->length && (a->length == 0 || memcmp(a->bytes, b->bytes, a->length) == 0);
}

/* What a later part says besides its number must be what the first one says. */
static td_status_t check_keys(const struct model_gguf *first, const struct model_gguf *part,
                              uint32_t index, struct td_error *error)
{
    for (uint32_t i = 0; i < part->key_count; i++) {
        const struct model_gguf_key *key = &part->keys[i];
        struct td_span name = td_span_over(key->name, key->length);
        char text[MODEL_GGUF_KEY_BYTES_MAX + 1];
        const struct model_gguf_value *value;

        model_show(name, text, sizeof text);
        if (td_span_is(name, KEY_NUMBER) || td_span_is(name, "general.alignment"))
            continue; /* each part has its own */
        value = model_gguf_find(first, text);
        if (value == NULL || !same_value(value, &key->value))
            return td_fail(error, TD_INVALID,
                           "part %" PRIu32 ": key %s is not as in part 1; is it of another model?",
                           index + 1, text);
    }
    return TD_OK;
}

static td_status_t check_parts(struct model_gguf *const *parts, uint32_t count,
                               struct td_error *error)
{
    uint32_t tensors = 0;
    uint32_t found = 0;
    td_status_t status = part_number(parts[0], 0, KEY_TENSORS, &tensors, error);

    for (uint32_t i = 0; i < count && status == TD_OK; i++) {
        status = expect_number(parts[i], i, KEY_COUNT, count, error);
        if (status == TD_OK)
            status = expect_number(parts[i], i, KEY_NUMBER, i, error);
        if (status == TD_OK)
            status = expect_number(parts[i], i, KEY_TENSORS, tensors, error);
        if (status == TD_OK && i > 0)
            status = check_keys(parts[0], parts[i], i, error);
        found += parts[i]->tensor_count; /* at most parts times tensors: no overflow */
    }
    if (status == TD_OK && found != tensors)
        return td_fail(error, TD_INVALID,
                       "key " KEY_TENSORS " is %" PRIu32 ", but the parts have %" PRIu32 " tensors",
                       tensors, found);
    if (status == TD_OK && found > MODEL_GGUF_TENSORS_MAX)
        return td_fail(error, TD_LIMIT, "key " KEY_TENSORS " is %" PRIu32 " (at most %" PRIu64 ")",
                       tensors, MODEL_GGUF_TENSORS_MAX);
    return status;
}

/* Which part has a tensor. */
static uint32_t part_of(struct model_gguf *const *parts, const char *name)
{
    uint32_t index = 0;

    while (model_gguf_tensor(parts[index], name) == NULL)
        index++;
    return index;
}

/* All tensors in one array, and an index over it. */
static td_status_t gather(struct model_gguf *const *parts, uint32_t count,
                          struct model_gguf_tensor *tensors, struct td_map *by_name,
                          struct td_error *error)
{
    uint32_t next = 0;

    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t t = 0; t < parts[i]->tensor_count; t++) {
            struct model_gguf_tensor *tensor = &tensors[next++];
            td_status_t status;

            *tensor = parts[i]->tensors[t];
            status = td_map_insert(by_name, td_hash128(tensor->name, strlen(tensor->name)), tensor);
            if (status == TD_STATE)
                return td_fail(error, TD_INVALID,
                               "part %" PRIu32 ": tensor %s is in part %" PRIu32 " already", i + 1,
                               tensor->name, part_of(parts, tensor->name) + 1);
            if (status != TD_OK)
                return td_fail(error, status, "no memory for the tensors");
        }
    }
    return TD_OK;
}

td_status_t model_gguf_join(struct model_gguf *const *parts, uint32_t count, struct td_error *error)
{
    struct model_gguf *first = parts[0];
    struct model_gguf **others = NULL;
    struct model_gguf_tensor *tensors = NULL;
    struct td_map by_name;
    uint32_t tensor_count = 0;
    td_status_t status = check_parts(parts, count, error);

    if (status != TD_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        tensor_count += parts[i]->tensor_count;
    td_map_init(&by_name, MODEL_GGUF_TENSORS_MAX);
    others = calloc(count, sizeof(struct model_gguf *)); /* one too many: never of size 0 */
    tensors = calloc((size_t)tensor_count + 1, sizeof *tensors);
    if (others == NULL || tensors == NULL)
        status = td_fail(error, TD_NO_MEMORY, "no memory for the tensors");
    else
        status = gather(parts, count, tensors, &by_name, error);
    if (status != TD_OK) {
        td_map_fini(&by_name);
        free(tensors);
        free(others);
        return status;
    }
    memcpy(others, parts + 1, (count - 1) * sizeof(struct model_gguf *));
    td_map_fini(&first->tensors_by_name);
    free(first->tensors);
    first->tensors = tensors;
    first->tensor_count = tensor_count;
    first->tensors_by_name = by_name;
    first->others = others;
    first->other_count = count - 1;
    return TD_OK;
}

/* ------------------------------------------------------------------ opening */

static td_status_t open_one(const char *path, struct model_gguf **file_out, struct td_error *error)
{
    struct model_map map;
    td_status_t status = model_map_open(path, &map, error);

    if (status != TD_OK)
        return status;
    status = model_gguf_parse(map.bytes, map.length, file_out, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "%s", path);
        model_map_close(&map);
        return status;
    }
    (*file_out)->map = map;
    return TD_OK;
}

/* The name of a part: path with its number replaced. The caller has checked that path has one. */
static char *part_path(const char *path, uint32_t index, uint32_t count)
{
    size_t bytes = strlen(path) + 16; /* numbers of more than five digits are refused, not cut */
    char *part = malloc(bytes);

    if (part != NULL)
        snprintf(part, bytes, "%.*s-%05" PRIu32 "-of-%05" PRIu32 ".gguf",
                 (int)(strlen(path) - SUFFIX_BYTES), path, index + 1, count);
    return part;
}

/* Whether path is the name of this part. */
static bool is_named(const char *path, uint32_t index, uint32_t count)
{
    char *expected = NULL;
    bool is_same;

    if (strlen(path) < SUFFIX_BYTES)
        return false;
    expected = part_path(path, index, count);
    is_same = expected != NULL && strcmp(expected, path) == 0;
    free(expected);
    return is_same;
}

/* Opens those that are not open yet; parts[i] is NULL behind the first that cannot be opened. */
static td_status_t open_others(const char *path, struct model_gguf **parts, uint32_t count,
                               struct td_error *error)
{
    td_status_t status = TD_OK;

    for (uint32_t i = 0; i < count && status == TD_OK; i++) {
        char *other;

        if (parts[i] != NULL)
            continue;
        other = part_path(path, i, count);
        if (other == NULL)
            return td_fail(error, TD_NO_MEMORY, "no memory for the name of part %" PRIu32, i + 1);
        status = open_one(other, &parts[i], error);
        if (status == TD_IO)
            td_fail_wrap(error, "part %" PRIu32 " of %" PRIu32 " of the model", i + 1, count);
        free(other);
    }
    return status;
}

static td_status_t open_split(const char *path, struct model_gguf *file, uint32_t count,
                              struct model_gguf **file_out, struct td_error *error)
{
    struct model_gguf *parts[MODEL_GGUF_PARTS_MAX] = {0};
    uint32_t index = 0;
    td_status_t status;

    if (count > MODEL_GGUF_PARTS_MAX)
        return td_fail(error, TD_LIMIT, "%s: key " KEY_COUNT " is %" PRIu32 " (at most %d)", path,
                       count, MODEL_GGUF_PARTS_MAX);
    status = model_gguf_get_u32(file, KEY_NUMBER, &index, error);
    if (status != TD_OK && status != TD_NOT_FOUND) {
        td_fail_wrap(error, "%s", path);
        return status;
    }
    if (status == TD_NOT_FOUND || index >= count)
        return td_fail(error, TD_INVALID, "%s: key " KEY_NUMBER " is missing or too large", path);
    if (!is_named(path, index, count))
        return td_fail(error, TD_INVALID,
                       "%s: keys " KEY_NUMBER " and " KEY_COUNT " say that this is part %" PRIu32
                       " of %" PRIu32 "; its name must end in -%05" PRIu32 "-of-%05" PRIu32
                       ".gguf, so that the other parts can be found",
                       path, index + 1, count, index + 1, count);
    parts[index] = file;
    status = open_others(path, parts, count, error);
    if (status == TD_OK) {
        status = model_gguf_join(parts, count, error);
        if (status != TD_OK)
            td_fail_wrap(error, "%s", path);
    }
    if (status != TD_OK) {
        for (uint32_t i = 0; i < count; i++)
            if (i != index)
                model_gguf_close(parts[i]);
        return status;
    }
    *file_out = parts[0];
    return TD_OK;
}

td_status_t model_gguf_open(const char *path, struct model_gguf **file_out, struct td_error *error)
{
    struct model_gguf *file = NULL;
    uint32_t count = 1;
    td_status_t status = open_one(path, &file, error);

    if (status != TD_OK)
        return status;
    status = model_gguf_get_u32(file, KEY_COUNT, &count, error);
    if (status == TD_NOT_FOUND || (status == TD_OK && count <= 1)) {
        *file_out = file;
        return TD_OK;
    }
    if (status == TD_OK)
        status = open_split(path, file, count, file_out, error);
    else
        td_fail_wrap(error, "%s", path);
    if (status != TD_OK)
        model_gguf_close(file);
    return status;
}
