/*
 * hf_config.h: the config.json of a Hugging Face folder: which architecture, and its numbers.
 *
 * Owns the meaning of the keys, in the forms that were written over the years (rope_theta with rope_scaling,
 * or rope_parameters; null for absent; one end token or several), and the refusal of keys that
 * would change results if they were ignored. Keys that only concern training are ignored. The text is
 * untrusted: whatever is refused is refused by the name of its key. It reads no file and knows no tensors.
 */
#ifndef TANDEM_MODEL_HF_CONFIG_H
#define TANDEM_MODEL_HF_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/span.h"
#include "lib/base/status.h"
#include "lib/text/source.h"
#include "model/architecture.h"
#include "model/rope.h"
#include "model/scales.h"

#define MODEL_HF_CONFIG_BYTES_MAX ((size_t)4 << 20)

struct model_hf_config {
    const struct model_architecture *architecture;
    uint32_t vocab;
    uint32_t hidden;
    uint32_t ffn;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t max_context;
    float rms_epsilon;
    bool is_tied; /* the LM head is the embedding */
    struct model_rope_description rope;
    struct model_quantization quantization;
    uint32_t end_ids[TEXT_STOP_IDS_MAX]; /* eos_token_id */
    uint32_t end_id_count;
};

/*
 * model_hf_config_read: the text of a config.json.
 * Each number is within the limits of model.h; whether they fit each other is for model_check_numbers.
 * TD_INVALID, TD_LIMIT or TD_UNSUPPORTED name the key, or the byte where the text is no JSON.
 */
td_status_t model_hf_config_read(struct td_span text, struct model_hf_config *config_out,
                                 struct td_error *error) TD_MUST_USE;

/* For hf_config.c alone: the position encoding (hf_rope.c). context: max_position_embeddings. */
struct td_json;
td_status_t model_hf_rope_read(const struct td_json *root, struct model_hf_config *config,
                               struct td_error *error) TD_MUST_USE;

/* The same: how weights were quantised (hf_quantization.c), where quant_method is none that is refused. */
td_status_t model_hf_quantization_read(const struct td_json *root, struct model_quantization *out,
                                       struct td_error *error) TD_MUST_USE;

/* The keys of config.json that are refused when they are set, and why, for pages; NULL: no more. */
struct model_hf_refusal {
    const char *key;
    const char *condition; /* "is set", "is true", ... */
    const char *reason;
};

const struct model_hf_refusal *model_hf_refusal_at(size_t index);

#endif
