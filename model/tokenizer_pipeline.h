/*
 * tokenizer_pipeline.h: what the steps of a tokenizer.json mean, as far as lib/text has a name for it.
 * Internal to the reader of tokenizer.json.
 *
 * A tokenizer.json lists normalizers, pre-tokenizers, post-processors and decoders, nested in sequences.
 * Of all that can be written so, the combinations that published models use are known here; any other is
 * refused by the name and the place of the step that is not known.
 */
#ifndef TANDEM_MODEL_TOKENIZER_PIPELINE_H
#define TANDEM_MODEL_TOKENIZER_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/json.h"
#include "lib/base/status.h"
#include "lib/text/source.h"

struct model_tokenizer_pipeline {
    enum text_algorithm algorithm;
    const char *pretokenizer; /* a static name of lib/text/pretokenize.h; "" for SentencePiece */
    enum text_prefix prefix;
    bool normalize_nfc;
    bool strip_space;
    uint32_t first; /* what the post-processor puts in front of a text and behind it: */
    uint32_t last;  /* ids, not checked, or TEXT_TOKEN_NONE */
};

/* root is the whole document, an object. TD_UNSUPPORTED or TD_INVALID name the step. */
td_status_t model_tokenizer_pipeline_read(const struct td_json *root,
                                          struct model_tokenizer_pipeline *pipeline_out,
                                          struct td_error *error) TD_MUST_USE;

#endif
