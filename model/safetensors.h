/*
 * safetensors.h: reading one safetensors file, as if it came from an enemy.
 *
 * Owns the mapping of the file and an index of its tensors. Data is not copied: it lies in the mapping,
 * which all workers of a host share, until model_safetensors_close. It knows nothing of architectures,
 * nor of the other files of a Hugging Face folder (hf_weights.h does).
 *
 * A file that passes has tensors with unique names and known element types, whose sizes follow from
 * their shapes, and which lie one behind the other from the first byte behind the header to the last of the
 * file: no holes, no overlaps. Work is linear in the header up to sorting, memory bounded by the limits
 * below. An error names the tensor or the offset in the file.
 *
 * The format (huggingface/safetensors, README.md): a u64 N, N bytes of JSON, the data. The data of a
 * tensor may lie at any address, odd ones too: whoever reads it must not assume any alignment.
 */
#ifndef TANDEM_MODEL_SAFETENSORS_H
#define TANDEM_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

#define MODEL_SAFETENSORS_HEADER_BYTES_MAX ((uint64_t)100000000) /* the format's own limit */
#define MODEL_SAFETENSORS_INDEX_BYTES_MAX  ((size_t)64 << 20)    /* memory for what a header says */
#define MODEL_SAFETENSORS_TENSORS_MAX      ((size_t)1 << 16)
#define MODEL_SAFETENSORS_NAME_BYTES_MAX   255
#define MODEL_SAFETENSORS_RANK_MAX         4

#define MODEL_SAFETENSORS_NO_TYPE UINT32_MAX

struct model_safetensors_tensor {
    const char *name;  /* printable ASCII */
    const char *dtype; /* as the file writes it: "BF16" */
    uint32_t type;     /* the id of model/quant.h, or MODEL_SAFETENSORS_NO_TYPE if there is none */
    uint32_t rank;
    uint64_t
        dims[MODEL_SAFETENSORS_RANK_MAX]; /* outermost first, row-major; those behind rank: 1 */
    const uint8_t *data;                  /* of any alignment */
    size_t bytes;                         /* 0 if a dimension is 0 */
};

struct model_safetensors;

/* Maps a file read-only and checks it. TD_IO, TD_INVALID, TD_UNSUPPORTED, TD_LIMIT or TD_NO_MEMORY. */
td_status_t model_safetensors_open(const char *path, struct model_safetensors **file_out,
                                   struct td_error *error) TD_MUST_USE;

/* The same over bytes that the caller keeps until model_safetensors_close. */
td_status_t model_safetensors_parse(const uint8_t *bytes, size_t length,
                                    struct model_safetensors **file_out,
                                    struct td_error *error) TD_MUST_USE;

void model_safetensors_close(struct model_safetensors *file);

/* The tensor of a name, or NULL. */
const struct model_safetensors_tensor *model_safetensors_tensor(
    const struct model_safetensors *file, const char *name);

/* All tensors, ordered by name. */
size_t model_safetensors_count(const struct model_safetensors *file);
const struct model_safetensors_tensor *model_safetensors_at(const struct model_safetensors *file,
                                                            size_t index);

/* parent, chained with XXH3-128 over the whole file: reads all of it. */
struct td_u128 model_safetensors_digest(const struct model_safetensors *file,
                                        struct td_u128 parent);

#endif
