/* generation.c: the fields of generation defaults in one table, see generation.h. */
#include "lib/text/generation.h"

#include <float.h>
#include <stdbool.h>

/* What is what: each field is a float or a u32, by its place in the struct. */
static const struct field {
    enum text_generation_field bit;
    const char *name;
    size_t offset;
    bool is_float;
    double min;
    double max;
    bool above_min; /* min itself is out of range */
} fields[] = {
#define FIELD(BIT, NAME, ...)                                                             \
    {                                                                                     \
        TEXT_GENERATION_##BIT, #NAME, offsetof(struct text_generation, NAME), __VA_ARGS__ \
    }
    FIELD(TEMPERATURE, temperature, true, 0, FLT_MAX, false),
    FIELD(TOP_P, top_p, true, 0, 1, true),
    FIELD(TOP_K, top_k, false, 0, UINT32_MAX, false),
    FIELD(MIN_P, min_p, true, 0, 1, false),
    FIELD(REPETITION_PENALTY, repetition_penalty, true, 0, FLT_MAX, true),
    FIELD(MAX_NEW_TOKENS, max_new_tokens, false, 1, UINT32_MAX, false),
#undef FIELD
};

#define FIELD_COUNT (sizeof fields / sizeof fields[0])

static double value_of(const struct text_generation *generation, const struct field *field)
{
    const char *at = (const char *)generation + field->offset;
    uint32_t number;
    float real;

    if (!field->is_float) {
        memcpy(&number, at, sizeof number);
        return number;
    }
    memcpy(&real, at, sizeof real);
    return (double)real;
}

td_status_t text_generation_check(const struct text_generation *generation, struct td_error *error)
{
    if ((generation->present & ~(uint32_t)TEXT_GENERATION_ALL) != 0)
        return td_fail(error, TD_INVALID, "generation defaults: bits %#x are not known",
                       generation->present);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        double value = value_of(generation, &fields[i]);

        if ((generation->present & fields[i].bit) == 0)
            continue;
        if (!(value >= fields[i].min && value <= fields[i].max) || /* NaN too */
            (fields[i].above_min && value == fields[i].min))
            return td_fail(error, TD_INVALID,
                           "generation defaults: %s %g, must be %s %g and at most %g",
                           fields[i].name, value, fields[i].above_min ? "above" : "at least",
                           fields[i].min, fields[i].max);
    }
    return TD_OK;
}

size_t text_generation_encoded_bytes(const struct text_generation *generation)
{
    return 1 + 4 * (size_t)__builtin_popcount(generation->present);
}

void text_generation_write(const struct text_generation *generation, struct td_writer *writer)
{
    td_write_u8(writer, (uint8_t)generation->present);
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if ((generation->present & fields[i].bit) != 0)
            td_write_bytes(writer, (const char *)generation + fields[i].offset, 4);
}

td_status_t text_generation_read(struct td_reader *reader, struct text_generation *generation_out,
                                 struct td_error *error)
{
    struct text_generation generation = {.present = td_read_u8(reader)};

    if (generation.present > TEXT_GENERATION_ALL)
        return td_fail(error, TD_INVALID, "generation defaults: bits %#x are not known",
                       generation.present);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const uint8_t *bytes =
            (generation.present & fields[i].bit) != 0 ? td_read_bytes(reader, 4) : NULL;

        if (bytes != NULL)
            memcpy((char *)&generation + fields[i].offset, bytes, 4);
    }
    *generation_out = generation;
    return TD_OK;
}

void text_generation_print(const struct text_generation *generation, struct td_buf *out)
{
    const char *separator = "";

    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if ((generation->present & fields[i].bit) == 0)
            continue;
        td_buf_printf(out, "%s%s %.6g", separator, fields[i].name,
                      value_of(generation, &fields[i]));
        separator = ", ";
    }
    if (generation->present == 0)
        td_buf_append_text(out, "none");
}
