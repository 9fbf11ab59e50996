/* template_split.c: methods that take strings apart: split, rsplit, splitlines; see template_methods.h. */
#include "lib/text/template_eval.h"
#include "lib/text/template_methods.h"
#include "lib/text/unicode.h"

static void split_at(struct text_eval *eval, const struct text_arguments *given,
                     const struct text_string *string, int64_t splits, struct text_value list)
{
    const struct text_string *separator = text_method_argument(eval, given, 0);
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
        text_method_append(eval, list, string, start, at);
        start = at + separator->length;
    }
    text_method_append(eval, list, string, start, string->length);
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
        text_method_append(eval, list, string, start, at);
        splits--;
    }
}

struct text_value text_method_split(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);
    int64_t splits;

    if (string == NULL || !text_method_count(eval, given, 1, &splits))
        return text_value_undefined();
    if (text_method_is_absent(given->values[0]))
        split_words(eval, given, string, splits, list);
    else
        split_at(eval, given, string, splits, list);
    return list;
}

/* rsplit(sep, maxsplit): the splits are counted from the end. */
struct text_value text_method_rsplit(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments all = *given;
    struct text_value rest;
    const struct text_string *string = text_method_base(eval, given);
    struct text_value parts;
    struct text_value list = text_value_list(&eval->builder);
    int64_t splits;
    uint32_t kept;

    if (string == NULL || !text_method_count(eval, given, 1, &splits))
        return text_value_undefined();
    if (text_method_is_absent(given->values[0]) && splits != INT64_MAX) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED,
                       "rsplit counts splits at a separator only");
        return text_value_undefined();
    }
    all.values[1] = text_value_none();
    parts = text_method_split(eval, &all);
    if (parts.kind != TEXT_LIST || list.kind != TEXT_LIST ||
        (int64_t)parts.list->count - 1 <= splits)
        return parts;
    /* The first part keeps all separators but the last `splits`. */
    kept = parts.list->count - (uint32_t)splits;
    rest = text_value_list(&eval->builder);
    for (uint32_t i = 0; i < kept; i++) {
        if (i > 0)
            text_list_append(&eval->builder, rest, given->values[0]);
        text_list_append(&eval->builder, rest, parts.list->items[i]);
    }
    if (rest.kind != TEXT_LIST)
        return rest;
    text_list_append(&eval->builder, list,
                     text_eval_join(eval, given->line, rest.list->items, rest.list->count));
    for (uint32_t i = kept; i < parts.list->count; i++)
        text_list_append(&eval->builder, list, parts.list->items[i]);
    return list;
}

/* The end of the line break at `at`, or `at` if there is none. */
static uint32_t break_end(const struct text_string *string, uint32_t at)
{
    size_t taken;
    uint32_t character =
        text_utf8_decode((const uint8_t *)string->bytes + at, string->length - at, &taken);

    if (character == '\r' && at + 1 < string->length && string->bytes[at + 1] == '\n')
        return at + 2;
    if ((character >= '\n' && character <= '\r') || (character >= 0x1C && character <= 0x1E) ||
        character == 0x85 || character == 0x2028 || character == 0x2029)
        return at + (uint32_t)taken;
    return at;
}

struct text_value text_method_splitlines(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_method_base(eval, given);
    struct text_value list = text_value_list(&eval->builder);
    bool keep = text_eval_truth(given->values[0]);
    uint32_t start = 0;
    uint32_t at = 0;

    if (string == NULL)
        return text_value_undefined();
    while (at < string->length) {
        uint32_t end = break_end(string, at);

        if (end == at) {
            at = text_string_character_end(string, at);
            continue;
        }
        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            return text_value_undefined();
        text_method_append(eval, list, string, start, keep ? end : at);
        start = at = end;
    }
    if (start < string->length)
        text_method_append(eval, list, string, start, string->length);
    return list;
}
