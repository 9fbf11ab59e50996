/*
 * string.h: operations on strings that keep track of who wrote which bytes. Internal to lib/text.
 *
 * Slicing and joining keep the trust of each byte. Whatever makes new bytes out of old ones gives a string of one
 * trust: trusted only if all that went in was.
 *
 * Strings are immutable and live in the builder's arena; their bytes may be borrowed from anywhere. When
 * the builder has failed, every function returns the empty string, never NULL. Characters are code
 * points, as in Python; a byte that is not UTF-8 counts as one.
 */
#ifndef TANDEM_LIB_TEXT_STRING_H
#define TANDEM_LIB_TEXT_STRING_H

#include "lib/text/value.h"

/* Zeroed memory of the builder's arena, or NULL (and the builder has failed). */
void *text_builder_alloc(struct text_builder *builder, size_t count, size_t size);

/* Adds an entry whose key is a string already. */
void text_dict_append(struct text_builder *builder, struct text_dict *dict,
                      const struct text_string *key, struct text_value value);

/* The first entry with this key, or NULL. */
struct text_entry *text_dict_find(const struct text_dict *dict, struct td_span key);

static inline struct text_value text_value_of(const struct text_string *string)
{
    return (struct text_value){.kind = TEXT_STRING, .string = string};
}

static inline struct td_span text_string_span(const struct text_string *string)
{
    return td_span_over(string->bytes, string->length);
}

/* A string of one trust over borrowed bytes. TD_LIMIT in the builder if over TEXT_BYTES_MAX. */
const struct text_string *text_string_over(struct text_builder *builder, struct td_span bytes,
                                           bool trusted);

/* The same, with a copy of the bytes. */
const struct text_string *text_string_copy(struct text_builder *builder, struct td_span bytes,
                                           bool trusted);

bool text_string_is_trusted(const struct text_string *string);

/* Bytes [start, end); 0 <= start <= end <= length. Nothing is copied but runs. */
const struct text_string *text_string_slice(struct text_builder *builder,
                                            const struct text_string *string, uint32_t start,
                                            uint32_t end);

/* All parts one behind the other. */
const struct text_string *text_string_join(struct text_builder *builder,
                                           const struct text_string *const *parts, uint32_t count);

/* Without the characters at the chosen ends that stand in chars (NULL: whitespace). */
const struct text_string *text_string_strip(struct text_builder *builder,
                                            const struct text_string *string,
                                            const struct text_string *chars, bool left, bool right);

/* Where needle first stands at or behind `from`, or UINT32_MAX. An empty needle stands at `from`. */
uint32_t text_string_find(const struct text_string *string, struct td_span needle, uint32_t from);

/* How many characters the string has. */
uint32_t text_string_characters(const struct text_string *string);

/* The byte where the character that begins at byte `at` ends; at < length. */
uint32_t text_string_character_end(const struct text_string *string, uint32_t at);

#endif
