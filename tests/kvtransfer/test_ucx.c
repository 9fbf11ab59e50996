/* test_ucx.c: the UCX transport keeps the contract over shared memory and over TCP. */
#include <string.h>

#include "kvtransfer/ucx_look.h"
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

/* As versions 1.13 and 1.22 print them; the second as a host with such cards would. */
static void lanes_of_a_context_are_read(void **state)
{
    struct kvt_ucx_facts facts = {0};

    (void)state;
    kvt_ucx_read_lanes("#      resource 0  :  md 0  dev 0  flags -- self/memory0\n"
                       "#      resource 1  :  md 1  dev 1  flags -- tcp/lo\n"
                       "#      resource 3  :  md 2  dev 3  flags -- sysv/memory\n",
                       &facts);
    assert_string_equal(facts.lanes, "tcp/lo sysv");
    assert_false(facts.has_rdma);
    kvt_ucx_read_lanes("#      resource 4  :  md 3  dev 4  flags -- rc_mlx5/mlx5_0:1\n"
                       "#      resource 5  :  md 3  dev 4  flags a- ud_mlx5/mlx5_0:1\n",
                       &facts);
    assert_string_equal(facts.lanes, "tcp/lo sysv rc_mlx5/mlx5_0:1 ud_mlx5/mlx5_0:1");
    assert_true(facts.has_rdma);
}

static void the_library_says_what_it_can(void **state)
{
    struct kvt_ucx_facts facts;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(kvt_ucx_look(&facts, &error), TD_OK);
    assert_non_null(strstr(facts.lanes, "tcp/lo"));
    assert_true(strncmp(facts.version, "1.", 2) == 0);
    assert_false(facts.knows_cuda && !facts.is_new_enough);
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
        cmocka_unit_test(lanes_of_a_context_are_read),
        cmocka_unit_test(the_library_says_what_it_can),
    };

    if (kvt_ucx_prepare_process() != TD_OK)
        return 2;
    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return contract_run(SITE_UCX_SHM, "ucx shm") + contract_run(SITE_UCX_TCP, "ucx tcp") +
           cmocka_run_group_tests(tests, NULL, NULL);
}
