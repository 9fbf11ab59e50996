/* template_methods.c: Python's methods of strings and dicts, see template_methods.h. */
#include "lib/text/template_methods.h"

#include <string.h>

#include "lib/base/utf8.h"
#include "lib/text/template_eval.h"
#include "lib/text/unicode.h"

/* The base as a string, with its bytes accounted for; NULL (and failed) if it is none. */
static const struct text_string *string_base(struct text_eval *eval,
                                             const struct text_arguments *given)
{
    if (given->base.kind != TEXT_STRING) {
        text_eval_fail_kind(eval, given->line, "call a method of strings on", given->base);
        return NULL;
    }
    return text_eval_work(eval, given->line, given->base.string->length) ? given->base.string
                                                                         : NULL;
}

static const struct text_dict *dict_base(struct text_eval *eval, const struct text_arguments *given)
{
    if (given->base.kind != TEXT_DICT) {
        text_eval_fail_kind(eval, given->line, "call a method of dicts on", given->base);
        return NULL;
    }
    return text_eval_work(eval, given->line, (uint64_t)given->base.dict->count * WORK_PER_ITEM)
               ? given->base.dict
               : NULL;
}

/* An argument that must be a string; NULL (and failed) if it is none. */
static const struct text_string *string_argument(struct text_eval *eval,
                                                 const struct text_arguments *given, uint32_t place)
{
    if (given->values[place].kind != TEXT_STRING) {
        text_eval_fail_kind(eval, given->line, "use as text", given->values[place]);
        return NULL;
    }
    return given->values[place].string;
}

/* Whether an optional argument was left out, or is none. */
static bool is_absent(struct text_value value)
{
    return value.kind == TEXT_UNDEFINED || value.kind == TEXT_NONE;
}

/* ------------------------------------------------------------------------------------------- */
/* Strings */

static struct text_value strip(struct text_eval *eval, const struct text_arguments *given,
                               bool left, bool right)
{
    const struct text_string *string = string_base(eval, given);
    const struct text_string *chars = NULL;

    if (string == NULL)
        return text_value_undefined();
    if (!is_absent(given->values[0])) {
        chars = string_argument(eval, given, 0);
        /* Each character that goes is compared with all of chars. */
        if (chars == NULL ||
            !text_eval_work(eval, given->line, (uint64_t)string->length * chars->length))
            return text_value_undefined();
    }
    return text_value_of(text_string_strip(&eval->builder, string, chars, left, right));
}

struct text_value text_method_strip(struct text_eval *eval, const struct text_arguments *given)
{
    return strip(eval, given, true, true);
}

static struct text_value method_lstrip(struct text_eval *eval, const struct text_arguments *given)
{
    return strip(eval, given, true, false);
}

static struct text_value method_rstrip(struct text_eval *eval, const struct text_arguments *given)
{
    return strip(eval, given, false, true);
}

/* Simple case mapping. A character has at most one byte more in the other case. */
static struct text_value map_case(struct text_eval *eval, const struct text_arguments *given,
                                  uint32_t (*map)(uint32_t character))
{
    const struct text_string *string = string_base(eval, given);
    const uint8_t *bytes;
    size_t length = 0;
    size_t taken;
    char *out;

    if (string == NULL)
        return text_value_undefined();
    bytes = (const uint8_t *)string->bytes;
    out = text_builder_alloc(&eval->builder, (size_t)string->length * 2 + TD_UTF8_BYTES_MAX, 1);
    if (out == NULL)
        return text_value_undefined();
    for (size_t at = 0; at < string->length; at += taken) {
        uint32_t character = text_utf8_decode(bytes + at, string->length - at, &taken);

        if (character < TEXT_UNFINISHED) {
            length += td_utf8_encode(map(character), out + length);
            continue;
        }
        memcpy(out + length, bytes + at, taken);
        length += taken;
    }
    return text_value_of(text_string_over(&eval->builder, td_span_over(out, length),
                                          text_string_is_trusted(string)));
}

struct text_value text_method_upper(struct text_eval *eval, const struct text_arguments *given)
{
    return map_case(eval, given, text_to_upper);
}

struct text_value text_method_lower(struct text_eval *eval, const struct text_arguments *given)
{
    return map_case(eval, given, text_to_lower);
}

static struct text_value method_startswith(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    const struct text_string *string = string_base(eval, given);
    const struct text_string *prefix = string == NULL ? NULL : string_argument(eval, given, 0);

    if (prefix == NULL)
        return text_value_undefined();
    return text_value_bool(prefix->length <= string->length &&
                           memcmp(string->bytes, prefix->bytes, prefix->length) == 0);
}

static struct text_value method_endswith(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = string_base(eval, given);
    const struct text_string *suffix = string == NULL ? NULL : string_argument(eval, given, 0);

    if (suffix == NULL)
        return text_value_undefined();
    return text_value_bool(suffix->length <= string->length &&
                           memcmp(string->bytes + string->length - suffix->length, suffix->bytes,
                                  suffix->length) == 0);
}

/* The optional number of splits or replacements: as many as there are if absent or negative. */
static bool count_argument(struct text_eval *eval, const struct text_arguments *given,
                           uint32_t place, int64_t *count_out)
{
    *count_out = -1;
    if (!is_absent(given->values[place]) && !text_value_integer(given->values[place], count_out)) {
        text_eval_fail_kind(eval, given->line, "count with", given->values[place]);
        return false;
    }
    if (*count_out < 0)
        *count_out = INT64_MAX;
    return true;
}

static void append_slice(struct text_eval *eval, struct text_value list,
                         const struct text_string *string, uint32_t start, uint32_t end)
{
    text_list_append(&eval->builder, list,
                     text_value_of(text_string_slice(&eval->builder, string, start, end)));
}

static void split_at(struct text_eval *eval, const struct text_arguments *given,
                     const struct text_string *string, int64_t splits, struct text_value list)
{
    const struct text_string *separator = string_argument(eval, given, 0);
    uint32_t start = 0;

    if (separator == NULL)
        return;
    if (separator->length == 0) {
        text_eval_fail(eval, given->line, TD_INVALID, "cannot split at an empty string");
        return;
    }
    for (; splits > 0; splits--) {
        uint32_t at = text_string_find(string, text_string_span(separator), start);

        if (at == UINT32_MAX || !text_eval_work(eval, given->line, WORK_PER_ITEM))
            break;
        append_slice(eval, list, string, start, at);
        start = at + separator->length;
    }
    append_slice(eval, list, string, start, string->length);
}

/* Whether the character at `at` is whitespace, and where it ends. */
static bool is_space_at(const struct text_string *string, uint32_t at, uint32_t *end_out)
{
    size_t taken;

    *end_out = text_string_character_end(string, at);
    return text_is_python_space(
        text_utf8_decode((const uint8_t *)string->bytes + at, string->length - at, &taken));
}

/* Words between runs of whitespace; what is left after the last split loses leading whitespace only. */
static void split_words(struct text_eval *eval, const struct text_arguments *given,
                        const struct text_string *string, int64_t splits, struct text_value list)
{
    uint32_t at = 0;
    uint32_t end;

    for (;;) {
        uint32_t start;

        while (at < string->length && is_space_at(string, at, &end))
            at = end;
        if (at == string->length || !text_eval_work(eval, given->line, WORK_PER_ITEM))
            return;
        start = at;
        while (at < string->length && (splits == 0 || !is_space_at(string, at, &end)))
            at = splits == 0 ? string->length : end;
        append_slice(eval, list, string, start, at);
        splits--;
    }
}

static struct text_value method_split(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = string_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);
    int64_t splits;

    if (string == NULL || !count_argument(eval, given, 1, &splits))
        return text_value_undefined();
    if (is_absent(given->values[0]))
        split_words(eval, given, string, splits, list);
    else
        split_at(eval, given, string, splits, list);
    return list;
}

/* How often old stands in string, at most `most`. */
static uint64_t occurrences(const struct text_string *string, const struct text_string *old,
                            int64_t most)
{
    uint64_t count = 0;
    uint32_t at = 0;

    while (most-- > 0) {
        at = text_string_find(string, text_string_span(old), at);
        if (at == UINT32_MAX)
            break;
        at += old->length;
        count++;
    }
    return count;
}

struct text_value text_method_replace(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = string_base(eval, given);
    const struct text_string *old = string == NULL ? NULL : string_argument(eval, given, 0);
    const struct text_string *new = old == NULL ? NULL : string_argument(eval, given, 1);
    uint64_t count;
    uint64_t length;
    uint32_t at = 0;
    int64_t most;
    char *out;
    char *end;

    if (new == NULL || !count_argument(eval, given, 2, &most))
        return text_value_undefined();
    if (old->length == 0) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "cannot replace an empty string");
        return text_value_undefined();
    }
    count = occurrences(string, old, most);
    length = string->length - count * old->length + count * new->length; /* each below 2^50 */
    if (length > TEXT_BYTES_MAX)
        text_eval_fail(eval, given->line, TD_LIMIT, "a string over %zu bytes", TEXT_BYTES_MAX);
    if (!text_eval_work(eval, given->line, length + count * WORK_PER_ITEM))
        return text_value_undefined();
    end = out = text_builder_alloc(&eval->builder, length, 1);
    if (out == NULL)
        return text_value_undefined();
    for (; count > 0; count--) {
        uint32_t found = text_string_find(string, text_string_span(old), at);

        end = mempcpy(end, string->bytes + at, found - at);
        end = mempcpy(end, new->bytes, new->length);
        at = found + old->length;
    }
    memcpy(end, string->bytes + at, string->length - at);
    return text_value_of(text_string_over(&eval->builder, td_span_over(out, length),
                                          text_string_is_trusted(string) &&
                                              text_string_is_trusted(old) &&
                                              text_string_is_trusted(new)));
}

/* ------------------------------------------------------------------------------------------- */
/* Dicts */

struct text_value text_method_items(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);

    if (dict == NULL)
        return text_value_undefined();
    for (uint32_t i = 0; i < dict->count; i++) {
        struct text_value pair = text_value_list(&eval->builder);

        text_list_append(&eval->builder, pair, text_value_of(dict->entries[i].key));
        text_list_append(&eval->builder, pair, dict->entries[i].value);
        text_list_append(&eval->builder, list, pair);
    }
    return list;
}

static struct text_value method_keys(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = 0; dict != NULL && i < dict->count; i++)
        text_list_append(&eval->builder, list, text_value_of(dict->entries[i].key));
    return list;
}

static struct text_value method_values(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = 0; dict != NULL && i < dict->count; i++)
        text_list_append(&eval->builder, list, dict->entries[i].value);
    return list;
}

static struct text_value method_get(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_entry *entry = NULL;

    if (dict != NULL && given->values[0].kind == TEXT_STRING)
        entry = text_dict_find(dict, text_string_span(given->values[0].string));
    if (entry != NULL)
        return entry->value;
    return is_absent(given->values[1]) ? text_value_none() : given->values[1];
}

static const struct text_builtin methods[] = {
    {"endswith", method_endswith, 1, 1, {"suffix", NULL}},
    {"get", method_get, 1, 2, {"key", "default", NULL}},
    {"items", text_method_items, 0, 0, {NULL}},
    {"keys", method_keys, 0, 0, {NULL}},
    {"lower", text_method_lower, 0, 0, {NULL}},
    {"lstrip", method_lstrip, 0, 1, {"chars", NULL}},
    {"replace", text_method_replace, 2, 3, {"old", "new", "count"}},
    {"rstrip", method_rstrip, 0, 1, {"chars", NULL}},
    {"split", method_split, 0, 2, {"sep", "maxsplit", NULL}},
    {"startswith", method_startswith, 1, 1, {"prefix", NULL}},
    {"strip", text_method_strip, 0, 1, {"chars", NULL}},
    {"upper", text_method_upper, 0, 0, {NULL}},
    {"values", method_values, 0, 0, {NULL}},
};

const struct text_builtin *text_methods(size_t *count_out)
{
    *count_out = sizeof methods / sizeof methods[0];
    return methods;
}
