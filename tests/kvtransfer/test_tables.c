/* test_tables.c: the state tables of peers and transfers are complete and lead to an end. */
#include "kvtransfer/incoming.h"
#include "kvtransfer/outgoing.h"
#include "kvtransfer/peer.h"
#include "kvtransfer/stats.h"
#include "tests/support/support.h"

static void check(const struct td_fsm *fsm)
{
    const char *fault = td_fsm_check(fsm);

    if (fault != NULL)
        fail_msg("%s", fault);
}

static void every_table_is_complete_and_ends(void **state)
{
    (void)state;
    check(&kvt_peer_fsm);
    check(&kvt_incoming_fsm);
    check(&kvt_outgoing_fsm);
}

/* Whatever happens to a transfer that is being stopped, it never counts as landed or goes on. */
static void a_stopping_transfer_has_no_way_back(void **state)
{
    (void)state;
    for (uint8_t event = 0; event < kvt_incoming_fsm.event_count; event++) {
        for (uint8_t from = INCOMING_STOPPING; from <= INCOMING_CUTTING; from++) {
            uint8_t next = td_fsm_cell(&kvt_incoming_fsm, from, event)->next;

            assert_true(next == from || next == INCOMING_CUTTING || next == INCOMING_QUIESCED ||
                        next == INCOMING_QUARANTINED);
        }
    }
    for (uint8_t event = 0; event < kvt_outgoing_fsm.event_count; event++) {
        for (uint8_t from = OUTGOING_STOPPING; from <= OUTGOING_CUTTING; from++) {
            uint8_t next = td_fsm_cell(&kvt_outgoing_fsm, from, event)->next;

            assert_true(next == from || next == OUTGOING_CUTTING || next == OUTGOING_DRAINED ||
                        next == OUTGOING_QUARANTINED);
        }
    }
}

static void every_statistic_has_a_name_and_a_text(void **state)
{
    (void)state;
    for (int stat = 0; stat < KVT_STAT_COUNT; stat++) {
        const struct kvt_stat_info *info = kvt_stat_info((enum kvt_stat)stat);

        assert_true(info->name != NULL && info->name[0] >= 'a' && info->name[0] <= 'z');
        assert_true(info->help != NULL && info->help[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_is_complete_and_ends),
        cmocka_unit_test(a_stopping_transfer_has_no_way_back),
        cmocka_unit_test(every_statistic_has_a_name_and_a_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
