/* test_kv.c: the memory of the block pool: shared by descriptor, sealed, and refused when it cannot be. */
#include "tests/support/support.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/backend.h"

static void another_mapping_of_the_descriptor_sees_the_same_bytes(void **state)
{
    struct engine_kv kv;
    struct td_error error = {0};
    uint8_t *other;

    (void)state;
    assert_int_equal(engine_kv_open(8, 16, 4096, &kv, &error), TD_OK);
    other = mmap(NULL, 8 * 4096, PROT_READ, MAP_SHARED, kv.fd, 0);
    assert_true(other != MAP_FAILED);
    assert_int_equal(other[7 * 4096 + 5], 0);
    kv.base[7 * 4096 + 5] = 42;
    assert_int_equal(other[7 * 4096 + 5], 42);
    munmap(other, 8 * 4096);
    engine_kv_close(&kv);
    assert_null(kv.base);
    assert_int_equal(kv.fd, -1);
    engine_kv_close(&kv); /* harmless */
}

static void nobody_can_change_the_size(void **state)
{
    struct engine_kv kv;

    (void)state;
    assert_int_equal(engine_kv_open(2, 16, 4096, &kv, NULL), TD_OK);
    assert_int_not_equal(ftruncate(kv.fd, 4096), 0);
    assert_int_not_equal(ftruncate(kv.fd, 16384), 0);
    assert_true((fcntl(kv.fd, F_GET_SEALS) & F_SEAL_SHRINK) != 0);
    engine_kv_close(&kv);
}

static void a_pool_that_is_not_possible_is_refused_with_its_size(void **state)
{
    struct engine_kv kv;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(engine_kv_open(0, 16, 4096, &kv, &error), TD_LIMIT);
    assert_int_equal(engine_kv_open(4, 0, 4096, &kv, &error), TD_LIMIT);
    assert_int_equal(engine_kv_open(4, 16, 0, &kv, &error), TD_LIMIT);
    assert_int_equal(engine_kv_open(UINT32_MAX, 16, SIZE_MAX / 2, &kv, &error), TD_LIMIT);
    assert_non_null(strstr(error.text, "4294967295 blocks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_mapping_of_the_descriptor_sees_the_same_bytes),
        cmocka_unit_test(nobody_can_change_the_size),
        cmocka_unit_test(a_pool_that_is_not_possible_is_refused_with_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
