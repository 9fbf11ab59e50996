/* gguf.c: parsing and indexing of one GGUF file; see gguf.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/hash.h"
#include "model/gguf_internal.h"
#include "model/quant.h"

#define MAGIC             UINT32_C(0x46554747) /* "GGUF" */
#define ALIGNMENT_DEFAULT 32
#define ALIGNMENT_MIN     8 /* the format's own minimum; makes floats in the data aligned */

/* The least that one entry takes in the file: bounds the counts before anything is allocated. */
#define KEY_BYTES_MIN    (8 + 1 + 4 + 1)
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

struct parser {
    struct model_gguf *file;
    struct td_reader reader;
    struct td_error *error;
};

static size_t offset_of(const struct parser *parser)
{
    return (size_t)(parser->reader.cursor - parser->file->bytes);
}

static td_status_t truncated(const struct parser *parser, const char *what)
{
    return td_fail(parser->error, TD_INVALID, "offset %zu: the file ends within %s",
                   offset_of(parser), what);
}

/* A string with its length in front, in place. */
static bool read_string(struct td_reader *reader, const uint8_t **bytes_out, size_t *length_out)
{
    uint64_t length = td_read_u64(reader);

    *bytes_out = reader->cursor;
    *length_out = (size_t)length;
    td_read_bytes(reader, (size_t)length);
    return reader->ok;
}

/* Bytes of one value of a kind; 0 for kinds without a fixed size. */
static size_t kind_bytes(uint32_t kind)
{
    switch (kind) {
    case MODEL_GGUF_U8:
    case MODEL_GGUF_I8:
    case MODEL_GGUF_BOOL: return 1;
    case MODEL_GGUF_U16:
    case MODEL_GGUF_I16: return 2;
    case MODEL_GGUF_U32:
    case MODEL_GGUF_I32:
    case MODEL_GGUF_F32: return 4;
    case MODEL_GGUF_U64:
    case MODEL_GGUF_I64:
    case MODEL_GGUF_F64: return 8;
    default: return 0;
    }
}

/* Elements of an array; the reader stands behind kind and count. */
static bool read_elements(struct td_reader *reader, struct model_gguf_value *value)
{
    size_t size = kind_bytes(value->element);

    value->bytes = reader->cursor;
    if (size > 0) {
        if (value->count > td_reader_left(reader) / size)
            return false;
        td_read_bytes(reader, (size_t)value->count * size);
    } else {
        if (value->count > td_reader_left(reader) / 8) /* each string has its length */
            return false;
        for (uint64_t i = 0; i < value->count; i++) {
            const uint8_t *bytes;
            size_t length;

            if (!read_string(reader, &bytes, &length))
                return false;
        }
    }
    value->length = (size_t)(reader->cursor - value->bytes);
    return reader->ok;
}

static td_status_t read_value(struct parser *parser, const struct model_gguf_key *key,
                              uint32_t kind, struct model_gguf_value *value)
{
    struct td_reader *reader = &parser->reader;
    size_t size = kind_bytes(kind);
    bool is_whole;

    *value = (struct model_gguf_value){.kind = (enum model_gguf_kind)kind, .count = 1};
    if (kind == MODEL_GGUF_ARRAY) {
        uint32_t element = td_read_u32(reader);

        value->element = (enum model_gguf_kind)element;
        value->count = td_read_u64(reader);
        if (reader->ok && kind_bytes(element) == 0 && element != MODEL_GGUF_STRING)
            return td_fail(parser->error, TD_INVALID,
                           "offset %zu: key %.*s: an array of kind %" PRIu32 " is not possible",
                           offset_of(parser), (int)key->length, key->name, element);
        is_whole = reader->ok && read_elements(reader, value);
    } else if (kind == MODEL_GGUF_STRING) {
        is_whole = read_string(reader, &value->bytes, &value->length);
    } else if (size > 0) {
        value->bytes = reader->cursor;
        value->length = size;
        is_whole = td_read_bytes(reader, size) != NULL;
    } else {
        return td_fail(parser->error, TD_INVALID, "offset %zu: key %.*s has unknown kind %" PRIu32,
                       offset_of(parser), (int)key->length, key->name, kind);
    }
    if (!is_whole)
        return td_fail(parser->error, TD_INVALID,
                       "offset %zu: key %.*s: its value runs past the end of the file",
                       offset_of(parser), (int)key->length, key->name);
    return TD_OK;
}

static bool is_printable(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    return true;
}

static td_status_t read_key(struct parser *parser, struct model_gguf_key *key)
{
    const uint8_t *name;
    size_t start = offset_of(parser);
    uint32_t kind;
    td_status_t status;

    if (!read_string(&parser->reader, &name, &key->length))
        return truncated(parser, "the name of a key");
    key->name = (const char *)name;
    if (key->length == 0 || key->length > MODEL_GGUF_KEY_BYTES_MAX)
        return td_fail(parser->error, TD_INVALID,
                       "offset %zu: the name of a key has %zu bytes (1 to %d are allowed)", start,
                       key->length, MODEL_GGUF_KEY_BYTES_MAX);
    if (!is_printable(key->name, key->length))
        return td_fail(parser->error, TD_INVALID,
                       "offset %zu: the name of a key is not printable ASCII", start);
    kind = td_read_u32(&parser->reader);
    if (!parser->reader.ok)
        return truncated(parser, "the kind of a value");
    status = read_value(parser, key, kind, &key->value);
    if (status != TD_OK)
        return status;
    status = td_map_insert(&parser->file->keys_by_name, td_hash128(key->name, key->length), key);
    if (status == TD_STATE)
        return td_fail(parser->error, TD_INVALID, "offset %zu: key %.*s appears twice", start,
                       (int)key->length, key->name);
    return status == TD_OK ? TD_OK : td_fail(parser->error, status, "no memory for the keys");
}

/* Shape and type; leaves data to place_tensors, which knows where the data section starts. */
static td_status_t read_shape(struct parser *parser, struct model_gguf_tensor *tensor)
{
    const struct model_type_info *info;
    uint64_t rows = 1;

    tensor->rank = td_read_u32(&parser->reader);
    if (parser->reader.ok && (tensor->rank == 0 || tensor->rank > MODEL_GGUF_RANK_MAX))
        return td_fail(parser->error, TD_INVALID, "tensor %s has %" PRIu32 " dimensions (1 to %d)",
                       tensor->name, tensor->rank, MODEL_GGUF_RANK_MAX);
    for (uint32_t i = 0; i < MODEL_GGUF_RANK_MAX; i++)
        tensor->dims[i] = i < tensor->rank ? td_read_u64(&parser->reader) : 1;
    tensor->type = td_read_u32(&parser->reader);
    if (!parser->reader.ok)
        return truncated(parser, "the description of a tensor");
    info = tensor->type < MODEL_TYPE_GGUF_END ? model_type_info(tensor->type) : NULL;
    if (info == NULL)
        return td_fail(parser->error, TD_INVALID, "tensor %s has unknown type %" PRIu32,
                       tensor->name, tensor->type);
    if (info->block_bytes == 0)
        return td_fail(parser->error, TD_UNSUPPORTED,
                       "tensor %s has type %s; served are " MODEL_TYPES_SERVED, tensor->name,
                       info->name);
    for (uint32_t i = 0; i < tensor->rank; i++)
        if (tensor->dims[i] == 0 || tensor->dims[i] > INT64_MAX)
            return td_fail(parser->error, TD_INVALID,
                           "tensor %s: dimension %" PRIu32 " is %" PRIu64, tensor->name, i,
                           tensor->dims[i]);
    if (!model_type_row_bytes(tensor->type, tensor->dims[0], &tensor->row_bytes))
        return td_fail(parser->error, TD_INVALID,
                       "tensor %s: a row of %" PRIu64 " values is no whole number of %s blocks",
                       tensor->name, tensor->dims[0], info->name);
    if (__builtin_mul_overflow(tensor->dims[1], tensor->dims[2], &rows) ||
        __builtin_mul_overflow(rows, tensor->dims[3], &rows) ||
        __builtin_mul_overflow(rows, tensor->row_bytes, &tensor->bytes))
        return td_fail(parser->error, TD_INVALID, "tensor %s: its size overflows", tensor->name);
    return TD_OK;
}

/* Tensors must follow each other without holes, so an offset has only one right value. */
static td_status_t read_tensor(struct parser *parser, uint32_t alignment,
                               struct model_gguf_tensor *tensor, uint64_t *next_offset)
{
    const uint8_t *name;
    size_t start = offset_of(parser);
    size_t length;
    uint64_t offset;
    td_status_t status;

    if (!read_string(&parser->reader, &name, &length))
        return truncated(parser, "the name of a tensor");
    if (length == 0 || length >= sizeof tensor->name || !is_printable((const char *)name, length))
        return td_fail(parser->error, TD_INVALID,
                       "offset %zu: the name of a tensor must be 1 to %zu printable ASCII bytes",
                       start, sizeof tensor->name - 1);
    memcpy(tensor->name, name, length); /* the array was zeroed */
    status = read_shape(parser, tensor);
    if (status != TD_OK)
        return status;
    offset = td_read_u64(&parser->reader);
    if (!parser->reader.ok)
        return truncated(parser, "the offset of a tensor");
    if (offset != *next_offset)
        return td_fail(parser->error, TD_INVALID,
                       "tensor %s: offset %" PRIu64 " where %" PRIu64 " was expected", tensor->name,
                       offset, *next_offset);
    if (__builtin_add_overflow(offset, tensor->bytes, next_offset) ||
        __builtin_add_overflow(*next_offset, alignment - 1, next_offset))
        return td_fail(parser->error, TD_INVALID, "tensor %s: its end overflows", tensor->name);
    *next_offset &= ~(uint64_t)(alignment - 1);
    status = td_map_insert(&parser->file->tensors_by_name, td_hash128(name, length), tensor);
    if (status == TD_STATE)
        return td_fail(parser->error, TD_INVALID, "offset %zu: tensor %s appears twice", start,
                       tensor->name);
    return status == TD_OK ? TD_OK : td_fail(parser->error, status, "no memory for the tensors");
}

/* Padding may follow, but nothing else: all bytes are read for the digest, and would say nothing. */
static td_status_t check_end(const struct parser *parser, uint32_t alignment, size_t end)
{
    size_t left = parser->file->length - end;

    if (left >= (alignment > ALIGNMENT_DEFAULT ? alignment : ALIGNMENT_DEFAULT))
        return td_fail(parser->error, TD_INVALID, "offset %zu: %zu bytes that belong to no tensor",
                       end, left);
    return TD_OK;
}

/* Points every tensor to its data, which must lie inside the file. */
static td_status_t place_tensors(struct parser *parser, uint32_t alignment)
{
    struct model_gguf *file = parser->file;
    size_t end = offset_of(parser);

    for (uint32_t i = 0; i < file->tensor_count; i++) {
        struct model_gguf_tensor *tensor = &file->tensors[i];
        size_t start = (end + alignment - 1) & ~(size_t)(alignment - 1);

        if (start > file->length || tensor->bytes > file->length - start)
            return td_fail(parser->error, TD_INVALID,
                           "tensor %s: its %zu bytes at offset %zu run past the end of the file "
                           "(%zu bytes); is the download complete?",
                           tensor->name, tensor->bytes, start, file->length);
        tensor->data = file->bytes + start;
        end = start + tensor->bytes;
    }
    return check_end(parser, alignment, end);
}

static td_status_t read_alignment(struct parser *parser, uint32_t *alignment_out)
{
    uint32_t alignment = ALIGNMENT_DEFAULT;
    td_status_t status =
        model_gguf_get_u32(parser->file, "general.alignment", &alignment, parser->error);

    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    if (alignment < ALIGNMENT_MIN || alignment > MODEL_GGUF_ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0)
        return td_fail(parser->error, TD_INVALID,
                       "key general.alignment is %" PRIu32
                       ", not a power of two from %d to %" PRIu32,
                       alignment, ALIGNMENT_MIN, MODEL_GGUF_ALIGNMENT_MAX);
    *alignment_out = alignment;
    return TD_OK;
}

/* Refuses a count before memory is taken for it. */
static td_status_t check_count(struct parser *parser, const char *what, uint64_t count,
                               uint64_t count_max, size_t bytes_each)
{
    if (count > count_max)
        return td_fail(parser->error, TD_LIMIT, "offset %zu: %" PRIu64 " %s (at most %" PRIu64 ")",
                       offset_of(parser), count, what, count_max);
    if (count > td_reader_left(&parser->reader) / bytes_each)
        return td_fail(parser->error, TD_INVALID,
                       "offset %zu: %" PRIu64 " %s cannot be in the %zu bytes that follow",
                       offset_of(parser), count, what, td_reader_left(&parser->reader));
    return TD_OK;
}

static td_status_t read_head(struct parser *parser, uint64_t *tensor_count_out,
                             uint64_t *key_count_out)
{
    uint32_t magic = td_read_u32(&parser->reader);
    uint32_t version = td_read_u32(&parser->reader);
    td_status_t status;

    if (!parser->reader.ok || magic != MAGIC)
        return td_fail(parser->error, TD_INVALID, "offset 0: no GGUF magic; this is no GGUF file");
    if ((version & 0xffff) == 0)
        return td_fail(parser->error, TD_UNSUPPORTED,
                       "offset 4: version 0x%08" PRIx32 " looks like a big-endian GGUF file",
                       version);
    if (version != 2 && version != 3)
        return td_fail(parser->error, TD_UNSUPPORTED,
                       "offset 4: GGUF version %" PRIu32 " is not supported (2 and 3 are)",
                       version);
    *tensor_count_out = td_read_u64(&parser->reader);
    *key_count_out = td_read_u64(&parser->reader);
    if (!parser->reader.ok)
        return truncated(parser, "the counts");
    status = check_count(parser, "keys", *key_count_out, MODEL_GGUF_KEYS_MAX, KEY_BYTES_MIN);
    if (status != TD_OK)
        return status;
    return check_count(parser, "tensors", *tensor_count_out, MODEL_GGUF_TENSORS_MAX,
                       TENSOR_BYTES_MIN);
}

static td_status_t parse(struct parser *parser)
{
    struct model_gguf *file = parser->file;
    uint64_t tensor_count = 0;
    uint64_t key_count = 0;
    uint64_t next_offset = 0;
    uint32_t alignment = ALIGNMENT_DEFAULT;
    td_status_t status = read_head(parser, &tensor_count, &key_count);

    if (status != TD_OK)
        return status;
    file->keys = calloc((size_t)key_count + 1, sizeof *file->keys);
    file->tensors = calloc((size_t)tensor_count + 1, sizeof *file->tensors);
    if (file->keys == NULL || file->tensors == NULL)
        return td_fail(parser->error, TD_NO_MEMORY, "no memory for the index of the file");
    for (; file->key_count < key_count; file->key_count++) {
        status = read_key(parser, &file->keys[file->key_count]);
        if (status != TD_OK)
            return status;
    }
    status = read_alignment(parser, &alignment);
    if (status != TD_OK)
        return status;
    for (; file->tensor_count < tensor_count; file->tensor_count++) {
        status = read_tensor(parser, alignment, &file->tensors[file->tensor_count], &next_offset);
        if (status != TD_OK)
            return status;
    }
    return place_tensors(parser, alignment);
}

td_status_t model_gguf_parse(const uint8_t *bytes, size_t length, struct model_gguf **file_out,
                             struct td_error *error)
{
    struct model_gguf *file = calloc(1, sizeof *file);
    struct parser parser = {.file = file, .reader = td_reader_over(bytes, length), .error = error};
    td_status_t status;

    if (file == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the index of the file");
    file->bytes = bytes;
    file->length = length;
    td_map_init(&file->keys_by_name, MODEL_GGUF_KEYS_MAX);
    td_map_init(&file->tensors_by_name, MODEL_GGUF_TENSORS_MAX);
    status = parse(&parser);
    if (status != TD_OK) {
        model_gguf_close(file);
        return status;
    }
    *file_out = file;
    return TD_OK;
}

void model_gguf_close(struct model_gguf *file)
{
    if (file == NULL)
        return;
    td_map_fini(&file->keys_by_name);
    td_map_fini(&file->tensors_by_name);
    free(file->keys);
    free(file->tensors);
    model_map_close(&file->map);
    for (uint32_t i = 0; i < file->other_count; i++)
        model_gguf_close(file->others[i]);
    free(file->others);
    free(file);
}

uint32_t model_gguf_part_count(const struct model_gguf *file)
{
    return 1 + file->other_count;
}

const uint8_t *model_gguf_part(const struct model_gguf *file, uint32_t index, size_t *length_out)
{
    const struct model_gguf *part = index == 0 ? file : file->others[index - 1];

    *length_out = part->length;
    return part->bytes;
}

struct td_u128 model_gguf_digest(const struct model_gguf *file)
{
    struct td_u128 digest = td_hash128(file->bytes, file->length);

    for (uint32_t i = 0; i < file->other_count; i++)
        digest = td_hash128_chain(digest, file->others[i]->bytes, file->others[i]->length);
    return digest;
}

const struct model_gguf_value *model_gguf_find(const struct model_gguf *file, const char *key)
{
    size_t length = strlen(key);
    const struct model_gguf_key *found = td_map_find(&file->keys_by_name, td_hash128(key, length));

    if (found == NULL || found->length != length || memcmp(found->name, key, length) != 0)
        return NULL;
    return &found->value;
}

const struct model_gguf_tensor *model_gguf_tensor(const struct model_gguf *file, const char *name)
{
    const struct model_gguf_tensor *found =
        td_map_find(&file->tensors_by_name, td_hash128(name, strlen(name)));

    return found != NULL && strcmp(found->name, name) == 0 ? found : NULL;
}

uint32_t model_gguf_tensor_count(const struct model_gguf *file)
{
    return file->tensor_count;
}

const struct model_gguf_tensor *model_gguf_tensor_at(const struct model_gguf *file, uint32_t index)
{
    return index < file->tensor_count ? &file->tensors[index] : NULL;
}
