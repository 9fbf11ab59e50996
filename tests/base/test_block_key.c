/* test_block_key.c: the chain of block keys. */
#include "tests/support/support.h"

#include "lib/base/block_key.h"

static const struct td_u128 content = {.hi = 1, .lo = 2};
static const struct td_u128 salt = {.hi = 3, .lo = 4};

static void a_root_key_depends_on_content_and_salt(void **state)
{
    struct td_u128 root = td_block_root(content, salt);
    struct td_u128 zero = {0};

    (void)state;
    assert_true(td_u128_equal(root, td_block_root(content, salt)));
    assert_false(td_u128_equal(root, td_block_root(salt, content)));
    assert_false(td_u128_equal(root, td_block_root(content, zero)));
    assert_false(td_u128_equal(root, td_block_root(zero, salt)));
    assert_false(td_u128_is_zero(root));
}

static void keys_form_a_chain_with_the_tail_last(void **state)
{
    uint32_t tokens[10] = {5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    struct td_u128 root = td_block_root(content, salt);
    struct td_u128 keys[3];

    (void)state;
    td_block_keys(root, tokens, 10, 4, keys);
    assert_true(td_u128_equal(keys[0], td_block_key(root, tokens, 4)));
    assert_true(td_u128_equal(keys[1], td_block_key(keys[0], tokens + 4, 4)));
    assert_true(td_u128_equal(keys[2], td_block_key(keys[1], tokens + 8, 2)));
}

static void a_prompt_on_a_block_boundary_has_no_tail(void **state)
{
    uint32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct td_u128 keys[3] = {{0}, {0}, {.hi = 77, .lo = 77}};

    (void)state;
    td_block_keys(content, tokens, 8, 4, keys);
    assert_false(td_u128_is_zero(keys[1]));
    assert_int_equal(keys[2].hi, 77); /* not written */
}

static void a_change_anywhere_changes_all_keys_after_it(void **state)
{
    uint32_t tokens[12] = {0};
    struct td_u128 before[3];
    struct td_u128 after[3];

    (void)state;
    td_block_keys(content, tokens, 12, 4, before);
    tokens[5] = 1;
    td_block_keys(content, tokens, 12, 4, after);
    assert_true(td_u128_equal(before[0], after[0]));
    assert_false(td_u128_equal(before[1], after[1]));
    assert_false(td_u128_equal(before[2], after[2]));
}

static void a_tail_has_another_key_than_the_full_block_it_begins(void **state)
{
    uint32_t tokens[4] = {0, 0, 0, 0};

    (void)state;
    for (uint32_t count = 1; count < 4; count++)
        assert_false(
            td_u128_equal(td_block_key(content, tokens, count), td_block_key(content, tokens, 4)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_root_key_depends_on_content_and_salt),
        cmocka_unit_test(keys_form_a_chain_with_the_tail_last),
        cmocka_unit_test(a_prompt_on_a_block_boundary_has_no_tail),
        cmocka_unit_test(a_change_anywhere_changes_all_keys_after_it),
        cmocka_unit_test(a_tail_has_another_key_than_the_full_block_it_begins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
