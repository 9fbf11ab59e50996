/*
 * reader.h: what the request readers of this room share: limits, memory, the error, and where in
 * the document they are, so that an error names "messages[2].content". Inside the room only.
 */
#ifndef TANDEM_LIB_API_READER_H
#define TANDEM_LIB_API_READER_H

#include "lib/api/errors.h"
#include "lib/api/limits.h"
#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "lib/base/span.h"

struct api_reader {
    const struct api_limits *limits;
    struct td_arena *arena;
    struct api_error *error;
    char path[API_PARAM_BYTES]; /* of the object that is read; empty: the body itself */
};

/* Parses body as a JSON object with not too many fields. */
td_status_t api_read_body(struct api_reader *reader, struct td_span body,
                          const struct td_json **object_out) TD_MUST_USE;

/* Goes into element index of the array name ("messages", 2), or back to the body (NULL). */
void api_reader_at(struct api_reader *reader, const char *name, size_t index);

/* Fills the error for a field of the present object and returns status. */
td_status_t api_refuse(struct api_reader *reader, td_status_t status, const char *field,
                       const char *format, ...) TD_PRINTF(4, 5);

/* TD_LIMIT or TD_NO_MEMORY, after the arena gave NULL. */
td_status_t api_refuse_memory(struct api_reader *reader);

/*
 * Typed fields of object, as td_json_*: an absent field leaves *value_out alone, an error names the
 * field with its path.
 */
td_status_t api_read_bool(struct api_reader *reader, const struct td_json *object, const char *name,
                          bool *value_out) TD_MUST_USE;
td_status_t api_read_string(struct api_reader *reader, const struct td_json *object,
                            const char *name, uint64_t bytes_max,
                            struct td_span *value_out) TD_MUST_USE;
td_status_t api_read_array(struct api_reader *reader, const struct td_json *object,
                           const char *name, uint32_t count_max,
                           const struct td_json **value_out) TD_MUST_USE;

struct api_int_field {
    const char *name;
    int64_t min;
    int64_t max;
};
td_status_t api_read_int(struct api_reader *reader, const struct td_json *object,
                         struct api_int_field field, int64_t *value_out) TD_MUST_USE;

struct api_number_field {
    const char *name;
    double min;
    double max;
};
td_status_t api_read_number(struct api_reader *reader, const struct td_json *object,
                            struct api_number_field field, double *value_out) TD_MUST_USE;

#endif
