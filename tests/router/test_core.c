/*
 * test_core.c: the router core beyond its table: admission, retries, links, taking up again, and what
 * workers and schedulers may say wrongly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/router/core_rig.h"

static struct rig rig;
static struct rig_client client;
static struct rig_client second;

static int open_two(void **state)
{
    (void)state;
    rig_open(&rig, 2, 1);
    return 0;
}

static int shut(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

static const struct router_counters *counters(void)
{
    return router_core_counters(rig.core);
}

static struct router_gauges gauges(void)
{
    struct router_gauges now;

    router_core_gauges(rig.core, &now);
    return now;
}

/* A journey that runs on worker 1 over a link that stands. */
static struct td_u128 run_one(void)
{
    struct td_u128 id;

    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    id = router_journey_id(client.journey);
    rig_placed(&rig, 1);
    rig_link_up(&rig, 1);
    rig_take_all(&rig);
    return id;
}

/* --- admission --- */

static void requests_run_up_to_the_capacity_and_the_rest_waits(void **state)
{
    struct rig_client clients[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig_ask(&rig, &clients[i], 10, 0), TD_OK);
    assert_int_equal(gauges().running, 2);
    assert_int_equal(gauges().queued, 1);
    router_journey_abandon(clients[0].journey, rig.now_ns);
    assert_int_equal(gauges().running, 2); /* the one that waited has its place */
    assert_int_equal(gauges().queued, 0);
}

static void a_full_queue_answers_with_a_time(void **state)
{
    struct rig_client clients[6];

    (void)state;
    for (int i = 0; i < 5; i++)
        assert_int_equal(rig_ask(&rig, &clients[i], 10, 0), TD_OK);
    assert_int_equal(rig_ask(&rig, &clients[5], 10, 0), TD_EXHAUSTED);
    assert_int_equal(counters()->journeys_refused, 1);
    assert_int_equal(gauges().queued, 3);
}

static void waiting_for_capacity_ends(void **state)
{
    (void)state;
    rig_close(&rig);
    rig_open(&rig, 0, 0);
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    rig_wait_ms(&rig, rig.core->limits.queue_ms);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.status, TD_AGAIN); /* there is no worker at all */
    assert_true(router_core_idle(rig.core));
}

/* However often it was asked in between. */
static void waiting_for_a_place_ends_too(void **state)
{
    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    for (int i = 0; i < 1000 && client.ends == 0; i++) {
        if (rig.place_number != 0)
            rig_not_placed(&rig, TD_EXHAUSTED, 100);
        rig.place_number = 0;
        rig_wait_ms(&rig, rig.core->limits.retry_ms);
    }
    assert_int_equal(client.ends, 1);
    assert_true(rig.now_ns <= TD_NS_PER_SEC + (rig.core->limits.queue_ms + 1000) * TD_NS_PER_MS);
    assert_true(router_core_idle(rig.core));
}

static void a_deadline_of_its_own_counts_while_it_waits(void **state)
{
    (void)state;
    rig_close(&rig);
    rig_open(&rig, 0, 0);
    assert_int_equal(rig_ask(&rig, &client, 10, 50), TD_OK);
    rig_wait_ms(&rig, 50);
    assert_int_equal(client.ends, 1);
}

static void a_model_that_nobody_serves_is_not_found(void **state)
{
    struct router_start start = {.model = "another", .token_count = 1};
    struct router_journey *journey;
    uint32_t retry_after_ms;

    (void)state;
    assert_int_equal(
        router_journey_start(rig.core, &start, &client, rig.now_ns, &journey, &retry_after_ms),
        TD_NOT_FOUND);
    assert_true(router_core_idle(rig.core));
}

/* --- placing --- */

static void without_a_scheduler_the_router_chooses(void **state)
{
    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    router_core_on_placed(rig.core, rig.place_number, NULL, rig.now_ns);
    assert_int_equal(counters()->placed_alone, 1);
    assert_int_equal(rig.links_opened, 1);
    assert_int_equal(client.journey->state, JOURNEY_STARTING);
}

static void an_answer_that_comes_too_late_does_nothing(void **state)
{
    Td__PlaceReply reply;
    uint64_t number;

    (void)state;
    td__place_reply__init(&reply);
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    number = rig.place_number;
    rig_wait_ms(&rig, rig.core->limits.place_ms);
    assert_int_equal(rig.place_number, 0); /* it was canceled */
    reply.worker_epoch = RIG_EPOCH(1);
    router_core_on_placed(rig.core, number, &reply, rig.now_ns);
    assert_int_equal(rig.links_opened, 0);
}

static void a_worker_that_is_not_known_yet_is_not_waited_for(void **state)
{
    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    rig_placed(&rig, 3);
    assert_int_equal(client.journey->state, JOURNEY_STARTING); /* on one that is known */
    assert_int_equal(counters()->placed_alone, 1);
}

/* A scheduler places by names; the tokens are those of one tokenizer, and its defaults are in the request. */
static void a_worker_with_another_tokenizer_is_passed_over(void **state)
{
    (void)state;
    for (uint32_t stranger = 1; stranger <= 2; stranger++) {
        rig.stranger = stranger;
        rig_fleet(&rig, 1, 2, 1);
        assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
        if (stranger == 1)
            router_core_on_placed(rig.core, rig.place_number, NULL, rig.now_ns);
        else
            rig_placed(&rig, stranger);
        assert_int_equal(client.journey->state, JOURNEY_STARTING);
        assert_true(client.journey->link->epoch == RIG_EPOCH(3 - stranger));
        router_journey_abandon(client.journey, rig.now_ns);
    }
}

static void where_all_have_another_tokenizer_a_request_waits(void **state)
{
    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    rig.stranger = 2;
    rig_fleet(&rig, 2, 2, 1); /* the one that read its tokens has gone */
    rig_placed(&rig, 2);
    assert_int_equal(rig.links_opened, 0);
    assert_int_equal(client.journey->state, JOURNEY_QUEUED);
    rig.stranger = 0;
    rig_fleet(&rig, 1, 2, 1);
    rig_wait_ms(&rig, rig.core->limits.retry_ms);
    rig_placed(&rig, 1);
    assert_int_equal(client.journey->state, JOURNEY_STARTING);
}

/* --- retries --- */

static void a_try_on_another_worker_has_another_id(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_end(&rig, id, TD__FINISH__FINISH_FAILED, TD_INTERNAL, 0);
    assert_int_equal(client.ends, 0);
    assert_false(td_u128_equal(router_journey_id(client.journey), id));
    assert_int_equal(rig.exclude_count, 1);
    rig_tokens(&rig, id, 0, 1); /* of the old try */
    assert_int_equal(client.tokens, 0);
    assert_int_equal(counters()->stale_messages, 1);
}

/* The next start on the last link, as bytes. */
static size_t next_sampling(uint8_t out[static 256])
{
    const Td__GenerateIn *message;

    do {
        message = rig_next(&rig);
        assert_non_null(message);
    } while (message->kind_case != TD__GENERATE_IN__KIND_START);
    assert_in_range(td__sampling__get_packed_size(message->start->sampling), 1, 256);
    return td__sampling__pack(message->start->sampling, out);
}

/* Also where the request names no seed. */
static void every_try_draws_alike(void **state)
{
    uint8_t before[256];
    uint8_t after[256];
    size_t length;
    Td__Sampling *sampling;

    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    rig_placed(&rig, 1);
    rig_link_up(&rig, 1);
    length = next_sampling(before);
    rig_end(&rig, router_journey_id(client.journey), TD__FINISH__FINISH_FAILED, TD_INTERNAL, 0);
    rig_placed(&rig, 2);
    rig_link_up(&rig, 2);
    assert_int_equal(next_sampling(after), length);
    assert_memory_equal(before, after, length);
    sampling = td__sampling__unpack(NULL, length, after);
    assert_non_null(sampling);
    assert_true(sampling->temperature == 0.7f && sampling->top_p == 0.8f);
    assert_true(sampling->min_p == 0.05f && sampling->repetition_penalty == 1.1f);
    assert_true(sampling->presence_penalty == -0.5f && sampling->frequency_penalty == 0.25f);
    assert_true(sampling->top_k == 20 && sampling->seed != 0);
    assert_true(sampling->n_bias_tokens == 2 && sampling->n_bias_values == 2);
    assert_true(sampling->bias_tokens[0] == 7 && sampling->bias_values[0] == -100);
    assert_true(sampling->bias_tokens[1] == 3 && sampling->bias_values[1] == 0.5f);
    td__sampling__free_unpacked(sampling, NULL);
}

static void what_is_wrong_with_the_request_is_not_tried_again(void **state)
{
    static const td_status_t final[] = {TD_INVALID, TD_LIMIT, TD_UNSUPPORTED, TD_TIMEOUT};

    (void)state;
    for (size_t i = 0; i < sizeof final / sizeof final[0]; i++) {
        struct td_u128 id;

        rig_close(&rig);
        rig_open(&rig, 2, 1);
        id = run_one();
        rig_end(&rig, id, TD__FINISH__FINISH_REFUSED, final[i], 0);
        assert_int_equal(client.ends, 1);
        assert_int_equal(client.result.status, final[i]);
        assert_int_equal(counters()->retries, 0);
    }
}

static void the_tries_are_counted_even_if_no_other_worker_is_left(void **state)
{
    uint32_t tries = 0;

    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    while (client.ends == 0 && tries < 10) {
        if (rig.exclude_count >= 2) { /* the scheduler knows no third one */
            rig_not_placed(&rig, TD_EXHAUSTED, 100);
            rig_wait_ms(&rig, rig.core->limits.retry_ms);
            assert_int_equal(rig.exclude_count, 0);
        }
        rig_placed(&rig, 1 + tries % 2);
        rig_wait_ms(&rig, rig.core->limits.link_retry_ms); /* a link that was down is tried again */
        tries++;
        rig_link_lost(&rig, TD_PEER_LOST);
    }
    assert_int_equal(client.ends, 1);
    assert_int_equal(tries, rig.core->limits.tries_max);
    assert_int_equal(client.result.status, TD_PEER_LOST);
}

static void after_the_first_token_nothing_is_tried_again(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 1);
    rig_end(&rig, id, TD__FINISH__FINISH_FAILED, TD_INTERNAL, 1);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(client.tokens, 1);
}

/* The worker gave up by itself, say because it drains; the client wants its answer. */
static void a_cancel_by_the_worker_is_a_failure(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_end(&rig, id, TD__FINISH__FINISH_CANCELED, TD_OK, 0);
    assert_int_equal(client.ends, 0); /* tried elsewhere */
    rig_placed(&rig, 2);
    rig_link_up(&rig, 2);
    rig_take_all(&rig);
    id = router_journey_id(client.journey);
    rig_tokens(&rig, id, 0, 1);
    rig_end(&rig, id, TD__FINISH__FINISH_CANCELED, TD_OK, 1);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
}

/* --- half an answer is never called whole --- */

static void an_end_with_fewer_tokens_than_it_says_is_an_error(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 3);
    rig_end(&rig, id, TD__FINISH__FINISH_STOP, TD_OK, 4);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(client.result.status, TD_CORRUPT);
}

static void a_gap_breaks_the_link(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 2);
    rig_tokens(&rig, id, 3, 1);
    assert_int_equal(rig.links_closed, 1);
    assert_int_equal(client.tokens, 2);
    assert_int_equal(client.journey->state, JOURNEY_REATTACHING);
    assert_int_equal(counters()->invalid_messages, 1);
}

/* The worker gave it up while the link was broken; the client must not read that there is no such model. */
static void a_request_that_the_worker_does_not_know_any_more_is_lost(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 2);
    rig_link_lost(&rig, TD_PEER_LOST);
    rig_wait_ms(&rig, 250);
    rig_link_up(&rig, 1);
    assert_int_equal(client.ends, 0);
    rig_end(&rig, id, TD__FINISH__FINISH_FAILED, TD_NOT_FOUND, 0);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(client.result.status, TD_PEER_LOST);
}

static void what_comes_twice_is_passed_on_once(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 3);
    rig_tokens(&rig, id, 1, 4);
    rig_tokens(&rig, id, 0, 5);
    assert_int_equal(client.tokens, 5);
}

/* A client that has enough must not cost the others their link. */
static void tokens_after_a_stop_are_no_gap(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    client.stops = true;
    rig_tokens(&rig, id, 0, 2);
    assert_int_equal(client.journey->state, JOURNEY_STOPPING);
    rig_tokens(&rig, id, 2, 1);
    rig_tokens(&rig, id, 3, 1);
    assert_int_equal(rig.links_closed, 0);
    rig_end(&rig, id, TD__FINISH__FINISH_CANCELED, TD_OK, 4);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_STOP);
    assert_int_equal(client.tokens, 2);
}

static void a_client_may_leave_while_it_is_given_tokens(void **state)
{
    struct td_u128 id = run_one();
    const Td__GenerateIn *message;

    (void)state;
    client.abandons = true;
    rig_tokens(&rig, id, 0, 2);
    assert_int_equal(gauges().running, 1);
    message = rig_next(&rig);
    assert_int_equal(message->kind_case, TD__GENERATE_IN__KIND_CANCEL);
    rig_end(&rig, id, TD__FINISH__FINISH_CANCELED, TD_OK, 2);
    assert_int_equal(client.ends, 0);
    assert_true(router_core_idle(rig.core));
    assert_int_equal(gauges().running, 0);
}

/* --- taking up again --- */

static void an_answer_goes_on_where_it_stopped(void **state)
{
    struct td_u128 id = run_one();
    const Td__GenerateIn *message;

    (void)state;
    rig_tokens(&rig, id, 0, 3);
    rig_link_lost(&rig, TD_PEER_LOST);
    assert_int_equal(client.ends, 0);
    rig_wait_ms(&rig, rig.core->limits.link_retry_ms);
    assert_int_equal(rig.links_opened, 2);
    rig_link_up(&rig, 1);
    message = rig_next(&rig);
    assert_int_equal(message->kind_case, TD__GENERATE_IN__KIND_ATTACH);
    assert_int_equal(message->attach->next_index, 3);
    rig_tokens(&rig, id, 3, 2);
    rig_end(&rig, id, TD__FINISH__FINISH_LENGTH, TD_OK, 5);
    assert_int_equal(client.tokens, 5);
    assert_int_equal(client.result.finish, FRONT_LENGTH);
    assert_int_equal(counters()->attaches, 1);
}

static void a_worker_that_does_not_come_back_in_time_is_an_error(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 3);
    rig_link_lost(&rig, TD_PEER_LOST);
    rig_wait_ms(&rig, rig.core->limits.grace_ms);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(client.tokens, 3);
}

static void another_incarnation_does_not_have_the_answer(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 3);
    rig_link_lost(&rig, TD_PEER_LOST);
    rig_wait_ms(&rig, rig.core->limits.link_retry_ms);
    router_core_on_link_open(rig.core, rig.link, rig.now_ns);
    (void)rig_next(&rig);
    rig_greets(&rig, RIG_EPOCH(1) + 50);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(gauges().links, 0);
    assert_int_equal(counters()->stale_messages, 1);
}

/* --- links --- */

/* It came to a link that was down, and has not been started: it begins anew elsewhere. */
static void a_request_on_a_link_that_is_down_survives_its_worker(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 1);
    rig_link_lost(&rig, TD_PEER_LOST); /* down, and kept for the first one */
    assert_int_equal(rig_ask(&rig, &second, 10, 0), TD_OK);
    rig_placed(&rig, 1);
    assert_int_equal(second.journey->state, JOURNEY_STARTING);
    rig_fleet(&rig, 2, 2, 4); /* worker 1 has left the fleet */
    assert_int_equal(client.ends, 1);
    assert_int_equal(second.ends, 0);
    assert_int_equal(second.journey->state, JOURNEY_PLACING);
}

static void a_link_that_nobody_uses_is_closed(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_end(&rig, id, TD__FINISH__FINISH_LENGTH, TD_OK, 0);
    assert_int_equal(gauges().links, 1);
    rig_wait_ms(&rig, rig.core->limits.link_idle_ms);
    assert_int_equal(gauges().links, 0);
    assert_int_equal(rig.links_closed, 1);
}

static void updates_before_a_greeting_break_the_link(void **state)
{
    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 10, 0), TD_OK);
    rig_placed(&rig, 1);
    router_core_on_link_open(rig.core, rig.link, rig.now_ns);
    rig_tokens(&rig, router_journey_id(client.journey), 0, 1);
    assert_int_equal(rig.links_closed, 1);
    assert_int_equal(client.tokens, 0);
}

static void updates_about_nobody_are_counted_and_dropped(void **state)
{
    (void)state;
    run_one();
    rig_tokens(&rig, td_u128_from_u64(1), 0, 1);
    rig_end(&rig, td_u128_from_u64(1), TD__FINISH__FINISH_LENGTH, TD_OK, 0);
    assert_int_equal(counters()->stale_messages, 2);
    assert_int_equal(rig.links_closed, 0);
}

static void an_end_of_an_unknown_kind_is_a_failure(void **state)
{
    struct td_u128 id = run_one();

    (void)state;
    rig_tokens(&rig, id, 0, 1);
    rig_end(&rig, id, (Td__Finish)77, TD_OK, 1);
    assert_int_equal(client.ends, 1);
    assert_int_equal(client.result.finish, FRONT_FAILED);
}

static void a_long_prompt_does_not_hold_up_a_cancel(void **state)
{
    const Td__GenerateIn *message;

    (void)state;
    assert_int_equal(rig_ask(&rig, &client, 3 * ROUTER_FRAME_TOKENS, 0), TD_OK);
    rig_placed(&rig, 1);
    rig_link_up(&rig, 1);
    message = rig_next(&rig);
    assert_int_equal(message->kind_case, TD__GENERATE_IN__KIND_START);
    assert_int_equal(message->start->prompt_tokens, 3 * ROUTER_FRAME_TOKENS);
    message = rig_next(&rig);
    assert_int_equal(message->kind_case, TD__GENERATE_IN__KIND_TOKENS);
    assert_int_equal(message->tokens->n_tokens, ROUTER_FRAME_TOKENS);
    router_journey_abandon(client.journey, rig.now_ns);
    message = rig_next(&rig);
    assert_int_equal(message->kind_case, TD__GENERATE_IN__KIND_CANCEL);
    assert_null(rig_next(&rig)); /* the rest of the prompt is not sent any more */
}

/* --- the end --- */

static void failing_all_ends_everything_once(void **state)
{
    struct rig_client clients[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig_ask(&rig, &clients[i], 10, 0), TD_OK);
    rig_placed(&rig, 1);
    router_core_fail_all(rig.core, "the router ends", rig.now_ns);
    for (int i = 0; i < 4; i++)
        assert_int_equal(clients[i].ends, 1);
    assert_string_equal(clients[0].result.message, "the router ends");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_two, shut)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(requests_run_up_to_the_capacity_and_the_rest_waits),
        TEST(a_full_queue_answers_with_a_time),
        TEST(waiting_for_capacity_ends),
        TEST(waiting_for_a_place_ends_too),
        TEST(a_deadline_of_its_own_counts_while_it_waits),
        TEST(a_model_that_nobody_serves_is_not_found),
        TEST(without_a_scheduler_the_router_chooses),
        TEST(a_worker_with_another_tokenizer_is_passed_over),
        TEST(where_all_have_another_tokenizer_a_request_waits),
        TEST(an_answer_that_comes_too_late_does_nothing),
        TEST(a_worker_that_is_not_known_yet_is_not_waited_for),
        TEST(a_try_on_another_worker_has_another_id),
        TEST(every_try_draws_alike),
        TEST(what_is_wrong_with_the_request_is_not_tried_again),
        TEST(the_tries_are_counted_even_if_no_other_worker_is_left),
        TEST(after_the_first_token_nothing_is_tried_again),
        TEST(a_cancel_by_the_worker_is_a_failure),
        TEST(an_end_with_fewer_tokens_than_it_says_is_an_error),
        TEST(a_gap_breaks_the_link),
        TEST(a_request_that_the_worker_does_not_know_any_more_is_lost),
        TEST(what_comes_twice_is_passed_on_once),
        TEST(tokens_after_a_stop_are_no_gap),
        TEST(a_client_may_leave_while_it_is_given_tokens),
        TEST(an_answer_goes_on_where_it_stopped),
        TEST(a_worker_that_does_not_come_back_in_time_is_an_error),
        TEST(another_incarnation_does_not_have_the_answer),
        TEST(a_request_on_a_link_that_is_down_survives_its_worker),
        TEST(a_link_that_nobody_uses_is_closed),
        TEST(updates_before_a_greeting_break_the_link),
        TEST(updates_about_nobody_are_counted_and_dropped),
        TEST(an_end_of_an_unknown_kind_is_a_failure),
        TEST(a_long_prompt_does_not_hold_up_a_cancel),
        TEST(failing_all_ends_everything_once),
    };

    td_log_set_level((enum td_log_level) - 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
