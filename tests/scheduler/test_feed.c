/* test_feed.c: block events, snapshots and digests of one worker: single steps, and every cell of the table. */
#include <stdlib.h>

#include "tests/scheduler/feed_rig.h"

/* --- single steps --- */

static void a_new_feed_asks_as_soon_as_it_has_a_stream(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig);
    rig_pass(&rig, MS(1000));
    assert_int_equal(rig.asks, 0);
    sched_feed_attach(&rig.feed, rig.now_ns);
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 1);
    assert_int_equal(rig.feed.state, SCHED_FEED_ASKED);
    rig_close(&rig);
}

static void an_empty_cache_is_one_part_without_keys(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_ASKED);
    rig_part(&rig, 0, 0, 1, UINT64_MAX);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_stored(&rig, 1, 42);
    assert_true(rig_has(&rig, 42));
    rig_report(&rig, 1, rig_key(42));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void only_the_next_number_is_applied(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_stored(&rig, 11, 2);
    rig_stored(&rig, 11, 3);
    rig_stored(&rig, 4, 5);
    assert_true(rig_has(&rig, 1) && rig_has(&rig, 2));
    assert_false(rig_has(&rig, 3) || rig_has(&rig, 5));
    assert_int_equal(rig.feeds.stats.late, 2);
    rig_removed(&rig, 12, 1);
    assert_false(rig_has(&rig, 1));
    rig_close(&rig);
}

static void a_gap_forgets_everything_and_asks(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_report(&rig, 10, rig_key(1));
    rig_stored(&rig, 12, 2);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_false(rig_has(&rig, 1) || rig_has(&rig, 2));
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 2);
    rig_close(&rig);
}

static void a_report_with_a_later_number_is_a_gap(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_report(&rig, 11, rig_both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(rig.feeds.stats.gaps, 1);
    rig_close(&rig);
}

static void a_report_with_an_older_number_says_nothing(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_report(&rig, 9, rig_both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void another_digest_at_the_same_number_asks(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_stored(&rig, 11, 2);
    rig_report(&rig, 11, rig_both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_report(&rig, 11, rig_both(1, 3));
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(rig.feeds.stats.mismatches, 1);
    rig_close(&rig);
}

static void events_between_the_parts_count_after_the_last_part(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_LOADING);
    rig_removed(&rig, 11, 3); /* in part 2, still to come */
    rig_stored(&rig, 12, 4);
    rig_removed(&rig, 13, 4);
    rig_stored(&rig, 14, 5);
    rig_part(&rig, 10, 1, 3, 2);
    rig_part(&rig, 10, 2, 3, 3);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    assert_true(rig_has(&rig, 1) && rig_has(&rig, 2) && rig_has(&rig, 5));
    assert_false(rig_has(&rig, 3) || rig_has(&rig, 4));
    rig_stored(&rig, 15, 6);
    assert_true(rig_has(&rig, 6));
    rig_report(&rig, 15,
               (struct td_u128){rig_both(1, 2).hi ^ rig_both(5, 6).hi,
                                rig_both(1, 2).lo ^ rig_both(5, 6).lo});
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void a_snapshot_older_than_seen_events_is_not_taken(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_ASKED);
    rig_stored(&rig, 20, 9);
    rig_part(&rig, 19, 0, 1, 1);
    assert_int_equal(rig.feed.state, SCHED_FEED_ASKED);
    rig_part(&rig, 20, 0, 1, 1);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void the_rest_of_an_older_answer_is_passed_over(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_ASKED);
    rig_part(&rig, 10, 1, 3, 2);
    rig_part(&rig, 10, 2, 3, 3);
    assert_int_equal(rig.feed.state, SCHED_FEED_ASKED);
    assert_int_equal(rig.feeds.stats.strays, 2);
    rig_part(&rig, 12, 0, 2, 1);
    rig_part(&rig, 12, 0, 2, 1); /* repeated */
    rig_part(&rig, 12, 1, 2, 4);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_report(&rig, 12, rig_both(1, 4));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void a_missing_part_starts_over(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_LOADING);
    rig_part(&rig, 10, 2, 3, 3);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(rig.feeds.stats.failed, 1);
    rig_close(&rig);
}

static void parts_of_two_snapshots_are_never_mixed(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_LOADING);
    rig_part(&rig, 11, 1, 3, 2);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    rig_close(&rig);
    rig_reach(&rig, SCHED_FEED_LOADING);
    rig_part(&rig, 10, 1, 4, 2);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    rig_close(&rig);
}

static void events_that_never_end_do_not_wait_without_limit(void **state)
{
    struct rig rig;
    uint64_t numbers[256];
    uint64_t sequence = 10;

    (void)state;
    for (uint64_t i = 0; i < 256; i++)
        numbers[i] = 1000 + i;
    rig_reach(&rig, SCHED_FEED_LOADING);
    while (rig.feed.state == SCHED_FEED_LOADING && sequence < 1000)
        assert_int_equal(rig_events(&rig, ++sequence, numbers, 256, NULL, 0), TD_OK);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(sequence - 10, 65536 / 256 + 1);
    assert_null(rig.feed.changes);
    rig_close(&rig);
}

static void without_an_answer_it_asks_again_and_waits_longer_each_time(void **state)
{
    struct rig rig;
    uint64_t asked_ns[8];
    uint32_t asks = 0;

    (void)state;
    rig_open(&rig);
    rig.config.answer_ms = 100;
    sched_feed_attach(&rig.feed, rig.now_ns);
    while (asks < 8) {
        uint64_t next_ns = td_timers_next(&rig.timers);

        rig_pass(&rig, next_ns - rig.now_ns);
        if (rig.asks > asks)
            asked_ns[asks++] = rig.now_ns;
    }
    for (uint32_t i = 1; i < 8; i++) {
        uint64_t expected_ms = i <= 4 ? UINT64_C(1000) << (i - 1) : 10000;

        assert_int_equal(asked_ns[i] - asked_ns[i - 1], MS(expected_ms));
    }
    rig_close(&rig);
}

static void an_equal_digest_ends_the_waiting(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_stored(&rig, 12, 2); /* a gap soon after the last asking: not yet */
    rig_pass(&rig, MS(1));
    assert_int_equal(rig.asks, 1);
    rig_pass(&rig, MS(1000));
    assert_int_equal(rig.asks, 2);
    rig_part(&rig, 12, 0, 1, 2);
    rig_report(&rig, 12, rig_key(2));
    rig_stored(&rig, 14, 3); /* a gap after all was well: at once */
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 3);
    rig_close(&rig);
}

static void a_lost_stream_keeps_what_is_known_and_the_numbers_tell(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_report(&rig, 10, rig_key(1));
    sched_feed_detach(&rig.feed);
    assert_true(rig_has(&rig, 1));
    sched_feed_attach(&rig.feed, rig.now_ns);
    rig_report(&rig, 10, rig_key(1));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    sched_feed_detach(&rig.feed);
    sched_feed_attach(&rig.feed, rig.now_ns);
    rig_report(&rig, 13, rig_key(1));
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    rig_close(&rig);
}

static void few_snapshots_are_asked_for_at_the_same_time(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig);
    rig.config.snapshots_max = 2;
    rig.feeds.asking = 2;
    sched_feed_attach(&rig.feed, rig.now_ns);
    rig_pass(&rig, MS(100));
    assert_int_equal(rig.asks, 0);
    rig.feeds.asking = 0;
    rig_pass(&rig, MS(100));
    assert_int_equal(rig.asks, 1);
    rig_close(&rig);
}

static void a_worker_cannot_own_more_keys_than_it_has_blocks(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    for (uint64_t i = 0; i < 5000; i++)
        rig_stored(&rig, 11 + i, 100 + i);
    assert_int_equal(sched_index_count(rig.index, rig.feed.owner), 4096);
    assert_int_equal(rig.feeds.stats.refused, 5000 + 1 - 4096);
    rig_close(&rig);
}

static void malformed_messages_are_refused_by_field(void **state)
{
    struct rig rig;
    uint64_t pairs[4] = {1, 2, 0, 0};
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;
    struct td_error error = {0};

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "block events: sequence is 0");
    events.sequence = 11;
    events.stored = pairs;
    events.n_stored = 3;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "block events: stored: half a key at the end");
    events.n_stored = 2;
    events.removed = pairs;
    events.n_removed = 4;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "block events: removed: key 1 is zero");
    snapshot.parts = 0;
    assert_int_equal(sched_feed_snapshot(&rig.feed, &snapshot, rig.now_ns, &error), TD_INVALID);
    snapshot.parts = SCHED_PARTS_MAX + 1;
    assert_int_equal(sched_feed_snapshot(&rig.feed, &snapshot, rig.now_ns, &error), TD_INVALID);
    snapshot.parts = snapshot.part = 3;
    assert_int_equal(sched_feed_snapshot(&rig.feed, &snapshot, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "snapshot: part 3 of 3");
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    assert_int_equal(rig.feed.sequence, 10);
    rig_close(&rig);
}

static void a_list_is_taken_at_its_limit_and_refused_beyond(void **state)
{
    size_t numbers = 2 * (size_t)(SCHED_EVENT_KEYS_MAX + 1);
    uint64_t *pairs = calloc(numbers, sizeof *pairs);
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;
    struct rig rig;

    (void)state;
    assert_non_null(pairs);
    for (size_t i = 0; i < numbers; i++)
        pairs[i] = i + 1;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    events.sequence = 11;
    events.stored = pairs;
    events.n_stored = numbers;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, NULL), TD_INVALID);
    events.n_stored = numbers - 2;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, NULL), TD_OK);
    rig_close(&rig);
    free(pairs);
}

/* --- the table --- */

/* Makes an event happen through the public calls. */
static void cause(struct rig *rig, enum sched_feed_event event)
{
    switch (event) {
    case SCHED_FEED_ON_NEXT: rig_stored(rig, rig->feed.sequence + 1, 7); break;
    case SCHED_FEED_ON_LATE:
        if (rig->feed.sequence > 0)
            rig_stored(rig, rig->feed.sequence, 7);
        break;
    case SCHED_FEED_ON_GAP: rig_stored(rig, rig->feed.sequence + 2, 7); break;
    case SCHED_FEED_ON_MISMATCH: rig_report(rig, rig->feed.sequence, rig_key(999)); break;
    case SCHED_FEED_ON_ASK:
        sched_feed_attach(&rig->feed, rig->now_ns);
        rig_pass(rig, 0);
        break;
    case SCHED_FEED_ON_FIRST: rig_part(rig, 10, 0, 3, 1); break;
    case SCHED_FEED_ON_PART: rig_part(rig, 10, 1, 3, 2); break;
    case SCHED_FEED_ON_LAST:
        if (rig->feed.state == SCHED_FEED_LOADING)
            rig_part(rig, 10, 1, 3, 2);
        rig_part(rig, 10, rig->feed.state == SCHED_FEED_LOADING ? 2 : 0,
                 rig->feed.state == SCHED_FEED_LOADING ? 3 : 1, 3);
        break;
    case SCHED_FEED_ON_STRAY:
        if (rig->feed.state == SCHED_FEED_LOADING)
            rig_part(rig, 10, 0, 3, 1);
        else
            rig_part(rig, 10, 1, 3, 2);
        break;
    case SCHED_FEED_ON_BROKEN: rig_part(rig, 10, 2, 3, 3); break;
    case SCHED_FEED_ON_SILENCE:
        rig->feed.ask_at_ns = rig->now_ns + MS(60000); /* or it would ask again in the same turn */
        rig_pass(rig, MS(rig->config.answer_ms));
        break;
    case SCHED_FEED_ON_DETACH: sched_feed_detach(&rig->feed); break;
    default: assert_int_equal(event, SCHED_FEED_ON_CLOSE); sched_feed_fini(&rig->feed);
    }
}

static void the_table_is_sound(void **state)
{
    const char *fault = td_fsm_check(&sched_feed_fsm);

    (void)state;
    if (fault != NULL)
        fail_msg("%s", fault);
}

/* Every cell that is not a BUG, through the public calls: the state afterwards is the table's. */
static void every_cell_is_what_the_calls_do(void **state)
{
    int cells = 0;

    (void)state;
    for (uint8_t s = 0; s < SCHED_FEED_CLOSED; s++) {
        for (uint8_t e = 0; e < SCHED_FEED_EVENT_COUNT; e++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&sched_feed_fsm, s, e);
            struct rig rig;

            if (cell->action == TD_FSM_BUG)
                continue;
            rig_reach(&rig, (enum sched_feed_state)s);
            cause(&rig, (enum sched_feed_event)e);
            if (rig.feed.state != cell->next)
                fail_msg("%s on %s leads to %s", sched_feed_fsm.states[s].name,
                         sched_feed_fsm.events[e].name, sched_feed_fsm.states[rig.feed.state].name);
            if (rig.feed.state == SCHED_FEED_CLOSED)
                sched_index_close(rig.index);
            else
                rig_close(&rig);
            cells++;
        }
    }
    assert_true(cells > 30);
}

/* Events that are lost without a trace in the numbers are found by the digest. */
static void a_wrong_event_is_mended_by_the_digest(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    rig_report(&rig, 10, rig_key(1));
    rig_stored(&rig, 11, 666); /* the worker really stored 2 */
    rig_report(&rig, 11, rig_both(1, 2));
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 2);
    rig_part(&rig, 11, 0, 2, 1);
    rig_part(&rig, 11, 1, 2, 2);
    rig_report(&rig, 11, rig_both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    assert_true(rig_has(&rig, 2) && !rig_has(&rig, 666));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(every_cell_is_what_the_calls_do),
        cmocka_unit_test(a_new_feed_asks_as_soon_as_it_has_a_stream),
        cmocka_unit_test(an_empty_cache_is_one_part_without_keys),
        cmocka_unit_test(only_the_next_number_is_applied),
        cmocka_unit_test(a_gap_forgets_everything_and_asks),
        cmocka_unit_test(a_report_with_a_later_number_is_a_gap),
        cmocka_unit_test(a_report_with_an_older_number_says_nothing),
        cmocka_unit_test(another_digest_at_the_same_number_asks),
        cmocka_unit_test(events_between_the_parts_count_after_the_last_part),
        cmocka_unit_test(a_snapshot_older_than_seen_events_is_not_taken),
        cmocka_unit_test(the_rest_of_an_older_answer_is_passed_over),
        cmocka_unit_test(a_missing_part_starts_over),
        cmocka_unit_test(parts_of_two_snapshots_are_never_mixed),
        cmocka_unit_test(events_that_never_end_do_not_wait_without_limit),
        cmocka_unit_test(without_an_answer_it_asks_again_and_waits_longer_each_time),
        cmocka_unit_test(an_equal_digest_ends_the_waiting),
        cmocka_unit_test(a_lost_stream_keeps_what_is_known_and_the_numbers_tell),
        cmocka_unit_test(few_snapshots_are_asked_for_at_the_same_time),
        cmocka_unit_test(a_worker_cannot_own_more_keys_than_it_has_blocks),
        cmocka_unit_test(malformed_messages_are_refused_by_field),
        cmocka_unit_test(a_list_is_taken_at_its_limit_and_refused_beyond),
        cmocka_unit_test(a_wrong_event_is_mended_by_the_digest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
