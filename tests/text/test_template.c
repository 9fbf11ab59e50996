/* test_template.c: chat templates against Jinja 2's own results, provenance, limits, hostile input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/string.h"
#include "lib/text/template.h"
#include "lib/text/template_pair.h"
#include "tests/text/text_support.h"

#define NOW_SECONDS 1763726400 /* as in make_templates.py */

/* A rendering: the prompt, or why there is none. */
struct rendered {
    struct text_prompt prompt;
    td_status_t status;
    struct td_error error;
};

static struct text_value variable(struct text_value variables, const char *name)
{
    struct text_entry *entry = text_dict_find(variables.dict, td_span_of(name));

    return entry == NULL ? text_value_none() : entry->value;
}

static struct td_span variable_text(struct text_value variables, const char *name)
{
    struct text_value value = variable(variables, name);

    return value.kind == TEXT_STRING ? text_string_span(value.string) : td_span_over("", 0);
}

static void render(struct rendered *rendered, struct td_span template_text,
                   struct text_value variables, size_t length_max)
{
    struct text_template *template = NULL;
    struct text_render_input input = {
        .messages = variable(variables, "messages"),
        .tools = variable(variables, "tools"),
        .add_generation_prompt = text_dict_find(variables.dict, td_span_of("messages")) != NULL &&
                                 variable(variables, "add_generation_prompt").boolean,
        .extra = variables,
        .unix_seconds = NOW_SECONDS,
        .bos_token = variable_text(variables, "bos_token"),
        .eos_token = variable_text(variables, "eos_token"),
    };

    text_prompt_init(&rendered->prompt, length_max);
    rendered->error = (struct td_error){.status = TD_OK};
    rendered->status =
        text_template_open(template_text.bytes, template_text.length, &template, &rendered->error);
    if (rendered->status == TD_OK)
        rendered->status =
            text_template_render(template, &input, &rendered->prompt, &rendered->error);
    text_template_close(template);
    assert_int_equal(rendered->status, rendered->error.status);
}

static struct td_span prompt_span(const struct text_prompt *prompt)
{
    return td_span_over(prompt->text.data, prompt->text.length);
}

/* Renders with one variable `v`, an untrusted string, and `i`, a number. */
static void render_one(struct rendered *rendered, const char *template_text, const char *v)
{
    struct td_arena arena;
    struct text_builder builder = text_builder_in(&arena);
    struct text_value variables;

    td_arena_init(&arena, 1 << 20);
    variables = text_value_dict(&builder);
    text_dict_add(&builder, variables, td_span_of("v"), text_value_string(&builder, td_span_of(v)));
    text_dict_add(&builder, variables, td_span_of("i"), text_value_int(7));
    text_dict_add(&builder, variables, td_span_of("bos_token"),
                  text_value_string(&builder, td_span_of("<s>")));
    assert_int_equal(builder.status, TD_OK);
    render(rendered, td_span_of(template_text), variables, 1 << 20);
    td_arena_fini(&arena);
}

/* The prompt with untrusted stretches in [brackets]. */
static char *marked(const struct text_prompt *prompt)
{
    struct td_buf out;
    const char *bytes = prompt->text.data;
    char *text;
    size_t length;

    td_buf_init(&out, 1 << 20);
    for (uint32_t i = 0; i < prompt->run_count; i++) {
        td_buf_printf(&out, prompt->runs[i].trusted ? "%.*s" : "[%.*s]",
                      (int)prompt->runs[i].length, bytes);
        bytes += prompt->runs[i].length;
    }
    assert_ptr_equal(bytes, prompt->text.data + prompt->text.length);
    text = td_buf_take(&out, &length);
    assert_non_null(text);
    return text;
}

static void assert_marked(const char *template_text, const char *v, const char *expected)
{
    struct rendered rendered;
    char *text;

    render_one(&rendered, template_text, v);
    if (rendered.status != TD_OK)
        fail_msg("%s: %s", template_text, rendered.error.text);
    text = marked(&rendered.prompt);
    assert_string_equal(text, expected);
    free(text);
    text_prompt_fini(&rendered.prompt);
}

static void assert_refused(const char *template_text, td_status_t status, const char *message)
{
    struct rendered rendered;

    render_one(&rendered, template_text, "v");
    if (rendered.status != status || strstr(rendered.error.text, message) == NULL)
        fail_msg("%s: status %d, '%s'", template_text, rendered.status, rendered.error.text);
    text_prompt_fini(&rendered.prompt);
}

/* ------------------------------------------------------------------------------------------- */

struct comparison {
    struct text_builder builder;
    unsigned compared;
};

static void compare_case(struct comparison *comparison, const struct td_json *line, unsigned number,
                         struct td_span template_text)
{
    const struct td_json *output = td_json_find(line, "output");
    struct rendered rendered;
    char what[300];

    snprintf(what, sizeof what, "line %u: %.200s", number, template_text.bytes);
    render(&rendered, template_text,
           test_value(&comparison->builder, td_json_find(line, "variables")), 1 << 20);
    assert_int_equal(comparison->builder.status, TD_OK);
    if (output == NULL && rendered.status == TD_OK)
        fail_msg("%s: Jinja refuses it, we make '%.*s'", what, (int)rendered.prompt.text.length,
                 rendered.prompt.text.data);
    if (output != NULL && rendered.status != TD_OK)
        fail_msg("%s: %s", what, rendered.error.text);
    if (output != NULL)
        test_assert_text(prompt_span(&rendered.prompt), output->string, what);
    else
        assert_true(strstr(rendered.error.text, "line ") != NULL);
    text_prompt_fini(&rendered.prompt);
    comparison->compared++;
}

static void compare_line(const struct td_json *line, unsigned number, void *context)
{
    struct comparison *comparison = context;
    struct td_arena arena;

    td_arena_init(&arena, 1 << 20);
    comparison->builder = text_builder_in(&arena);
    compare_case(comparison, line, number, test_text(line, "template"));
    td_arena_fini(&arena);
}

static void every_template_gives_what_jinja_gives(void **state)
{
    struct comparison comparison = {.compared = 0};

    (void)state;
    test_each_line(test_data_path("text/templates.jsonl"), compare_line, &comparison);
    print_message("%u renderings equal Jinja's\n", comparison.compared);
    assert_true(comparison.compared > 300);
}

/* ------------------------------------------------------------------------------------------- */

static void joining_and_slicing_keep_who_wrote_which_byte(void **state)
{
    (void)state;
    assert_marked("<a>{{ v }}<b>", "user", "<a>[user]<b>");
    assert_marked("{{ '<a>' + v + '<b>' }}", "user", "<a>[user]<b>");
    assert_marked("{{ '<a>' ~ v ~ '<b>' }}", "user", "<a>[user]<b>");
    assert_marked("{{ ['<a>', v, '<b>'] | join('|') }}", "u", "<a>|[u]|<b>");
    assert_marked("{{ ('<a>' + v + '<b>')[2:6] }}", "user", ">[use]");
    assert_marked("{{ ('<a>' + v + '<b>')[::-1] }}", "xy", ">b<[yx]>a<");
    assert_marked("{{ (' <a> ' + v + '  ') | trim }}", " u ", "<a> [ u]");
    assert_marked("{{ (v + '<a>' + v).split('<')[1] }}", "u", "a>[u]");
    assert_marked("{% set x %}<a>{{ v }}{% endset %}{{ x }}", "u", "<a>[u]");
    assert_marked("{% set ns = namespace(x='<a>') %}{% set ns.x = ns.x + v %}{{ ns.x }}", "u",
                  "<a>[u]");
    assert_marked("{% for c in '<' + v %}{{ c }}{% endfor %}", "uv", "<[uv]");
    assert_marked("{{ v if true else '' }}{{ v or 'x' }}{{ none or '<a>' }}", "u", "[uu]<a>");
    assert_marked("{{ {'<k>': v} | items | first | join('=') }}", "u", "<k>=[u]");
    assert_marked("{{ bos_token }}{{ v }}", "u", "<s>[u]");
    assert_marked("{% macro m(a, b='<d>') %}<m>{{ a }}{{ b }}{% endmacro %}{{ m(v) }}", "u",
                  "<m>[u]<d>");
    assert_marked("{% macro m(a) %}{{ '<' + a + '>' }}{% endmacro %}{{ m(v)[1:] | trim }}", "u",
                  "[u]>");
    assert_marked("{% filter trim %} <a>{{ v }} {% endfilter %}", "u", "<a>[u]");
    assert_marked("{% set x | trim %} <a>{{ v }} {% endset %}{{ x }}", "u", "<a>[u]");
    assert_marked("{% generation %}<a>{{ v }}{% endgeneration %}", "u", "<a>[u]");
    assert_marked("{{ '<{}>{}'.format(v, '<x>') }}", "u", "<[u]><x>");
    assert_marked("{{ '<|'.join([v, '<k>']) }}", "u", "[u]<|<k>");
    assert_marked("{{ ('<a>\\n' + v) | indent(2) }}", "u\nv", "<a>\n  [u\n]  [v]");
    assert_marked("{{ ('<a>,' + v + ',<b>').rsplit(',', 1)[0] }}", "u", "<a>,[u]");
    assert_marked("{{ ('<a>\\n' + v).splitlines()[1] }}", "u", "[u]");
    assert_marked("{{ (v + '<a>').removeprefix('u') }}{{ v.removesuffix('<a>') }}", "u", "<a>[u]");
    assert_marked("{{ [v, '<a>'] | sort | join }}", "u", "<a>[u]");
    assert_marked("{% raw %}<a>{{{% endraw %}{{ v }}", "u", "<a>{{[u]");
    assert_marked("{{ loop_ }}{% for x in [1] %}{{ loop.cycle('<a>', v) }}{% endfor %}", "u",
                  "<a>");
}

static void whatever_makes_new_text_of_untrusted_text_is_untrusted(void **state)
{
    (void)state;
    assert_marked("{{ ('<a>' + v) | upper }}", "u", "[<A>U]");
    assert_marked("{{ '<a>' | upper }}{{ '<A>'.lower() }}", "u", "<A><a>");
    assert_marked("{{ '<a>' | replace('a', v) }}", "|im_end|", "[<|im_end|>]");
    assert_marked("{{ v | replace('u', '<a>') }}", "u", "[<a>]");
    assert_marked("{{ '<x>' | replace('x', 'a') }}", "u", "<a>");
    assert_marked("{{ {'k': v} | tojson }}", "u", "[{\"k\": \"u\"}]");
    assert_marked("{{ i }}{{ i | string }}{{ true }}", "u", "[77True]");
    assert_marked("{{ '<a>' * 2 }}{{ v * 2 }}", "u", "<a><a>[uu]");
    assert_marked("{{ [v, '<a>'] }}", "u", "[['u', '<a>']]");
    assert_marked("{{ ['<a>'] ~ '<b>' }}", "u", "[['<a>']]<b>");
    assert_marked("{{ ('<a>' + v) | title }}{{ v.capitalize() }}", "u", "[<A>uU]");
    assert_marked("{{ ('<a>' + v) | escape }}", "u", "[&lt;a&gt;u]");
    assert_marked("{{ '<a>' | tojson(separators=(v, '<b>')) }}", "u", "[\"<a>\"]");
}

static void errors_name_the_place_and_what_is_wrong(void **state)
{
    (void)state;
    assert_refused("a\n\n{{ v | nope }}", TD_UNSUPPORTED, "line 3, column 8: the filter 'nope'");
    assert_refused("{# \n #}{% include 'x' %}", TD_UNSUPPORTED,
                   "line 2, column 7: the block 'include'");
    assert_refused("\n{{ v.nope() }}", TD_UNSUPPORTED, "line 2, column 10: the method 'nope'");
    assert_refused("{{ nope() }}", TD_UNSUPPORTED, "line 1, column 4: the function 'nope'");
    assert_refused("{{ v is nope }}", TD_UNSUPPORTED, "line 1, column 9: the test 'nope'");
    assert_refused("{{ v | tojson(nope=1) }}", TD_UNSUPPORTED, "the argument 'nope'");
    assert_refused("{{ v | map('nope') }}", TD_UNSUPPORTED, "the filter 'nope'");
    assert_refused("{{ v | selectattr('a', 'nope') }}", TD_UNSUPPORTED, "the test 'nope'");
    assert_refused("{{ {1: 2} }}", TD_UNSUPPORTED, "the keys of a dict are strings");
    assert_refused("\n\n{{ nope + v }}", TD_INVALID, "line 3: cannot calculate with 'nope'");
    assert_refused("{{ v + nope }}", TD_INVALID, "'nope', which is undefined");
    assert_refused("{{ nope.x }}", TD_INVALID, "'nope', which is undefined");
    assert_refused("{{ {'a': 1}.items }}", TD_INVALID, "cannot write as text a function");
    assert_refused("{{ {'a': 1}.items() }}", TD_INVALID, "cannot write as text a view");
    assert_refused("{{ raise_exception('roles must alternate') }}", TD_INVALID,
                   "line 1: roles must alternate");
    assert_refused("{% if v %}\n\n", TD_INVALID,
                   "line 2, column 1: the template ends, but 'endif'");
    assert_refused("{% break %}", TD_INVALID, "outside a for");
    assert_refused("\n  {{ v", TD_INVALID, "line 2, column 3: the tag is not closed");
    assert_refused("{% raw %}{{ x }}", TD_INVALID, "'endraw' is missing");
    assert_refused("{{ 0x10 }}", TD_UNSUPPORTED, "numbers are decimal");
    assert_refused("{{ 99999999999999999999 }}", TD_UNSUPPORTED, "out of range");
    assert_refused("{{ 9223372036854775807 + 1 }}", TD_INVALID, "beyond 64 bits");
    assert_refused("{{ 10 ** 30 }}", TD_INVALID, "beyond what numbers hold");
    assert_refused("{{ '\\ud800' }}", TD_UNSUPPORTED, "escape");
    assert_refused("{{ strftime_now('%Q') }}", TD_UNSUPPORTED, "'%Q'");
}

static void macros_are_checked_where_they_can_be(void **state)
{
    (void)state;
    assert_refused("{% for x in [1] %}{% macro m() %}{% endmacro %}{% endfor %}", TD_UNSUPPORTED,
                   "column 28: a macro inside of another block");
    assert_refused("{% macro m(a, a) %}{% endmacro %}", TD_INVALID, "two parameters");
    assert_refused("{% macro m(a=1, b) %}{% endmacro %}", TD_INVALID,
                   "a parameter without default");
    assert_refused("{% macro range() %}{% endmacro %}", TD_UNSUPPORTED, "named like a function");
    assert_refused("{% macro m() %}{{ caller() }}{% endmacro %}", TD_UNSUPPORTED,
                   "the function 'caller'");
    assert_refused("{% macro m() %}{{ kwargs }}{% endmacro %}", TD_UNSUPPORTED,
                   "the name 'kwargs'");
    assert_refused("{% macro m() %}{% break %}{% endmacro %}", TD_INVALID, "outside a for");
    assert_refused("{{ m(*v) }}{% macro m() %}{% endmacro %}", TD_UNSUPPORTED, "arguments with *");
    assert_refused("{{ v(1) }}", TD_UNSUPPORTED, "the function 'v'");
    assert_refused("{% macro m(v) %}{{ v(1) }}{% endmacro %}{{ m('x') }}", TD_INVALID,
                   "cannot call a string");
    assert_refused("{% macro m(a) %}{% endmacro %}\n{{ m(1, 2) }}", TD_INVALID,
                   "line 2: the macro 'm' does not take argument 2");
    assert_refused("{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", TD_INVALID,
                   "does not take argument 2");
    assert_refused("{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", TD_INVALID,
                   "does not take argument 1");
    assert_refused("{{ m() }}{% macro m() %}{% endmacro %}", TD_INVALID, "'m', which is undefined");
    assert_refused("{% macro m() %}{% endmacro %}{{ m }}", TD_INVALID,
                   "cannot write as text a macro");
}

static void a_raised_message_is_cut_at_a_character(void **state)
{
    struct rendered rendered;

    (void)state;
    render_one(&rendered, "{{ raise_exception('ä' * 200) }}", "");
    assert_int_equal(rendered.status, TD_INVALID);
    assert_int_equal(strlen(rendered.error.text), strlen("line 1: ") + 180);
    text_prompt_fini(&rendered.prompt);
}

/* ------------------------------------------------------------------------------------------- */

static char *repeated(const char *before, const char *part, size_t times, const char *after)
{
    struct td_buf out;
    size_t length;
    char *text;

    td_buf_init(&out, (size_t)8 << 20);
    td_buf_append_text(&out, before);
    for (size_t i = 0; i < times; i++)
        td_buf_append_text(&out, part);
    td_buf_append_text(&out, after);
    text = td_buf_take(&out, &length);
    assert_non_null(text);
    return text;
}

static void assert_limited(char *template_text)
{
    struct rendered rendered;

    render_one(&rendered, template_text, "some text");
    if (rendered.status != TD_LIMIT)
        fail_msg("%.80s...: status %d, '%s'", template_text, rendered.status, rendered.error.text);
    text_prompt_fini(&rendered.prompt);
    free(template_text);
}

static void hostile_templates_hit_a_limit(void **state)
{
    char *closed;

    (void)state;
    assert_limited(repeated("{{ ", "(", 100000, ""));
    closed = repeated("1", "]", 60, " }}");
    assert_limited(repeated("{{ ", "[", 60, closed));
    free(closed);
    assert_limited(repeated("{{ ", "-", 100000, "1 }}"));
    assert_limited(repeated("{{ ", "not ", 60000, "v }}"));
    assert_limited(repeated("{{ v", ".x", 100000, " }}"));
    assert_limited(repeated("{{ v", "|trim", 40000, " }}"));
    assert_limited(repeated("{{ 1", " - 1", 40000, " }}"));
    assert_limited(repeated("{{ 1", " + 1", 40000, " }}"));
    assert_limited(repeated("{{ v", " if v else v", 20000, " }}"));
    assert_limited(repeated("", "{% if v %}", 20000, ""));
    assert_limited(repeated("", "x", 300000, ""));
    assert_limited(repeated("", "{% for a in range(1000) %}", 4,
                            "x{% endfor %}{% endfor %}"
                            "{% endfor %}{% endfor %}"));
    assert_limited(repeated("", "", 0,
                            "{% set n = namespace(x='ab') %}{% for a in range(99999) %}"
                            "{% set n.x = n.x + n.x %}{% endfor %}"));
    assert_limited(repeated("", "", 0,
                            "{% set n = namespace(x=[]) %}{% for a in range(9999) %}"
                            "{% set n.x = [n.x] %}{% endfor %}{{ n.x | tojson }}"));
    assert_limited(repeated("", "", 0,
                            "{% set n = namespace(x=[]) %}{% for a in range(9999) %}"
                            "{% set n.x = [n.x] %}{% endfor %}{{ n.x == n.x }}"));
    assert_limited(repeated("", "", 0, "{{ 'x' * 999999999 }}"));
    assert_limited(repeated("", "", 0, "{{ 'x' * 9223372036854775807 }}"));
    assert_limited(repeated("", "", 0, "{{ ('x' * 1000000) | replace('x', 'y' * 1000) }}"));
    assert_limited(repeated("", "", 0, "{% for a in range(99999) %}{{ v * 100 }}{% endfor %}"));
    assert_limited(repeated("", "", 0, "{{ range(100001) }}"));
}

/* What could make a little template endless or large: each way has a limit. */
static void hostile_macros_and_filters_hit_a_limit(void **state)
{
    static const char *const templates[] = {
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}x{{ a() }}{% endmacro %}{{ a() }}",
        "{% macro m(n) %}{{ m(n) if n else 'x' }}{% endmacro %}{{ m(1) }}",
        "{% macro m(a) %}{% if a %}{% for i in [1] %}{% set q = m(a) %}{% endfor %}{% endif %}{% "
        "endmacro %}{{ m(1) }}",
        "{% macro m(a=n()) %}{% endmacro %}{% macro n() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}"
        "{{ m(60) }}",
        "{% macro m(n) %}{% if n > 0 %}{{ m(n - 1) * 9 }}{% else %}xxxxxxxxx{% endif %}{% endmacro "
        "%}"
        "{{ m(60) }}",
        "{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}",
        "{{ ([1] * 99999) | join('x' * 9999) }}",
        "{{ [[1] * 9999] * 9999 }}",
        "{{ ([[1] * 9999] * 9999) | tojson(indent=16) }}",
        "{{ [1] * 9223372036854775807 }}",
        "{{ ('x' * 999).join(range(9999) | map('string')) * 9 }}",
        "{{ ('{0}{0}{0}{0}{0}{0}{0}{0}' * 99999).format('x' * 99999) }}",
        "{{ ('x\\n' * 999999) | indent(9999) }}",
        "{{ 'x' | indent(999999999999) }}",
        "{{ ('&' * 9999999) | escape }}{{ ('&' * 9999999) | escape }}",
        "{{ range(99999) | unique | list | length }}",
        "{% for i in range(999) %}{{ range(9999) | sort(reverse=true) | first }}{% endfor %}",
        "{% for i in range(99999) %}{{ ('x' * 99999).count('x') }}{% endfor %}",
        "{% for i in range(99999) %}{{ ('x' * 99999).splitlines() | length }}{% endfor %}",
        "{% set n = namespace(x=[]) %}{% for a in range(9999) %}{% set n.x = [n.x] %}{% endfor %}"
        "{{ n.x }}",
        "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor "
        "%}",
        "{% set n = namespace(x={}) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor "
        "%}"
        "{{ n.x | tojson }}",
        "{% set x | replace('a', 'a' * 9999) %}{{ 'a' * 99999 }}{% endset %}",
        "{% filter replace('a', 'a' * 9999) %}{{ 'a' * 99999 }}{% endfilter %}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof templates / sizeof templates[0]; i++)
        assert_limited(repeated(templates[i], "", 0, ""));
}

static void more_variables_than_allowed_are_refused(void **state)
{
    struct td_buf template_text;
    struct rendered rendered;

    (void)state;
    td_buf_init(&template_text, 1 << 20);
    for (unsigned i = 0; i < 1100; i++)
        td_buf_printf(&template_text, "{%% set x%u = 1 %%}", i);
    render_one(&rendered, template_text.data, "");
    assert_int_equal(rendered.status, TD_LIMIT);
    text_prompt_fini(&rendered.prompt);
    td_buf_fini(&template_text);
}

static void a_prompt_over_its_limit_is_refused(void **state)
{
    struct td_arena arena;
    struct text_builder builder = text_builder_in(&arena);
    struct rendered rendered;
    struct text_value variables;

    (void)state;
    td_arena_init(&arena, 1 << 20);
    variables = text_value_dict(&builder);
    render(&rendered, td_span_of("12345{{ '678' }}"), variables, 8);
    assert_int_equal(rendered.status, TD_OK);
    text_prompt_fini(&rendered.prompt);
    render(&rendered, td_span_of("12345{{ '678' }}"), variables, 7);
    assert_int_equal(rendered.status, TD_LIMIT);
    assert_non_null(strstr(rendered.error.text, "the prompt is too long"));
    text_prompt_fini(&rendered.prompt);
    td_arena_fini(&arena);
}

/* What a template writes with tools and without, alone and as a part of a pair. */
static void two_templates_render_as_one(void **state)
{
    static const char *const with_tools[] = {"\n  {% if true %}\nT\n{% endif %}\n", "  T \n\n",
                                             "\t{# c #}\nT{% if true %}\n{% endif %}\r\n"};
    static const char *const plain[] = {"  {% set x = 1 %}\n D\n", "D", "\n\nD{{ 1 }}  "};

    (void)state;
    for (size_t i = 0; i < 9; i++) {
        struct td_span parts[2] = {td_span_of(plain[i % 3]), td_span_of(with_tools[i / 3])};
        char pair[200];

        for (size_t k = 0; k < 2; k++) {
            struct td_arena arena;
            struct text_builder builder = text_builder_in(&arena);
            struct rendered alone;
            struct rendered together;
            struct text_value variables;

            td_arena_init(&arena, 1 << 16);
            variables = text_value_dict(&builder);
            text_dict_add(&builder, variables, td_span_of("tools"), text_value_int((int64_t)k));
            render(&alone, parts[k], variables, 1000);
            render(&together, text_template_pair(parts[0], parts[1], pair), variables, 1000);
            assert_int_equal(alone.status, TD_OK);
            assert_int_equal(together.status, TD_OK);
            test_assert_text(prompt_span(&together.prompt), prompt_span(&alone.prompt), pair);
            text_prompt_fini(&alone.prompt);
            text_prompt_fini(&together.prompt);
            td_arena_fini(&arena);
        }
    }
}

static void a_builder_without_room_says_so_once(void **state)
{
    struct td_arena arena;
    struct text_builder builder = text_builder_in(&arena);
    struct text_value list;

    (void)state;
    td_arena_init(&arena, 4096);
    list = text_value_list(&builder);
    for (unsigned i = 0; i < 1000; i++)
        text_list_append(&builder, list, text_value_string(&builder, td_span_of("text")));
    assert_int_equal(builder.status, TD_LIMIT);
    assert_int_equal(text_value_dict(&builder).kind, TEXT_UNDEFINED);
    td_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_template_gives_what_jinja_gives),
        cmocka_unit_test(joining_and_slicing_keep_who_wrote_which_byte),
        cmocka_unit_test(whatever_makes_new_text_of_untrusted_text_is_untrusted),
        cmocka_unit_test(errors_name_the_place_and_what_is_wrong),
        cmocka_unit_test(macros_are_checked_where_they_can_be),
        cmocka_unit_test(a_raised_message_is_cut_at_a_character),
        cmocka_unit_test(hostile_templates_hit_a_limit),
        cmocka_unit_test(hostile_macros_and_filters_hit_a_limit),
        cmocka_unit_test(more_variables_than_allowed_are_refused),
        cmocka_unit_test(a_prompt_over_its_limit_is_refused),
        cmocka_unit_test(two_templates_render_as_one),
        cmocka_unit_test(a_builder_without_room_says_so_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
