/*
 * normalize.h: text as a tokenizer wants it, before it is cut into pieces. Internal to lib/text.
 *
 * Two ways: Unicode's form NFC (Qwen), and SentencePiece's spaces. Both leave alone what needs no change,
 * so that most text is never copied. A piece of the result is trusted only if all of what it was made of
 * is. Linear time for every text, also for a million combining marks in a row.
 */
#ifndef TANDEM_LIB_TEXT_NORMALIZE_H
#define TANDEM_LIB_TEXT_NORMALIZE_H

#include "lib/text/prompt.h"
#include "lib/text/special.h"

/*
 * Whether NFC leaves a character alone wherever it stands, if no character follows that joins it. False for
 * some that NFC leaves alone too: they are looked at more closely.
 */
bool text_nfc_is_inert(uint32_t character);

/* Whether all of bytes[start..end) is inert: then it is in NFC. Bytes that are not UTF-8 count as inert. */
bool text_nfc_is_plain(const char *bytes, size_t start, size_t end);

/*
 * Appends NFC of bytes [from.at, end) of a text. Bytes that are not UTF-8 stay as they are. A failure
 * sticks in out->text.status.
 */
void text_nfc_append(const char *bytes, struct text_run_place from, size_t end,
                     struct text_prompt *out);

/* Appends bytes [from.at, end) of a text as they are, with their trust. */
void text_runs_append(const char *bytes, struct text_run_place from, size_t end,
                      struct text_prompt *out);

#endif
