/*
 * text_support.h: what the tests of lib/text share: vocabularies from files, JSON lines, values.
 */
#ifndef TANDEM_TESTS_TEXT_TEXT_SUPPORT_H
#define TANDEM_TESTS_TEXT_TEXT_SUPPORT_H

#include "lib/base/json.h"
#include "lib/text/model.h"
#include "lib/text/value.h"
#include "model/gguf.h"
#include "model/gguf_text.h"
#include "model/tokenizer_json.h"
#include "tests/support/support.h"

/* A tokenizer from a file, with what it points into. */
struct test_vocabulary {
    struct model_gguf *gguf;
    struct model_tokenizer_json *folder;
    struct text_source source;
};

/* The metadata of a GGUF file as a text source; fails the test if it has none. */
void test_vocabulary_from_gguf(struct test_vocabulary *vocabulary, const char *path);

/* The tokenizer.json and its companions of a folder as a text source. */
void test_vocabulary_from_folder(struct test_vocabulary *vocabulary, const char *path);
void test_vocabulary_fini(struct test_vocabulary *vocabulary);

/*
 * The tokenizers that tests know by name: small ones of ours, and those outside the tree that may be missing. With
 * index 0, 1 ... all of them; NULL behind the last.
 */
const char *test_tokenizer_name(unsigned index);

/* Opens one; false: it is not there. */
bool test_open_vocabulary(const char *name, struct test_vocabulary *vocabulary);

/* The model of one, or NULL. */
struct text_model *test_open_tokenizer(const char *name);

/* The model of a source; fails the test if it does not open. */
struct text_model *test_open_model(const struct text_source *source);

/* The model of tests/data/text/tiny_llama.source: 1,024 tokens, llama-bpe, <|eot_id|> and others. */
struct text_model *test_open_tiny_llama(void);

/* The demo model, or NULL if its file is not there. */
struct text_model *test_open_smollm2(void);

/* Calls fn with each line of a JSON lines file, parsed. */
typedef void (*test_line_fn)(const struct td_json *line, unsigned number, void *context);
void test_each_line(const char *path, test_line_fn fn, void *context);

/* A parsed document as a template's value; strings are borrowed from the document. */
struct text_value test_value(struct text_builder *builder, const struct td_json *json);

/* The member, which must be there and a string. */
struct td_span test_text(const struct td_json *object, const char *key);

/* Fails unless ids are those of the JSON array; what says what was encoded. */
void test_assert_ids(const struct text_tokens *tokens, const struct td_json *expected,
                     struct td_span what);

/* Fails unless the bytes are equal; shows both. */
void test_assert_text(struct td_span actual, struct td_span expected, const char *what);

#endif
