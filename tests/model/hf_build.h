/*
 * hf_build.h: Hugging Face folders for tests: copies of the small models in tests/data with one thing changed.
 */
#ifndef TANDEM_TESTS_MODEL_HF_BUILD_H
#define TANDEM_TESTS_MODEL_HF_BUILD_H

#include "lib/base/buf.h"
#include "model/safetensors.h"
#include "tests/support/support.h"

struct hf_build {
    char path[256]; /* a fresh folder */
};

void hf_build_init(struct hf_build *build);

/* Removes the folder with all files. */
void hf_build_fini(struct hf_build *build);

/* Writes a file, over one that is there. */
void hf_build_put(const struct hf_build *build, const char *name, const void *bytes, size_t length);
void hf_build_put_text(const struct hf_build *build, const char *name, const char *text);

void hf_build_remove(const struct hf_build *build, const char *name);

/* Copies a file of a folder of tests/data. */
void hf_build_copy(const struct hf_build *build, const char *model, const char *name);

/* All files of tests/data/<model> but those with golden outputs and the GGUF file. */
void hf_build_copy_all(const struct hf_build *build, const char *model);

/* Replaces a text that must stand once in a file. */
void hf_build_replace(const struct hf_build *build, const char *name, const char *before,
                      const char *after);

/* A safetensors file to be written. */
struct hf_weights {
    struct td_buf header;
    struct td_buf data;
    size_t count;
};

void hf_weights_init(struct hf_weights *weights);

/* A tensor of rows x columns; rows 0: a vector. */
void hf_weights_add(struct hf_weights *weights, const char *name, const char *dtype, uint64_t rows,
                    uint64_t columns, const void *data, size_t bytes);

/* A tensor of another file, under a name. */
void hf_weights_add_copy(struct hf_weights *weights, const char *name,
                         const struct model_safetensors_tensor *tensor);

/*
 * Writes the file and frees the parts. The header is filled up so that the data begins `misalignment`
 * bytes behind a multiple of 64.
 */
void hf_weights_finish(struct hf_weights *weights, const struct hf_build *build, const char *name,
                       size_t misalignment);

#endif
