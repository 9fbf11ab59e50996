/*
 * gguf.h: reading GGUF model files (versions 2 and 3), as if they came from an enemy.
 *
 * Owns the mappings of the files and an index of its metadata and tensors. Values, strings and tensor
 * data are not copied: what is handed out points into the mapping and lives until
 * model_gguf_close. It knows nothing of architectures (model/model.h does).
 *
 * Every count, length and offset is checked against the bytes left before it is used: work and memory
 * are linear in the size of the header and bounded by the limits below. A file that passes has unique
 * keys and tensor names, known types, whole rows of blocks, and tensors that lie one behind the
 * other inside the file, with nothing but padding behind them. An error names the key or tensor and the
 * offset in the file.
 *
 * A model may be split into several files (name-00001-of-00003.gguf, ...). They are joined into one: the
 * keys of the first part, the tensors of all.
 *
 * The format: ggml-org/ggml, docs/gguf.md; the checks follow llama.cpp's gguf.cpp and go further.
 */
#ifndef TANDEM_MODEL_GGUF_H
#define TANDEM_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/span.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

#define MODEL_GGUF_KEYS_MAX          ((uint64_t)1 << 16)
#define MODEL_GGUF_TENSORS_MAX       ((uint64_t)1 << 16)
#define MODEL_GGUF_KEY_BYTES_MAX     255
#define MODEL_GGUF_TENSOR_NAME_BYTES 64 /* with the terminating NUL */
#define MODEL_GGUF_RANK_MAX          4
#define MODEL_GGUF_ALIGNMENT_MAX     ((uint32_t)1 << 16)
#define MODEL_GGUF_PARTS_MAX         512

/* Kinds of metadata values, with GGUF's numbers. */
enum model_gguf_kind {
    MODEL_GGUF_U8 = 0,
    MODEL_GGUF_I8 = 1,
    MODEL_GGUF_U16 = 2,
    MODEL_GGUF_I16 = 3,
    MODEL_GGUF_U32 = 4,
    MODEL_GGUF_I32 = 5,
    MODEL_GGUF_F32 = 6,
    MODEL_GGUF_BOOL = 7,
    MODEL_GGUF_STRING = 8,
    MODEL_GGUF_ARRAY = 9,
    MODEL_GGUF_U64 = 10,
    MODEL_GGUF_I64 = 11,
    MODEL_GGUF_F64 = 12,
};

/* One metadata value, in place. */
struct model_gguf_value {
    enum model_gguf_kind kind;
    enum model_gguf_kind element; /* of an array: the kind of its elements, never ARRAY */
    uint64_t count;               /* elements of an array; 1 otherwise */
    const uint8_t *bytes;         /* scalars, string bytes or the first element; unaligned */
    size_t length;                /* of bytes; of an array of strings with their lengths */
};

/* One tensor. Rows have dims[0] values; data is aligned to 8 bytes at least. */
struct model_gguf_tensor {
    char name[MODEL_GGUF_TENSOR_NAME_BYTES];
    uint32_t type; /* a known id of model/quant.h, not necessarily a supported one */
    uint32_t rank;
    uint64_t dims[MODEL_GGUF_RANK_MAX]; /* those behind rank are 1 */
    const uint8_t *data;
    size_t bytes;
    size_t row_bytes;
};

struct model_gguf;

/*
 * model_gguf_open: map a file read-only and check it; with any part of a split model, all its parts.
 * TD_IO, TD_INVALID, TD_UNSUPPORTED, TD_LIMIT or TD_NO_MEMORY; the error names the file.
 */
td_status_t model_gguf_open(const char *path, struct model_gguf **file_out,
                            struct td_error *error) TD_MUST_USE;

/*
 * model_gguf_parse: check one file over bytes that the caller keeps until model_gguf_close.
 * The bytes must be aligned to 8. A part of a split model stays alone: see model_gguf_join.
 */
td_status_t model_gguf_parse(const uint8_t *bytes, size_t length, struct model_gguf **file_out,
                             struct td_error *error) TD_MUST_USE;

/*
 * model_gguf_join: make all parts of a split model one file, parts[0].
 * parts are in order; the others move to the first on success only. TD_INVALID names the part and
 * the key or tensor: parts that do not belong together, a wrong number of them, a tensor in two of them.
 */
td_status_t model_gguf_join(struct model_gguf *const *parts, uint32_t count,
                            struct td_error *error) TD_MUST_USE;

/* Closes the file and all that was joined to it. */
void model_gguf_close(struct model_gguf *file);

/* The bytes of each part; a file that is not split has one. */
uint32_t model_gguf_part_count(const struct model_gguf *file);
const uint8_t *model_gguf_part(const struct model_gguf *file, uint32_t index, size_t *length_out);

/* A hash over all bytes of all parts: reads everything. */
struct td_u128 model_gguf_digest(const struct model_gguf *file);

/* The value of a key, or NULL. */
const struct model_gguf_value *model_gguf_find(const struct model_gguf *file, const char *key);

/* The tensor of a name, or NULL. */
const struct model_gguf_tensor *model_gguf_tensor(const struct model_gguf *file, const char *name);

uint32_t model_gguf_tensor_count(const struct model_gguf *file);
const struct model_gguf_tensor *model_gguf_tensor_at(const struct model_gguf *file, uint32_t index);

/*
 * Typed access. TD_NOT_FOUND (without filling error) if the key is absent, so that a default can
 * stand; TD_INVALID if the value has another kind or does not fit. Integers may be written in any
 * integer kind, floats as F32 or F64.
 */
td_status_t model_gguf_get_u32(const struct model_gguf *file, const char *key, uint32_t *value_out,
                               struct td_error *error) TD_MUST_USE;
td_status_t model_gguf_get_f32(const struct model_gguf *file, const char *key, float *value_out,
                               struct td_error *error) TD_MUST_USE;
td_status_t model_gguf_get_bool(const struct model_gguf *file, const char *key, bool *value_out,
                                struct td_error *error) TD_MUST_USE;

/* The string lies in the mapping and may be empty. */
td_status_t model_gguf_get_text(const struct model_gguf *file, const char *key,
                                struct td_span *text_out, struct td_error *error) TD_MUST_USE;

/* An array whose elements are of the given kind. */
td_status_t model_gguf_get_array(const struct model_gguf *file, const char *key,
                                 enum model_gguf_kind element,
                                 const struct model_gguf_value **value_out,
                                 struct td_error *error) TD_MUST_USE;

/* Walks an array of strings: start with *cursor = 0, count times. The bounds were checked at open. */
struct td_span model_gguf_next_string(const struct model_gguf_value *value, size_t *cursor);

#endif
