/* model.c: a model that is served: what it is, and what it needs here, see parts.h. */
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/inspect/parts.h"
#include "cli/memory.h"
#include "cli/model_needs.h"
#include "engine/cpu/cache.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pack.h"
#include "lib/base/cpus.h"
#include "lib/text/model.h"

static bool is_folder(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static void put_content_id(struct cli_sheet *sheet, const struct model *model,
                           enum cpu_numerics numerics, enum cpu_kv_dtype kv_dtype, const char *key,
                           const char *label)
{
    struct td_u128 id = model_content_id(model->weights_digest, model->rope.text,
                                         cpu_kv_dtype_name(kv_dtype), cpu_numerics_class(numerics));
    char hex[TD_U128_HEX_BYTES];

    cli_sheet_text(sheet, key, label, td_u128_hex(id, hex));
}

static void put_identity(struct cli_sheet *sheet, const struct model *model,
                         const struct text_model *text)
{
    char hex[TD_U128_HEX_BYTES];

    cli_sheet_begin(sheet, "identity", "Identity");
    cli_sheet_text(sheet, "weights_digest", "weights", td_u128_hex(model->weights_digest, hex));
    put_content_id(sheet, model, CPU_NUMERICS_INT8, CPU_KV_F16, "content_id", "content id");
    put_content_id(sheet, model, CPU_NUMERICS_F32, CPU_KV_F16, "content_id_f32", "content id, f32");
    put_content_id(sheet, model, CPU_NUMERICS_INT8, CPU_KV_INT8, "content_id_int8_kv",
                   "content id, int8 KV");
    cli_sheet_text(sheet, "text_id", "text id", td_u128_hex(text_model_id(text), hex));
    cli_sheet_say(
        sheet, "",
        "Workers exchange KV if their content ids are equal; the second is that of workers "
        "with --numerics f32, the third with --kv-dtype int8.");
    cli_sheet_end(sheet);
}

static void put_kind(struct cli_sheet *sheet, const char *path, const struct model *model,
                     const struct inspect_tallies *tallies)
{
    char text[160];
    char amount[CLI_AMOUNT_BYTES];

    cli_sheet_begin(sheet, "model", "Model");
    cli_sheet_text(sheet, "path", "file", path);
    cli_sheet_text(sheet, "format", "format", is_folder(path) ? "Hugging Face folder" : "GGUF");
    cli_sheet_text(sheet, "name", "name", model->name);
    snprintf(text, sizeof text, "%s (%s)", model->architecture->gguf,
             model->architecture->families);
    cli_sheet_text(sheet, "architecture", NULL, model->architecture->gguf);
    cli_sheet_say(sheet, "architecture", "%s", text);
    cli_sheet_count(sheet, "parameters", NULL, tallies->all.values);
    cli_sheet_say(sheet, "parameters", "%s", cli_show_count(tallies->all.values, amount));
    cli_sheet_yes(sheet, "is_served", NULL, true);
    cli_sheet_end(sheet);
}

static void put_shape(struct cli_sheet *sheet, const struct model *model)
{
    cli_sheet_begin(sheet, "shape", "Shape");
    cli_sheet_count(sheet, "layers", "layers", model->layers);
    cli_sheet_count(sheet, "hidden", "hidden size", model->hidden);
    cli_sheet_count(sheet, "ffn", "feed-forward size", model->ffn);
    cli_sheet_count(sheet, "heads", "heads", model->heads);
    cli_sheet_count(sheet, "kv_heads", "KV heads", model->kv_heads);
    cli_sheet_count(sheet, "head_dim", "head size", model->head_dim);
    cli_sheet_count(sheet, "vocab", "vocabulary", model->vocab);
    cli_sheet_count(sheet, "context", "context", model->max_context);
    cli_sheet_number(sheet, "rms_epsilon", "norm epsilon", (double)model->rms_epsilon);
    cli_sheet_yes(sheet, "is_tied", "tied LM head", model->output.data == model->embedding.data);
    cli_sheet_text(sheet, "rope", "RoPE", model->rope.text);
    cli_sheet_end(sheet);
}

static void put_tensors(struct cli_sheet *sheet, const char *path, const struct model *model,
                        const struct inspect_tallies *tallies, bool lists_all)
{
    inspect_put_tallies(sheet, tallies);
    if (lists_all) {
        cli_sheet_begin_list(sheet, "list");
        inspect_each_of_model(model, is_folder(path), inspect_put_tensor, sheet);
        cli_sheet_end_list(sheet);
    } else {
        cli_sheet_say(sheet, "", "--tensors lists all of them.");
    }
    cli_sheet_end(sheet);
}

static void put_memory(struct cli_sheet *sheet, const struct model *model,
                       const struct cli_model_needs *needs)
{
    struct cli_model_needs small;
    char kv[CLI_AMOUNT_BYTES];
    char small_kv[CLI_AMOUNT_BYTES];

    cli_model_needs_of(model, CPU_KV_INT8, &small);

    cli_sheet_begin(sheet, "memory", "Memory of a worker");
    cli_sheet_bytes(sheet, "weights_bytes", "weights", needs->weights_bytes);
    cli_sheet_say(sheet, "", "Packed; the workers of a host share them.");
    cli_sheet_bytes(sheet, "workspace_bytes", "workspace", needs->workspace_bytes);
    cli_sheet_bytes(sheet, "kv_bytes_per_1000_tokens", NULL, needs->kv_bytes_per_1000_tokens);
    cli_sheet_bytes(sheet, "int8_kv_bytes_per_1000_tokens", NULL, small.kv_bytes_per_1000_tokens);
    cli_sheet_say(sheet, "KV cache", "%s per 1,000 tokens (f16), %s with --kv-dtype int8",
                  cli_show_bytes(needs->kv_bytes_per_1000_tokens, kv),
                  cli_show_bytes(small.kv_bytes_per_1000_tokens, small_kv));
    cli_sheet_end(sheet);
}

/* Whether the packed form of these weights is in the cache, so that a worker starts at once. */
static void put_cache(struct cli_sheet *sheet, const struct model *model)
{
    char folder[PATH_MAX];
    struct cpu_cache_info *list = NULL;
    size_t count = 0;
    bool is_cached = false;

    if (cpu_cache_folder(folder, NULL) != TD_OK ||
        cpu_cache_list(folder, &list, &count, NULL) != TD_OK)
        count = 0;
    for (size_t i = 0; i < count; i++)
        is_cached |= td_u128_equal(list[i].digest, model->weights_digest) &&
                     list[i].layout == CPU_PACK_VERSION && list[i].is_readable &&
                     !list[i].is_leftover;
    free(list);
    cli_sheet_yes(sheet, "is_cached", NULL, is_cached);
    cli_sheet_say(sheet, "packed weights", "%s",
                  is_cached ? "in the cache" : "not in the cache: the first worker packs them");
}

static void put_use(struct cli_sheet *sheet, const struct model *model,
                    const struct cli_model_needs *needs, uint64_t kv_tokens)
{
    struct cli_memory memory = cli_memory_look("");
    uint32_t cpus = td_cpus_usable();
    char tokens[CLI_AMOUNT_BYTES];

    cli_sheet_begin(sheet, "here", "On this machine");
    cli_sheet_text(sheet, "kernels", "kernels", cpu_kernels_name());
    cli_sheet_count(sheet, "cpus", NULL, cpus);
    cli_sheet_say(sheet, "threads", "%" PRIu32 " in one worker; `tandem serve` divides them", cpus);
    put_cache(sheet, model);
    cli_sheet_bytes(sheet, "memory_free_bytes", "free memory", cli_memory_free(&memory));
    cli_sheet_count(sheet, "kv_blocks_max", NULL, kv_tokens / CLI_BLOCK_TOKENS);
    cli_sheet_count(sheet, "kv_tokens_max", NULL, kv_tokens);
    cli_sheet_say(sheet, "room for KV", "%s tokens, all in one worker (%s bytes a block)",
                  cli_show_count(kv_tokens, tokens),
                  cli_show_count(needs->block_bytes, (char[CLI_AMOUNT_BYTES]){0}));
    cli_sheet_end(sheet);
}

/* ---- warnings ---- */

static void warn(struct cli_sheet *sheet, const char *format, ...) TD_PRINTF(2, 3);

static void warn(struct cli_sheet *sheet, const char *format, ...)
{
    char line[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (sheet->is_json) {
        td_json_put_text(&sheet->json, NULL, line);
    } else {
        td_buf_append_text(&sheet->out, "  ");
        cli_fold(&sheet->out, td_span_of(line), 2);
    }
}

static void warn_of_text(struct cli_sheet *sheet, const struct model *model,
                         const struct text_model *text)
{
    uint32_t stop_count = 0;

    text_model_stop_ids(text, &stop_count);
    if (text_model_token_count(text) > model->vocab)
        warn(sheet,
             "The tokenizer has %" PRIu32 " tokens and the model %" PRIu32
             ": prompts with the last ones are refused.",
             text_model_token_count(text), model->vocab);
    if (stop_count == 0)
        warn(sheet, "No token ends an answer: each runs to its length.");
    if (model->text.chat_template.length == 0)
        warn(sheet, "There is no chat template: only /v1/completions is answered.");
}

/* What a person should know although the model is served. */
static void put_warnings(struct cli_sheet *sheet, const struct model *model,
                         const struct text_model *text, uint64_t kv_tokens)
{
    size_t before = sheet->out.length;

    if (!sheet->is_json)
        td_buf_append_text(&sheet->out, "\nWarnings\n");
    cli_sheet_begin_list(sheet, "warnings");
    warn_of_text(sheet, model, text);
    if (kv_tokens == 0)
        warn(sheet, "Weights and workspace do not fit into the memory that is free.");
    else if (kv_tokens < model->max_context)
        warn(sheet, "The room for KV is smaller than the context: longer requests are refused.");
    if (strcmp(cpu_kernels_name(), "reference") == 0)
        warn(sheet, "The kernels are plain C, many times slower than those for AVX2.");
    cli_sheet_end_list(sheet);
    if (!sheet->is_json && strcmp(sheet->out.data + before, "\nWarnings\n") == 0)
        sheet->out.length = before; /* none */
}

/* Tokens of KV that fit beside weights and workspace. */
static uint64_t kv_tokens_of(const struct cli_model_needs *needs)
{
    struct cli_memory memory = cli_memory_look("");
    uint64_t free_bytes = cli_memory_free(&memory);
    uint64_t fixed = needs->weights_bytes + needs->workspace_bytes;

    return free_bytes > fixed ? (free_bytes - fixed) / needs->block_bytes * CLI_BLOCK_TOKENS : 0;
}

void inspect_put_model(struct cli_sheet *sheet, const char *path, const struct model *model,
                       const struct text_model *text, const struct cli_inspect_options *options)
{
    static struct inspect_tallies tallies;
    struct cli_model_needs needs;
    uint64_t kv_tokens;

    tallies = (struct inspect_tallies){.count = 0};
    inspect_each_of_model(model, false, inspect_tally, &tallies);
    cli_model_needs_of(model, CPU_KV_F16, &needs);
    kv_tokens = kv_tokens_of(&needs);
    put_kind(sheet, path, model, &tallies);
    put_shape(sheet, model);
    put_tensors(sheet, path, model, &tallies, options->tensors);
    inspect_put_text(sheet, &model->text, text);
    put_identity(sheet, model, text);
    put_memory(sheet, model, &needs);
    put_use(sheet, model, &needs, kv_tokens);
    put_warnings(sheet, model, text, kv_tokens);
}
