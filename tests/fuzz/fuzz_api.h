/*
 * fuzz_api.h: what the fuzz targets of the two request readers share.
 *
 * A reader is run on the bytes and again on the same document written anew, with other spaces and escapes:
 * both must come to the same end. What is accepted must keep its promises, what is refused must be an
 * error that can be sent.
 */
#ifndef TANDEM_TESTS_FUZZ_FUZZ_API_H
#define TANDEM_TESTS_FUZZ_FUZZ_API_H

#include "lib/api/errors.h"
#include "lib/api/limits.h"
#include "lib/api/options.h"
#include "lib/api/response.h"

/* Parses body into arena and checks what came out. Returns a hash of it, or of the error. */
typedef uint64_t (*fuzz_api_fn)(struct td_span body, const struct api_limits *limits,
                                struct td_arena *arena);

void fuzz_api_run(const uint8_t *data, size_t size, fuzz_api_fn parse);

/* The promises of options.h. */
void fuzz_api_check_options(const struct api_options *options, const struct api_limits *limits);

/* The promises of errors.h. */
void fuzz_api_check_error(td_status_t status, const struct api_error *error);

/* Writes an answer of this text, whole and as an event, and checks that a client reads it again. */
void fuzz_api_check_answer(enum api_surface surface, const struct api_options *options,
                           struct td_span text);

/* Hashes, chained. */
uint64_t fuzz_api_hash(uint64_t hash, const void *bytes, size_t length);
uint64_t fuzz_api_hash_options(uint64_t hash, const struct api_options *options);
uint64_t fuzz_api_hash_error(td_status_t status, const struct api_error *error);

#endif
