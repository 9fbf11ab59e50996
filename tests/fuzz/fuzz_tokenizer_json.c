/*
 * fuzz_tokenizer_json.c: the three files of a folder's tokenizer, parted by bytes 0xFF (which no JSON has).
 *
 * What is read has passed the source's checks; a model that opens encodes text without a token of its own
 * making, and decodes what it encoded.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "lib/text/detokenize.h"
#include "lib/text/model.h"
#include "model/tokenizer_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE_MAX_FUZZED (1 << 17)

static struct td_span next_part(const uint8_t **data, size_t *size)
{
    const uint8_t *end = memchr(*data, 0xFF, *size);
    size_t length = end == NULL ? *size : (size_t)(end - *data);
    struct td_span part = {(const char *)*data, length};

    *data += end == NULL ? length : length + 1;
    *size -= end == NULL ? length : length + 1;
    return part;
}

static void use(const struct text_model *model)
{
    static const char text[] =
        "A caf\xC3\xA9, cafe\xCC\x81 <s> 123\n  \xE4\xB8\x96\xE7\x95\x8C\xFF";
    struct text_tokens tokens;
    struct text_detokenizer detokenizer;
    struct td_buf out;

    text_tokens_init(&tokens, 1000);
    assert(text_encode(model, text, sizeof text - 1, TEXT_ADD_SPECIAL, &tokens) == TD_OK);
    assert(text_encode(model, text, sizeof text - 1, TEXT_PARSE_SPECIAL, &tokens) == TD_OK);
    td_buf_init(&out, 1 << 22);
    text_detokenizer_init(&detokenizer, model);
    for (uint32_t i = 0; i < tokens.count; i++) {
        assert(tokens.ids[i] < text_model_token_count(model));
        text_detokenizer_push(&detokenizer, tokens.ids[i], &out);
    }
    text_detokenizer_finish(&detokenizer, &out);
    assert(out.status == TD_OK);
    td_buf_fini(&out);
    text_tokens_fini(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_tokenizer_files files;
    struct model_tokenizer_json *tokenizer;
    struct text_model *model;
    struct td_error error = {0};

    if (size > SIZE_MAX_FUZZED)
        return 0;
    files.tokenizer = next_part(&data, &size);
    files.config = next_part(&data, &size);
    files.chat_template = next_part(&data, &size);
    if (model_tokenizer_json_parse(&files, &tokenizer, &error) != TD_OK) {
        assert(error.text[0] != '\0');
        return 0;
    }
    assert(text_source_check(model_tokenizer_json_source(tokenizer), NULL) == TD_OK);
    if (text_model_open(model_tokenizer_json_source(tokenizer), &model, &error) == TD_OK) {
        use(model);
        text_model_close(model);
    }
    model_tokenizer_json_close(tokenizer);
    return 0;
}
