/* encode.c: see encode.h. */
#include "front/encode.h"

#include "lib/api/errors.h"

/* A template repeats what it is given and adds marks to each message. */
#define TEMPLATE_BYTES ((size_t)1 << 20)

/* ---- a chat as the values of a template ---- */

static struct text_value value_of(struct text_builder *builder, const struct td_json *json)
{
    struct text_value value;

    switch (json->kind) { /* the reader has bounded the depth */
    case TD_JSON_NULL: return text_value_none();
    case TD_JSON_BOOL: return text_value_bool(json->boolean);
    case TD_JSON_INTEGER: return text_value_int(json->integer);
    case TD_JSON_NUMBER: return text_value_float(json->number);
    case TD_JSON_STRING: return text_value_string(builder, json->string);
    case TD_JSON_ARRAY:
        value = text_value_list(builder);
        td_json_for_each(item, json) text_list_append(builder, value, value_of(builder, item));
        return value;
    case TD_JSON_OBJECT: break;
    }
    value = text_value_dict(builder);
    td_json_for_each(member, json)
        text_dict_add(builder, value, member->key, value_of(builder, member));
    return value;
}

static void add(struct text_builder *builder, struct text_value dict, const char *key,
                struct text_value value)
{
    text_dict_add(builder, dict, td_span_of(key), value);
}

/*
 * The arguments of a call are a string in the API, but templates are written for an object (they say
 * "arguments | tojson"). What is no object stays the string it is.
 */
static struct text_value arguments_of(struct text_builder *builder,
                                      const struct front_encode_input *input, struct td_span text)
{
    struct td_json_limits limits = api_json_limits(input->limits);
    const struct td_json *parsed = NULL;
    td_status_t status = td_json_parse(builder->arena, text, &limits, &parsed, NULL);

    if (text.length == 0) /* of a function without parameters */
        return text_value_dict(builder);
    if (status == TD_OK && parsed->kind == TD_JSON_OBJECT)
        return value_of(builder, parsed);
    if (status != TD_OK && status != TD_INVALID) /* a lack of room must not change the prompt */
        builder->status = status;
    return text_value_string(builder, text);
}

static struct text_value function_of(struct text_builder *builder,
                                     const struct front_encode_input *input,
                                     const struct td_json *function)
{
    struct text_value value = text_value_dict(builder);

    td_json_for_each(member, function)
    {
        bool arguments = td_span_is(member->key, "arguments") && member->kind == TD_JSON_STRING;

        text_dict_add(builder, value, member->key,
                      arguments ? arguments_of(builder, input, member->string)
                                : value_of(builder, member));
    }
    return value;
}

static struct text_value calls_of(struct text_builder *builder,
                                  const struct front_encode_input *input,
                                  const struct td_json *calls)
{
    struct text_value list = text_value_list(builder);

    td_json_for_each(call, calls)
    {
        struct text_value value = text_value_dict(builder);

        td_json_for_each(member, call)
            text_dict_add(builder, value, member->key,
                          td_span_is(member->key, "function") && member->kind == TD_JSON_OBJECT
                              ? function_of(builder, input, member)
                              : value_of(builder, member));
        text_list_append(builder, list, value);
    }
    return list;
}

/*
 * The role as the template knows it. OpenAI's newer name for system is unknown to most templates, which would drop such
 * a message without a word; and templates write roles inside of control tokens ('<|' + role + '|>'), so a role, which
 * is a word of ours, is trusted.
 */
static struct text_value role_of(struct text_builder *builder,
                                 const struct front_encode_input *input, enum api_role role)
{
    if (role == API_ROLE_DEVELOPER && !text_model_names_developer(input->text))
        role = API_ROLE_SYSTEM;
    return text_value_word(builder, api_role_text(role));
}

static struct text_value message_of(struct text_builder *builder,
                                    const struct front_encode_input *input,
                                    const struct api_message *message)
{
    struct text_value value = text_value_dict(builder);

    add(builder, value, "role", role_of(builder, input, message->role));
    /* Absent beside tool calls: empty, because templates ask whether something is `in` it. */
    add(builder, value, "content",
        text_value_string(builder, message->has_content ? message->content : td_span_over("", 0)));
    if (message->reasoning.length > 0)
        add(builder, value, "reasoning_content", text_value_string(builder, message->reasoning));
    if (message->name.length > 0)
        add(builder, value, "name", text_value_string(builder, message->name));
    if (message->tool_call_id.length > 0)
        add(builder, value, "tool_call_id", text_value_string(builder, message->tool_call_id));
    if (message->tool_calls != NULL)
        add(builder, value, "tool_calls", calls_of(builder, input, message->tool_calls));
    return value;
}

static struct text_value messages_of(struct text_builder *builder,
                                     const struct front_encode_input *input)
{
    struct text_value list = text_value_list(builder);

    for (uint32_t i = 0; i < input->chat.message_count; i++)
        text_list_append(builder, list, message_of(builder, input, &input->chat.messages[i]));
    return list;
}

/* Variables that a client gives a template beside the messages. */
static struct text_value extra_of(struct text_builder *builder,
                                  const struct front_encode_input *input)
{
    const struct api_chat_request *chat = &input->chat;
    struct text_value extra = text_value_dict(builder);

    if (chat->template_values != NULL)
        td_json_for_each(member, chat->template_values)
            text_dict_add(builder, extra, member->key, value_of(builder, member));
    if (chat->reasoning_effort.length > 0)
        add(builder, extra, "reasoning_effort", text_value_string(builder, chat->reasoning_effort));
    return extra;
}

/* ---- errors ---- */

static const char *prompt_field(const struct front_encode_input *input)
{
    return input->surface == API_CHAT ? "messages" : "prompt";
}

static td_status_t refuse_render(td_status_t status, const struct td_error *error,
                                 struct api_error *answer)
{
    switch (status) {
    case TD_INVALID:
        api_error_set(answer, API_ERROR_INVALID_REQUEST, "messages",
                      "the model's chat template refuses the messages: %s", error->text);
        break;
    case TD_LIMIT:
        api_error_set(answer, API_ERROR_INVALID_REQUEST, "messages",
                      "the messages are too much for the model's chat template: %s", error->text);
        break;
    case TD_UNSUPPORTED:
        api_error_set(answer, API_ERROR_UNSUPPORTED_VALUE, "messages",
                      "%s; /v1/completions takes raw prompts", error->text);
        break;
    default: api_error_set(answer, api_error_kind_of(status), NULL, NULL); break;
    }
    return status;
}

static td_status_t refuse_length(const struct front_encode_input *input, const char *at_least,
                                 uint32_t count, struct api_error *answer)
{
    api_error_set(answer, API_ERROR_CONTEXT_LENGTH, prompt_field(input),
                  "the model's context is %u tokens, of which the answer needs at least one; the "
                  "prompt has %s%u",
                  input->max_context, at_least, count);
    return TD_LIMIT;
}

/* ---- the two surfaces ---- */

static td_status_t encode_chat(const struct front_encode_input *input, struct td_arena *arena,
                               struct text_tokens *tokens, struct api_error *error)
{
    struct text_builder builder = text_builder_in(arena);
    struct text_render_input render = {.messages = messages_of(&builder, input),
                                       .tools = text_value_none(),
                                       .extra = extra_of(&builder, input),
                                       .add_generation_prompt = true,
                                       .unix_seconds = input->unix_seconds};
    struct td_error reason = {.text = "they take too much memory"};
    struct text_prompt prompt;
    td_status_t status;

    if (input->chat.tools != NULL)
        render.tools = value_of(&builder, input->chat.tools);
    if (builder.status != TD_OK)
        return refuse_render(builder.status, &reason, error);
    text_prompt_init(&prompt, 2 * (size_t)input->limits->body_bytes + TEMPLATE_BYTES);
    status = text_render(input->text, &render, &prompt, &reason);
    if (status != TD_OK)
        status = refuse_render(status, &reason, error);
    else
        status = text_encode_prompt(input->text, &prompt, tokens);
    text_prompt_fini(&prompt);
    return status;
}

static td_status_t take_tokens(const struct front_encode_input *input, struct text_tokens *tokens,
                               struct api_error *error)
{
    const struct api_completion_request *request = &input->completion;
    uint32_t known = text_model_token_count(input->text);

    if (request->token_count >= input->max_context)
        return refuse_length(input, "", request->token_count, error);
    for (uint32_t i = 0; i < request->token_count; i++) {
        if (request->tokens[i] >= known) {
            api_error_set(error, API_ERROR_INVALID_REQUEST, "prompt",
                          "'prompt' has the token id %u; the model's are below %u",
                          request->tokens[i], known);
            return TD_INVALID;
        }
        text_tokens_push(tokens, request->tokens[i]);
    }
    return tokens->status;
}

static td_status_t encode_completion(const struct front_encode_input *input,
                                     struct text_tokens *tokens, struct api_error *error)
{
    const struct api_completion_request *request = &input->completion;

    if (request->kind == API_PROMPT_TOKENS)
        return take_tokens(input, tokens, error);
    return text_encode(input->text, request->text.bytes, request->text.length, TEXT_ADD_SPECIAL,
                       tokens);
}

td_status_t front_encode(const struct front_encode_input *input, struct td_arena *arena,
                         struct text_tokens *tokens, struct api_error *error)
{
    td_status_t status;

    *error = (struct api_error){.kind = API_ERROR_COUNT}; /* none yet */
    if (input->surface == API_CHAT)
        status = encode_chat(input, arena, tokens, error);
    else
        status = encode_completion(input, tokens, error);
    if (error->kind != API_ERROR_COUNT)
        return status;
    if (status == TD_LIMIT)
        return refuse_length(input, "more than ", tokens->count, error);
    if (status == TD_OK && tokens->count >= input->max_context)
        return refuse_length(input, "", tokens->count, error);
    if (status == TD_OK && tokens->count == 0) {
        api_error_set(error, API_ERROR_INVALID_REQUEST, prompt_field(input),
                      "the prompt has no tokens");
        return TD_INVALID;
    }
    if (status != TD_OK)
        api_error_set(error, api_error_kind_of(status), NULL, NULL);
    return status;
}
