/*
 * options.h: the fields that chat and completion requests share, validated.
 *
 * null means absent; unknown fields are ignored, as are labels and hints without effect (user,
 * metadata, service_tier, kv_transfer_params ...). A known field whose effect would
 * be missed is refused by name: see the table in refusals.c.
 */
#ifndef TANDEM_LIB_API_OPTIONS_H
#define TANDEM_LIB_API_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/json.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

struct api_reader;

/* Sampling fields for which a model may have defaults of its own: whether a request says them. */
enum api_given {
    API_GIVEN_TEMPERATURE = 1 << 0,
    API_GIVEN_TOP_P = 1 << 1,
    API_GIVEN_TOP_K = 1 << 2,
    API_GIVEN_MIN_P = 1 << 3,
    API_GIVEN_REPETITION_PENALTY = 1 << 4,
};

#define API_REPETITION_PENALTY_MAX 1000.0

struct api_bias {
    uint32_t token; /* not compared with any vocabulary yet */
    float value;    /* -100 to 100 */
};

/* Spans and arrays point into the arena of the request. */
struct api_options {
    struct td_span model;     /* empty: not given */
    uint32_t max_tokens;      /* 0: not given */
    unsigned given;           /* of enum api_given; what is not given has its neutral value here */
    float temperature;        /* 0 to 2; 0 is greedy; 1 */
    float top_p;              /* above 0, to 1; 1 is off */
    uint32_t top_k;           /* 0: off */
    float min_p;              /* 0 to 1; 0 is off */
    float repetition_penalty; /* above 0; 1 is off */
    float presence_penalty;   /* -2 to 2; 0 is off */
    float frequency_penalty;  /* the same */
    const struct api_bias *biases; /* logit_bias: no token twice */
    uint32_t bias_count;
    bool has_seed;
    uint64_t seed;               /* a negative seed in two's complement */
    const struct td_span *stops; /* none is empty */
    uint32_t stop_count;
    bool stream;
    bool include_usage;        /* one more chunk with the usage; only meaningful with stream */
    struct td_span user;       /* a label, never a security domain; empty: not given */
    struct td_span cache_salt; /* separates the prefix cache further; empty: not given */
};

/* Reads all of them from the object, after the refusals. */
td_status_t api_options_read(struct api_reader *reader, const struct td_json *object,
                             struct api_options *options_out) TD_MUST_USE;

#endif
