/*
 * test_journey.c: every cell of the journey's table through the real core, as far as the contracts allow
 * it to happen: the state is reached by what leads there, the event comes from where it comes from in
 * production, and client, worker and scheduler must see what the cell's action promises.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/router/core_rig.h"

struct journey_case {
    struct rig rig;
    struct rig_client client;
    struct td_u128 id;
};

static void the_table_is_complete(void **state)
{
    (void)state;
    assert_null(td_fsm_check(&journey_fsm));
}

/* The journey, or NULL: it is no more. A try has its own id, so it is looked up by the only one. */
static struct router_journey *journey_of(const struct journey_case *c)
{
    size_t cursor = 0;

    return td_map_next(&c->rig.core->journeys, &cursor);
}

static void raise_event(struct journey_case *c, enum journey_event event)
{
    struct rig *rig = &c->rig;

    switch (event) {
    case JOURNEY_ON_ADMITTED: rig_fleet(rig, 1, 2, 1); break;
    case JOURNEY_ON_PLACED: rig_placed(rig, 1); break;
    case JOURNEY_ON_UNPLACED: rig_not_placed(rig, TD_EXHAUSTED, 300); break;
    case JOURNEY_ON_UNPLACEABLE: rig_not_placed(rig, TD_NOT_FOUND, 0); break;
    case JOURNEY_ON_TOKENS: rig_tokens(rig, c->id, c->client.tokens, 2); break;
    case JOURNEY_ON_FINISHED:
        rig_end(rig, c->id, TD__FINISH__FINISH_LENGTH, TD_OK, c->client.tokens);
        break;
    case JOURNEY_ON_REFUSED_AGAIN:
    case JOURNEY_ON_REFUSED_LAST:
        rig_end(rig, c->id, TD__FINISH__FINISH_REFUSED, TD_EXHAUSTED, 0);
        break;
    case JOURNEY_ON_LINK_LOST_AGAIN:
    case JOURNEY_ON_LINK_LOST_LAST:
    case JOURNEY_ON_LINK_LOST: rig_link_lost(rig, TD_PEER_LOST); break;
    case JOURNEY_ON_LINK_UP:
        if (rig->core->link_count > 0 && journey_of(c)->state == JOURNEY_REATTACHING)
            rig_wait_ms(rig, rig->core->limits.link_retry_ms);
        rig_link_up(rig, 1);
        break;
    case JOURNEY_ON_WORKER_GONE:
        rig_wait_ms(rig, rig->core->limits.link_retry_ms);
        rig_link_lost(rig, TD_STALE);
        break;
    case JOURNEY_ON_STOP: router_journey_stop(c->client.journey, rig->now_ns); break;
    case JOURNEY_ON_CANCEL: router_journey_abandon(c->client.journey, rig->now_ns); break;
    case JOURNEY_ON_TIMEOUT:
        rig->now_ns = journey_of(c)->timer.at_ns;
        router_core_tick(rig->core, rig->now_ns);
        break;
    case JOURNEY_EVENT_COUNT: break;
    }
}

static void enter(struct journey_case *c, enum journey_state state, bool last_try, bool linked)
{
    struct rig *rig = &c->rig;

    rig_open(rig, state == JOURNEY_QUEUED ? 0 : 2, 1);
    rig->core->limits.tries_max = last_try ? 1 : 3;
    assert_int_equal(rig_ask(rig, &c->client, 10, 0), TD_OK);
    c->id = router_journey_id(c->client.journey);
    if (state == JOURNEY_QUEUED || state == JOURNEY_PLACING)
        return;
    raise_event(c, JOURNEY_ON_PLACED);
    if (linked) {
        rig_link_up(rig, 1);
        rig_take_all(rig);
    }
    if (state == JOURNEY_STARTING)
        return;
    if (state != JOURNEY_CANCELING)
        raise_event(c, JOURNEY_ON_TOKENS);
    if (state == JOURNEY_REATTACHING)
        raise_event(c, JOURNEY_ON_LINK_LOST);
    if (state == JOURNEY_STOPPING)
        raise_event(c, JOURNEY_ON_STOP);
    if (state == JOURNEY_CANCELING)
        raise_event(c, JOURNEY_ON_CANCEL);
}

/* Events that the code around the table never lets through, though the table has an answer. */
static bool is_unreachable(uint8_t state, uint8_t event)
{
    /* a link that is down brings no updates, and cannot be lost twice before it is up */
    if (state == JOURNEY_REATTACHING &&
        (event == JOURNEY_ON_TOKENS || event == JOURNEY_ON_FINISHED))
        return true;
    /* a link that stands does not come up */
    if ((state == JOURNEY_STREAMING || state == JOURNEY_STOPPING) && event == JOURNEY_ON_LINK_UP)
        return true;
    /* a client that has gone says nothing */
    return state == JOURNEY_CANCELING && (event == JOURNEY_ON_STOP || event == JOURNEY_ON_CANCEL);
}

static const Td__GenerateIn *next_of_kind(struct rig *rig, Td__GenerateIn__KindCase kind)
{
    const Td__GenerateIn *message = rig_next(rig);

    return message != NULL && message->kind_case == kind ? message : NULL;
}

static void expect_action(struct journey_case *c, uint8_t action, uint32_t places)
{
    struct rig *rig = &c->rig;
    struct rig_client *client = &c->client;
    const struct router_journey *journey = journey_of(c);

    switch (action) {
    case JOURNEY_DO_PLACE: assert_int_equal(rig->places, places + 1); break;
    case JOURNEY_DO_WAIT:
        assert_true(journey->not_before_ns > rig->now_ns);
        assert_int_equal(rig->places, places);
        break;
    case JOURNEY_DO_START: assert_int_equal(rig->links_opened, 1); break;
    case JOURNEY_DO_PASS: assert_true(client->tokens >= 2); break;
    case JOURNEY_DO_END:
        assert_int_equal(client->ends, 1);
        assert_int_equal(client->result.finish, FRONT_LENGTH);
        assert_non_null(next_of_kind(rig, TD__GENERATE_IN__KIND_ENDED));
        break;
    case JOURNEY_DO_FAIL:
        assert_int_equal(client->ends, 1);
        assert_true(client->result.finish == FRONT_REFUSED ||
                    client->result.finish == FRONT_FAILED);
        assert_true(client->result.status != TD_OK);
        assert_true(client->result.message[0] != '\0');
        break;
    case JOURNEY_DO_RETRY:
        assert_int_equal(journey->tries, 1);
        assert_int_equal(rig->places, places + 1); /* at once, since there is room */
        assert_int_equal(rig->exclude[0], RIG_EPOCH(1));
        assert_int_equal(client->ends, 0);
        break;
    case JOURNEY_DO_WATCH: assert_int_equal(client->ends, 0); break;
    case JOURNEY_DO_ATTACH:
        assert_int_equal(next_of_kind(rig, TD__GENERATE_IN__KIND_ATTACH)->attach->next_index,
                         client->tokens);
        break;
    case JOURNEY_DO_CANCEL:
        assert_non_null(next_of_kind(rig, TD__GENERATE_IN__KIND_CANCEL));
        assert_int_equal(client->ends, 0);
        break;
    case JOURNEY_DO_CANCEL_FAIL:
        assert_non_null(next_of_kind(rig, TD__GENERATE_IN__KIND_CANCEL));
        assert_int_equal(client->ends, 1);
        assert_int_equal(client->result.status, TD_TIMEOUT);
        break;
    case JOURNEY_DO_DROP:
    case JOURNEY_DO_DETACH:
    case JOURNEY_DO_FREE: assert_int_equal(client->ends, 0); break;
    case JOURNEY_DO_SETTLE:
        assert_int_equal(client->ends, 1);
        assert_int_equal(client->result.finish, FRONT_STOP);
        break;
    default: fail_msg("an action without a test");
    }
}

/* RETRY goes through the queue to the next PLACING at once where there is room. */
static uint8_t seen_as(const struct td_fsm_cell *cell)
{
    return cell->action == JOURNEY_DO_RETRY ? JOURNEY_PLACING : cell->next;
}

static void every_cell(void **unused)
{
    (void)unused;
    for (uint8_t state = 0; state < JOURNEY_DONE; state++) {
        for (uint8_t event = 0; event < JOURNEY_EVENT_COUNT; event++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&journey_fsm, state, event);
            bool last = event == JOURNEY_ON_REFUSED_LAST || event == JOURNEY_ON_LINK_LOST_LAST;
            bool coming = event == JOURNEY_ON_LINK_UP && state != JOURNEY_REATTACHING;
            struct journey_case c;
            uint32_t places;

            if (cell->action == TD_FSM_BUG || is_unreachable(state, event) ||
                (coming && state == JOURNEY_CANCELING))
                continue;
            enter(&c, (enum journey_state)state, last, !coming);
            assert_int_equal(journey_of(&c)->state, state);
            places = c.rig.places;
            raise_event(&c, (enum journey_event)event);
            if (journey_of(&c) == NULL ? cell->next != JOURNEY_DONE
                                       : journey_of(&c)->state != seen_as(cell))
                fail_msg("%s x %s", journey_fsm.states[state].name, journey_fsm.events[event].name);
            if (cell->action != TD_FSM_IGNORE)
                expect_action(&c, cell->action, places);
            rig_close(&c.rig);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_complete),
        cmocka_unit_test(every_cell),
    };

    td_log_set_level((enum td_log_level) - 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
