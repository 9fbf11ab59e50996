/*
 * test_renderings.c: the chat templates of real models against Jinja 2, byte for byte.
 *
 * make_templates.py has put each template through Jinja with each request of a table; here are hashes of what came out. Most
 * templates are not ours: fetch_templates.py puts them into the download cache, and those that are not there, or have
 * another content, are left out, visibly.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"
#include "lib/text/string.h"
#include "lib/text/template.h"
#include "tests/text/text_support.h"

#define NOW_SECONDS    1763726400 /* as in make_templates.py */
#define PROMPT_BYTES   ((size_t)1 << 20)
#define COMPARED_BYTES 170 /* our errors are cut */

/* The table of requests, for as long as the test runs. */
struct requests {
    struct td_arena arena;
    struct text_builder builder;
    struct text_value names; /* lists of the same length */
    struct text_value variables;
};

struct comparison {
    const struct requests *requests;
    unsigned templates;
    unsigned refused_at_load;
    unsigned missing;
    unsigned renderings;
};

/* test_value borrows its strings from a document that goes; here they have to stay. */
static struct text_value kept_value(struct requests *requests, const struct td_json *json)
{
    struct text_builder *builder = &requests->builder;
    struct text_value value;

    switch (json->kind) {
    case TD_JSON_STRING: return text_value_of(text_string_copy(builder, json->string, false));
    case TD_JSON_ARRAY:
        value = text_value_list(builder);
        td_json_for_each(item, json) text_list_append(builder, value, kept_value(requests, item));
        return value;
    case TD_JSON_OBJECT:
        value = text_value_dict(builder);
        td_json_for_each(member, json)
            text_dict_append(builder, value.dict, text_string_copy(builder, member->key, false),
                             kept_value(requests, member));
        return value;
    default: return test_value(builder, json);
    }
}

static void keep_request(const struct td_json *line, unsigned number, void *context)
{
    struct requests *requests = context;

    (void)number;
    text_list_append(&requests->builder, requests->names,
                     kept_value(requests, td_json_find(line, "name")));
    text_list_append(&requests->builder, requests->variables,
                     kept_value(requests, td_json_find(line, "variables")));
}

static void requests_open(struct requests *requests)
{
    td_arena_init(&requests->arena, (size_t)16 << 20);
    requests->builder = text_builder_in(&requests->arena);
    requests->names = text_value_list(&requests->builder);
    requests->variables = text_value_list(&requests->builder);
    test_each_line(test_data_path("text/chats.jsonl"), keep_request, requests);
    assert_int_equal(requests->builder.status, TD_OK);
}

static struct text_value variable(struct text_value variables, const char *name)
{
    struct text_entry *entry = text_dict_find(variables.dict, td_span_of(name));

    return entry == NULL ? text_value_none() : entry->value;
}

static struct text_render_input input_of(struct text_value variables)
{
    return (struct text_render_input){
        .messages = variable(variables, "messages"),
        .tools = variable(variables, "tools"),
        .add_generation_prompt = variable(variables, "add_generation_prompt").boolean,
        .extra = variables,
        .unix_seconds = NOW_SECONDS,
        .bos_token = text_string_span(variable(variables, "bos_token").string),
        .eos_token = text_string_span(variable(variables, "eos_token").string),
    };
}

/* Whether the outcome is the one of the golden file: a hash, ! and a message, or ?. */
static bool is_expected(const struct text_prompt *prompt, const struct td_error *error,
                        struct td_span expected)
{
    char hex[TD_U128_HEX_BYTES];

    if (expected.bytes[0] == '?')
        return error->status != TD_OK;
    if (expected.bytes[0] == '!') {
        char message[COMPARED_BYTES + 1];

        snprintf(message, sizeof message, "%.*s", (int)expected.length - 1, expected.bytes + 1);
        return error->status == TD_INVALID && strstr(error->text, message) != NULL;
    }
    return error->status == TD_OK &&
           td_span_is(expected,
                      td_u128_hex(td_hash128(prompt->text.data, prompt->text.length), hex));
}

static void compare_request(const struct text_template *template, const char *name,
                            const struct requests *requests, uint32_t place,
                            struct td_span expected)
{
    struct text_render_input input = input_of(requests->variables.list->items[place]);
    const struct text_string *request = requests->names.list->items[place].string;
    struct td_error error = {.status = TD_OK};
    struct text_prompt prompt;

    text_prompt_init(&prompt, PROMPT_BYTES);
    error.status = text_template_render(template, &input, &prompt, &error);
    if (!is_expected(&prompt, &error, expected))
        fail_msg("%s, '%.*s': Jinja has %.*s, we %s\n%.*s", name, (int)request->length,
                 request->bytes, (int)expected.length, expected.bytes, error.text,
                 (int)prompt.text.length, prompt.text.length > 0 ? prompt.text.data : "");
    text_prompt_fini(&prompt);
}

static void compare_template(struct comparison *comparison, const struct td_json *line,
                             const char *name, struct td_span source)
{
    const struct td_json *unsupported = td_json_find(line, "unsupported");
    const struct td_json *results = td_json_find(line, "results");
    struct text_template *template = NULL;
    struct td_error error = {.status = TD_OK};
    td_status_t status = text_template_open(source.bytes, source.length, &template, &error);
    uint32_t place = 0;

    if (unsupported != NULL) {
        assert_int_equal(status, TD_UNSUPPORTED);
        assert_non_null(strstr(error.text, "line "));
        assert_non_null(memmem(error.text, strlen(error.text), unsupported->string.bytes,
                               unsupported->string.length));
        comparison->refused_at_load++;
        return;
    }
    if (status != TD_OK)
        fail_msg("%s: %s", name, error.text);
    assert_int_equal(results->items.count, comparison->requests->names.list->count);
    td_json_for_each(result, results)
        compare_request(template, name, comparison->requests, place++, result->string);
    comparison->renderings += place;
    comparison->templates++;
    text_template_close(template);
}

/* The template in a tokenizer_config.json. */
static struct td_span template_of_config(struct td_arena *arena, struct td_span config)
{
    struct td_json_limits limits = {
        .bytes_max = 1 << 20, .nodes_max = 10000, .depth_max = TD_JSON_DEPTH_MAX};
    const struct td_json *root;

    td_arena_init(arena, td_json_arena_bytes(&limits));
    assert_int_equal(td_json_parse(arena, config, &limits, &root, NULL), TD_OK);
    return test_text(root, "chat_template");
}

static bool has_hash(struct td_span text, struct td_span hash)
{
    char hex[TD_U128_HEX_BYTES];

    return td_span_is(hash, td_u128_hex(td_hash128(text.bytes, text.length), hex));
}

/* The path of the template that lies outside of the tree, or NULL. */
static const char *outside_path(const struct td_json *line, char name[static 200])
{
    const struct td_json *shared = td_json_find(line, "shared");
    struct td_span path = shared != NULL ? shared->string : test_text(line, "cache");
    char cached[256];

    snprintf(name, 200, "%.*s", (int)path.length, path.bytes);
    if (shared != NULL)
        return test_shared_path(name);
    snprintf(cached, sizeof cached, "templates/%s", name);
    return test_cached_path(cached);
}

static void compare_outside(struct comparison *comparison, const struct td_json *line)
{
    struct td_arena arena;
    struct td_span source;
    const char *path;
    char name[200];
    size_t length;
    char *data;

    path = outside_path(line, name);
    if (path == NULL) {
        comparison->missing++;
        return;
    }
    data = test_read_file(path, &length);
    source = td_span_over(data, length);
    td_arena_init(&arena, 1);
    if (strstr(name, ".json") != NULL)
        source = template_of_config(&arena, source);
    if (has_hash(source, test_text(line, "hash")))
        compare_template(comparison, line, name, source);
    else
        comparison->missing++;
    td_arena_fini(&arena);
    free(data);
}

static void compare_line(const struct td_json *line, unsigned number, void *context)
{
    struct comparison *comparison = context;
    const struct td_json *own = td_json_find(line, "template");
    char name[40];

    if (own == NULL) {
        compare_outside(comparison, line);
        return;
    }
    snprintf(name, sizeof name, "line %u", number);
    compare_template(comparison, line, name, own->string);
}

static void real_templates_give_what_jinja_gives(void **state)
{
    struct requests requests;
    struct comparison comparison = {.requests = &requests};

    (void)state;
    requests_open(&requests);
    test_each_line(test_data_path("text/renderings.jsonl"), compare_line, &comparison);
    print_message("%u renderings of %u templates equal Jinja's; %u templates are refused at load\n",
                  comparison.renderings, comparison.templates, comparison.refused_at_load);
    if (comparison.missing > 0)
        print_message("[  SKIPPED ] %u templates are not here: tests/text/fetch_templates.py --all "
                      "fetches them\n",
                      comparison.missing);
    assert_true(comparison.renderings > 0);
    td_arena_fini(&requests.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_templates_give_what_jinja_gives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
