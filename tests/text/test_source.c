/*
 * test_source.c: the form in which a tokenizer travels from worker to router: what is written is read
 * back, what is malformed is refused with the field's name, and a model is not made of nonsense.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/source.h"
#include "lib/text/unicode.h"
#include "tests/text/text_support.h"

/* tiny_llama.source, written by make_data.py, which knows the form by its description only. */
static char *read_tiny_llama(size_t *length_out)
{
    return test_read_file(test_data_path("text/tiny_llama.source"), length_out);
}

static void assert_same_again(const struct text_source *source, const char *bytes, size_t length)
{
    struct td_error error = {0};
    struct td_buf again;

    td_buf_init(&again, TEXT_SOURCE_BYTES_MAX);
    if (text_source_encode(source, &again, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(again.length, length);
    assert_memory_equal(again.data, bytes, length);
    td_buf_fini(&again);
}

static void what_is_read_is_written_the_same(void **state)
{
    struct text_source source;
    struct td_error error = {0};
    struct text_model *model;
    struct td_u128 id;
    size_t length;
    char *bytes = read_tiny_llama(&length);

    (void)state;
    if (text_source_decode(bytes, length, &source, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(source.token_count, 1024);
    assert_true(source.ignore_merges);
    assert_true(source.add_bos);
    assert_false(source.add_eos);
    assert_same_again(&source, bytes, length);
    model = test_open_model(&source);
    id = text_source_id(bytes, length);
    assert_true(td_u128_equal(text_model_id(model), id));
    bytes[8] ^= 2; /* add_eos */
    assert_false(td_u128_equal(text_source_id(bytes, length), id));
    text_model_close(model);
    text_source_fini(&source);
    text_source_fini(&source);
    free(bytes);
}

/* ---- identity ---- */

static const char *unicode_version; /* of another library; NULL: the one that is loaded */

const char *__real_text_unicode_version(void);
const char *__wrap_text_unicode_version(void);

const char *__wrap_text_unicode_version(void)
{
    return unicode_version != NULL ? unicode_version : __real_text_unicode_version();
}

/* A router with an older library would cut and compose new characters differently. */
static void other_tables_of_unicode_are_another_identity(void **state)
{
    static const char form[] = "the same bytes";
    struct td_u128 here = text_source_id(form, sizeof form);

    (void)state;
    unicode_version = TEXT_UNICODE_VERSION;
    assert_true(td_u128_equal(text_source_id(form, sizeof form), here));
    unicode_version = "14.0.0";
    assert_false(td_u128_equal(text_source_id(form, sizeof form), here));
    unicode_version = NULL;
}

static void every_truncation_is_refused(void **state)
{
    struct text_source source;
    size_t length;
    char *bytes = read_tiny_llama(&length);

    (void)state;
    for (size_t part = 0; part < length; part++) {
        char *copy = malloc(part + 1); /* of exact size, so that ASan sees one byte too far */
        struct td_error error = {0};

        memcpy(copy, bytes, part);
        assert_int_not_equal(text_source_decode(copy, part, &source, &error), TD_OK);
        assert_true(error.text[0] != '\0');
        free(copy);
    }
    bytes = realloc(bytes, length + 1);
    bytes[length] = 0;
    assert_int_equal(text_source_decode(bytes, length + 1, &source, NULL), TD_INVALID);
    free(bytes);
}

static void every_changed_byte_is_refused_or_means_itself(void **state)
{
    struct text_source source;
    size_t length;
    char *bytes = read_tiny_llama(&length);
    unsigned refused = 0;

    (void)state;
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (char)~bytes[i];
        if (text_source_decode(bytes, length, &source, NULL) == TD_OK) {
            assert_same_again(&source, bytes, length);
            text_source_fini(&source);
        } else {
            refused++;
        }
        bytes[i] = (char)~bytes[i];
    }
    assert_true(refused > 1000);
    free(bytes);
}

/* ------------------------------------------------------------------------------------------- */

/* A small good source of four tokens, to be spoiled. */
struct small {
    struct text_token tokens[4];
    struct text_merge merges[1];
    struct text_source source;
};

static void make_small(struct small *small)
{
    *small = (struct small){
        .tokens = {{.bytes = "a", .length = 1, .type = TEXT_TOKEN_NORMAL},
                   {.bytes = "b", .length = 1, .type = TEXT_TOKEN_NORMAL},
                   {.bytes = "ab", .length = 2, .type = TEXT_TOKEN_NORMAL},
                   {.bytes = "</s>", .length = 4, .type = TEXT_TOKEN_CONTROL}},
        .merges = {{0, 1}},
    };
    text_source_init(&small->source);
    small->source.pretokenizer = td_span_of("gpt-2");
    small->source.tokens = small->tokens;
    small->source.token_count = 4;
    small->source.merges = small->merges;
    small->source.merge_count = 1;
    small->source.eos = 3;
}

static void assert_check_fails(const struct small *small, td_status_t status, const char *text)
{
    struct td_error error = {0};

    assert_int_equal(text_source_check(&small->source, &error), status);
    if (strstr(error.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, text);
}

static void each_wrong_field_is_named(void **state)
{
    struct small small;
    struct td_error error = {0};

    (void)state;
    make_small(&small);
    assert_int_equal(text_source_check(&small.source, &error), TD_OK);
    small.source.eos = 4;
    assert_check_fails(&small, TD_INVALID, "eos: id 4, but there are 4 tokens");
    make_small(&small);
    small.source.unknown = 99;
    assert_check_fails(&small, TD_INVALID, "unknown: id 99");
    make_small(&small);
    small.source.stop_ids[0] = TEXT_TOKEN_NONE;
    small.source.stop_id_count = 1;
    assert_check_fails(&small, TD_INVALID, "stop id 0");
    small.source.stop_id_count = TEXT_STOP_IDS_MAX + 1;
    assert_check_fails(&small, TD_LIMIT, "stop ids: 33");
    make_small(&small);
    small.merges[0].right = 4;
    assert_check_fails(&small, TD_INVALID, "merge 0: ids 0 and 4");
    make_small(&small);
    small.tokens[2].length = 0;
    assert_check_fails(&small, TD_INVALID, "token 2: 0 bytes");
    small.tokens[2].length = TEXT_TOKEN_BYTES_MAX + 1;
    assert_check_fails(&small, TD_INVALID, "token 2: 4097 bytes");
    make_small(&small);
    small.tokens[1].type = 7;
    assert_check_fails(&small, TD_INVALID, "token 1: type 7");
    make_small(&small);
    small.source.token_count = 0;
    assert_check_fails(&small, TD_LIMIT, "tokens: 0");
    small.source.token_count = TEXT_TOKENS_MAX + 1;
    assert_check_fails(&small, TD_LIMIT, "tokens: 1048577");
    make_small(&small);
    small.source.merge_count = TEXT_MERGES_MAX + 1;
    assert_check_fails(&small, TD_LIMIT, "merges: 2097153");
    make_small(&small);
    small.source.pretokenizer.length = TEXT_NAME_BYTES_MAX + 1;
    assert_check_fails(&small, TD_LIMIT, "pre-tokenizer name");
    make_small(&small);
    small.source.chat_template.length = TEXT_TEMPLATE_BYTES_MAX + 1;
    assert_check_fails(&small, TD_LIMIT, "chat template");
}

static void assert_model_fails(const struct small *small, td_status_t status, const char *text)
{
    struct text_model *model = NULL;
    struct td_error error = {0};
    td_status_t actual = text_model_open(&small->source, &model, &error);

    if (actual != status || strstr(error.text, text) == NULL)
        fail_msg("status %d, \"%s\" does not say \"%s\"", actual, error.text, text);
}

static void no_model_is_made_of_nonsense(void **state)
{
    struct small small;
    struct text_model *model;

    (void)state;
    make_small(&small);
    model = test_open_model(&small.source);
    assert_int_equal(text_model_eos(model), 3);
    text_model_close(model);
    small.source.pretokenizer = td_span_of("gpt-3");
    assert_model_fails(&small, TD_UNSUPPORTED, "pre-tokenizer 'gpt-3'");
    make_small(&small);
    small.merges[0].left = 2; /* "abb" is no token */
    assert_model_fails(&small, TD_INVALID, "merge 0: 'ab' and 'b' make no token");
    make_small(&small);
    small.tokens[1].bytes = "\n"; /* GPT-2's alphabet writes it otherwise */
    assert_model_fails(&small, TD_INVALID, "token 1");
    make_small(&small);
    small.source.chat_template = td_span_of("a\n{% if %}");
    assert_model_fails(&small, TD_INVALID, "chat template: line 2");
    make_small(&small);
    small.source.bos = 4;
    assert_model_fails(&small, TD_INVALID, "bos: id 4");
}

static void merges_are_resolved_by_their_text(void **state)
{
    static const struct text_token tokens[] = {
        {.bytes = "a", .length = 1, .type = TEXT_TOKEN_NORMAL},
        {.bytes = " ", .length = 1, .type = TEXT_TOKEN_NORMAL},
        {.bytes = "ab", .length = 2, .type = TEXT_TOKEN_NORMAL}};
    const struct td_span good[] = {td_span_of("a ab"), td_span_of("ab a"), td_span_of("  a")};
    const char *const bad[] = {"a", "a ", " a", "a b", "aab", "ab  a", ""};
    struct text_merge merges[3];
    struct td_error error = {0};

    (void)state;
    assert_int_equal(text_source_resolve_merges(tokens, 3, good, 3, merges, &error), TD_OK);
    assert_int_equal(merges[0].left, 0);
    assert_int_equal(merges[0].right, 2);
    assert_int_equal(merges[1].left, 2);
    assert_int_equal(merges[2].left, 1); /* the split is behind the first byte */
    assert_int_equal(merges[2].right, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct td_span rules[] = {good[0], td_span_of(bad[i])};

        assert_int_equal(text_source_resolve_merges(tokens, 3, rules, 2, merges, &error),
                         TD_INVALID);
        assert_non_null(strstr(error.text, "merge 1"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_written_the_same),
        cmocka_unit_test(other_tables_of_unicode_are_another_identity),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_refused_or_means_itself),
        cmocka_unit_test(each_wrong_field_is_named),
        cmocka_unit_test(no_model_is_made_of_nonsense),
        cmocka_unit_test(merges_are_resolved_by_their_text),
    };

    return cmocka_run_group_tests_name("text source", tests, NULL, NULL);
}
