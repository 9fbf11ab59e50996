/* test_gguf_text.c: which chat template of a GGUF file is taken. */
#include <stdlib.h>

#include "model/gguf_text.h"
#include "tests/model/gguf_build.h"

static const char *const tokens[] = {"a", "b", "ab"};
static const char *const merges[] = {"a b"};

/* The text of a file with these templates; NULL: without the key. */
static td_status_t read_templates(const char *plain, const char *with_tools,
                                  struct gguf_bytes *bytes, struct model_gguf **file,
                                  struct text_source *source)
{
    struct gguf_build build;

    gguf_build_init(&build);
    gguf_build_text(&build, "tokenizer.ggml.model", "gpt2");
    gguf_build_text(&build, "tokenizer.ggml.pre", "gpt-2");
    gguf_build_texts(&build, "tokenizer.ggml.tokens", tokens, 3);
    gguf_build_texts(&build, "tokenizer.ggml.merges", merges, 1);
    if (plain != NULL)
        gguf_build_text(&build, "tokenizer.chat_template", plain);
    if (with_tools != NULL)
        gguf_build_text(&build, "tokenizer.chat_template.tool_use", with_tools);
    *bytes = gguf_build_finish(&build);
    assert_int_equal(model_gguf_parse(bytes->bytes, bytes->length, file, NULL), TD_OK);
    return model_gguf_text(*file, source, NULL);
}

static void assert_template(const char *plain, const char *with_tools, const char *expected)
{
    struct gguf_bytes bytes;
    struct model_gguf *file;
    struct text_source source;

    assert_int_equal(read_templates(plain, with_tools, &bytes, &file, &source), TD_OK);
    assert_true(td_span_is(source.chat_template, expected));
    assert_int_equal(source.merges[0].right, 1); /* what lies in front of the templates is whole */
    text_source_fini(&source);
    model_gguf_close(file);
    free(bytes.bytes);
}

static void the_template_for_tools_is_joined_to_the_other(void **state)
{
    (void)state;
    assert_template(NULL, NULL, "");
    assert_template("plain", NULL, "plain");
    assert_template("plain", "", "plain");
    assert_template(NULL, "tools", "");
    assert_template("plain\n", "tools", "{% if tools +%}tools{%+ else +%}plain{%+ endif +%}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_template_for_tools_is_joined_to_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
