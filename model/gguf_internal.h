/*
 * gguf_internal.h: what gguf.c (one file) and gguf_split.c (several as one) share; for these alone.
 */
#ifndef TANDEM_MODEL_GGUF_INTERNAL_H
#define TANDEM_MODEL_GGUF_INTERNAL_H

#include "lib/base/map.h"
#include "model/gguf.h"
#include "model/map.h"

struct model_gguf_key {
    const char *name; /* in the mapping, not terminated */
    size_t length;
    struct model_gguf_value value;
};

struct model_gguf {
    struct model_map map; /* empty if the caller keeps the bytes */
    const uint8_t *bytes;
    size_t length;
    struct model_gguf_key *keys;
    uint32_t key_count;
    struct model_gguf_tensor *tensors; /* of all parts, once they are joined */
    uint32_t tensor_count;
    struct td_map keys_by_name;
    struct td_map tensors_by_name;
    struct model_gguf **others; /* the parts behind the first, which are this file's own */
    uint32_t other_count;
};

#endif
