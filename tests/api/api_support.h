/*
 * api_support.h: what the tests of lib/api share: parsing bodies with limits that a test can change.
 */
#ifndef TANDEM_TESTS_API_API_SUPPORT_H
#define TANDEM_TESTS_API_API_SUPPORT_H

#include "lib/api/chat_request.h"
#include "lib/api/completion_request.h"
#include "lib/base/buf.h"
#include "tests/support/support.h"

/* The state of a test: limits, memory, and what the last body came to. */
struct test_api {
    struct api_limits limits;
    struct td_arena arena;
    struct td_buf body; /* for tests that build one */
    struct api_chat_request chat;
    struct api_completion_request completion;
    struct api_error error;
};

/* cmocka fixtures: *state is a struct test_api. */
int test_api_setup(void **state);
int test_api_teardown(void **state);

#define API_TEST(name) cmocka_unit_test_setup_teardown(name, test_api_setup, test_api_teardown)

td_status_t test_chat_span(struct test_api *api, struct td_span body);
td_status_t test_chat(struct test_api *api, const char *body);
td_status_t test_completion(struct test_api *api, const char *body);

/* Parses and fails unless it is accepted. */
void test_chat_ok(struct test_api *api, const char *body);
void test_completion_ok(struct test_api *api, const char *body);

/* The same for {"messages":[{"role":"user","content":"x"}]<fields>}; fields begin with a comma. */
void test_chat_with(struct test_api *api, const char *fields);

/* Parses such a body and fails unless it is refused: 400 with this parameter and code ("": null). */
void test_chat_refused(struct test_api *api, const char *body, const char *param,
                       enum api_error_kind kind);
void test_chat_with_refused(struct test_api *api, const char *fields, const char *param,
                            enum api_error_kind kind);

/* Parses text as JSON into the test's arena; fails if it is none. */
const struct td_json *test_api_json(struct test_api *api, struct td_span text);

#endif
