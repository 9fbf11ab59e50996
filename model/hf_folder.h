/*
 * hf_folder.h: a Hugging Face folder as a struct model.
 *
 * Owns which files make a model (config.json, weights, tokenizer, chat template, generation_config.json), how
 * they fit together, and what is said of a folder that is something else. What each of them means
 * is the business of hf_config.h, hf_weights.h, tokenizer_json.h and generation_config.h.
 */
#ifndef TANDEM_MODEL_HF_FOLDER_H
#define TANDEM_MODEL_HF_FOLDER_H

#include "lib/base/status.h"
#include "lib/base/u128.h"

struct model;

/* The memory behind a model that came from a folder. */
struct model_hf_folder;

/*
 * model_hf_folder_open: fill an empty model from a folder.
 * Reads all weights once, for the digest, which covers config.json and every weight file. On failure the
 * model may be half filled: model_close frees all of it. Errors name the file and what is wrong in it; of
 * a folder without a model they say what was found and what to do.
 */
td_status_t model_hf_folder_open(const char *path, struct model *model,
                                 struct td_error *error) TD_MUST_USE;

/* The digest of config.json as it was read, and of the weights as they are now. */
struct td_u128 model_hf_folder_digest(const struct model_hf_folder *folder);

void model_hf_folder_close(struct model_hf_folder *folder);

#endif
