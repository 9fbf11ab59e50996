/*
 * test_nccl_library.c: finding NCCL at run time, and what NVIDIA's own library says to us where there is one (by
 * LD_LIBRARY_PATH). It needs no GPU: ids are made on the loopback interface, and a communicator fails as it should.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/nccl_library.h"
#include "tests/support/support.h"

static const struct nccl_library *load_real(void)
{
    const struct nccl_library *library = NULL;
    struct td_error error = {0};
    void *object = dlopen(NCCL_LIBRARY_DEFAULT, RTLD_NOW | RTLD_LOCAL);

    if (object == NULL)
        test_skip("there is no %s here: %s", NCCL_LIBRARY_DEFAULT, dlerror());
    dlclose(object);
    if (nccl_library_load(NULL, &library, &error) != TD_OK)
        fail_msg("%s", error.text);
    return library;
}

static void what_is_missing_is_named(void **state)
{
    const struct nccl_library *library;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(nccl_library_load("/nowhere/libnccl.so.2", &library, &error), TD_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nowhere/libnccl.so.2"));
    assert_non_null(strstr(error.text, "2.18 or newer"));
    /* a library, and not NCCL */
    assert_int_equal(nccl_library_load("libm.so.6", &library, &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "ncclGetErrorString"));
}

static void the_real_library_says_its_version(void **state)
{
    const struct nccl_library *library = load_real();
    char *end;

    (void)state;
    assert_true(library->version >= NCCL_VERSION_MIN && library->version < 30000);
    assert_int_equal(strtol(library->version_text, &end, 10), 2);
    assert_int_equal(*end, '.');
    print_message("NCCL %s\n", library->version_text);
}

static void the_real_library_makes_ids_without_a_gpu(void **state)
{
    const struct nccl_library *library = load_real();
    struct nccl_unique_id ids[2];

    (void)state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(library->get_unique_id(&ids[i]), NCCL_SUCCESS);
    assert_memory_not_equal(&ids[0], &ids[1], sizeof ids[0]);
}

/* Of two ranks only one comes: the real library takes our config, says that it is at it, or that there is no GPU. */
static void the_real_library_takes_our_config_and_can_be_stopped(void **state)
{
    const struct nccl_library *library = load_real();
    struct nccl_config config = nccl_config_default();
    struct nccl_unique_id id;
    void *communicator = NULL;
    int result;

    (void)state;
    config.ctas_max = 4;
    assert_int_equal(library->get_unique_id(&id), NCCL_SUCCESS);
    result = library->init_rank(&communicator, 2, id, 0, &config);
    print_message("made: %s\n", library->error_text(result));
    assert_true(result != NCCL_SUCCESS);
    assert_string_not_equal(library->error_text(result), "invalid argument");
    if (communicator != NULL)
        (void)library->abort(communicator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(the_real_library_says_its_version),
        cmocka_unit_test(the_real_library_makes_ids_without_a_gpu),
        cmocka_unit_test(the_real_library_takes_our_config_and_can_be_stopped),
    };

    setenv("NCCL_SOCKET_IFNAME", "lo", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
