/* gguf_values.c: typed access to GGUF metadata; see gguf.h. */
#include "model/gguf.h"

#include <inttypes.h>
#include <string.h>

static td_status_t wrong_kind(const char *key, const char *wanted, struct td_error *error)
{
    return td_fail(error, TD_INVALID, "key %s is not %s", key, wanted);
}

static uint64_t load_unsigned(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

static int64_t load_signed(const uint8_t *bytes, size_t size)
{
    unsigned unused_bits = (unsigned)(64 - 8 * size);

    return (int64_t)(load_unsigned(bytes, size) << unused_bits) >> unused_bits;
}

/* Whether the value is an integer from 0 up; all integer kinds count. */
static bool get_unsigned(const struct model_gguf_value *value, uint64_t *out)
{
    int64_t number;

    switch (value->kind) {
    case MODEL_GGUF_U8:
    case MODEL_GGUF_U16:
    case MODEL_GGUF_U32:
    case MODEL_GGUF_U64: *out = load_unsigned(value->bytes, value->length); return true;
    case MODEL_GGUF_I8:
    case MODEL_GGUF_I16:
    case MODEL_GGUF_I32:
    case MODEL_GGUF_I64:
        number = load_signed(value->bytes, value->length);
        *out = (uint64_t)number;
        return number >= 0;
    default: return false;
    }
}

td_status_t model_gguf_get_u32(const struct model_gguf *file, const char *key, uint32_t *value_out,
                               struct td_error *error)
{
    const struct model_gguf_value *value = model_gguf_find(file, key);
    uint64_t number;

    if (value == NULL)
        return TD_NOT_FOUND;
    if (!get_unsigned(value, &number))
        return wrong_kind(key, "an integer from 0 up", error);
    if (number > UINT32_MAX)
        return td_fail(error, TD_INVALID, "key %s is %" PRIu64 ", which does not fit 32 bits", key,
                       number);
    *value_out = (uint32_t)number;
    return TD_OK;
}

td_status_t model_gguf_get_f32(const struct model_gguf *file, const char *key, float *value_out,
                               struct td_error *error)
{
    const struct model_gguf_value *value = model_gguf_find(file, key);
    double wide;

    if (value == NULL)
        return TD_NOT_FOUND;
    if (value->kind == MODEL_GGUF_F32) {
        memcpy(value_out, value->bytes, sizeof *value_out);
        return TD_OK;
    }
    if (value->kind != MODEL_GGUF_F64)
        return wrong_kind(key, "a float", error);
    memcpy(&wide, value->bytes, sizeof wide);
    *value_out = (float)wide;
    return TD_OK;
}

td_status_t model_gguf_get_bool(const struct model_gguf *file, const char *key, bool *value_out,
                                struct td_error *error)
{
    const struct model_gguf_value *value = model_gguf_find(file, key);

    if (value == NULL)
        return TD_NOT_FOUND;
    if (value->kind != MODEL_GGUF_BOOL || value->bytes[0] > 1)
        return wrong_kind(key, "true or false", error);
    *value_out = value->bytes[0] == 1;
    return TD_OK;
}

td_status_t model_gguf_get_text(const struct model_gguf *file, const char *key,
                                struct td_span *text_out, struct td_error *error)
{
    const struct model_gguf_value *value = model_gguf_find(file, key);

    if (value == NULL)
        return TD_NOT_FOUND;
    if (value->kind != MODEL_GGUF_STRING)
        return wrong_kind(key, "a string", error);
    *text_out = td_span_over((const char *)value->bytes, value->length);
    return TD_OK;
}

td_status_t model_gguf_get_array(const struct model_gguf *file, const char *key,
                                 enum model_gguf_kind element,
                                 const struct model_gguf_value **value_out, struct td_error *error)
{
    const struct model_gguf_value *value = model_gguf_find(file, key);

    if (value == NULL)
        return TD_NOT_FOUND;
    if (value->kind != MODEL_GGUF_ARRAY || value->element != element)
        return td_fail(error, TD_INVALID, "key %s is not an array of kind %d", key, (int)element);
    *value_out = value;
    return TD_OK;
}

struct td_span model_gguf_next_string(const struct model_gguf_value *value, size_t *cursor)
{
    const uint8_t *entry = value->bytes + *cursor;
    size_t length = (size_t)load_unsigned(entry, sizeof(uint64_t));

    *cursor += sizeof(uint64_t) + length;
    return td_span_over((const char *)entry + sizeof(uint64_t), length);
}
