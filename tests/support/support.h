/*
 * support.h: what several test programs need: where data lies, and reading it.
 *
 * Small data of ours is in tests/data. Larger reference data may lie in a folder `shared` beside the
 * checkout (or in $TANDEM_SHARED); a test that cannot find it is skipped, visibly.
 */
#ifndef TANDEM_TESTS_SUPPORT_SUPPORT_H
#define TANDEM_TESTS_SUPPORT_SUPPORT_H

#include <stddef.h>

/* cmocka wants these four in this order before its own header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* The path of tests/data/<name>; valid until the next call. */
const char *test_data_path(const char *name);

/* The path of <shared>/<name>, or NULL if it does not exist; valid until the next call. */
const char *test_shared_path(const char *name);

/* The path of a file in the download cache, or NULL if it is not there; valid until the next call. */
const char *test_cached_path(const char *name);

/* The demo model's file: $TANDEM_DEMO_MODEL or the download cache; NULL if it is not there. */
const char *test_demo_model(void);

/*
 * The second model that golden data exists for (Qwen2.5-Coder-0.5B-Instruct, Q4_K_M): $TANDEM_GOLDEN_MODEL or
 * the download cache, where scripts/setup --golden-model puts it; NULL if it is not there.
 */
const char *test_golden_model(void);

/* Reads a whole file (malloc, NUL-terminated); fails the test if it cannot. */
char *test_read_file(const char *path, size_t *length_out);

/* Whether this is a build with AddressSanitizer or ThreadSanitizer: several times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_IS_SANITIZED 1
#endif
#endif
#ifndef TEST_IS_SANITIZED
#define TEST_IS_SANITIZED 0
#endif

/* Prints why and leaves the test as skipped. */
#define test_skip(...)                  \
    do {                                \
        print_message("[  SKIPPED ] "); \
        print_message(__VA_ARGS__);     \
        print_message("\n");            \
        skip();                         \
    } while (0)

#endif
