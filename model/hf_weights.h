/*
 * hf_weights.h: the tensors of a Hugging Face folder, in one safetensors file or in many.
 *
 * Owns the open files. Every tensor must be where the index (hf_index.h) says, and no file may hold one that the
 * index does not name. Notes which tensors were asked for, so that none is left out silently. It knows no
 * architecture: names are only names here.
 */
#ifndef TANDEM_MODEL_HF_WEIGHTS_H
#define TANDEM_MODEL_HF_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"
#include "model/architecture.h"

#define MODEL_HF_PATH_BYTES 4096

#define MODEL_HF_SINGLE "model.safetensors"
#define MODEL_HF_INDEX  "model.safetensors.index.json"

struct model_hf_weights;

/*
 * model_hf_weights_open: open all weights of a folder: model.safetensors, or else what the index names.
 * TD_NOT_FOUND: it has neither. TD_INVALID, TD_LIMIT or TD_UNSUPPORTED name file and tensor or offset; TD_IO,
 * TD_NO_MEMORY.
 */
td_status_t model_hf_weights_open(const char *folder, struct model_hf_weights **weights_out,
                                  struct td_error *error) TD_MUST_USE;

void model_hf_weights_close(struct model_hf_weights *weights);

/* Whether there is a tensor of that name. It counts as asked for then. */
bool model_hf_weights_find(struct model_hf_weights *weights, const char *name,
                           struct model_tensor *tensor_out);

/*
 * TD_UNSUPPORTED names a tensor that nobody asked for: a part of the model that would be left out. Old files hold
 * tables of frequencies (inv_freq), which are computed here and may be there.
 */
td_status_t model_hf_weights_check_all_used(const struct model_hf_weights *weights,
                                            const struct model_architecture *architecture,
                                            struct td_error *error) TD_MUST_USE;

/* parent, chained over all files in the order of their names: reads everything. */
struct td_u128 model_hf_weights_digest(const struct model_hf_weights *weights,
                                       struct td_u128 parent);

/* "FOLDER/NAME" into path. TD_LIMIT if it does not fit. */
td_status_t model_hf_path(const char *folder, const char *name, char path[MODEL_HF_PATH_BYTES],
                          struct td_error *error) TD_MUST_USE;

#endif
