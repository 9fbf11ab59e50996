/*
 * model.h: one model's tokenizer and chat template, ready for use.
 *
 * A text_model is made from a text_source, copies what it needs, and never changes: any number of
 * threads may use it at once. It turns requests into prompts, prompts and raw text into token ids, and
 * single ids back into bytes; streams of ids are detokenize.h's.
 */
#ifndef TANDEM_LIB_TEXT_MODEL_H
#define TANDEM_LIB_TEXT_MODEL_H

#include "lib/base/status.h"
#include "lib/base/u128.h"
#include "lib/text/prompt.h"
#include "lib/text/source.h"
#include "lib/text/template.h"
#include "lib/text/tokens.h"
#include "lib/text/types.h"

struct text_model;

/*
 * text_model_open: build the tables of a tokenizer and compile its template.
 * The source may go afterwards. TD_INVALID, TD_LIMIT, TD_UNSUPPORTED (the pre-tokenizer, or something in
 * the template) or TD_NO_MEMORY, with error naming what and where.
 */
td_status_t text_model_open(const struct text_source *source, struct text_model **model_out,
                            struct td_error *error) TD_MUST_USE;
void text_model_close(struct text_model *model);

/* The text_id: XXH3-128 of the source's canonical form. */
struct td_u128 text_model_id(const struct text_model *model);

uint32_t text_model_token_count(const struct text_model *model);

/* The raw bytes of a token: empty for an id out of range or unused. */
struct td_span text_model_token(const struct text_model *model, uint32_t id);

/* Whether the token is left out of answers (control and unused tokens, ids out of range). */
bool text_model_is_hidden(const struct text_model *model, uint32_t id);

/* Whether a space at the very start of decoded text is left out: encoding puts one there. */
bool text_model_strips_space(const struct text_model *model);

/* TEXT_TOKEN_NONE where the model has none. */
uint32_t text_model_bos(const struct text_model *model);
uint32_t text_model_eos(const struct text_model *model);

/*
 * The ids that end an answer, rising: eos, eot, eom and the source's stop_ids, and special tokens
 * with the well-known texts (<|im_end|>, <|eot_id|>, ...), since many files name only one. At most
 * TEXT_STOP_IDS_MAX.
 */
const uint32_t *text_model_stop_ids(const struct text_model *model, uint32_t *count_out);

/* How to draw where a request does not say. Lives as long as the model. */
const struct text_generation *text_model_generation(const struct text_model *model);

/* ------------------------------------------------------------------------------------------- */

/* What text_encode does besides encoding. */
enum text_encode_flags {
    TEXT_PARSE_SPECIAL = 1, /* cut special tokens out of the text: for text we trust as a whole */
    TEXT_ADD_SPECIAL = 2,   /* bos in front and eos behind, if the source says so */
};

/*
 * text_encode: raw text to ids, appended to tokens.
 * Any bytes are taken; those that are not UTF-8 are encoded one by one. Without TEXT_PARSE_SPECIAL the
 * result has no special token in it, whatever the text says. Linear-ish time (n log n for a piece of n
 * bytes). Memory: a copy of text that has to be normalised, and 28 bytes per byte of the longest piece, whose bytes are
 * at most count_max times those of the longest token. TD_LIMIT: more ids than count_max, or text
 * over TEXT_BYTES_MAX; tokens then holds what was made so far.
 */
td_status_t text_encode(const struct text_model *model, const char *bytes, size_t length,
                        unsigned flags, struct text_tokens *tokens) TD_MUST_USE;

/*
 * text_encode_prompt: a rendered prompt to ids, appended to tokens.
 * Special tokens are cut out of trusted bytes only, also where a trusted stretch stands beside an
 * untrusted one. All else behaves as if the text were one string. No bos or eos is added: a chat
 * template writes its own.
 */
td_status_t text_encode_prompt(const struct text_model *model, const struct text_prompt *prompt,
                               struct text_tokens *tokens) TD_MUST_USE;

/* ------------------------------------------------------------------------------------------- */

/* Whether the chat template tells the role `developer` from others. */
bool text_model_names_developer(const struct text_model *model);

/*
 * text_render: the model's chat template over a request, into an initialised prompt.
 * bos_token and eos_token come from the model. TD_UNSUPPORTED: no template. Otherwise as
 * text_template_render.
 */
td_status_t text_render(const struct text_model *model, const struct text_render_input *input,
                        struct text_prompt *prompt, struct td_error *error) TD_MUST_USE;

#endif
