/*
 * test_generation.c: generation defaults: their ranges, and their part of the form in which a text
 * source travels.
 */
#include <math.h>

#include "lib/text/source.h"
#include "tests/text/text_support.h"

static const struct text_generation full = {
    .present = TEXT_GENERATION_ALL,
    .temperature = 0.7f,
    .top_p = 0.8f,
    .top_k = 20,
    .min_p = 0.05f,
    .repetition_penalty = 1.1f,
    .max_new_tokens = 512,
};

static struct text_source source_with(const struct text_generation *generation)
{
    static const struct text_token tokens[] = {
        {.bytes = "a", .length = 1, .type = TEXT_TOKEN_NORMAL}};
    struct text_source source;

    text_source_init(&source);
    source.pretokenizer = td_span_of("gpt-2");
    source.tokens = tokens;
    source.token_count = 1;
    source.generation = *generation;
    return source;
}

static void every_combination_travels(void **state)
{
    (void)state;
    for (uint32_t present = 0; present <= TEXT_GENERATION_ALL; present++) {
        struct text_generation generation = full;
        struct text_source source;
        struct text_source back;
        struct td_buf form;

        generation.present = present;
        source = source_with(&generation);
        td_buf_init(&form, 4096);
        assert_int_equal(text_source_encode(&source, &form, NULL), TD_OK);
        assert_int_equal(text_source_decode(form.data, form.length, &back, NULL), TD_OK);
        assert_int_equal(back.generation.present, present);
        assert_true(back.generation.top_k == (present & TEXT_GENERATION_TOP_K ? 20 : 0));
        assert_true(back.generation.min_p == (present & TEXT_GENERATION_MIN_P ? 0.05f : 0));
        assert_true(back.generation.max_new_tokens ==
                    (present & TEXT_GENERATION_MAX_NEW_TOKENS ? 512 : 0));
        text_source_fini(&back);
        td_buf_fini(&form);
    }
}

static void defaults_are_part_of_the_identity(void **state)
{
    struct text_source with = source_with(&full);
    struct text_source without = source_with(&(struct text_generation){0});
    struct text_model *a = test_open_model(&with);
    struct text_model *b = test_open_model(&without);

    (void)state;
    assert_false(td_u128_equal(text_model_id(a), text_model_id(b)));
    assert_true(text_model_generation(a)->top_p == 0.8f);
    assert_int_equal(text_model_generation(b)->present, 0);
    text_model_close(a);
    text_model_close(b);
}

static void assert_refused(struct text_generation generation, const char *name)
{
    struct text_source source = source_with(&generation);
    struct td_error error = {0};

    assert_int_equal(text_source_check(&source, &error), TD_INVALID);
    if (strstr(error.text, name) == NULL)
        fail_msg("\"%s\" does not name %s", error.text, name);
}

#define SPOILED(FIELD, VALUE)                  \
    do {                                       \
        struct text_generation spoiled = full; \
        spoiled.FIELD = (VALUE);               \
        assert_refused(spoiled, #FIELD);       \
    } while (0)

static void values_out_of_range_are_named(void **state)
{
    struct text_generation absent = {.temperature = NAN, .top_p = 7};
    struct text_source source = source_with(&absent);

    (void)state;
    SPOILED(temperature, -0.5f);
    SPOILED(temperature, NAN);
    SPOILED(temperature, INFINITY);
    SPOILED(top_p, 0.0f);
    SPOILED(top_p, 1.01f);
    SPOILED(top_p, NAN);
    SPOILED(min_p, -0.1f);
    SPOILED(min_p, 1.1f);
    SPOILED(repetition_penalty, 0.0f);
    SPOILED(repetition_penalty, INFINITY);
    SPOILED(max_new_tokens, 0);
    assert_refused((struct text_generation){.present = TEXT_GENERATION_ALL + 1}, "bits 0x40");
    assert_int_equal(text_source_check(&source, NULL), TD_OK); /* what is absent is not looked at */
}

static void people_can_read_them(void **state)
{
    struct td_buf text;

    (void)state;
    td_buf_init(&text, 4096);
    text_generation_print(&full, &text);
    td_buf_append_text(&text, "; ");
    text_generation_print(&(struct text_generation){0}, &text);
    td_buf_append(&text, "", 1);
    assert_string_equal(text.data, "temperature 0.7, top_p 0.8, top_k 20, min_p 0.05, "
                                   "repetition_penalty 1.1, max_new_tokens 512; none");
    td_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_travels),
        cmocka_unit_test(defaults_are_part_of_the_identity),
        cmocka_unit_test(values_out_of_range_are_named),
        cmocka_unit_test(people_can_read_them),
    };

    return cmocka_run_group_tests_name("generation defaults", tests, NULL, NULL);
}
