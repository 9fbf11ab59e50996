/* test_map.c: the map transport keeps the contract, and is not impressed by hostile neighbours. */
#include <string.h>

#include "tests/kvtransfer/contract.h"

static void the_lane_is_the_mapping(void **state)
{
    struct contract *contract = *state;

    assert_string_equal(contract->sender_up.lanes, "map");
    assert_string_equal(contract->receiver_up.lanes, "map");
}

int main(int argc, char **argv)
{
    static struct contract_case here = {.transport = SITE_MAP};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate_setup_teardown(the_lane_is_the_mapping, contract_setup,
                                                 contract_teardown, &here),
    };

    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return contract_run(SITE_MAP, "map") + cmocka_run_group_tests(tests, NULL, NULL);
}
