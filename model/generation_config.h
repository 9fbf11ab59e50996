/*
 * generation_config.h: how a model's authors want its tokens drawn and its answers ended.
 *
 * Two places say it: generation_config.json in a Hugging Face folder, and general.sampling.* in the
 * metadata of a GGUF file, into which llama.cpp's converter copies the same values. Both end as
 * struct text_generation, which travels with the tokenizer. The files are untrusted: a value of another
 * type or out of range is refused by the name of its key. Keys without a counterpart here (beams,
 * watermarks, lengths that count the prompt ...) are ignored, as other servers do with defaults.
 */
#ifndef TANDEM_MODEL_GENERATION_CONFIG_H
#define TANDEM_MODEL_GENERATION_CONFIG_H

#include "lib/base/span.h"
#include "lib/base/status.h"
#include "lib/text/source.h"
#include "model/gguf.h"

#define MODEL_GENERATION_CONFIG_BYTES_MAX ((size_t)256 << 10)

struct td_json;

struct model_generation_config {
    struct text_generation generation;
    uint32_t end_ids[TEXT_STOP_IDS_MAX]; /* eos_token_id: one or several */
    uint32_t end_id_count;
};

/*
 * model_generation_config_read: the text of a generation_config.json.
 * null is absent. "do_sample": false is greedy, whatever temperature says; without do_sample the other
 * values count. TD_INVALID or TD_LIMIT name the key, or the byte where the text is no JSON; TD_NO_MEMORY.
 */
td_status_t model_generation_config_read(struct td_span text,
                                         struct model_generation_config *config_out,
                                         struct td_error *error) TD_MUST_USE;

/*
 * model_end_ids_read: eos_token_id of a JSON object, as config.json and generation_config.json have it: one
 * id, several, or none. Which tokens they are is not known here. TD_INVALID or TD_LIMIT name the key.
 */
td_status_t model_end_ids_read(const struct td_json *root,
                               uint32_t ids_out[static TEXT_STOP_IDS_MAX], uint32_t *count_out,
                               struct td_error *error) TD_MUST_USE;

/*
 * Adds ids to the source's stop ids, each once. An id beyond the source's tokens is left out: the text of
 * no answer could show it. TD_LIMIT: more than TEXT_STOP_IDS_MAX.
 */
td_status_t model_add_stop_ids(struct text_source *source, const uint32_t *ids, uint32_t count,
                               struct td_error *error) TD_MUST_USE;

/* Both parts of a generation_config.json into a source. */
td_status_t model_generation_config_apply(const struct model_generation_config *config,
                                          struct text_source *source,
                                          struct td_error *error) TD_MUST_USE;

/*
 * model_gguf_generation: defaults and further stop ids of a GGUF file, into a source whose tokens were read.
 * What llama.cpp takes for "off" or "greedy" (a temperature below 0, a top_k of -1 ...) means the same here.
 * TD_INVALID names the key.
 */
td_status_t model_gguf_generation(const struct model_gguf *file, struct text_source *source,
                                  struct td_error *error) TD_MUST_USE;

#endif
