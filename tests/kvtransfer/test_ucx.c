/* test_ucx.c: the UCX transport keeps the contract over shared memory and over TCP. */
#include <string.h>

#include "tests/kvtransfer/contract.h"

static void the_lane_over_shared_memory_is_named(void **state)
{
    struct contract *contract = *state;

    if (strcmp(contract->sender_up.lanes, "ucx (sysv)") != 0)
        assert_string_equal(contract->sender_up.lanes, "ucx (posix)");
    assert_string_equal(contract->receiver_up.lanes, contract->sender_up.lanes);
}

static void the_lane_over_tcp_is_named(void **state)
{
    struct contract *contract = *state;

    assert_string_equal(contract->sender_up.lanes, "ucx (tcp)");
    assert_string_equal(contract->receiver_up.lanes, "ucx (tcp)");
}

/* With both allowed the faster one is taken: PEER error handling does not drive shared memory away. */
static void shared_memory_is_preferred_on_one_host(void **state)
{
    struct contract *contract = *state;

    assert_true(strncmp(contract->sender_up.lanes, "ucx (sysv", 9) == 0 ||
                strncmp(contract->sender_up.lanes, "ucx (posix", 10) == 0);
}

#define CASE(test, test_case) \
    cmocka_unit_test_prestate_setup_teardown(test, contract_setup, contract_teardown, test_case)

int main(int argc, char **argv)
{
    static struct contract_case shm = {.transport = SITE_UCX_SHM, .sender_elsewhere = true};
    static struct contract_case tcp = {.transport = SITE_UCX_TCP, .sender_elsewhere = true};
    static struct contract_case automatic = {.transport = SITE_UCX_AUTO, .sender_elsewhere = true};
    const struct CMUnitTest tests[] = {
        CASE(the_lane_over_shared_memory_is_named, &shm),
        CASE(the_lane_over_tcp_is_named, &tcp),
        CASE(shared_memory_is_preferred_on_one_host, &automatic),
    };

    if (kvt_ucx_prepare_process() != TD_OK)
        return 2;
    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return contract_run(SITE_UCX_SHM, "ucx shm") + contract_run(SITE_UCX_TCP, "ucx tcp") +
           cmocka_run_group_tests(tests, NULL, NULL);
}
