/*
 * test_models_page.c: the tables of docs/models.md are what the code has.
 * After a change: TANDEM_WRITE_DOCS=1 test_models_page, from the root of the source, writes them anew.
 */
#include <string.h>

#include "lib/text/pretokenize.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "tests/support/page.h"
#include "tests/support/support.h"

static void print_architectures(struct td_buf *out)
{
    const struct model_architecture *each;

    td_buf_append_text(
        out, "| in GGUF | class in `config.json` | models | pairs of rotated rows in GGUF |\n"
             "|---|---|---|---|\n");
    for (size_t i = 0; (each = model_architecture_at(i)) != NULL; i++)
        td_buf_printf(
            out, "| `%s` | `%s` | %s | %s |\n", each->gguf, each->hf_class, each->families,
            each->gguf_pairs == MODEL_ROPE_INTERLEAVED ? "neighbours" : "half a head apart");
}

/* Where a type may come from. safetensors has no blocks. */
static const char *places_of(const struct model_type_info *info)
{
    if (info == model_type_info(MODEL_TYPE_F8_E4M3))
        return "safetensors, with scales beside it";
    return info->block_values == 1 ? "GGUF, safetensors" : "GGUF";
}

static void print_types(struct td_buf *out)
{
    td_buf_append_text(out, "| type | values in a block | bytes of a block | bits a weight | in |\n"
                            "|---|---:|---:|---:|---|\n");
    for (uint32_t id = 0; id < MODEL_TYPE_END; id++) {
        const struct model_type_info *info = model_type_info(id);

        if (info != NULL && info->is_supported)
            td_buf_printf(out, "| %s | %u | %u | %.4g | %s |\n", info->name, info->block_values,
                          info->block_bytes, 8.0 * info->block_bytes / info->block_values,
                          places_of(info));
    }
}

static void print_refused_types(struct td_buf *out)
{
    const char *separator = "";

    for (uint32_t id = 0; id < MODEL_TYPE_END; id++) {
        const struct model_type_info *info = model_type_info(id);

        if (info != NULL && !info->is_supported) {
            td_buf_printf(out, "%s%s", separator, info->name);
            separator = ", ";
        }
    }
    td_buf_append_text(out, "\n");
}

static const char *extent_text(enum model_extent extent)
{
    switch (extent) {
    case MODEL_EXTENT_NONE: return "";
    case MODEL_EXTENT_VOCAB: return "vocabulary";
    case MODEL_EXTENT_HIDDEN: return "hidden";
    case MODEL_EXTENT_FFN: return "ffn";
    case MODEL_EXTENT_Q: return "heads * head_dim";
    case MODEL_EXTENT_KV: return "kv_heads * head_dim";
    case MODEL_EXTENT_HEAD_DIM: return "head_dim";
    }
    return "";
}

/* "all", or the names of those that have it. */
static void print_owners(const struct model_role *role, struct td_buf *out)
{
    const struct model_architecture *each;
    const char *separator = "";
    bool is_everywhere = true;

    for (size_t i = 0; (each = model_architecture_at(i)) != NULL; i++)
        is_everywhere = is_everywhere && (role->architectures & (unsigned)each->id) != 0;
    if (is_everywhere) {
        td_buf_append_text(out, "all");
        return;
    }
    for (size_t i = 0; (each = model_architecture_at(i)) != NULL; i++) {
        if ((role->architectures & (unsigned)each->id) != 0) {
            td_buf_printf(out, "%s%s", separator, each->gguf);
            separator = ", ";
        }
    }
}

static void print_tensors(struct td_buf *out)
{
    const struct model_role *role;

    td_buf_append_text(out,
                       "| in GGUF | in safetensors | rows x columns | in |\n|---|---|---|---|\n");
    for (size_t i = 0; (role = model_role_at(i)) != NULL; i++) {
        td_buf_printf(out, "| `%s` | `%s` | %s%s%s | ", role->gguf, role->hf,
                      extent_text(role->rows), role->rows != MODEL_EXTENT_NONE ? " x " : "",
                      extent_text(role->columns));
        print_owners(role, out);
        td_buf_append_text(out, role->is_optional ? ", unless tied |\n" : " |\n");
    }
}

static void print_refused_keys(struct td_buf *out)
{
    const struct model_hf_refusal *refusal;

    td_buf_append_text(out, "| key | refused if it | because |\n|---|---|---|\n");
    for (size_t i = 0; (refusal = model_hf_refusal_at(i)) != NULL; i++)
        td_buf_printf(out, "| `%s` | %s | %s |\n", refusal->key, refusal->condition,
                      refusal->reason);
}

static void print_pretokenizers(struct td_buf *out)
{
    const struct text_pretokenizer *each;

    td_buf_append_text(
        out, "| pre-tokenizer | BOS in front | merges | normalises |\n|---|---|---|---|\n");
    for (size_t i = 0; (each = text_pretokenizer_at(i)) != NULL; i++)
        td_buf_printf(out, "| `%s` | %s | %s | %s |\n", each->name, each->adds_bos ? "yes" : "no",
                      each->ignores_merges ? "not where a piece is a token" : "always",
                      each->normalizes_nfc ? "NFC" : "no");
}

static void the_tables_of_the_page_are_those_of_the_code(void **state)
{
    static const struct test_page_block blocks[] = {
        {"architectures", print_architectures}, {"types", print_types},
        {"refused-types", print_refused_types}, {"tensors", print_tensors},
        {"refused-keys", print_refused_keys},   {"pretokenizers", print_pretokenizers},
    };

    (void)state;
    test_page_check("docs/models.md", blocks, sizeof blocks / sizeof blocks[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tables_of_the_page_are_those_of_the_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
