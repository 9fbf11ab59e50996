/*
 * generation.h: how a model's authors want its tokens drawn, where a request does not say.
 *
 * The values come from generation_config.json or from a GGUF file's metadata, travel with the text source
 * to routers, and are the defaults of request fields with the same names. Each may be absent: then the
 * neutral value of the API holds.
 *
 * This file owns the struct, its checks and its part of the source's canonical form. Who reads model
 * files is in model/, who applies the defaults in front/.
 */
#ifndef TANDEM_LIB_TEXT_GENERATION_H
#define TANDEM_LIB_TEXT_GENERATION_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/bytes.h"
#include "lib/base/status.h"

/* The order is that of the canonical form. */
enum text_generation_field {
    TEXT_GENERATION_TEMPERATURE = 1 << 0,
    TEXT_GENERATION_TOP_P = 1 << 1,
    TEXT_GENERATION_TOP_K = 1 << 2,
    TEXT_GENERATION_MIN_P = 1 << 3,
    TEXT_GENERATION_REPETITION_PENALTY = 1 << 4,
    TEXT_GENERATION_MAX_NEW_TOKENS = 1 << 5,
    TEXT_GENERATION_ALL = (1 << 6) - 1,
};

/* Only fields whose bit is in present mean anything. All zero: no defaults. */
struct text_generation {
    uint32_t present;         /* of enum text_generation_field */
    float temperature;        /* finite, at least 0; 0 is greedy */
    float top_p;              /* above 0, to 1; 1 is off */
    uint32_t top_k;           /* 0: off */
    float min_p;              /* 0 to 1; 0 is off */
    float repetition_penalty; /* finite, above 0; 1 is off */
    uint32_t max_new_tokens;  /* at least 1 */
};

/* TD_INVALID names the field that is out of the range above. */
td_status_t text_generation_check(const struct text_generation *generation,
                                  struct td_error *error) TD_MUST_USE;

/* Bytes of the canonical form: one for what is present, four for each value. */
size_t text_generation_encoded_bytes(const struct text_generation *generation);
void text_generation_write(const struct text_generation *generation, struct td_writer *writer);

/* The inverse; absent values are 0. TD_INVALID: bits that are not known. Where bytes are missing, the
 * reader says so. Values are not checked. */
td_status_t text_generation_read(struct td_reader *reader, struct text_generation *generation_out,
                                 struct td_error *error) TD_MUST_USE;

/* Appends "temperature 0.7, top_p 0.8, ...", for people; "none" if nothing is present. */
void text_generation_print(const struct text_generation *generation, struct td_buf *out);

#endif
