/*
 * fuzz_hf_config.c: any bytes are a config.json or are refused with a reason; what was accepted has numbers
 * within the limits, and its position encoding can be computed or is refused.
 */
#include <assert.h>
#include <string.h>

#include "model/hf_config.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_numbers(const struct model_hf_config *config)
{
    assert(config->architecture != NULL);
    assert(config->vocab >= 1 && config->vocab <= MODEL_VOCAB_MAX);
    assert(config->hidden >= 1 && config->hidden <= MODEL_HIDDEN_MAX);
    assert(config->ffn >= 1 && config->ffn <= MODEL_FFN_MAX);
    assert(config->layers >= 1 && config->layers <= MODEL_LAYERS_MAX);
    assert(config->heads >= 1 && config->heads <= MODEL_HEADS_MAX);
    assert(config->kv_heads >= 1 && config->kv_heads <= config->heads);
    assert(config->max_context >= 1 && config->max_context <= MODEL_CONTEXT_MAX);
    assert(config->rms_epsilon >= 0.0f && config->rms_epsilon < 1.0f);
    assert(config->end_id_count <= TEXT_STOP_IDS_MAX);
    assert(config->rope.head_dim == config->head_dim);
    assert(config->rope.pairs == MODEL_ROPE_HALF);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_hf_config config = {0};
    struct model_rope rope;
    struct td_error error = {0};
    td_status_t status;

    status = model_hf_config_read(td_span_over((const char *)data, size), &config, &error);
    if (status != TD_OK) {
        assert(status == TD_INVALID || status == TD_LIMIT || status == TD_UNSUPPORTED);
        assert(error.text[0] != '\0' && config.architecture == NULL);
        return 0;
    }
    check_numbers(&config);
    if (config.head_dim % 2 == 0 && config.head_dim > 0 && config.head_dim <= MODEL_HEAD_DIM_MAX &&
        model_rope_init(&config.rope, &rope, &error) != TD_OK)
        assert(error.text[0] != '\0');
    return 0;
}
