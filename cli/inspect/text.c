/* text.c: tokenizer, chat template and ends of answers of a model, see parts.h. */
#include <inttypes.h>
#include <string.h>

#include "cli/inspect/parts.h"
#include "cli/template_look.h"
#include "lib/text/model.h"

#define SHOWN_BYTES 60

/* A token as a person reads it: 2 "<|im_end|>". */
static void append_token(struct td_buf *out, const struct text_model *text, uint32_t id)
{
    td_buf_printf(out, "%" PRIu32 " ", id);
    cli_quote(out, text_model_token(text, id), SHOWN_BYTES);
}

static void put_special(struct cli_sheet *sheet, const char *key, const char *label,
                        const struct text_model *text, uint32_t id)
{
    struct td_buf line;

    if (sheet->is_json) {
        if (id == TEXT_TOKEN_NONE) {
            td_json_put_null(&sheet->json, key);
            return;
        }
        td_json_begin_object(&sheet->json, key);
        td_json_put_uint(&sheet->json, "id", id);
        td_json_put_span(&sheet->json, "text", text_model_token(text, id));
        td_json_end(&sheet->json);
        return;
    }
    if (id == TEXT_TOKEN_NONE)
        return;
    td_buf_init(&line, 4096);
    append_token(&line, text, id);
    if (line.status == TD_OK)
        cli_sheet_span(sheet, key, label, (struct td_span){line.data, line.length});
    td_buf_fini(&line);
}

/* Where the file says that this token ends an answer. */
static const char *stop_origin(const struct text_source *source, uint32_t id)
{
    if (id == source->eos)
        return "end of text (eos)";
    if (id == source->eot)
        return "end of turn (eot)";
    if (id == source->eom)
        return "end of message (eom)";
    for (uint32_t i = 0; i < source->stop_id_count; i++)
        if (source->stop_ids[i] == id)
            return "listed in the configuration";
    return "known by its text";
}

static void put_stop(struct cli_sheet *sheet, const struct text_source *source,
                     const struct text_model *text, uint32_t id, bool is_first)
{
    struct td_buf line;

    if (sheet->is_json) {
        td_json_begin_object(&sheet->json, NULL);
        td_json_put_uint(&sheet->json, "id", id);
        td_json_put_span(&sheet->json, "text", text_model_token(text, id));
        td_json_put_text(&sheet->json, "from", stop_origin(source, id));
        td_json_end(&sheet->json);
        return;
    }
    td_buf_init(&line, 4096);
    append_token(&line, text, id);
    td_buf_printf(&line, ", %s", stop_origin(source, id));
    if (line.status == TD_OK)
        cli_sheet_span(sheet, "", is_first ? "answers end with" : "",
                       (struct td_span){line.data, line.length});
    td_buf_fini(&line);
}

static void put_stops(struct cli_sheet *sheet, const struct text_source *source,
                      const struct text_model *text)
{
    uint32_t count = 0;
    const uint32_t *ids = text_model_stop_ids(text, &count);

    cli_sheet_begin_list(sheet, "stop_tokens");
    for (uint32_t i = 0; i < count; i++)
        put_stop(sheet, source, text, ids[i], i == 0);
    cli_sheet_end_list(sheet);
    if (count == 0)
        cli_sheet_say(sheet, "answers end with", "no token: they run to their length");
}

static void put_tokenizer(struct cli_sheet *sheet, const struct text_source *source,
                          const struct text_model *text)
{
    bool is_byte_level = source->algorithm == TEXT_BYTE_LEVEL;
    uint64_t special = 0;

    for (uint32_t i = 0; i < source->token_count; i++)
        special += source->tokens[i].type == TEXT_TOKEN_CONTROL ||
                   source->tokens[i].type == TEXT_TOKEN_USER_DEFINED;
    cli_sheet_begin(sheet, "tokenizer", "Tokenizer");
    cli_sheet_text(sheet, "kind", "kind",
                   is_byte_level ? "byte-level BPE" : "SentencePiece BPE with byte fallback");
    if (is_byte_level)
        cli_sheet_span(sheet, "pretokenizer", "pre-tokenizer", source->pretokenizer);
    cli_sheet_count(sheet, "tokens", "tokens", source->token_count);
    cli_sheet_count(sheet, "special_tokens", "special among them", special);
    cli_sheet_count(sheet, "merges", "merges", source->merge_count);
    put_special(sheet, "bos", "begin of text", text, source->bos);
    put_special(sheet, "eos", "end of text", text, source->eos);
    put_special(sheet, "eot", "end of turn", text, source->eot);
    put_special(sheet, "eom", "end of message", text, source->eom);
    put_special(sheet, "unknown", "unknown", text, source->unknown);
    put_stops(sheet, source, text);
    cli_sheet_yes(sheet, "adds_bos", "adds begin of text", source->add_bos);
    cli_sheet_yes(sheet, "adds_eos", NULL, source->add_eos);
    cli_sheet_yes(sheet, "normalizes_nfc", "normalises (NFC)", source->normalize_nfc);
    cli_sheet_yes(sheet, "ignores_merges", NULL, source->ignore_merges);
    cli_sheet_end(sheet);
}

static void put_template(struct cli_sheet *sheet, const struct text_source *source,
                         const struct text_model *text)
{
    struct cli_template_facts facts;

    cli_sheet_begin(sheet, "chat_template", "Chat template");
    cli_sheet_bytes(sheet, "bytes", NULL, source->chat_template.length);
    if (source->chat_template.length == 0) {
        cli_sheet_say(sheet, "none", "/v1/chat/completions is refused; /v1/completions works");
        cli_sheet_end(sheet);
        return;
    }
    cli_template_look(text, source->chat_template, &facts);
    cli_sheet_say(sheet, "family", "%s (%zu bytes)", facts.family, source->chat_template.length);
    if (sheet->is_json)
        td_json_put_text(&sheet->json, "family", facts.family);
    cli_sheet_yes(sheet, "renders", NULL, facts.renders);
    if (!facts.renders) {
        cli_sheet_say(sheet, "does not render", "%s", facts.why);
        if (sheet->is_json)
            td_json_put_text(&sheet->json, "why", facts.why);
    }
    cli_sheet_yes(sheet, "system", "system messages", facts.takes_system);
    cli_sheet_yes(sheet, "tools", "tools", facts.takes_tools);
    cli_sheet_yes(sheet, "reasoning", "reasoning", facts.has_reasoning);
    cli_sheet_end(sheet);
}

static void put_generation(struct cli_sheet *sheet, const struct text_generation *generation)
{
    struct td_buf line;

    td_buf_init(&line, 4096);
    text_generation_print(generation, &line);
    cli_sheet_begin(sheet, "generation", "Generation defaults");
    if (line.status == TD_OK)
        cli_sheet_span(sheet, "defaults", "from the model",
                       (struct td_span){line.data, line.length});
    cli_sheet_end(sheet);
    td_buf_fini(&line);
}

void inspect_put_text(struct cli_sheet *sheet, const struct text_source *source,
                      const struct text_model *text)
{
    put_tokenizer(sheet, source, text);
    put_template(sheet, source, text);
    put_generation(sheet, &source->generation);
}
