/*
 * tokenizer_reading.h: what the parts of the reader of a folder's tokenizer share. Internal to it.
 */
#ifndef TANDEM_MODEL_TOKENIZER_READING_H
#define TANDEM_MODEL_TOKENIZER_READING_H

#include "lib/base/json.h"
#include "lib/base/status.h"
#include "lib/text/source.h"
#include "lib/text/token_map.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_pipeline.h"

#define MODEL_TOKENIZER_SHOWN 64 /* bytes of a text that an error repeats */

struct model_tokenizer_json {
    struct text_source source;
    struct text_token *tokens;
    struct text_merge *merges;
    char *bytes; /* of tokens and template */
};

/* What is read so far, and where from. */
struct model_tokenizer_reading {
    struct model_tokenizer_json *tokenizer;
    const struct td_json *root;   /* of tokenizer.json */
    const struct td_json *config; /* of tokenizer_config.json, or NULL */
    struct model_tokenizer_pipeline pipeline;
    const struct td_json *vocab;   /* of the model */
    struct text_token_map by_text; /* tokens of the vocabulary; has places once it is made */
    char *cursor;                  /* where the next text goes */
    struct td_error *error;
};

static inline int model_tokenizer_shown(struct td_span text)
{
    return (int)(text.length < MODEL_TOKENIZER_SHOWN ? text.length : MODEL_TOKENIZER_SHOWN);
}

/* Copies a text to where the source's texts are kept. */
struct td_span model_tokenizer_keep(struct model_tokenizer_reading *reading, struct td_span text);

/*
 * tokenizer_tables.c: tokens, added tokens and merges, when algorithm and vocab are known.
 * Leaves by_text behind for whoever looks for a token, and room for a template to keep.
 */
td_status_t model_tokenizer_read_tables(struct model_tokenizer_reading *reading) TD_MUST_USE;

#endif
