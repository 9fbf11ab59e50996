/*
 * hf_index.h: model.safetensors.index.json: which tensor is in which file of a folder.
 *
 * The text is untrusted: file names stay inside the folder, counts are bounded. Whether the files keep what the
 * index promises is for hf_weights.h. It reads no file.
 */
#ifndef TANDEM_MODEL_HF_INDEX_H
#define TANDEM_MODEL_HF_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

#define MODEL_HF_INDEX_BYTES_MAX ((size_t)32 << 20)
#define MODEL_HF_FILES_MAX       512
#define MODEL_HF_FILE_BYTES_MAX  255 /* of a file's name */

struct model_hf_place {
    const char *tensor;
    uint32_t file; /* index into files */
};

struct model_hf_index {
    const char *files[MODEL_HF_FILES_MAX]; /* plain names, ordered as they come */
    uint32_t file_count;
    struct model_hf_place *places;
    size_t place_count;
    struct td_arena arena; /* memory behind all of it */
};

/*
 * model_hf_index_read: the text of an index; at least one tensor.
 * TD_INVALID or TD_LIMIT name the tensor, or the byte where the text is no JSON; nothing is to be freed then.
 */
td_status_t model_hf_index_read(struct td_span text, struct model_hf_index *index_out,
                                struct td_error *error) TD_MUST_USE;

void model_hf_index_fini(struct model_hf_index *index);

#endif
