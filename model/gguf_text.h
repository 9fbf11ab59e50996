/*
 * gguf_text.h: the tokenizer's part of a GGUF file as the arrays of lib/text/source.h.
 */
#ifndef TANDEM_MODEL_GGUF_TEXT_H
#define TANDEM_MODEL_GGUF_TEXT_H

#include "lib/base/status.h"
#include "lib/text/source.h"
#include "model/gguf.h"

/*
 * model_gguf_text: the tokenizer, template, stop ids and generation defaults of a file.
 * Tokens and template lie in the file, which must outlive the source; text_source_fini frees the rest. The source
 * has passed text_source_check. TD_NOT_FOUND: the file has no tokenizer (error is not filled); TD_UNSUPPORTED,
 * TD_INVALID or TD_LIMIT name the key; TD_NO_MEMORY.
 */
td_status_t model_gguf_text(const struct model_gguf *file, struct text_source *source_out,
                            struct td_error *error) TD_MUST_USE;

#endif
