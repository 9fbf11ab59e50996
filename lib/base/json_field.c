/* json_field.c: reading typed values out of a parsed tree, see json.h. */
#include <assert.h>

#include "lib/base/json.h"

#define EXACT_INTEGER 9007199254740992.0 /* 2^53: below, every integral double is exact */

const struct td_json *td_json_find(const struct td_json *object, const char *key)
{
    struct td_span wanted = td_span_of(key);

    assert(object->kind == TD_JSON_OBJECT);
    td_json_for_each(member, object) if (td_span_equal(member->key, wanted)) return member;
    return NULL;
}

const char *td_json_kind_text(enum td_json_kind kind)
{
    switch (kind) {
    case TD_JSON_NULL: return "null";
    case TD_JSON_BOOL: return "a boolean";
    case TD_JSON_INTEGER: return "an integer";
    case TD_JSON_NUMBER: return "a number";
    case TD_JSON_STRING: return "a string";
    case TD_JSON_ARRAY: return "an array";
    case TD_JSON_OBJECT: return "an object";
    }
    return "unknown";
}

struct td_json_field td_json_get(const struct td_json *object, const char *name)
{
    const struct td_json *member = td_json_find(object, name);

    if (member != NULL && member->kind == TD_JSON_NULL)
        member = NULL;
    return (struct td_json_field){.value = member, .name = name};
}

/* TD_OK if the field is absent or of this kind. */
static td_status_t check_kind(struct td_json_field field, enum td_json_kind kind,
                              struct td_error *error)
{
    if (field.value != NULL && field.value->kind != kind)
        return td_fail(error, TD_INVALID, "'%s' must be %s, not %s", field.name,
                       td_json_kind_text(kind), td_json_kind_text(field.value->kind));
    return TD_OK;
}

td_status_t td_json_bool(struct td_json_field field, bool *value_out, struct td_error *error)
{
    td_status_t status = check_kind(field, TD_JSON_BOOL, error);

    if (status == TD_OK && field.value != NULL)
        *value_out = field.value->boolean;
    return status;
}

/* False if the value is no integer, or one that a double does not hold exactly. */
static bool as_integer(const struct td_json *value, int64_t *integer_out)
{
    if (value->kind == TD_JSON_INTEGER) {
        *integer_out = value->integer;
        return true;
    }
    if (value->kind != TD_JSON_NUMBER || value->number > EXACT_INTEGER ||
        value->number < -EXACT_INTEGER)
        return false;
    *integer_out = (int64_t)value->number;
    return (double)*integer_out == value->number;
}

td_status_t td_json_int(struct td_json_field field, int64_t min, int64_t max, int64_t *value_out,
                        struct td_error *error)
{
    int64_t value = 0;

    if (field.value == NULL)
        return TD_OK;
    if (!as_integer(field.value, &value) || value < min || value > max)
        return td_fail(error, TD_INVALID, "'%s' must be an integer from %lld to %lld", field.name,
                       (long long)min, (long long)max);
    *value_out = value;
    return TD_OK;
}

td_status_t td_json_number(struct td_json_field field, double min, double max, double *value_out,
                           struct td_error *error)
{
    double value;

    if (field.value == NULL)
        return TD_OK;
    if (field.value->kind == TD_JSON_INTEGER)
        value = (double)field.value->integer;
    else if (field.value->kind == TD_JSON_NUMBER)
        value = field.value->number;
    else
        return check_kind(field, TD_JSON_NUMBER, error);
    if (value < min || value > max)
        return td_fail(error, TD_INVALID, "'%s' must be a number from %g to %g", field.name, min,
                       max);
    *value_out = value;
    return TD_OK;
}

td_status_t td_json_string(struct td_json_field field, struct td_span *value_out,
                           struct td_error *error)
{
    td_status_t status = check_kind(field, TD_JSON_STRING, error);

    if (status == TD_OK && field.value != NULL)
        *value_out = field.value->string;
    return status;
}

td_status_t td_json_array(struct td_json_field field, const struct td_json **value_out,
                          struct td_error *error)
{
    td_status_t status = check_kind(field, TD_JSON_ARRAY, error);

    if (status == TD_OK && field.value != NULL)
        *value_out = field.value;
    return status;
}

td_status_t td_json_object(struct td_json_field field, const struct td_json **value_out,
                           struct td_error *error)
{
    td_status_t status = check_kind(field, TD_JSON_OBJECT, error);

    if (status == TD_OK && field.value != NULL)
        *value_out = field.value;
    return status;
}
