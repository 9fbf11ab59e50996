/*
 * parts.h: the parts of `tandem inspect`: what they put on a sheet. Not for use elsewhere.
 */
#ifndef TANDEM_CLI_INSPECT_PARTS_H
#define TANDEM_CLI_INSPECT_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/sheet.h"
#include "cli/tables.h"
#include "lib/text/model.h"
#include "model/gguf.h"
#include "model/model.h"

/* One tensor, or one vector of a model, as it is listed. */
struct inspect_tensor {
    char name[MODEL_TENSOR_NAME_BYTES];
    const char *type;
    uint64_t rows; /* 1: a vector */
    uint64_t columns;
    uint64_t bytes;
};

/* Calls see for each tensor: of a served model, or of a GGUF file whatever is in it. */
typedef void (*inspect_tensor_fn)(void *ctx, const struct inspect_tensor *tensor);
void inspect_each_of_model(const struct model *model, bool has_hf_names, inspect_tensor_fn see,
                           void *ctx);
void inspect_each_of_gguf(const struct model_gguf *file, inspect_tensor_fn see, void *ctx);

#define INSPECT_TYPES_MAX 48

/* All tensors of a kind together. */
struct inspect_tally {
    const char *type;
    uint64_t tensors;
    uint64_t values;
    uint64_t bytes;
};

struct inspect_tallies {
    struct inspect_tally all;
    struct inspect_tally types[INSPECT_TYPES_MAX];
    uint32_t count;
};

/* An inspect_tensor_fn; ctx is struct inspect_tallies. */
void inspect_tally(void *ctx, const struct inspect_tensor *tensor);

/* Begins the section of the tensors, with one line for each type. */
void inspect_put_tallies(struct cli_sheet *sheet, const struct inspect_tallies *tallies);

/* An inspect_tensor_fn that puts one line; ctx is the sheet, within a list. */
void inspect_put_tensor(void *ctx, const struct inspect_tensor *tensor);

/* Sections of a model that is served. */
void inspect_put_model(struct cli_sheet *sheet, const char *path, const struct model *model,
                       const struct text_model *text, const struct cli_inspect_options *options);

/* What a tokenizer has, and its template. */
void inspect_put_text(struct cli_sheet *sheet, const struct text_source *source,
                      const struct text_model *text);

/* What can be read of a file or folder that is not served, and why it is not. */
void inspect_put_unserved(struct cli_sheet *sheet, const char *path, const char *why,
                          const struct cli_inspect_options *options);

#endif
