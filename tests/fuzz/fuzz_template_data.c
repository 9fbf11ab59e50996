/*
 * fuzz_template_data.c: requests that a fuzzer writes, through templates that look into everything.
 *
 * Whatever the data is, rendering ends within its limits, and no byte of a client's string comes out as the
 * template's own (trusted). Each string that is no word which the templates ask for begins with a character that they do not
 * have, so that it can be told.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MARK         "\xf3\xb0\x80\x81" /* U+F0001, for private use */
#define ARENA_BYTES  ((size_t)8 << 20)
#define PROMPT_BYTES ((size_t)1 << 20)

static const char *const templates[] = {
    "{%- macro type_of(s, required=[], depth=0) -%}{%- if s.anyOf is defined -%}"
    "{%- for one in s.anyOf %}{{ type_of(one, depth=depth + 1) }} | {% endfor -%}"
    "{%- elif s.type == 'object' -%}{%- for name, inner in (s.properties or {}) | dictsort %}"
    "{{ name }}{{ '' if name in required else '?' }}: "
    "{{ type_of(inner, inner.required | default([], true), depth + 1) }}{%- endfor %}"
    "{%- elif s.type == 'array' -%}{{ type_of(s['items'], depth=depth) ~ '[]' }}"
    "{%- elif s.enum is defined -%}{{ s.enum | map('tojson') | join(' | ') }}"
    "{%- else -%}{{ s.type | default('any') | upper | trim }}{%- endif -%}{%- endmacro -%}"
    "{%- for tool in tools or [] %}{{ tool.name }}({{ type_of(tool.parameters) }})\n{%- endfor %}"
    "{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{%- for c in m.tool_calls or [] %}{{ c.name + '=' + c.arguments | tojson }}{% endfor %}<|end|>"
    "{%- endfor %}",
    "{{ messages }}{{ tools | tojson(indent=2, sort_keys=true) }}"
    "{{ messages | tojson(ensure_ascii=true, separators=(',', ':')) }}"
    "{% for m in messages %}{{ m | string | length }}{{ m | dictsort }}{{ m.items() | list }}"
    "{% for k, v in m | items %}{{ k | title }}{{ v == m }}{{ v in messages }}{% endfor %}{% "
    "endfor %}",
    "{%- set ns = namespace(n=0, t='', l=[]) %}{% for m in messages if m is mapping %}"
    "{% set c = m.content | default('', true) %}{% set text = c if c is string else c | tojson %}"
    "{% set ns.n = ns.n + text | length %}{% set ns.l = ns.l + [text] %}"
    "{{ text.split('</think>')[-1].lstrip('\\n') | indent(2, first=true) }}"
    "{{ text.splitlines() | length }}{{ text.rsplit(' ', 1)[0] }}{{ text[::-1] | capitalize }}"
    "{{ text.replace('a', '<a>') }}{{ '{} {}'.format(text, m.n | default(0) | int) }}"
    "{{ text | escape }}{{ text.find('b') }}{{ text.removeprefix('a') }}{{ text[2:-2] }}"
    "{% filter trim | lower %} {{ text }} {% endfilter %}{% endfor %}"
    "{{ ns.l | sort | join(ns.n) }}{{ ns.l | unique | map('upper') | list }}{{ ns.l | max }}",
    "{{ messages | selectattr('role', 'in', ['user', 'system']) | map(attribute='content') | "
    "join('|') }}"
    "{{ messages | map(attribute='a.b', default='-') | select | list }}"
    "{{ messages | sum(attribute='n') }}{{ messages | sort(attribute='n') | tojson }}",
};

static bool is_known(struct td_span text)
{
    static const char *const words[] = {"user", "system", "assistant", "tool", "object", "array"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (td_span_is(text, words[i]))
            return true;
    return false;
}

static struct td_span marked(struct td_arena *arena, struct td_span text)
{
    char *copy = td_arena_alloc(arena, text.length + strlen(MARK));

    if (is_known(text) || copy == NULL)
        return text;
    memcpy(copy, MARK, strlen(MARK));
    if (text.length > 0)
        memcpy(copy + strlen(MARK), text.bytes, text.length);
    return td_span_over(copy, text.length + strlen(MARK));
}

static struct text_value value_of(struct text_builder *builder, const struct td_json *json)
{
    struct text_value value;

    switch (json->kind) {
    case TD_JSON_NULL: return text_value_none();
    case TD_JSON_BOOL: return text_value_bool(json->boolean);
    case TD_JSON_INTEGER: return text_value_int(json->integer);
    case TD_JSON_NUMBER: return text_value_float(json->number);
    case TD_JSON_STRING: return text_value_string(builder, marked(builder->arena, json->string));
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

static void check_prompt(const struct text_prompt *prompt)
{
    const char *bytes = prompt->text.data;
    size_t length = 0;

    for (uint32_t i = 0; i < prompt->run_count; i++) {
        assert(prompt->runs[i].length > 0);
        if (prompt->runs[i].trusted)
            assert(memmem(bytes + length, prompt->runs[i].length, MARK, strlen(MARK)) == NULL);
        length += prompt->runs[i].length;
    }
    assert(length == prompt->text.length);
}

static void render(const char *source, const struct text_render_input *input)
{
    static struct text_template *compiled[sizeof templates / sizeof templates[0]];
    struct td_error error = {0};
    struct text_prompt prompt;
    size_t place = 0;

    while (templates[place] != source)
        place++;
    if (compiled[place] == NULL &&
        text_template_open(source, strlen(source), &compiled[place], &error) != TD_OK)
        abort();
    text_prompt_init(&prompt, PROMPT_BYTES);
    if (text_template_render(compiled[place], input, &prompt, &error) == TD_OK)
        check_prompt(&prompt);
    else
        assert(strncmp(error.text, "line ", 5) == 0);
    text_prompt_fini(&prompt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct td_json_limits limits = {.bytes_max = 1 << 16, .nodes_max = 4096, .depth_max = 64};
    struct text_render_input input = {.add_generation_prompt = true, .unix_seconds = 1763726400};
    const struct td_json *root;
    struct td_arena arena;
    struct text_builder builder = text_builder_in(&arena);

    td_arena_init(&arena, ARENA_BYTES);
    if (td_json_parse(&arena, td_span_over((const char *)data, size), &limits, &root, NULL) ==
            TD_OK &&
        root->kind == TD_JSON_OBJECT) {
        const struct td_json *messages = td_json_find(root, "messages");
        const struct td_json *tools = td_json_find(root, "tools");

        input.messages = messages != NULL ? value_of(&builder, messages) : text_value_none();
        input.tools = tools != NULL ? value_of(&builder, tools) : text_value_none();
        input.extra = value_of(&builder, root);
        for (size_t i = 0; builder.status == TD_OK && i < sizeof templates / sizeof templates[0];
             i++)
            render(templates[i], &input);
    }
    td_arena_fini(&arena);
    return 0;
}
