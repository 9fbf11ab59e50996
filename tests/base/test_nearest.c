/* test_nearest.c: the name that was meant. */
#include "lib/base/nearest.h"

#include <string.h>

#include "tests/support/support.h"

static void expect(const char *wanted, const char *expected)
{
    static const char *const names[] = {"check", "chat", "certs", "cache", "q"};
    struct td_nearest nearest = {0};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        td_nearest_offer(&nearest, wanted, names[i]);
    if (expected == NULL)
        assert_null(nearest.name);
    else
        assert_string_equal(nearest.name, expected);
}

static void the_nearest_name_is_found(void **state)
{
    (void)state;
    expect("check", "check");
    expect("chekc", "check"); /* two letters changed */
    expect("cht", "chat");    /* one left out */
    expect("caches", "cache");
    expect("chex", "check"); /* as near as "chat", and before it */
}

static void what_is_far_from_all_is_not_guessed(void **state)
{
    char lengthy[200];

    (void)state;
    expect("serve", NULL);
    expect("", NULL);
    expect("x", NULL); /* one edit from "q", which has one letter: nothing in common */
    memset(lengthy, 'c', sizeof lengthy);
    lengthy[sizeof lengthy - 1] = '\0';
    expect(lengthy, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_name_is_found),
        cmocka_unit_test(what_is_far_from_all_is_not_guessed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
