/* refusals.c: the table of unsupported fields, see refusals.h. */
#include "lib/api/refusals.h"

#include "lib/api/reader.h"

#define BOTH (API_CHAT | API_COMPLETIONS)

/* The values of a field that ask for nothing; null always does. */
enum harmless {
    NOTHING, /* every value asks for something */
    ONLY_FALSE,
    ONLY_TRUE,
    ONLY_ZERO,
    ONLY_ONE,
    ONLY_EMPTY,     /* "", [] or {} */
    ONLY_TEXT_TYPE, /* {"type":"text"} */
    ONLY_TEXT_LIST, /* ["text"] */
    ONLY_NONE,      /* "none" or "auto", where there is nothing to choose from */
};

static const char *const harmless_texts[] = {
    [NOTHING] = "null",
    [ONLY_FALSE] = "false",
    [ONLY_TRUE] = "true",
    [ONLY_ZERO] = "0",
    [ONLY_ONE] = "1",
    [ONLY_EMPTY] = "an empty value",
    [ONLY_TEXT_TYPE] = "{\"type\":\"text\"}",
    [ONLY_TEXT_LIST] = "[\"text\"]",
    [ONLY_NONE] = "\"none\" or \"auto\"",
};

static const struct refusal {
    const char *name;
    unsigned surfaces;
    enum harmless harmless;
} refusals[] = {
    /* OpenAI */
    {"best_of", API_COMPLETIONS, ONLY_ONE},
    {"echo", BOTH, ONLY_FALSE},
    {"suffix", API_COMPLETIONS, ONLY_EMPTY},
    {"logprobs", BOTH, ONLY_FALSE},
    {"top_logprobs", API_CHAT, ONLY_ZERO},
    {"response_format", BOTH, ONLY_TEXT_TYPE},
    {"modalities", API_CHAT, ONLY_TEXT_LIST},
    {"audio", API_CHAT, NOTHING},
    {"web_search_options", API_CHAT, NOTHING},
    {"functions", API_CHAT, ONLY_EMPTY},
    {"function_call", API_CHAT, ONLY_NONE},
    /* vLLM: sampling */
    {"length_penalty", BOTH, ONLY_ONE},
    {"use_beam_search", BOTH, ONLY_FALSE},
    {"min_tokens", BOTH, ONLY_ZERO},
    {"stop_token_ids", BOTH, ONLY_EMPTY},
    {"include_stop_str_in_output", BOTH, ONLY_FALSE},
    {"ignore_eos", BOTH, ONLY_FALSE},
    {"skip_special_tokens", BOTH, ONLY_TRUE},
    {"allowed_token_ids", BOTH, ONLY_EMPTY},
    {"bad_words", BOTH, ONLY_EMPTY},
    {"truncate_prompt_tokens", BOTH, NOTHING},
    {"prompt_logprobs", BOTH, NOTHING},
    {"thinking_token_budget", BOTH, NOTHING},
    {"return_token_ids", BOTH, ONLY_FALSE},
    {"return_tokens_as_token_ids", BOTH, ONLY_FALSE},
    /* vLLM: template. A template is never taken from a client */
    {"chat_template", API_CHAT, NOTHING},
    {"add_generation_prompt", API_CHAT, ONLY_TRUE},
    {"continue_final_message", API_CHAT, ONLY_FALSE},
    {"documents", API_CHAT, ONLY_EMPTY},
    /* vLLM: structured output */
    {"structured_outputs", BOTH, NOTHING},
    {"guided_json", BOTH, NOTHING},
    {"guided_regex", BOTH, NOTHING},
    {"guided_choice", BOTH, NOTHING},
    {"guided_grammar", BOTH, NOTHING},
};

#define REFUSAL_COUNT (sizeof refusals / sizeof refusals[0])

static bool is_number(const struct td_json *value, int64_t wanted)
{
    return (value->kind == TD_JSON_INTEGER && value->integer == wanted) ||
           (value->kind == TD_JSON_NUMBER && value->number == (double)wanted);
}

static bool is_text(const struct td_json *value, const char *wanted)
{
    return value->kind == TD_JSON_STRING && td_span_is(value->string, wanted);
}

static bool is_empty(const struct td_json *value)
{
    if (value->kind == TD_JSON_STRING)
        return value->string.length == 0;
    return (value->kind == TD_JSON_ARRAY || value->kind == TD_JSON_OBJECT) &&
           value->items.count == 0;
}

static bool is_harmless(const struct td_json *value, enum harmless harmless)
{
    const struct td_json *type;

    switch (harmless) {
    case NOTHING: return false;
    case ONLY_FALSE: return value->kind == TD_JSON_BOOL && !value->boolean;
    case ONLY_TRUE: return value->kind == TD_JSON_BOOL && value->boolean;
    case ONLY_ZERO: return is_number(value, 0);
    case ONLY_ONE: return is_number(value, 1);
    case ONLY_EMPTY: return is_empty(value);
    case ONLY_TEXT_TYPE:
        type = value->kind == TD_JSON_OBJECT ? td_json_find(value, "type") : NULL;
        return type != NULL && is_text(type, "text");
    case ONLY_TEXT_LIST:
        return value->kind == TD_JSON_ARRAY && value->items.count == 1 &&
               is_text(value->items.first, "text");
    case ONLY_NONE: return is_text(value, "none") || is_text(value, "auto");
    }
    return false;
}

td_status_t api_refuse_unsupported(struct api_reader *reader, const struct td_json *object,
                                   enum api_surface surface)
{
    for (size_t i = 0; i < REFUSAL_COUNT; i++) {
        const struct refusal *row = &refusals[i];
        const struct td_json *value =
            (row->surfaces & surface) != 0 ? td_json_get(object, row->name).value : NULL;

        if (value != NULL && !is_harmless(value, row->harmless))
            return api_refuse(reader, TD_UNSUPPORTED, row->name,
                              "'%s' is not supported here, except as %s", row->name,
                              harmless_texts[row->harmless]);
    }
    return TD_OK;
}

void api_refusals_print_markdown(struct td_buf *out)
{
    td_buf_append_text(out, "| field | chat | completions | accepted as |\n|---|---|---|---|\n");
    for (size_t i = 0; i < REFUSAL_COUNT; i++)
        td_buf_printf(out, "| `%s` | %s | %s | `%s` |\n", refusals[i].name,
                      (refusals[i].surfaces & API_CHAT) != 0 ? "refused" : "–",
                      (refusals[i].surfaces & API_COMPLETIONS) != 0 ? "refused" : "–",
                      harmless_texts[refusals[i].harmless]);
    td_buf_append_text(out, "\n");
}
