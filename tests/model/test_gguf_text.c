/*
 * test_gguf_text.c: the tokenizer's keys of a GGUF file: what llama.cpp takes for granted where a file says nothing, and
 * what is wrong, by key.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/model.h"
#include "model/gguf_text.h"
#include "tests/model/gguf_build.h"

#define MARK     "\xE2\x96\x81" /* U+2581 */
#define SPECIALS 3
#define TOKENS   (SPECIALS + 256 + 3)

/* How a test's file differs from the good one. */
struct change {
    bool no_scores;
    uint64_t scores; /* how many there are; 0: as many as tokens */
    uint64_t types;  /* the same */
    float first_score;
    const char *first_byte; /* the text of byte 0 */
    void (*add)(struct gguf_build *build);
};

static void put_array(struct gguf_build *build, const char *key, enum model_gguf_kind element,
                      uint64_t count, const void *values)
{
    uint8_t bytes[12 + 4 * TOKENS];
    uint32_t kind = element;

    assert_true(count <= TOKENS);
    memcpy(bytes, &kind, 4);
    memcpy(bytes + 4, &count, 8);
    memcpy(bytes + 12, values, 4 * count);
    gguf_build_scalar(build, key, MODEL_GGUF_ARRAY, bytes, 12 + 4 * count);
}

/* <unk> <s> </s>, all bytes, and three pieces. */
static void put_sentencepiece(struct gguf_build *build, const struct change *change)
{
    static char byte_texts[256][8];
    const char *texts[TOKENS] = {"<unk>", "<s>", "</s>"};
    float scores[TOKENS] = {change->first_score};
    int32_t types[TOKENS] = {TEXT_TOKEN_UNKNOWN, TEXT_TOKEN_CONTROL, TEXT_TOKEN_CONTROL};

    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(byte_texts[byte], sizeof byte_texts[byte], "<0x%02X>", byte);
        texts[SPECIALS + byte] = byte_texts[byte];
        types[SPECIALS + byte] = TEXT_TOKEN_BYTE;
    }
    if (change->first_byte != NULL)
        texts[SPECIALS] = change->first_byte;
    texts[TOKENS - 3] = MARK;
    texts[TOKENS - 2] = "a";
    texts[TOKENS - 1] = MARK "a";
    for (unsigned i = SPECIALS + 256; i < TOKENS; i++)
        types[i] = TEXT_TOKEN_NORMAL;
    gguf_build_text(build, "tokenizer.ggml.model", "llama");
    gguf_build_texts(build, "tokenizer.ggml.tokens", texts, TOKENS);
    put_array(build, "tokenizer.ggml.token_type", MODEL_GGUF_I32,
              change->types > 0 ? change->types : TOKENS, types);
    if (!change->no_scores)
        put_array(build, "tokenizer.ggml.scores", MODEL_GGUF_F32,
                  change->scores > 0 ? change->scores : TOKENS, scores);
}

/* Three tokens and a merge. */
static void put_byte_level(struct gguf_build *build, const char *pretokenizer)
{
    static const char *const texts[] = {"a", "b", "ab"};
    static const char *const merges[] = {"a b"};

    gguf_build_text(build, "tokenizer.ggml.model", "gpt2");
    if (pretokenizer != NULL)
        gguf_build_text(build, "tokenizer.ggml.pre", pretokenizer);
    gguf_build_texts(build, "tokenizer.ggml.tokens", texts, 3);
    gguf_build_texts(build, "tokenizer.ggml.merges", merges, 1);
}

/* The file that a source was read from. */
struct opened {
    struct gguf_bytes bytes;
    struct model_gguf *file;
    struct text_source source;
    td_status_t status;
    struct td_error error;
};

static void open_build(struct gguf_build *build, struct opened *opened)
{
    *opened = (struct opened){.bytes = gguf_build_finish(build)};
    assert_int_equal(
        model_gguf_parse(opened->bytes.bytes, opened->bytes.length, &opened->file, &opened->error),
        TD_OK);
    text_source_init(&opened->source);
    opened->status = model_gguf_text(opened->file, &opened->source, &opened->error);
}

static void open_sentencepiece(const struct change *change, struct opened *opened)
{
    struct gguf_build build;

    gguf_build_init(&build);
    put_sentencepiece(&build, change);
    if (change->add != NULL)
        change->add(&build);
    open_build(&build, opened);
}

static void open_byte_level(const char *pretokenizer, struct opened *opened)
{
    struct gguf_build build;

    gguf_build_init(&build);
    put_byte_level(&build, pretokenizer);
    open_build(&build, opened);
}

static void close_opened(struct opened *opened)
{
    text_source_fini(&opened->source);
    model_gguf_close(opened->file);
    free(opened->bytes.bytes);
}

/* ------------------------------------------------------------------------------------------- */

static void sentencepiece_has_llamas_ids_where_nothing_is_said(void **state)
{
    struct opened opened;
    struct text_model *model;
    struct text_tokens tokens;

    (void)state;
    open_sentencepiece(&(struct change){.first_score = 0}, &opened);
    assert_int_equal(opened.status, TD_OK);
    assert_int_equal(opened.source.algorithm, TEXT_SENTENCEPIECE);
    assert_int_equal(opened.source.unknown, 0);
    assert_int_equal(opened.source.bos, 1);
    assert_int_equal(opened.source.eos, 2);
    assert_true(opened.source.add_bos);
    assert_false(opened.source.add_eos);
    assert_int_equal(opened.source.prefix, TEXT_PREFIX_ALWAYS);
    assert_true(opened.source.strip_space);
    assert_int_equal(text_model_open(&opened.source, &model, &opened.error), TD_OK);
    text_tokens_init(&tokens, 100);
    assert_int_equal(text_encode(model, "a\n", 2, TEXT_ADD_SPECIAL, &tokens), TD_OK);
    assert_int_equal(tokens.count, 3);
    assert_int_equal(tokens.ids[1], TOKENS - 1);
    assert_int_equal(tokens.ids[2], SPECIALS + '\n');
    text_tokens_fini(&tokens);
    text_model_close(model);
    close_opened(&opened);
}

static void add_no_space(struct gguf_build *build)
{
    gguf_build_scalar(build, "tokenizer.ggml.add_space_prefix", MODEL_GGUF_BOOL, "", 1);
    gguf_build_scalar(build, "tokenizer.ggml.add_bos_token", MODEL_GGUF_BOOL, "", 1);
    gguf_build_u32(build, "tokenizer.ggml.eos_token_id", 999999);
}

static void what_a_file_says_holds(void **state)
{
    struct opened opened;

    (void)state;
    open_sentencepiece(&(struct change){.add = add_no_space}, &opened);
    assert_int_equal(opened.status, TD_OK);
    assert_int_equal(opened.source.prefix, TEXT_PREFIX_NONE);
    assert_false(opened.source.strip_space);
    assert_false(opened.source.add_bos);
    assert_int_equal(opened.source.eos, TEXT_TOKEN_NONE); /* no token has that id */
    close_opened(&opened);
}

static void add_wrong_kind(struct gguf_build *build)
{
    gguf_build_text(build, "tokenizer.ggml.add_space_prefix", "yes");
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        struct change change;
        const char *message;
    } cases[] = {
        {{.no_scores = true}, "key tokenizer.ggml.scores is missing"},
        {{.scores = 7}, "key tokenizer.ggml.scores has 7 values for 262 tokens"},
        {{.types = 8}, "key tokenizer.ggml.token_type has 8 values for 262 tokens"},
        {{.first_score = -__builtin_inff()}, "token 0: its score is not finite"},
        {{.add = add_wrong_kind}, "key tokenizer.ggml.add_space_prefix"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct opened opened;

        open_sentencepiece(&cases[i].change, &opened);
        assert_int_equal(opened.status, TD_INVALID);
        if (strstr(opened.error.text, cases[i].message) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", opened.error.text, cases[i].message);
        close_opened(&opened);
    }
}

static void bytes_that_are_missing_make_no_model(void **state)
{
    static const struct {
        const char *text;
        td_status_t status;
        const char *message;
    } cases[] = {
        {"<0x01>", TD_UNSUPPORTED, "no \"<0x00>\""},
        {"<0x0>", TD_INVALID, "token 3: a byte is written"},
        {"zero", TD_INVALID, "token 3: a byte is written"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct opened opened;
        struct text_model *model;

        open_sentencepiece(&(struct change){.first_byte = cases[i].text}, &opened);
        assert_int_equal(opened.status, TD_OK);
        assert_int_equal(text_model_open(&opened.source, &model, &opened.error), cases[i].status);
        assert_non_null(strstr(opened.error.text, cases[i].message));
        close_opened(&opened);
    }
}

static void the_pretokenizer_decides_what_a_file_leaves_open(void **state)
{
    static const struct {
        const char *name;
        bool nfc;
        bool ignores_merges;
        bool adds_bos;
    } cases[] = {{"qwen2", true, false, false},
                 {"deepseek-r1-qwen", true, false, false},
                 {"llama-bpe", false, true, true},
                 {"gpt-2", false, false, false}};
    struct opened opened;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_byte_level(cases[i].name, &opened);
        assert_int_equal(opened.status, TD_OK);
        assert_int_equal(opened.source.normalize_nfc, cases[i].nfc);
        assert_int_equal(opened.source.ignore_merges, cases[i].ignores_merges);
        assert_int_equal(opened.source.add_bos, cases[i].adds_bos);
        close_opened(&opened);
    }
    open_byte_level("tekken", &opened);
    assert_int_equal(opened.status, TD_UNSUPPORTED);
    assert_string_equal(opened.error.text, "pre-tokenizer 'tekken' is not known");
    close_opened(&opened);
    open_byte_level(NULL, &opened);
    assert_int_equal(opened.status, TD_UNSUPPORTED);
    close_opened(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_has_llamas_ids_where_nothing_is_said),
        cmocka_unit_test(what_a_file_says_holds),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(bytes_that_are_missing_make_no_model),
        cmocka_unit_test(the_pretokenizer_decides_what_a_file_leaves_open),
    };

    return cmocka_run_group_tests_name("GGUF tokenizers", tests, NULL, NULL);
}
