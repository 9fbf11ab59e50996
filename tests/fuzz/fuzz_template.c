/*
 * fuzz_template.c: chat templates, compiled and rendered over a fixed request.
 *
 * Whatever the template does, it ends, within its limits; and the bytes of the request never come
 * out as the template's own (trusted), because then a user could write control tokens. The request's
 * strings are made of one character that the template cannot contain.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEMPLATE_BYTES_MAX 4096
#define MARK               "\xf3\xb0\x80\x81" /* U+F0001, for private use */

static struct text_value message(struct text_builder *builder, const char *role)
{
    struct text_value made = text_value_dict(builder);

    text_dict_add(builder, made, td_span_of("role"), text_value_string(builder, td_span_of(role)));
    text_dict_add(builder, made, td_span_of("content"),
                  text_value_string(builder, td_span_of(MARK " " MARK "\n" MARK)));
    return made;
}

static struct text_render_input make_input(struct text_builder *builder)
{
    static const char *const roles[] = {"system", "user", "assistant", "user"};
    struct text_render_input input = {
        .messages = text_value_list(builder),
        .tools = text_value_list(builder),
        .add_generation_prompt = true,
        .extra = text_value_dict(builder),
        .unix_seconds = 1763726400,
        .bos_token = td_span_of("<s>"),
        .eos_token = td_span_of("</s>"),
    };

    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        text_list_append(builder, input.messages, message(builder, roles[i]));
    text_list_append(builder, input.tools, message(builder, MARK));
    text_dict_add(builder, input.extra, td_span_of("n"), text_value_int(3));
    text_dict_add(builder, input.extra, td_span_of("x"), text_value_float(0.5));
    text_dict_add(builder, input.extra, td_span_of("v"),
                  text_value_string(builder, td_span_of(MARK)));
    return input;
}

static void check_prompt(const struct text_prompt *prompt)
{
    const char *bytes = prompt->text.data;
    size_t length = 0;

    for (uint32_t i = 0; i < prompt->run_count; i++) {
        assert(prompt->runs[i].length > 0);
        assert(i == 0 || prompt->runs[i].trusted != prompt->runs[i - 1].trusted);
        if (prompt->runs[i].trusted)
            assert(memmem(bytes + length, prompt->runs[i].length, MARK, strlen(MARK)) == NULL);
        length += prompt->runs[i].length;
    }
    assert(length == prompt->text.length);
}

static void render(const struct text_template *template)
{
    struct td_arena arena;
    struct text_builder builder = text_builder_in(&arena);
    struct text_render_input input;
    struct text_prompt prompt;
    struct td_error error = {0};

    td_arena_init(&arena, 1 << 16);
    input = make_input(&builder);
    assert(builder.status == TD_OK);
    text_prompt_init(&prompt, 1 << 16);
    if (text_template_render(template, &input, &prompt, &error) == TD_OK)
        check_prompt(&prompt);
    else
        assert(strncmp(error.text, "line ", 5) == 0);
    text_prompt_fini(&prompt);
    td_arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_template *template;
    struct td_error error = {0};
    char *copy;

    if (size > TEMPLATE_BYTES_MAX || memmem(data, size, MARK, strlen(MARK)) != NULL ||
        memmem(data, size, "f0001", 5) != NULL || memmem(data, size, "F0001", 5) != NULL)
        return 0;                       /* it could write the mark by itself */
    copy = malloc(size > 0 ? size : 1); /* of exact size, for ASan */
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    if (text_template_open(copy, size, &template, &error) == TD_OK) {
        free(copy); /* a template keeps nothing of its source */
        render(template);
        text_template_close(template);
    } else {
        free(copy);
        assert(error.text[0] != '\0');
    }
    return 0;
}
