/* architecture.c: the two tables; see architecture.h. */
#include "model/architecture.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

#define ALL (MODEL_LLAMA | MODEL_QWEN2 | MODEL_QWEN3)

static const struct model_architecture architectures[] = {
    {.id = MODEL_LLAMA,
     .gguf = "llama",
     .hf_class = "LlamaForCausalLM",
     .hf_type = "llama",
     .gguf_pairs = MODEL_ROPE_INTERLEAVED,
     .families = "Llama 2, 3, 3.1 and 3.2, TinyLlama, SmolLM2"},
    {.id = MODEL_QWEN2,
     .gguf = "qwen2",
     .hf_class = "Qwen2ForCausalLM",
     .hf_type = "qwen2",
     .gguf_pairs = MODEL_ROPE_HALF,
     .families = "Qwen2, Qwen2.5, Qwen2.5-Coder"},
    {.id = MODEL_QWEN3,
     .gguf = "qwen3",
     .hf_class = "Qwen3ForCausalLM",
     .hf_type = "qwen3",
     .gguf_pairs = MODEL_ROPE_HALF,
     .families = "Qwen3 (dense)"},
};

#define ARCHITECTURE_COUNT (sizeof architectures / sizeof architectures[0])

#define OF_MODEL(member) .offset = offsetof(struct model, member)
#define OF_LAYER(member) .is_of_layer = true, .offset = offsetof(struct model_layer, member)

/* The embedding comes first: it says how large the vocabulary is. */
static const struct model_role roles[] = {
    {.gguf = "token_embd.weight",
     .hf = "model.embed_tokens.weight",
     .rows = MODEL_EXTENT_VOCAB,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_MODEL(embedding)},
    {.gguf = "output.weight",
     .hf = "lm_head.weight",
     .rows = MODEL_EXTENT_VOCAB,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     .is_optional = true, /* tied */
     OF_MODEL(output)},
    {.gguf = "output_norm.weight",
     .hf = "model.norm.weight",
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_MODEL(output_norm)},
    {.gguf = "blk.%u.attn_norm.weight",
     .hf = "model.layers.%u.input_layernorm.weight",
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(attention_norm)},
    {.gguf = "blk.%u.attn_q.weight",
     .hf = "model.layers.%u.self_attn.q_proj.weight",
     .rows = MODEL_EXTENT_Q,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(q)},
    {.gguf = "blk.%u.attn_k.weight",
     .hf = "model.layers.%u.self_attn.k_proj.weight",
     .rows = MODEL_EXTENT_KV,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(k)},
    {.gguf = "blk.%u.attn_v.weight",
     .hf = "model.layers.%u.self_attn.v_proj.weight",
     .rows = MODEL_EXTENT_KV,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(v)},
    {.gguf = "blk.%u.attn_q.bias",
     .hf = "model.layers.%u.self_attn.q_proj.bias",
     .columns = MODEL_EXTENT_Q,
     .architectures = MODEL_QWEN2,
     OF_LAYER(q_bias)},
    {.gguf = "blk.%u.attn_k.bias",
     .hf = "model.layers.%u.self_attn.k_proj.bias",
     .columns = MODEL_EXTENT_KV,
     .architectures = MODEL_QWEN2,
     OF_LAYER(k_bias)},
    {.gguf = "blk.%u.attn_v.bias",
     .hf = "model.layers.%u.self_attn.v_proj.bias",
     .columns = MODEL_EXTENT_KV,
     .architectures = MODEL_QWEN2,
     OF_LAYER(v_bias)},
    {.gguf = "blk.%u.attn_q_norm.weight",
     .hf = "model.layers.%u.self_attn.q_norm.weight",
     .columns = MODEL_EXTENT_HEAD_DIM,
     .architectures = MODEL_QWEN3,
     OF_LAYER(q_norm)},
    {.gguf = "blk.%u.attn_k_norm.weight",
     .hf = "model.layers.%u.self_attn.k_norm.weight",
     .columns = MODEL_EXTENT_HEAD_DIM,
     .architectures = MODEL_QWEN3,
     OF_LAYER(k_norm)},
    {.gguf = "blk.%u.attn_output.weight",
     .hf = "model.layers.%u.self_attn.o_proj.weight",
     .rows = MODEL_EXTENT_HIDDEN,
     .columns = MODEL_EXTENT_Q,
     .architectures = ALL,
     OF_LAYER(attention_output)},
    {.gguf = "blk.%u.ffn_norm.weight",
     .hf = "model.layers.%u.post_attention_layernorm.weight",
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(ffn_norm)},
    {.gguf = "blk.%u.ffn_gate.weight",
     .hf = "model.layers.%u.mlp.gate_proj.weight",
     .rows = MODEL_EXTENT_FFN,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(gate)},
    {.gguf = "blk.%u.ffn_up.weight",
     .hf = "model.layers.%u.mlp.up_proj.weight",
     .rows = MODEL_EXTENT_FFN,
     .columns = MODEL_EXTENT_HIDDEN,
     .architectures = ALL,
     OF_LAYER(up)},
    {.gguf = "blk.%u.ffn_down.weight",
     .hf = "model.layers.%u.mlp.down_proj.weight",
     .rows = MODEL_EXTENT_HIDDEN,
     .columns = MODEL_EXTENT_FFN,
     .architectures = ALL,
     OF_LAYER(down)},
};

const struct model_architecture *model_architecture_at(size_t index)
{
    return index < ARCHITECTURE_COUNT ? &architectures[index] : NULL;
}

const struct model_architecture *model_architecture_of_gguf(struct td_span name)
{
    for (size_t i = 0; i < ARCHITECTURE_COUNT; i++)
        if (td_span_is(name, architectures[i].gguf))
            return &architectures[i];
    return NULL;
}

const struct model_architecture *model_architecture_of_hf(struct td_span class_name,
                                                          struct td_span type_name)
{
    for (size_t i = 0; i < ARCHITECTURE_COUNT; i++)
        if (class_name.length > 0 ? td_span_is(class_name, architectures[i].hf_class)
                                  : td_span_is(type_name, architectures[i].hf_type))
            return &architectures[i];
    return NULL;
}

const struct model_role *model_role_at(size_t index)
{
    return index < sizeof roles / sizeof roles[0] ? &roles[index] : NULL;
}

void model_role_name(const struct model_role *role, bool is_hf, uint32_t layer,
                     char out[static MODEL_TENSOR_NAME_BYTES])
{
    const char *pattern = is_hf ? role->hf : role->gguf;
    const char *mark = strstr(pattern, "%u");

    if (mark == NULL)
        snprintf(out, MODEL_TENSOR_NAME_BYTES, "%s", pattern);
    else
        snprintf(out, MODEL_TENSOR_NAME_BYTES, "%.*s%" PRIu32 "%s", (int)(mark - pattern), pattern,
                 layer, mark + 2);
}
