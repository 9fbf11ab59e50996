/* flags_value.c: reading and printing of flag values, see flags_value.h. */
#include "lib/base/flags_value.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *name;
    int64_t factor;
};

/* Printing takes the last unit that divides, so the larger of equals comes later. */
static const struct unit byte_units[] = {
    {"B", 1},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"Ki", INT64_C(1) << 10},
    {"Mi", INT64_C(1) << 20},
    {"Gi", INT64_C(1) << 30},
    {"Ti", INT64_C(1) << 40},
    {"KiB", INT64_C(1) << 10},
    {"MiB", INT64_C(1) << 20},
    {"GiB", INT64_C(1) << 30},
    {"TiB", INT64_C(1) << 40},
    {NULL, 0},
};
static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 60 * 60 * 1000}, {NULL, 0},
};

static const char *const true_words[] = {"true", "yes", "on", "1", NULL};
static const char *const false_words[] = {"false", "no", "off", "0", NULL};

static bool is_duration(const struct td_flag *flag)
{
    return flag->kind == TD_FLAG_DURATION || flag->kind == TD_FLAG_DURATION32;
}

/* Kept in a uint32_t. */
static bool is_small(const struct td_flag *flag)
{
    return flag->kind == TD_FLAG_UINT32 || flag->kind == TD_FLAG_DURATION32;
}

static void *place(const struct td_flag *flag, void *options)
{
    return (char *)options + flag->offset;
}

/* The index of text among words, or -1. */
static int index_of(const char *const *words, const char *text)
{
    for (int i = 0; words[i] != NULL; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    return -1;
}

/* A decimal integer at the start of text; what follows it goes to *rest_out. */
static bool read_integer(const char *text, int64_t *value_out, const char **rest_out)
{
    bool negative = text[0] == '-';
    int64_t value = 0;

    text += negative;
    if (!isdigit((unsigned char)*text))
        return false;
    for (; isdigit((unsigned char)*text); text++) {
        int64_t digit = *text - '0';

        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, negative ? -digit : digit, &value))
            return false;
    }
    *value_out = value;
    *rest_out = text;
    return true;
}

/* An integer with a unit. Without a unit only if bare is allowed, or the value is 0. */
static bool read_with_unit(const char *text, const struct unit *units, bool bare,
                           int64_t *value_out)
{
    int64_t value;
    const char *rest;

    if (!read_integer(text, &value, &rest))
        return false;
    if (*rest == '\0') {
        *value_out = value;
        return bare || value == 0;
    }
    for (; units->name != NULL; units++)
        if (strcasecmp(units->name, rest) == 0)
            return !__builtin_mul_overflow(value, units->factor, value_out);
    return false;
}

static bool read_number(const struct td_flag *flag, const char *text, int64_t *value_out)
{
    const char *rest;

    if (flag->kind == TD_FLAG_BYTES)
        return read_with_unit(text, byte_units, true, value_out);
    if (is_duration(flag))
        return read_with_unit(text, time_units, false, value_out);
    return read_integer(text, value_out, &rest) && *rest == '\0';
}

static void bounds(const struct td_flag *flag, int64_t *min_out, int64_t *max_out)
{
    bool any = flag->min == 0 && flag->max == 0;
    bool small = is_small(flag);

    *min_out = any && flag->kind == TD_FLAG_INT64 ? INT64_MIN : flag->min;
    *max_out = any ? (small ? UINT32_MAX : INT64_MAX) : flag->max;
    assert(*min_out <= *max_out);
    assert(flag->kind == TD_FLAG_INT64 || *min_out >= 0);
    assert(!small || *max_out <= UINT32_MAX);
}

static const char *kind_text(const struct td_flag *flag)
{
    switch (flag->kind) {
    case TD_FLAG_BOOL: return "true or false";
    case TD_FLAG_UINT32:
    case TD_FLAG_INT64: return "an integer";
    case TD_FLAG_BYTES: return "a size";
    case TD_FLAG_DURATION:
    case TD_FLAG_DURATION32: return "a duration";
    case TD_FLAG_CHOICE: return "one of";
    case TD_FLAG_TEXT:
    case TD_FLAG_LIST: break;
    }
    return "a text";
}

/* How a value of this kind is written, where the range does not show it. */
static const char *example_text(const struct td_flag *flag)
{
    if (flag->kind == TD_FLAG_BYTES)
        return " (for example 64KiB or 2GiB)";
    return is_duration(flag) ? " (for example 250ms, 30s or 5m)" : "";
}

static td_status_t refuse(const struct td_flag *flag, const char *name, const char *text,
                          struct td_error *error)
{
    struct td_buf range;

    td_buf_init(&range, 160);
    if (td_flag_has_range(flag))
        td_buf_append_text(&range, flag->kind == TD_FLAG_CHOICE ? " " : " from ");
    td_flag_print_range(flag, &range);
    td_fail(error, TD_INVALID, "%s: '%.60s' is not %s%s%s", name, text, kind_text(flag),
            range.data != NULL ? range.data : "", example_text(flag));
    td_buf_fini(&range);
    return TD_INVALID;
}

static bool set_number(const struct td_flag *flag, void *options, const char *text)
{
    void *target = place(flag, options);
    int64_t value;
    int64_t min;
    int64_t max;

    bounds(flag, &min, &max);
    if (!read_number(flag, text, &value) || value < min || value > max)
        return false;
    if (is_small(flag))
        *(uint32_t *)target = (uint32_t)value;
    else if (flag->kind == TD_FLAG_INT64)
        *(int64_t *)target = value;
    else
        *(uint64_t *)target = (uint64_t)value;
    return true;
}

td_status_t td_flag_set(const struct td_flag *flag, void *options, const char *text,
                        const char *name, struct td_error *error)
{
    bool good = true;
    int choice;

    switch (flag->kind) {
    case TD_FLAG_TEXT: *(const char **)place(flag, options) = text; break;
    case TD_FLAG_BOOL:
        good = index_of(true_words, text) >= 0 || index_of(false_words, text) >= 0;
        *(bool *)place(flag, options) = index_of(true_words, text) >= 0;
        break;
    case TD_FLAG_CHOICE:
        choice = index_of(flag->choices, text);
        good = choice >= 0;
        if (good)
            *(unsigned *)place(flag, options) = (unsigned)choice;
        break;
    default:
        assert(flag->kind != TD_FLAG_LIST); /* goes through td_flag_append */
        good = set_number(flag, options, text);
    }
    return good ? TD_OK : refuse(flag, name, text, error);
}

td_status_t td_flag_append(const struct td_flag *flag, void *options, const char *text,
                           struct td_arena *arena, struct td_error *error)
{
    struct td_flag_list *list = place(flag, options);
    size_t commas = 0;
    char **items;
    size_t count = list->count;

    for (const char *c = text; *c != '\0'; c++)
        commas += *c == ',';
    items = td_arena_array(arena, list->count + commas + 1, sizeof *items);
    if (items == NULL)
        goto no_memory;
    for (size_t i = 0; i < list->count; i++)
        items[i] = list->items[i];
    for (const char *word = text;; word++) {
        size_t length = strcspn(word, ",");

        if (length > 0) { /* nothing between two commas is no word */
            items[count] = td_arena_text(arena, word, length);
            if (items[count++] == NULL)
                goto no_memory;
        }
        word += length;
        if (*word == '\0')
            break;
    }
    *list = (struct td_flag_list){.items = items, .count = count};
    return TD_OK;

no_memory:
    return td_fail(error, arena->status, "--%s: %s", flag->name, td_status_text(arena->status));
}

void td_flag_clear(const struct td_flag *flag, void *options)
{
    *(struct td_flag_list *)place(flag, options) = (struct td_flag_list){0};
}

/* ------------------------------------------------------------------------------------------- */

static void print_with_unit(int64_t value, const struct unit *units, struct td_buf *out)
{
    const struct unit *best = units;

    for (const struct unit *unit = units; unit->name != NULL; unit++)
        if (value >= unit->factor && value % unit->factor == 0 && unit->factor >= best->factor)
            best = unit;
    if (value == 0)
        td_buf_append_text(out, "0");
    else
        td_buf_printf(out, "%" PRId64 "%s", value / best->factor, best->name);
}

static void print_number(const struct td_flag *flag, int64_t value, struct td_buf *out)
{
    if (flag->kind == TD_FLAG_BYTES)
        print_with_unit(value, byte_units, out);
    else if (is_duration(flag))
        print_with_unit(value, time_units, out);
    else
        td_buf_printf(out, "%" PRId64, value);
}

static void print_choices(const struct td_flag *flag, struct td_buf *out)
{
    for (size_t i = 0; flag->choices[i] != NULL; i++) {
        const char *joint = i == 0 ? "" : flag->choices[i + 1] == NULL ? " or " : ", ";

        td_buf_printf(out, "%s%s", joint, flag->choices[i]);
    }
}

bool td_flag_has_range(const struct td_flag *flag)
{
    bool number = flag->kind >= TD_FLAG_UINT32 && flag->kind <= TD_FLAG_DURATION32;

    return flag->kind == TD_FLAG_CHOICE || (number && (flag->min != 0 || flag->max != 0));
}

void td_flag_print_range(const struct td_flag *flag, struct td_buf *out)
{
    if (!td_flag_has_range(flag))
        return;
    if (flag->kind == TD_FLAG_CHOICE) {
        print_choices(flag, out);
        return;
    }
    print_number(flag, flag->min, out);
    td_buf_append_text(out, " to ");
    print_number(flag, flag->max, out);
}

const char *td_flag_placeholder(const struct td_flag *flag)
{
    if (flag->value != NULL)
        return flag->value;
    switch (flag->kind) {
    case TD_FLAG_UINT32:
    case TD_FLAG_INT64: return "N";
    case TD_FLAG_BYTES: return "SIZE";
    case TD_FLAG_DURATION:
    case TD_FLAG_DURATION32: return "TIME";
    case TD_FLAG_LIST: return "A,B,...";
    case TD_FLAG_CHOICE: return "WORD";
    case TD_FLAG_TEXT:
    case TD_FLAG_BOOL: break;
    }
    return "TEXT";
}

void td_flag_environment_name(const struct td_flag *flag, char *out, size_t size)
{
    int length = snprintf(out, size, "TANDEM_%s", flag->name);

    assert(length > 0 && (size_t)length < size);
    for (; *out != '\0'; out++)
        *out = (char)(*out == '-' ? '_' : toupper((unsigned char)*out));
}
