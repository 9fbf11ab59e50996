/*
 * unicode.h: decoding of UTF-8 that may be broken or unfinished, and the few questions that text handling
 * asks about a character.
 *
 * Categories come from utf8proc; TEXT_UNICODE_VERSION is the version of its tables that token ids were checked with
 * (a test compares it with the library's, so that a change is noticed). Nothing is generated or loaded at start.
 */
#ifndef TANDEM_LIB_TEXT_UNICODE_H
#define TANDEM_LIB_TEXT_UNICODE_H

#include "lib/text/types.h"

#define TEXT_UNICODE_VERSION "15.0.0"

/* What pre-tokenizers tell apart. CR and LF are whitespace too. */
enum text_class {
    TEXT_CLASS_OTHER = 0, /* punctuation, symbols, marks, controls, bytes that are not UTF-8 */
    TEXT_CLASS_LETTER,    /* L* */
    TEXT_CLASS_NUMBER,    /* N* */
    TEXT_CLASS_SPACE,     /* White_Space, without the next two */
    TEXT_CLASS_NEWLINE,   /* CR, LF */
};

#define TEXT_NOT_UTF8   UINT32_MAX
#define TEXT_UNFINISHED (UINT32_MAX - 1)

/*
 * Decodes one character at bytes[0..length), length at least 1. length_out is how many bytes it took. Where they are no
 * character, the result is TEXT_NOT_UTF8 (length_out: the maximal part that one U+FFFD stands for), or
 * TEXT_UNFINISHED if more bytes could still make it one (length_out: length).
 */
uint32_t text_utf8_decode(const uint8_t *bytes, size_t length, size_t *length_out);

/* The class of the character at bytes[0..length), length at least 1; a bad byte counts alone. */
enum text_class text_class_at(const uint8_t *bytes, size_t length, size_t *length_out);

/* What Python's str.isspace says: White_Space and the separators U+001C to U+001F. */
bool text_is_python_space(uint32_t character);

/* What Python's str.isprintable says: repr() writes the character as it is. */
bool text_is_printable(uint32_t character);

/* Whether \w of regular expressions takes the character: letters, marks, digits, connectors. */
bool text_is_word(uint32_t character);

/* Simple (one to one) case mapping. */
uint32_t text_to_upper(uint32_t character);
uint32_t text_to_lower(uint32_t character);

/* The version of the tables in the library that is loaded. */
const char *text_unicode_version(void);

#endif
