/*
 * test_tokenizer_json.c: reading a folder's tokenizer: every form that is known, and what is wrong or
 * unknown, refused by name and place. That the ids are right is tests/text/test_vectors.c's.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "lib/text/model.h"
#include "model/tokenizer_json.h"
#include "tests/support/support.h"

#define TEXT_MAX 16384

#define MARK "\xE2\x96\x81" /* U+2581 */

/* A byte-level tokenizer of a handful of tokens. */
static const char byte_level[] =
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true},"
    "{\"id\":5,\"content\":\"<t>\",\"special\":false,\"lstrip\":true}],"
    "\"normalizer\":null,"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
    "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"c\":3},"
    "\"merges\":[\"a b\"]}}";

/* A SentencePiece one without its byte tokens: it is read, but makes no model. */
static const char sentencepiece[] =
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":"
    "\"" MARK "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" MARK
    "\"}]},"
    "\"pre_tokenizer\":null,\"post_processor\":null,"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{"
    "\"String\":"
    "\"" MARK "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true,"
    "\"vocab\":{\"<unk>\":0,\"<0x0A>\":1,\"a\":2,\"" MARK "\":3,\"" MARK "a\":4},"
    "\"merges\":[[\"" MARK "\",\"a\"]]}}";

/* base with the first `find` replaced; find NULL: as it is. */
static char *changed(const char *base, const char *find, const char *put)
{
    char *text = malloc(TEXT_MAX);
    const char *at = find == NULL ? NULL : strstr(base, find);

    assert_non_null(text);
    assert_true(strlen(base) < TEXT_MAX / 2);
    if (find == NULL)
        return strcpy(text, base);
    if (at == NULL)
        fail_msg("no '%s' in the base", find);
    memcpy(text, base, (size_t)(at - base));
    strcpy(text + (at - base), put);
    strcat(text, at + strlen(find));
    return text;
}

static td_status_t parse(const char *tokenizer, const char *config, const char *chat_template,
                         struct model_tokenizer_json **out, struct td_error *error)
{
    struct model_tokenizer_files files = {
        .tokenizer = td_span_of(tokenizer),
        .config = td_span_of(config),
        .chat_template = td_span_of(chat_template),
    };

    return model_tokenizer_json_parse(&files, out, error);
}

static struct model_tokenizer_json *parse_good(const char *tokenizer, const char *config)
{
    struct model_tokenizer_json *read = NULL;
    struct td_error error = {0};

    if (parse(tokenizer, config, "", &read, &error) != TD_OK)
        fail_msg("%s", error.text);
    return read;
}

/* ------------------------------------------------------------------------------------------- */

static void a_small_tokenizer_is_read(void **state)
{
    struct model_tokenizer_json *read =
        parse_good(byte_level, "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"<t>\","
                               "\"add_bos_token\":true,\"chat_template\":\"x\"}");
    const struct text_source *source = model_tokenizer_json_source(read);
    struct text_model *model;

    (void)state;
    assert_int_equal(source->algorithm, TEXT_BYTE_LEVEL);
    assert_true(td_span_is(source->pretokenizer, "gpt-2"));
    assert_int_equal(source->token_count, 6);
    assert_int_equal(source->merge_count, 1);
    assert_int_equal(source->merges[0].right, 1);
    assert_int_equal(source->bos, 4);
    assert_int_equal(source->eos, 5);
    assert_true(source->add_bos);
    assert_false(source->add_eos);
    assert_int_equal(source->tokens[4].type, TEXT_TOKEN_CONTROL);
    assert_int_equal(source->tokens[5].type, TEXT_TOKEN_USER_DEFINED);
    assert_int_equal(source->tokens[5].flags, TEXT_TOKEN_LSTRIP);
    assert_true(td_span_is(source->chat_template, "x"));
    assert_int_equal(text_model_open(source, &model, NULL), TD_OK);
    text_model_close(model);
    model_tokenizer_json_close(read);
}

static void a_sentencepiece_tokenizer_is_read(void **state)
{
    struct model_tokenizer_json *read = parse_good(sentencepiece, "");
    const struct text_source *source = model_tokenizer_json_source(read);
    struct text_model *model = NULL;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(source->algorithm, TEXT_SENTENCEPIECE);
    assert_int_equal(source->prefix, TEXT_PREFIX_ALWAYS);
    assert_true(source->strip_space);
    assert_int_equal(source->unknown, 0);
    assert_int_equal(source->tokens[0].type, TEXT_TOKEN_UNKNOWN);
    assert_int_equal(source->tokens[1].type, TEXT_TOKEN_BYTE);
    assert_int_equal(text_model_open(source, &model, &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "<0x00>"));
    model_tokenizer_json_close(read);
}

static void known_forms_are_told_apart(void **state)
{
    static const char split[] =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
        "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
        "\"use_regex\":false}]}";
    static const char digits[] =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}"
        ","
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}";
    static const char plain[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}";
    static const struct {
        const char *find;
        const char *put;
        const char *pretokenizer;
        bool nfc;
        uint32_t bos;
    } cases[] = {
        {plain, split, "llama-bpe", false, TEXT_TOKEN_NONE},
        {plain, digits, "smollm", false, TEXT_TOKEN_NONE},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}", "gpt-2", true,
         TEXT_TOKEN_NONE},
        {"\"normalizer\":null",
         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}", "gpt-2",
         true, TEXT_TOKEN_NONE},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]}",
         "gpt-2", false, TEXT_TOKEN_NONE},
        {"\"post_processor\":null",
         "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
         "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
         "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[4]}}}]}",
         "gpt-2", false, 4},
        {"[\"a b\"]", "[[\"a\",\"b\"]]", "gpt-2", false, TEXT_TOKEN_NONE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = changed(byte_level, cases[i].find, cases[i].put);
        struct model_tokenizer_json *read = parse_good(text, "");
        const struct text_source *source = model_tokenizer_json_source(read);

        assert_true(td_span_is(source->pretokenizer, cases[i].pretokenizer));
        assert_int_equal(source->normalize_nfc, cases[i].nfc);
        assert_int_equal(source->bos, cases[i].bos);
        assert_int_equal(source->add_bos, cases[i].bos != TEXT_TOKEN_NONE);
        assert_int_equal(source->merge_count, 1);
        model_tokenizer_json_close(read);
        free(text);
    }
}

/* What transformers does for Llama's classes. */
static void the_config_decides_whether_bos_is_added(void **state)
{
    char *text =
        changed(byte_level, "\"post_processor\":null",
                "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
                "{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{"
                "\"ids\":[4]}}}");
    struct model_tokenizer_json *read = parse_good(text, "{\"add_bos_token\":false}");

    (void)state;
    assert_int_equal(model_tokenizer_json_source(read)->bos, 4);
    assert_false(model_tokenizer_json_source(read)->add_bos);
    model_tokenizer_json_close(read);
    free(text);
}

static void the_template_of_its_own_file_wins(void **state)
{
    struct model_tokenizer_json *read = NULL;

    (void)state;
    assert_int_equal(parse(byte_level, "{\"chat_template\":\"config\"}", "file", &read, NULL),
                     TD_OK);
    assert_true(td_span_is(model_tokenizer_json_source(read)->chat_template, "file"));
    model_tokenizer_json_close(read);
    read = parse_good(byte_level, "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"r\"},"
                                  "{\"name\":\"default\",\"template\":\"d\"}]}");
    assert_true(td_span_is(model_tokenizer_json_source(read)->chat_template, "d"));
    model_tokenizer_json_close(read);
    read = parse_good(byte_level, "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"t\"},"
                                  "{\"name\":\"default\",\"template\":\"d\"}]}");
    assert_true(td_span_is(model_tokenizer_json_source(read)->chat_template,
                           "{% if tools +%}t{%+ else +%}d{%+ endif +%}"));
    model_tokenizer_json_close(read);
}

static void tokens_of_the_config_are_added_and_holes_are_filled(void **state)
{
    struct model_tokenizer_json *read =
        parse_good(byte_level, "{\"added_tokens_decoder\":{\"4\":{\"content\":\"<s>\",\"special\":"
                               "false},\"9\":{\"content\":\"<u>\",\"special\":true}}}");
    const struct text_source *source = model_tokenizer_json_source(read);

    (void)state;
    assert_int_equal(source->token_count, 10);
    assert_int_equal(source->tokens[4].type, TEXT_TOKEN_CONTROL); /* as tokenizer.json says */
    assert_int_equal(source->tokens[9].type, TEXT_TOKEN_CONTROL);
    assert_int_equal(source->tokens[7].type, TEXT_TOKEN_UNUSED);
    model_tokenizer_json_close(read);
}

/* ------------------------------------------------------------------------------------------- */

struct bad {
    const char *find;
    const char *put;
    td_status_t status;
    const char *message;
};

static void assert_refused(const char *base, const struct bad *bad)
{
    char *text = changed(base, bad->find, bad->put);
    struct model_tokenizer_json *read = NULL;
    struct td_error error = {0};
    td_status_t status = parse(text, "", "", &read, &error);

    if (status != bad->status || strstr(error.text, bad->message) == NULL)
        fail_msg("%s: status %d, \"%s\" does not say \"%s\"", bad->put, (int)status, error.text,
                 bad->message);
    assert_null(read);
    free(text);
}

static void what_is_wrong_in_tokenizer_json_is_named(void **state)
{
    static const struct bad cases[] = {
        {"{\"added", "[\"added", TD_INVALID, "tokenizer.json: "},
        {"\"merges\":[\"a b\"]}}", "", TD_INVALID, "tokenizer.json: "},
        {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", TD_UNSUPPORTED, "model.type: Unigram"},
        {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"dropout\":0.1", TD_UNSUPPORTED, "model.dropout"},
        {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"", TD_UNSUPPORTED,
         "model.end_of_word_suffix"},
        {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"byte_fallback\":true", TD_UNSUPPORTED,
         "model.byte_fallback"},
        {"\"type\":\"BPE\"", "\"type\":\"BPE\",\"ignore_merges\":3", TD_INVALID, "ignore_merges"},
        {"\"vocab\":{", "\"vocabulary\":{", TD_INVALID, "model: no vocab"},
        {"\"merges\"", "\"rules\"", TD_INVALID, "model: no merges"},
        {"\"a\":0", "\"a\":1", TD_INVALID, "has id 1"},
        {"\"a\":0", "\"a\":-1", TD_INVALID, "token 'a'"},
        {"\"a\":0", "\"a\":1048576", TD_INVALID, "below 1048576"},
        {"\"a\":0", "\"\":0", TD_INVALID, "token 0: 0 bytes"},
        {"[\"a b\"]", "[\"ab\"]", TD_INVALID, "model.merges[0]"},
        {"[\"a b\"]", "[\"a d\"]", TD_INVALID, "model.merges[0]: 'd' is not in the vocab"},
        {"[\"a b\"]", "[[\"a\"]]", TD_INVALID, "model.merges[0]"},
        {"[\"a b\"]", "[[\"a\",1]]", TD_INVALID, "model.merges[0]"},
        {"\"id\":4", "\"id\":3", TD_INVALID, "added token '<s>' has id 3"},
        {"\"id\":4", "\"id\":null", TD_INVALID, "token '<s>'"},
        {"\"content\":\"<s>\"", "\"content\":7", TD_INVALID, "content"},
        {"\"special\":true", "\"special\":\"yes\"", TD_INVALID, "special"},
        {"\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}", TD_UNSUPPORTED,
         "normalizer: NFKC"},
        {"\"normalizer\":null", "\"normalizer\":[]", TD_INVALID, "normalizer: an array"},
        {"\"normalizer\":null",
         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
         "{\"type\":\"Lowercase\"}]}",
         TD_UNSUPPORTED, "normalizer.normalizers[1]: Lowercase"},
        {"\"type\":\"ByteLevel\",\"add_prefix_space\":false",
         "\"type\":\"ByteLevel\",\"add_prefix_space\":true", TD_UNSUPPORTED,
         "pre_tokenizer: ByteLevel with add_prefix_space"},
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\"", "\"pre_tokenizer\":{\"type\":\"Whitespace\"",
         TD_UNSUPPORTED, "pre_tokenizer: Whitespace"},
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
         "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
         "\"pattern\":{\"Regex\":\"x+\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\","
         "\"add_prefix_space\":false,\"use_regex\":false}]}",
         TD_UNSUPPORTED, "pre_tokenizer.pretokenizers[0]: Split by 'x+'"},
        {"\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
         "\"pre_tokenizer\":null", TD_UNSUPPORTED, "neither ByteLevel nor spaces"},
        {"\"post_processor\":null", "\"post_processor\":{\"type\":\"BertProcessing\"}",
         TD_UNSUPPORTED, "post_processor: BertProcessing"},
        {"\"post_processor\":null",
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
         "{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{}}",
         TD_INVALID, "no single id for '<s>'"},
        {"\"post_processor\":null",
         "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
         "{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":["
         "77]}}}",
         TD_INVALID, "id 77 has no token"},
        {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"WordPiece\"",
         TD_UNSUPPORTED, "decoder: WordPiece"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(byte_level, &cases[i]);
}

static void what_is_not_known_of_sentencepiece_is_named(void **state)
{
    static const struct bad cases[] = {
        {"\"byte_fallback\":true", "\"byte_fallback\":false", TD_UNSUPPORTED,
         "model.byte_fallback"},
        {"\"prepend\":\"" MARK "\"", "\"prepend\":\"_\"", TD_UNSUPPORTED,
         "normalizer.normalizers[0]: Prepend"},
        {"\"String\":\" \"", "\"String\":\"x\"", TD_UNSUPPORTED, "neither ByteLevel nor spaces"},
        {"\"pre_tokenizer\":null",
         "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK
         "\",\"prepend_scheme\":\"first\",\"split\":false}",
         TD_UNSUPPORTED, "normalizer.normalizers[0]: Prepend in this place"},
        {"\"start\":1", "\"start\":2", TD_UNSUPPORTED, "decoder.decoders[3]: Strip"},
        {"\"byte_fallback\":true", "\"byte_fallback\":true,\"ignore_merges\":true", TD_INVALID,
         "ignore_merges"},
        {"[[\"" MARK "\",\"a\"]]", "[]", TD_INVALID, "model.merges: empty"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(sentencepiece, &cases[i]);
}

static void what_is_wrong_in_the_config_is_named(void **state)
{
    static const struct {
        const char *config;
        td_status_t status;
        const char *message;
    } cases[] = {
        {"[]", TD_INVALID, "tokenizer_config.json: an array"},
        {"{", TD_INVALID, "tokenizer_config.json: "},
        {"{\"eos_token\":\"<none>\"}", TD_INVALID, "eos_token: '<none>' is not a token"},
        {"{\"bos_token\":4}", TD_INVALID, "tokenizer_config.json: bos_token"},
        {"{\"add_bos_token\":1}", TD_INVALID, "add_bos_token"},
        {"{\"chat_template\":1}", TD_INVALID, "chat_template"},
        {"{\"chat_template\":[{\"name\":\"x\",\"template\":\"y\"}]}", TD_UNSUPPORTED,
         "none of them is named default"},
        {"{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}", TD_INVALID, "'x' is no id"},
        {"{\"added_tokens_decoder\":{\"99999999999999999999\":{\"content\":\"y\"}}}", TD_INVALID,
         "is no id"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_tokenizer_json *read = NULL;
        struct td_error error = {0};

        assert_int_equal(parse(byte_level, cases[i].config, "", &read, &error), cases[i].status);
        if (strstr(error.text, cases[i].message) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", error.text, cases[i].message);
    }
}

static void every_cut_and_every_changed_byte_is_survived(void **state)
{
    size_t length = strlen(sentencepiece);
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 1);
    for (size_t i = 0; i < length; i++) {
        for (unsigned way = 0; way < 3; way++) {
            size_t part = way == 0 ? i : length;
            char *text = malloc(part + 1); /* of exact size, so that ASan sees one byte too far */
            struct model_tokenizer_files files = {.tokenizer = {text, part}};
            struct model_tokenizer_json *read = NULL;

            assert_non_null(text);
            memcpy(text, sentencepiece, part);
            if (way > 0)
                text[i] = (char)td_rng_below(&rng, way == 1 ? 256 : 128);
            if (model_tokenizer_json_parse(&files, &read, NULL) == TD_OK)
                model_tokenizer_json_close(read);
            free(text);
        }
    }
}

static void a_folder_without_a_tokenizer_is_told(void **state)
{
    struct model_tokenizer_json *read = NULL;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(model_tokenizer_json_open("tests/data", &read, &error), TD_NOT_FOUND);
    assert_string_equal(error.text, "tests/data: no tokenizer.json");
    assert_int_equal(model_tokenizer_json_open(test_data_path("text/tiny_added"), &read, &error),
                     TD_OK);
    assert_true(model_tokenizer_json_source(read)->normalize_nfc);
    model_tokenizer_json_close(read);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_tokenizer_is_read),
        cmocka_unit_test(a_sentencepiece_tokenizer_is_read),
        cmocka_unit_test(known_forms_are_told_apart),
        cmocka_unit_test(the_config_decides_whether_bos_is_added),
        cmocka_unit_test(the_template_of_its_own_file_wins),
        cmocka_unit_test(tokens_of_the_config_are_added_and_holes_are_filled),
        cmocka_unit_test(what_is_wrong_in_tokenizer_json_is_named),
        cmocka_unit_test(what_is_not_known_of_sentencepiece_is_named),
        cmocka_unit_test(what_is_wrong_in_the_config_is_named),
        cmocka_unit_test(every_cut_and_every_changed_byte_is_survived),
        cmocka_unit_test(a_folder_without_a_tokenizer_is_told),
    };

    return cmocka_run_group_tests_name("tokenizer.json", tests, NULL, NULL);
}
