/* template_methods.c: Python's methods of strings and dicts, see template_methods.h. */
#include "lib/text/template_methods.h"

#include <string.h>

#include "lib/base/utf8.h"
#include "lib/text/template_eval.h"
#include "lib/text/unicode.h"

#define SHARP_S 0xDF

const struct text_string *text_method_base(struct text_eval *eval,
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

const struct text_string *text_method_argument(struct text_eval *eval,
                                               const struct text_arguments *given, uint32_t place)
{
    if (given->values[place].kind != TEXT_STRING) {
        text_eval_fail_kind(eval, given->line, "use as text", given->values[place]);
        return NULL;
    }
    return given->values[place].string;
}

bool text_method_is_absent(struct text_value value)
{
    return value.kind == TEXT_UNDEFINED || value.kind == TEXT_NONE;
}

/* ------------------------------------------------------------------------------------------- */
/* Strings */

static struct text_value strip(struct text_eval *eval, const struct text_arguments *given,
                               bool left, bool right)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *chars = NULL;

    if (string == NULL)
        return text_value_undefined();
    if (!text_method_is_absent(given->values[0])) {
        chars = text_method_argument(eval, given, 0);
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

/* A character in another case; begins says whether a word begins with it, by the rule in use. */
typedef uint32_t (*case_fn)(uint32_t character, bool begins);

/* Whether a word begins behind the character (0: at the start of the text). */
typedef bool (*boundary_fn)(uint32_t before);

static uint32_t to_title(uint32_t character, bool begins)
{
    return begins ? text_to_upper(character) : text_to_lower(character);
}

/*
 * Writes a character in its other case. The only one that becomes two, of those that texts are full of, is
 * the sharp s.
 */
static size_t write_mapped(char *out, uint32_t character, case_fn map, bool begins)
{
    uint32_t mapped = map(character, begins);

    if (character != SHARP_S || mapped == SHARP_S)
        return td_utf8_encode(mapped, out);
    memcpy(out, map == to_title ? "Ss" : "SS", 2);
    return 2;
}

/* Simple case mapping. A character has at most one byte more in the other case. */
static struct text_value map_case(struct text_eval *eval, const struct text_arguments *given,
                                  case_fn map, boundary_fn is_boundary)
{
    const struct text_string *string = text_method_base(eval, given);
    const uint8_t *bytes;
    uint32_t before = 0;
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
            length += write_mapped(out + length, character, map, is_boundary(before));
        } else {
            memcpy(out + length, bytes + at, taken);
            length += taken;
        }
        before = character;
    }
    return text_value_of(text_string_over(&eval->builder, td_span_over(out, length),
                                          text_string_is_trusted(string)));
}

static uint32_t to_upper(uint32_t character, bool begins)
{
    (void)begins;
    return text_to_upper(character);
}

static uint32_t to_lower(uint32_t character, bool begins)
{
    (void)begins;
    return text_to_lower(character);
}

static bool at_start(uint32_t before)
{
    return before == 0;
}

/* str.title: a word is letters that have a case. */
static bool behind_caseless(uint32_t before)
{
    return text_to_upper(before) == before && text_to_lower(before) == before;
}

/* Jinja's filter title. */
static bool behind_mark(uint32_t before)
{
    return before == 0 || text_is_python_space(before) ||
           (before < 0x80 && strchr("-([{<", (int)before) != NULL);
}

struct text_value text_method_upper(struct text_eval *eval, const struct text_arguments *given)
{
    return map_case(eval, given, to_upper, at_start);
}

struct text_value text_method_lower(struct text_eval *eval, const struct text_arguments *given)
{
    return map_case(eval, given, to_lower, at_start);
}

struct text_value text_method_capitalize(struct text_eval *eval, const struct text_arguments *given)
{
    return map_case(eval, given, to_title, at_start);
}

struct text_value text_method_title_words(struct text_eval *eval,
                                          const struct text_arguments *given)
{
    return map_case(eval, given, to_title, behind_mark);
}

static struct text_value method_title(struct text_eval *eval, const struct text_arguments *given)
{
    return map_case(eval, given, to_title, behind_caseless);
}

static struct text_value method_startswith(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *prefix = string == NULL ? NULL : text_method_argument(eval, given, 0);

    if (prefix == NULL)
        return text_value_undefined();
    return text_value_bool(prefix->length <= string->length &&
                           memcmp(string->bytes, prefix->bytes, prefix->length) == 0);
}

static struct text_value method_endswith(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *suffix = string == NULL ? NULL : text_method_argument(eval, given, 0);

    if (suffix == NULL)
        return text_value_undefined();
    return text_value_bool(suffix->length <= string->length &&
                           memcmp(string->bytes + string->length - suffix->length, suffix->bytes,
                                  suffix->length) == 0);
}

bool text_method_count(struct text_eval *eval, const struct text_arguments *given, uint32_t place,
                       int64_t *count_out)
{
    *count_out = -1;
    if (!text_method_is_absent(given->values[place]) &&
        !text_value_integer(given->values[place], count_out)) {
        text_eval_fail_kind(eval, given->line, "count with", given->values[place]);
        return false;
    }
    if (*count_out < 0)
        *count_out = INT64_MAX;
    return true;
}

void text_method_append(struct text_eval *eval, struct text_value list,
                        const struct text_string *string, uint32_t start, uint32_t end)
{
    text_list_append(&eval->builder, list,
                     text_value_of(text_string_slice(&eval->builder, string, start, end)));
}

/* sep.join(list): unlike the filter, of strings only. */
static struct text_value method_join(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_list *items = text_eval_iterate(eval, given->line, given->values[0]);
    struct text_value parts = text_value_list(&eval->builder);

    for (uint32_t i = 0; i < items->count && string != NULL; i++) {
        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            return text_value_undefined();
        if (items->items[i].kind != TEXT_STRING)
            return text_eval_fail_kind(eval, given->line, "join with strings", items->items[i]);
        if (i > 0)
            text_list_append(&eval->builder, parts, given->base);
        text_list_append(&eval->builder, parts, items->items[i]);
    }
    if (parts.kind != TEXT_LIST || eval->status != TD_OK)
        return text_value_undefined();
    return text_eval_join(eval, given->line, parts.list->items, parts.list->count);
}

/* The characters in front of the first place of the argument, or -1. */
static struct text_value method_find(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *part = string == NULL ? NULL : text_method_argument(eval, given, 0);
    uint32_t place;

    if (part == NULL)
        return text_value_undefined();
    place = text_string_find(string, text_string_span(part), 0);
    if (place == UINT32_MAX)
        return text_value_int(-1);
    return text_value_int(
        text_string_characters(text_string_slice(&eval->builder, string, 0, place)));
}

static struct text_value without_affix(struct text_eval *eval, const struct text_arguments *given,
                                       bool at_end)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *part = string == NULL ? NULL : text_method_argument(eval, given, 0);
    uint32_t left;

    if (part == NULL)
        return text_value_undefined();
    if (part->length > string->length)
        return given->base;
    left = string->length - part->length;
    if (memcmp(string->bytes + (at_end ? left : 0), part->bytes, part->length) != 0)
        return given->base;
    return text_value_of(
        at_end ? text_string_slice(&eval->builder, string, 0, left)
               : text_string_slice(&eval->builder, string, part->length, string->length));
}

static struct text_value method_removeprefix(struct text_eval *eval,
                                             const struct text_arguments *given)
{
    return without_affix(eval, given, false);
}

static struct text_value method_removesuffix(struct text_eval *eval,
                                             const struct text_arguments *given)
{
    return without_affix(eval, given, true);
}

/*
 * '{} and {0}'.format(a): the fields that have nothing but a place in them, and {{ and }}. The text between them
 * and what goes in keep who wrote them.
 */
static struct text_value method_format(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    struct text_value parts = text_value_list(&eval->builder);
    uint32_t next = 0;
    uint32_t start = 0;

    for (uint32_t at = 0; string != NULL && at < string->length; at++) {
        char c = string->bytes[at];
        char after = at + 1 < string->length ? string->bytes[at + 1] : '\0';
        bool digit = after >= '0' && after < '0' + TEXT_PASSED_MAX;
        uint32_t place = digit ? (uint32_t)(after - '0') : next;

        if (c != '{' && c != '}')
            continue;
        text_method_append(eval, parts, string, start, at + (c == after));
        start = at + 2;
        at++;
        if (c == after)
            continue;
        if (c == '}' || (after != '}' && !digit) ||
            (digit && (at + 1 >= string->length || string->bytes[at + 1] != '}')) ||
            place >= TEXT_PASSED_MAX || given->values[place].kind == TEXT_UNDEFINED) {
            text_eval_fail(eval, given->line, TD_UNSUPPORTED, "format with more than {} or {0}");
            return text_value_undefined();
        }
        start += digit;
        at += digit;
        next++;
        text_list_append(&eval->builder, parts,
                         text_value_of(text_eval_print(eval, given->line, given->values[place])));
    }
    if (string == NULL || parts.kind != TEXT_LIST)
        return text_value_undefined();
    text_method_append(eval, parts, string, start, string->length);
    return text_eval_join(eval, given->line, parts.list->items, parts.list->count);
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
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *old = string == NULL ? NULL : text_method_argument(eval, given, 0);
    const struct text_string *new = old == NULL ? NULL : text_method_argument(eval, given, 1);
    uint64_t count;
    uint64_t length;
    uint32_t at = 0;
    int64_t most;
    char *out;
    char *end;

    if (new == NULL || !text_method_count(eval, given, 2, &most))
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

static struct text_value as_view(struct text_value list)
{
    if (list.kind == TEXT_LIST)
        list.list->form = TEXT_FORM_VIEW;
    return list;
}

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
        if (pair.kind == TEXT_LIST)
            pair.list->form = TEXT_FORM_TUPLE;
        text_list_append(&eval->builder, list, pair);
    }
    return as_view(list);
}

static struct text_value method_keys(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = 0; dict != NULL && i < dict->count; i++)
        text_list_append(&eval->builder, list, text_value_of(dict->entries[i].key));
    return as_view(list);
}

static struct text_value method_values(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = 0; dict != NULL && i < dict->count; i++)
        text_list_append(&eval->builder, list, dict->entries[i].value);
    return as_view(list);
}

static struct text_value method_get(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_dict *dict = dict_base(eval, given);
    struct text_entry *entry = NULL;

    if (dict != NULL && given->values[0].kind == TEXT_STRING)
        entry = text_dict_find(dict, text_string_span(given->values[0].string));
    if (entry != NULL)
        return entry->value;
    return text_method_is_absent(given->values[1]) ? text_value_none() : given->values[1];
}

/* How often the argument stands in the string, without overlap. */
static struct text_value method_count(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    const struct text_string *part = string == NULL ? NULL : text_method_argument(eval, given, 0);

    if (part == NULL)
        return text_value_undefined();
    if (part->length == 0)
        return text_value_int((int64_t)text_string_characters(string) + 1);
    return text_value_int((int64_t)occurrences(string, part, INT64_MAX));
}

static const struct text_builtin methods[] = {
    {"capitalize", text_method_capitalize, 0, 0, {NULL}},
    {"count", method_count, 1, 1, {"sub", NULL}},
    {"endswith", method_endswith, 1, 1, {"suffix", NULL}},
    {"find", method_find, 1, 1, {"sub", NULL}},
    {"format", method_format, 0, TEXT_PASSED_MAX, {NULL}},
    {"get", method_get, 1, 2, {"key", "default", NULL}},
    {"items", text_method_items, 0, 0, {NULL}},
    {"join", method_join, 1, 1, {"iterable", NULL}},
    {"keys", method_keys, 0, 0, {NULL}},
    {"lower", text_method_lower, 0, 0, {NULL}},
    {"lstrip", method_lstrip, 0, 1, {"chars", NULL}},
    {"removeprefix", method_removeprefix, 1, 1, {"prefix", NULL}},
    {"removesuffix", method_removesuffix, 1, 1, {"suffix", NULL}},
    {"replace", text_method_replace, 2, 3, {"old", "new", "count", NULL}},
    {"rsplit", text_method_rsplit, 0, 2, {"sep", "maxsplit", NULL}},
    {"rstrip", method_rstrip, 0, 1, {"chars", NULL}},
    {"split", text_method_split, 0, 2, {"sep", "maxsplit", NULL}},
    {"splitlines", text_method_splitlines, 0, 1, {"keepends", NULL}},
    {"startswith", method_startswith, 1, 1, {"prefix", NULL}},
    {"strip", text_method_strip, 0, 1, {"chars", NULL}},
    {"title", method_title, 0, 0, {NULL}},
    {"upper", text_method_upper, 0, 0, {NULL}},
    {"values", method_values, 0, 0, {NULL}},
};

bool text_method_is_of(const struct text_builtin *method, enum text_kind kind)
{
    bool of_dicts = method->fn == method_get || method->fn == text_method_items ||
                    method->fn == method_keys || method->fn == method_values;

    return kind == (of_dicts ? TEXT_DICT : TEXT_STRING);
}

const struct text_builtin *text_methods(size_t *count_out)
{
    *count_out = sizeof methods / sizeof methods[0];
    return methods;
}
