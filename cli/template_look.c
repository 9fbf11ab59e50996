/* template_look.c: see template_look.h. */
#include "cli/template_look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/time.h"

#define ARENA_BYTES_MAX  ((size_t)1 << 20)
#define PROMPT_BYTES_MAX ((size_t)1 << 20)
#define TOKENS_MAX       65536

/* Texts that no template has by itself. */
#define SYSTEM_MARK "Answer like a lighthouse keeper of 1871."
#define TOOL_MARK   "tide_table_of_1871"

/* Which parts a trial has. */
struct trial {
    bool has_system;
    bool has_tools;
    bool has_thinking; /* the variable enable_thinking is set, to: */
    bool thinks;
};

static struct text_value text_of(struct text_builder *builder, const char *text)
{
    return text_value_string(builder, td_span_of(text));
}

static void add(struct text_builder *builder, struct text_value dict, const char *key,
                struct text_value value)
{
    text_dict_add(builder, dict, td_span_of(key), value);
}

static void add_message(struct text_builder *builder, struct text_value messages, const char *role,
                        const char *content)
{
    struct text_value message = text_value_dict(builder);

    add(builder, message, "role", text_of(builder, role));
    add(builder, message, "content", text_of(builder, content));
    text_list_append(builder, messages, message);
}

static struct text_value make_tools(struct text_builder *builder)
{
    struct text_value parameters = text_value_dict(builder);
    struct text_value function = text_value_dict(builder);
    struct text_value tool = text_value_dict(builder);
    struct text_value tools = text_value_list(builder);

    add(builder, parameters, "type", text_of(builder, "object"));
    add(builder, parameters, "properties", text_value_dict(builder));
    add(builder, function, "name", text_of(builder, TOOL_MARK));
    add(builder, function, "description", text_of(builder, "High and low water of a day."));
    add(builder, function, "parameters", parameters);
    add(builder, tool, "type", text_of(builder, "function"));
    add(builder, tool, "function", function);
    text_list_append(builder, tools, tool);
    return tools;
}

/* Renders one trial into a prompt, which the caller has initialised. */
static td_status_t render(const struct text_model *model, const struct trial *trial,
                          struct text_prompt *prompt, struct td_error *error)
{
    struct td_arena arena;
    struct text_builder builder;
    struct text_render_input input = {.add_generation_prompt = true,
                                      .unix_seconds = td_unix_seconds(),
                                      .tools = text_value_none(),
                                      .extra = text_value_none()};
    td_status_t status;

    td_arena_init(&arena, ARENA_BYTES_MAX);
    builder = text_builder_in(&arena);
    input.messages = text_value_list(&builder);
    if (trial->has_system)
        add_message(&builder, input.messages, "system", SYSTEM_MARK);
    add_message(&builder, input.messages, "user", "When is high water?");
    if (trial->has_tools)
        input.tools = make_tools(&builder);
    if (trial->has_thinking) {
        input.extra = text_value_dict(&builder);
        add(&builder, input.extra, "enable_thinking", text_value_bool(trial->thinks));
    }
    status = builder.status;
    if (status == TD_OK)
        status = text_render(model, &input, prompt, error);
    else
        td_fail(error, status, "no memory for a small chat");
    td_arena_fini(&arena);
    return status;
}

/* What a trial renders to, NUL-terminated malloc memory; NULL: it does not. */
static char *rendering(const struct text_model *model, const struct trial *trial)
{
    struct text_prompt prompt;
    struct td_error error = {0};
    char *text = NULL;

    text_prompt_init(&prompt, PROMPT_BYTES_MAX);
    if (render(model, trial, &prompt, &error) == TD_OK && prompt.text.data != NULL)
        text = strdup(prompt.text.data);
    text_prompt_fini(&prompt);
    return text;
}

static bool shows(const struct text_model *model, const struct trial *trial, const char *mark)
{
    char *text = rendering(model, trial);
    bool found = text != NULL && strstr(text, mark) != NULL;

    free(text);
    return found;
}

static bool thinking_matters(const struct text_model *model)
{
    char *with = rendering(model, &(struct trial){.has_thinking = true, .thinks = true});
    char *without = rendering(model, &(struct trial){.has_thinking = true, .thinks = false});
    bool differ = with != NULL && without != NULL && strcmp(with, without) != 0;

    free(with);
    free(without);
    return differ;
}

static bool contains(struct td_span text, const char *mark)
{
    return text.length > 0 && memmem(text.bytes, text.length, mark, strlen(mark)) != NULL;
}

static const char *family_of(struct td_span source)
{
    static const struct {
        const char *mark;
        const char *family;
    } families[] = {
        {"<|im_start|>", "ChatML"},        {"<|start_header_id|>", "Llama 3"},
        {"[INST]", "Mistral and Llama 2"}, {"<start_of_turn>", "Gemma"},
        {"<|user|>", "Zephyr and Phi"},    {"### Instruction", "Alpaca"},
    };

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (contains(source, families[i].mark))
            return families[i].family;
    return "unknown";
}

/* The smallest chat: as a prompt, and as tokens. */
static void try_plain(const struct text_model *model, struct cli_template_facts *facts)
{
    struct text_tokens tokens;
    struct text_prompt prompt;
    struct td_error error = {0};
    td_status_t status;

    text_tokens_init(&tokens, TOKENS_MAX);
    text_prompt_init(&prompt, PROMPT_BYTES_MAX);
    status = render(model, &(struct trial){.has_system = false}, &prompt, &error);
    if (status == TD_OK && (status = text_encode_prompt(model, &prompt, &tokens)) != TD_OK)
        td_fail(&error, status, "its prompt cannot be tokenized: %s", td_status_text(status));
    facts->renders = status == TD_OK;
    facts->prompt_tokens = tokens.count;
    snprintf(facts->why, sizeof facts->why, "%s", error.text);
    text_prompt_fini(&prompt);
    text_tokens_fini(&tokens);
}

void cli_template_look(const struct text_model *model, struct td_span source,
                       struct cli_template_facts *facts_out)
{
    *facts_out = (struct cli_template_facts){.family = family_of(source)};
    try_plain(model, facts_out);
    facts_out->takes_system = shows(model, &(struct trial){.has_system = true}, SYSTEM_MARK);
    facts_out->takes_tools = shows(model, &(struct trial){.has_tools = true}, TOOL_MARK);
    facts_out->has_reasoning = contains(source, "<think>") || thinking_matters(model);
}
