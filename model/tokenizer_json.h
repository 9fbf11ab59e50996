/*
 * tokenizer_json.h: the tokenizer of a Hugging Face folder as the arrays of lib/text/source.h.
 *
 * Reads tokenizer.json (vocabulary, merges, added tokens, and the pipeline of normalizer, pre-tokenizer,
 * post-processor and decoder, which must be one that lib/text knows), tokenizer_config.json (special tokens,
 * chat template) and chat_template.jinja. All three are untrusted: sizes, counts and ids are checked, a
 * component that is not known is refused by its name and place. Whether the result makes a working tokenizer
 * is found out by text_model_open.
 */
#ifndef TANDEM_MODEL_TOKENIZER_JSON_H
#define TANDEM_MODEL_TOKENIZER_JSON_H

#include "lib/base/span.h"
#include "lib/base/status.h"
#include "lib/text/source.h"

#define MODEL_TOKENIZER_JSON_MAX   ((size_t)128 << 20) /* bytes of tokenizer.json */
#define MODEL_TOKENIZER_CONFIG_MAX ((size_t)8 << 20)   /* bytes of tokenizer_config.json */

/* The memory behind a text source that was read from a folder. Immutable. */
struct model_tokenizer_json;

/* The files' contents; borrowed during the call only. An empty span: there is no such file. */
struct model_tokenizer_files {
    struct td_span tokenizer;     /* tokenizer.json */
    struct td_span config;        /* tokenizer_config.json */
    struct td_span chat_template; /* chat_template.jinja: wins over the one in the config */
};

/*
 * model_tokenizer_json_open: read the tokenizer of a folder.
 * TD_NOT_FOUND: it has no tokenizer.json. TD_INVALID, TD_LIMIT or TD_UNSUPPORTED name the file and the field
 * or offset; TD_IO: a file is there but cannot be read; TD_NO_MEMORY.
 */
td_status_t model_tokenizer_json_open(const char *folder, struct model_tokenizer_json **out,
                                      struct td_error *error) TD_MUST_USE;

/* The same from the files' contents. */
td_status_t model_tokenizer_json_parse(const struct model_tokenizer_files *files,
                                       struct model_tokenizer_json **out,
                                       struct td_error *error) TD_MUST_USE;

void model_tokenizer_json_close(struct model_tokenizer_json *tokenizer);

/*
 * The source; it has passed text_source_check. May be copied by value (to add stop ids that a generation_config.json
 * names, say); its pointers live as long as the tokenizer. Its token count is the largest id plus one: it is for
 * the caller to compare it with the rows of the embedding. bos and eos are TEXT_TOKEN_NONE where
 * none of the three files names one.
 */
const struct text_source *model_tokenizer_json_source(const struct model_tokenizer_json *tokenizer);

#endif
