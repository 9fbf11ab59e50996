/*
 * encode.h: text to token ids, with all that lies between. Internal to lib/text.
 *
 * In this order: special tokens are cut out of trusted text; each stretch between them is normalised; special
 * tokens that want normalised text are cut out of it; the rest is cut into pieces, and each piece is merged up.
 */
#ifndef TANDEM_LIB_TEXT_ENCODE_H
#define TANDEM_LIB_TEXT_ENCODE_H

#include "lib/text/bpe.h"
#include "lib/text/pretokenize.h"
#include "lib/text/source.h"
#include "lib/text/tokens.h"
#include "lib/text/vocab.h"

/* Immutable. */
struct text_encoder {
    struct text_vocab vocab;
    struct text_bpe bpe;
    const struct text_pretokenizer *pretokenizer; /* byte level; else NULL */
    enum text_prefix prefix;
    bool normalize_nfc;
};

/* The encoder must not move afterwards. The source has passed text_source_check. */
td_status_t text_encoder_init(struct text_encoder *encoder, const struct text_source *source,
                              struct td_error *error) TD_MUST_USE;
void text_encoder_fini(struct text_encoder *encoder);

/* Appends the ids of a text. The runs cover it. */
td_status_t text_encoder_run(const struct text_encoder *encoder, struct td_span text,
                             const struct text_run *runs, uint32_t run_count,
                             struct text_tokens *tokens) TD_MUST_USE;

#endif
