/*
 * test_core.c: the transfer core over the loop transport, sentence by sentence.
 *
 * Among them the list of what a transfer's state machine must hold to: success is final, failure is
 * final, nothing brings an ended transfer back, a malformed message changes nothing, the last chunk
 * may be empty, a dead node fails all its transfers, and waiting has an end.
 */
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/wire.h"
#include "tests/kvtransfer/world.h"
#include "tests/support/support.h"

#define SECOND TD_NS_PER_SEC

struct pair {
    struct world *world;
    struct world_node *sender;
    struct world_node *receiver;
    struct world_transfer transfer;
};

/* Two connected nodes and a transfer of 10 blocks with an attachment. */
static void pair_open(struct pair *pair, bool ignores_force)
{
    pair->world = world_new(1, ignores_force);
    pair->sender = world_node_add(pair->world, 1001);
    pair->receiver = world_node_add(pair->world, 2002);
    world_connect(pair->sender, pair->receiver);
    world_transfer_init(&pair->transfer, &pair->world->rng, 10, 200);
    world_transfer_fill(&pair->transfer, pair->sender);
}

static int setup(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);

    assert_non_null(pair);
    pair_open(pair, false);
    *state = pair;
    return 0;
}

static int setup_hung(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);

    assert_non_null(pair);
    pair_open(pair, true);
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;

    pair->world->intercept = NULL; /* what it looks at has gone with the test */
    world_free(pair->world);
    free(pair);
    return 0;
}

static void expect_and_offer(struct pair *pair)
{
    world_expect(pair->receiver, &pair->transfer, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
}

static void send_all(struct pair *pair)
{
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 10, true);
}

static void assert_landed(const struct pair *pair)
{
    assert_int_equal(world_count(pair->receiver, KVT_ARRIVING, pair->transfer.id), 1);
    assert_int_equal(world_count(pair->receiver, KVT_LANDED, pair->transfer.id), 1);
    assert_int_equal(world_count(pair->receiver, KVT_FAILED, pair->transfer.id), 0);
    assert_int_equal(world_count(pair->receiver, KVT_QUIESCED, pair->transfer.id), 0);
    assert_true(world_transfer_is_there(&pair->transfer, pair->receiver));
    world_assert_gauges_zero(pair->receiver);
}

static void assert_not_landed(const struct pair *pair, td_status_t why)
{
    const struct kvt_event *quiesced = world_find(pair->receiver, KVT_QUIESCED, pair->transfer.id);

    assert_int_equal(world_count(pair->receiver, KVT_LANDED, pair->transfer.id), 0);
    assert_int_equal(world_count(pair->receiver, KVT_QUIESCED, pair->transfer.id), 1);
    assert_int_equal(quiesced->status, why);
    world_assert_gauges_zero(pair->receiver);
}

static void assert_drained(const struct pair *pair, td_status_t why)
{
    const struct kvt_event *drained = world_find(pair->sender, KVT_DRAINED, pair->transfer.id);

    assert_int_equal(world_count(pair->sender, KVT_DRAINED, pair->transfer.id), 1);
    assert_int_equal(drained->status, why);
    assert_true(drained->is_sender);
    world_assert_gauges_zero(pair->sender);
}

/* ------------------------------------------------------------------------------------ the good way */

static void a_transfer_lands_whole_and_verified(void **state)
{
    struct pair *pair = *state;
    uint32_t sent = 0;

    expect_and_offer(pair);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
    assert_drained(pair, TD_OK);
    for (size_t i = 0; i < pair->sender->event_count; i++) {
        const struct kvt_event *event = &pair->sender->events[i];

        if (event->kind == KVT_SENT)
            sent |= ((1u << event->sent.count) - 1) << event->sent.first;
    }
    assert_int_equal(sent, 0x3ff); /* each of the ten blocks */
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_BYTES_RECEIVED),
                     10 * WORLD_BLOCK_BYTES + 200);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_BYTES_SENT), 10 * WORLD_BLOCK_BYTES + 200);
}

static void runs_may_come_one_by_one(void **state)
{
    struct pair *pair = *state;

    expect_and_offer(pair);
    for (uint32_t i = 0; i < 10; i++) {
        world_send(pair->sender, &pair->transfer, pair->receiver->epoch, i, 1, i == 9);
        world_run(pair->world, SECOND);
    }
    assert_landed(pair);
    assert_drained(pair, TD_OK);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_CHUNKS_RECEIVED), 10);
}

static void a_last_chunk_without_blocks_still_completes(void **state)
{
    struct pair *pair = *state;

    expect_and_offer(pair);
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 10, false);
    world_run(pair->world, SECOND);
    assert_int_equal(world_count(pair->receiver, KVT_LANDED, pair->transfer.id), 0);
    assert_int_equal(world_count(pair->sender, KVT_DRAINED, pair->transfer.id), 0);
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 10, 0, true);
    world_run(pair->world, SECOND);
    assert_landed(pair);
    assert_drained(pair, TD_OK);
}

static void a_transfer_may_be_an_attachment_alone_or_have_none(void **state)
{
    struct pair *pair = *state;

    world_transfer_init(&pair->transfer, &pair->world->rng, 0, 100);
    expect_and_offer(pair);
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 0, true);
    world_run(pair->world, SECOND);
    assert_landed(pair);
    world_transfer_init(&pair->transfer, &pair->world->rng, 3, 0);
    world_transfer_fill(&pair->transfer, pair->sender);
    expect_and_offer(pair);
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 3, false);
    world_run(pair->world, SECOND);
    assert_landed(pair);
}

static void a_block_without_a_hash_is_hashed_when_it_is_sent(void **state)
{
    struct pair *pair = *state;
    struct td_u128 hash = pair->transfer.hashes[4];

    expect_and_offer(pair);
    pair->transfer.hashes[4] = (struct td_u128){0};
    send_all(pair);
    world_run(pair->world, SECOND);
    pair->transfer.hashes[4] = hash;
    assert_landed(pair);
}

static void neighbouring_slots_travel_as_one_piece_and_land_right(void **state)
{
    struct pair *pair = *state;

    for (uint32_t i = 0; i < 10; i++) {
        pair->transfer.sender_slots[i] = 20 + i;
        pair->transfer.receiver_slots[i] = 40 + (i + 5) % 10;
    }
    world_transfer_fill(&pair->transfer, pair->sender);
    expect_and_offer(pair);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
}

static void sends_wait_until_the_peer_is_connected(void **state)
{
    struct pair *pair = *state;
    struct world_node *late = world_node_add(pair->world, 3003);

    pair->world->faults.delay_max_ns = TD_NS_PER_MS;
    world_peer_add(late, pair->sender);
    world_peer_add(pair->sender, late);
    world_expect(late, &pair->transfer, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &pair->transfer, late->epoch, 60 * SECOND);
    world_send(pair->sender, &pair->transfer, late->epoch, 0, 10, true);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_SENDING), 0);
    pair->world->faults.delay_max_ns = 0;
    world_run(pair->world, SECOND);
    assert_true(world_transfer_is_there(&pair->transfer, late));
}

static bool hold_chunks(struct world *world, struct kvt_loop_message *message)
{
    struct kvt_loop_message **held = world->impl;

    if (kvt_loop_message_kind(message) != KVT_LOOP_CHUNK)
        return false;
    while (*held != NULL)
        held++;
    *held = message;
    return true;
}

static void the_window_bounds_what_is_in_flight(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};
    struct world_transfer big;

    world_transfer_init(&big, &pair->world->rng, 40, 0);
    world_transfer_fill(&big, pair->sender);
    world_expect(pair->receiver, &big, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &big, pair->receiver->epoch, 60 * SECOND);
    pair->world->impl = held;
    pair->world->intercept = hold_chunks;
    world_send(pair->sender, &big, pair->receiver->epoch, 0, 40, false);
    world_run(pair->world, SECOND);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_SENDING), 3); /* 3 chunks of 4 blocks */
    assert_non_null(held[2]);
    assert_null(held[3]);
    pair->world->intercept = NULL;
    for (int i = 0; i < 3; i++)
        kvt_loop_deliver(held[i]);
    while (kvt_core_progress(pair->receiver->core))
        ;
    world_run(pair->world, SECOND);
    assert_true(world_transfer_is_there(&big, pair->receiver));
    world_assert_gauges_zero(pair->sender);
}

static void transfers_to_one_peer_share_the_window_in_turn(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};
    struct world_transfer other;

    world_transfer_init(&other, &pair->world->rng, 1, 0);
    other.sender_slots[0] = pair->transfer.sender_slots[9]; /* the same block, to another place */
    memcpy(other.contents[0], pair->transfer.contents[9], WORLD_BLOCK_BYTES);
    other.hashes[0] = pair->transfer.hashes[9];
    expect_and_offer(pair);
    world_expect(pair->receiver, &other, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &other, pair->receiver->epoch, 60 * SECOND);
    pair->world->impl = held;
    pair->world->intercept = hold_chunks;
    send_all(pair); /* 4 + 4 + 2 blocks: two chunks, then the window has room for less than one */
    world_send(pair->sender, &other, pair->receiver->epoch, 0, 1, false);
    pair->world->intercept = NULL;
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_deliver(held[i]);
    while (kvt_core_progress(pair->receiver->core))
        ;
    world_run(pair->world, SECOND);
    assert_int_equal(world_count(pair->receiver, KVT_LANDED, other.id), 1);
    assert_landed(pair);
}

/* ------------------------------------------------------------------------------- ends are final */

static void success_is_final(void **state)
{
    struct pair *pair = *state;
    size_t events;

    expect_and_offer(pair);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
    events = pair->receiver->event_count;
    world_abandon(pair->receiver, &pair->transfer);
    world_stop(pair->sender, &pair->transfer, pair->receiver->epoch);
    world_run_out(pair->world);
    assert_int_equal(pair->receiver->event_count, events);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_COMMANDS_DROPPED), 1);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_COMMANDS_DROPPED), 1);
    assert_drained(pair, TD_OK);
}

static bool hold_data(struct world *world, struct kvt_loop_message *message)
{
    struct kvt_loop_message **held = world->impl;

    if (kvt_loop_message_kind(message) != KVT_LOOP_DATA)
        return false;
    while (*held != NULL)
        held++;
    *held = message;
    return true;
}

static void failure_is_final_and_a_late_success_does_not_promote_it(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};

    world_transfer_init(&pair->transfer, &pair->world->rng, 1, 0);
    world_transfer_fill(&pair->transfer, pair->sender);
    expect_and_offer(pair);
    pair->world->impl = held;
    pair->world->intercept = hold_data;
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 1, false);
    world_run(pair->world, SECOND);
    world_abandon(pair->receiver, &pair->transfer);
    /* a receive is running: nothing may be said yet */
    assert_int_equal(world_count(pair->receiver, KVT_QUIESCED, pair->transfer.id), 0);
    pair->world->intercept = NULL;
    kvt_loop_deliver(held[0]);
    world_run_until(pair->world, pair->world->now_ns);
    while (kvt_core_progress(pair->receiver->core))
        ;
    assert_not_landed(pair, TD_CANCELED);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_LATE), 1);
}

static void a_chunk_for_an_ended_transfer_is_refused_and_brings_nothing_back(void **state)
{
    struct pair *pair = *state;

    expect_and_offer(pair);
    world_abandon(pair->receiver, &pair->transfer);
    assert_not_landed(pair, TD_CANCELED);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_not_landed(pair, TD_CANCELED);
    assert_int_equal(world_count(pair->receiver, KVT_ARRIVING, pair->transfer.id), 0);
    assert_true(world_stat(pair->receiver, KVT_STAT_REFUSED_UNKNOWN) > 0);
    assert_drained(pair, TD_REFUSED);
    assert_int_equal(world_count(pair->sender, KVT_FAILED, pair->transfer.id), 1);
}

static void a_send_that_crossed_with_the_end_is_dropped(void **state)
{
    struct pair *pair = *state;

    expect_and_offer(pair);
    world_stop(pair->sender, &pair->transfer, pair->receiver->epoch);
    assert_drained(pair, TD_CANCELED);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_drained(pair, TD_CANCELED);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_COMMANDS_DROPPED), 1);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_CHUNKS_SENT), 0);
}

static void a_repeated_command_does_not_answer_twice(void **state)
{
    struct pair *pair = *state;

    expect_and_offer(pair);
    expect_and_offer(pair);
    world_peer_add(pair->receiver, pair->sender);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
    assert_drained(pair, TD_OK);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_COMMANDS_DROPPED), 2);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_COMMANDS_DROPPED), 1);
}

static void hand_over_expect(struct world_node *node)
{
    const struct pair *pair = node->impl;
    struct kvt_command command =
        world_expect_command(&pair->transfer, pair->sender->epoch, 60 * SECOND);

    node->on_drain = NULL; /* it waits once */
    kvt_core_command(node->core, &command);
}

/* EXPECT was pushed before the ask went out, but the thread has not come to it when the chunk is here. */
static void a_chunk_that_overtakes_its_expect_is_not_refused(void **state)
{
    struct pair *pair = *state;

    pair->receiver->impl = pair;
    pair->receiver->on_drain = hand_over_expect;
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_REFUSED_UNKNOWN), 0);
    assert_landed(pair);
    assert_drained(pair, TD_OK);
}

static void drop_peer_and_expect(struct world_node *node)
{
    const struct pair *pair = node->impl;
    struct kvt_command command = {.kind = KVT_PEER_DROP, .peer = pair->sender->epoch};

    kvt_core_command(node->core, &command);
    hand_over_expect(node);
}

/* What waits may as well be the end of the connection over which the chunk has come. */
static void a_chunk_that_overtakes_the_end_of_its_peer_is_refused(void **state)
{
    struct pair *pair = *state;

    pair->receiver->impl = pair;
    pair->receiver->on_drain = drop_peer_and_expect;
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_not_landed(pair, TD_PEER_LOST); /* the EXPECT found no peer */
    assert_true(world_stat(pair->receiver, KVT_STAT_REFUSED_UNKNOWN) > 0);
    assert_int_equal(world_count(pair->sender, KVT_DRAINED, pair->transfer.id), 1);
}

/* ----------------------------------------------------------------------------- what is refused */

static bool duplicate_chunks(struct world *world, struct kvt_loop_message *message)
{
    bool *armed = world->impl;

    if (*armed && kvt_loop_message_kind(message) == KVT_LOOP_CHUNK) {
        kvt_loop_deliver(kvt_loop_copy(message));
        kvt_loop_deliver(message);
        return true;
    }
    return false;
}

static void a_repeated_chunk_is_refused_and_counted(void **state)
{
    struct pair *pair = *state;
    bool armed = true;

    expect_and_offer(pair);
    pair->world->impl = &armed;
    pair->world->intercept = duplicate_chunks;
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 4, false);
    while (kvt_core_progress(pair->receiver->core))
        ;
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_REFUSED_REPEATED), 1);
    armed = false;
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 4, 6, true);
    world_run(pair->world, SECOND);
    assert_landed(pair);
    assert_drained(pair, TD_OK);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_CHUNKS_RECEIVED), 3);
}

static bool corrupt_headers(struct world *world, struct kvt_loop_message *message)
{
    uint64_t *bit = world->impl;

    if (kvt_loop_message_kind(message) != KVT_LOOP_CHUNK)
        return false;
    kvt_loop_corrupt(message, *bit);
    kvt_loop_deliver(message);
    return true;
}

static void a_damaged_header_changes_nothing_at_the_receiver(void **state)
{
    struct pair *pair = *state;
    uint64_t refused = 0;

    expect_and_offer(pair);
    for (uint64_t bit = 0; bit < 8 * kvt_header_bytes(1); bit++) {
        struct world_transfer probe = pair->transfer;

        pair->world->impl = &bit;
        pair->world->intercept = corrupt_headers;
        probe.id = pair->transfer.id;
        world_stop(pair->sender, &probe, pair->receiver->epoch);
        world_run(pair->world, TD_NS_PER_MS);
        world_offer(pair->sender, &probe, pair->receiver->epoch, 60 * SECOND);
        world_send(pair->sender, &probe, pair->receiver->epoch, 0, 1, false);
        world_run(pair->world, TD_NS_PER_MS);
        refused++;
        assert_int_equal(world_stat(pair->receiver, KVT_STAT_REFUSED_MALFORMED) +
                             world_stat(pair->receiver, KVT_STAT_REFUSED_STALE) +
                             world_stat(pair->receiver, KVT_STAT_REFUSED_UNKNOWN) +
                             world_stat(pair->receiver, KVT_STAT_REFUSED_FORGED),
                         refused);
    }
    assert_int_equal(world_count(pair->receiver, KVT_ARRIVING, pair->transfer.id), 0);
    assert_int_equal(world_count(pair->receiver, KVT_FAILED, pair->transfer.id), 0);
    pair->world->intercept = NULL;
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
}

static void a_header_under_another_key_changes_nothing(void **state)
{
    struct pair *pair = *state;
    struct world_transfer forged = pair->transfer;

    forged.mac_key[3] ^= 1;
    world_expect(pair->receiver, &pair->transfer, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &forged, pair->receiver->epoch, 60 * SECOND);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_true(world_stat(pair->receiver, KVT_STAT_REFUSED_FORGED) > 0);
    assert_drained(pair, TD_REFUSED);
    assert_int_equal(world_count(pair->receiver, KVT_FAILED, pair->transfer.id), 0);
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
}

static void a_chunk_from_another_peer_is_refused(void **state)
{
    struct pair *pair = *state;
    struct world_node *other = world_node_add(pair->world, 3003);

    world_connect(other, pair->receiver);
    world_transfer_fill(&pair->transfer, other);
    world_expect(pair->receiver, &pair->transfer, pair->sender->epoch, 60 * SECOND);
    world_offer(other, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
    world_send(other, &pair->transfer, pair->receiver->epoch, 0, 10, true);
    world_run(pair->world, SECOND);
    assert_true(world_stat(pair->receiver, KVT_STAT_REFUSED_STALE) > 0);
    assert_int_equal(world_count(pair->receiver, KVT_ARRIVING, pair->transfer.id), 0);
}

static void the_wrong_block_in_a_place_fails_the_transfer(void **state)
{
    struct pair *pair = *state;
    struct td_u128 key = pair->transfer.keys[5];

    expect_and_offer(pair);
    pair->transfer.keys[5] = pair->transfer.keys[6];
    send_all(pair);
    pair->transfer.keys[5] = key;
    world_run(pair->world, SECOND);
    assert_not_landed(pair, TD_INVALID);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_REFUSED_MISMATCH), 1);
    assert_drained(pair, TD_REFUSED);
}

static void another_idea_of_the_end_fails_the_transfer(void **state)
{
    struct pair *pair = *state;
    struct world_transfer shorter = pair->transfer;

    shorter.block_count = 3;
    shorter.attachment_bytes = 0;
    world_expect(pair->receiver, &pair->transfer, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &shorter, pair->receiver->epoch, 60 * SECOND);
    world_send(pair->sender, &shorter, pair->receiver->epoch, 0, 3, false);
    world_run(pair->world, SECOND);
    assert_not_landed(pair, TD_INVALID);
}

static void more_blocks_than_expected_fail_the_transfer(void **state)
{
    struct pair *pair = *state;
    struct world_transfer shorter = pair->transfer;

    shorter.block_count = 3;
    world_expect(pair->receiver, &shorter, pair->sender->epoch, 60 * SECOND);
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_not_landed(pair, TD_INVALID);
}

static void content_that_changed_after_hashing_is_refused(void **state)
{
    struct pair *pair = *state;

    for (uint32_t i = 0; i < 10; i++) {
        struct world_transfer *transfer = &pair->transfer;

        world_transfer_init(transfer, &pair->world->rng, 10, 200);
        world_transfer_fill(transfer, pair->sender);
        world_slot(pair->sender, transfer->sender_slots[i])[37 + i] ^= 4;
        expect_and_offer(pair);
        send_all(pair);
        world_run(pair->world, SECOND);
        assert_not_landed(pair, TD_CORRUPT);
        assert_int_equal(world_stat(pair->receiver, KVT_STAT_CORRUPT), i + 1);
    }
}

static bool corrupt_last_part(struct world *world, struct kvt_loop_message *message)
{
    (void)world;
    if (kvt_loop_message_kind(message) == KVT_LOOP_DATA)
        kvt_loop_corrupt(message, 5);
    return false;
}

static void a_damaged_attachment_is_refused(void **state)
{
    struct pair *pair = *state;

    world_transfer_init(&pair->transfer, &pair->world->rng, 0, 100);
    expect_and_offer(pair);
    pair->world->intercept = corrupt_last_part;
    world_send(pair->sender, &pair->transfer, pair->receiver->epoch, 0, 0, true);
    world_run(pair->world, SECOND);
    assert_not_landed(pair, TD_CORRUPT);
}

/* -------------------------------------------------------------------------- what owners get wrong */

static void an_expectation_that_cannot_be_met_ends_at_once(void **state)
{
    struct pair *pair = *state;
    struct world_transfer bad = pair->transfer;

    world_expect(pair->receiver, &pair->transfer, 4711, 60 * SECOND); /* no such peer */
    assert_not_landed(pair, TD_PEER_LOST);
    bad.id.lo ^= 1;
    bad.receiver_slots[3] = WORLD_SLOTS;
    world_expect(pair->receiver, &bad, pair->sender->epoch, 60 * SECOND);
    assert_int_equal(world_find(pair->receiver, KVT_QUIESCED, bad.id)->status, TD_INVALID);
    bad = pair->transfer;
    bad.id.lo ^= 2;
    bad.block_count = bad.attachment_bytes = 0;
    world_expect(pair->receiver, &bad, pair->sender->epoch, 60 * SECOND);
    assert_int_equal(world_find(pair->receiver, KVT_QUIESCED, bad.id)->status, TD_INVALID);
    bad = pair->transfer;
    bad.id.lo ^= 4;
    bad.attachment_bytes = KVT_ATTACHMENT_BYTES_MAX + 1;
    world_expect(pair->receiver, &bad, pair->sender->epoch, 60 * SECOND);
    assert_int_equal(world_find(pair->receiver, KVT_QUIESCED, bad.id)->status, TD_LIMIT);
    world_assert_gauges_zero(pair->receiver);
}

static void a_send_that_is_not_the_next_part_fails_the_transfer(void **state)
{
    struct pair *pair = *state;
    static const struct {
        uint32_t first;
        uint32_t count;
        bool with_attachment;
    } wrong[] = {{1, 2, false}, {0, 11, false}, {0, 9, true}, {0, 0, false}};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        pair->transfer.id.lo += 1;
        world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 60 * SECOND);
        world_send(pair->sender, &pair->transfer, pair->receiver->epoch, wrong[i].first,
                   wrong[i].count, wrong[i].with_attachment);
        world_run(pair->world, SECOND);
        assert_drained(pair, TD_INVALID);
    }
}

static void too_many_transfers_are_refused_by_name(void **state)
{
    struct world *world = world_new(3, false);
    struct world_node *a;
    struct world_node *b;
    struct world_transfer transfers[3];

    (void)state;
    world->limits.incoming_max = world->limits.outgoing_max = 2;
    a = world_node_add(world, 1);
    b = world_node_add(world, 2);
    world_connect(a, b);
    for (int i = 0; i < 3; i++) {
        world_transfer_init(&transfers[i], &world->rng, 2, 0);
        world_expect(b, &transfers[i], 1, 60 * SECOND);
        world_offer(a, &transfers[i], 2, 60 * SECOND);
    }
    assert_int_equal(world_find(b, KVT_QUIESCED, transfers[2].id)->status, TD_LIMIT);
    assert_int_equal(world_find(a, KVT_DRAINED, transfers[2].id)->status, TD_LIMIT);
    assert_int_equal(world_stat(b, KVT_STAT_INCOMING), 2);
    world_free(world);
}

/* ------------------------------------------------------------------------------- waiting has an end */

static void waiting_for_a_transfer_ends_at_its_deadline(void **state)
{
    struct pair *pair = *state;

    world_expect(pair->receiver, &pair->transfer, pair->sender->epoch, 5 * SECOND);
    world_offer(pair->sender, &pair->transfer, pair->receiver->epoch, 6 * SECOND);
    world_run_until(pair->world, 5 * SECOND - 1);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_INCOMING), 1);
    world_run_until(pair->world, 5 * SECOND);
    assert_not_landed(pair, TD_TIMEOUT);
    world_run_until(pair->world, 6 * SECOND);
    assert_drained(pair, TD_TIMEOUT);
    /* nobody was cut off for that: nothing was in flight */
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_CUTS), 0);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_PEERS), 1);
}

static void drop_all_data(struct pair *pair, struct kvt_loop_message **held)
{
    expect_and_offer(pair);
    pair->world->impl = held;
    pair->world->intercept = hold_data;
    send_all(pair);
    world_run(pair->world, TD_NS_PER_MS);
}

static void a_hanging_receive_is_cut_off_and_then_quiet(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};
    uint64_t abandoned_ns;

    drop_all_data(pair, held);
    abandoned_ns = pair->world->now_ns;
    world_abandon(pair->receiver, &pair->transfer);
    world_run_until(pair->world, abandoned_ns + 3 * SECOND - 1);
    assert_int_equal(world_count(pair->receiver, KVT_QUIESCED, pair->transfer.id), 0);
    world_run_until(pair->world, abandoned_ns + 3 * SECOND);
    assert_not_landed(pair, TD_CANCELED);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_CUTS), 1);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_PEERS), 0);
    world_run(pair->world, SECOND);
    assert_drained(pair, TD_PEER_LOST); /* the other side heard of it */
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_discard(held[i]);
}

static void what_cannot_be_made_quiet_is_quarantined(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};
    uint64_t abandoned_ns;

    drop_all_data(pair, held);
    abandoned_ns = pair->world->now_ns;
    world_abandon(pair->receiver, &pair->transfer);
    world_stop(pair->sender, &pair->transfer, pair->receiver->epoch);
    world_run_until(pair->world, abandoned_ns + 6 * SECOND);
    assert_int_equal(world_count(pair->receiver, KVT_QUARANTINED, pair->transfer.id), 1);
    assert_int_equal(world_count(pair->receiver, KVT_QUIESCED, pair->transfer.id), 0);
    assert_int_equal(world_count(pair->sender, KVT_QUARANTINED, pair->transfer.id), 1);
    assert_int_equal(world_count(pair->sender, KVT_DRAINED, pair->transfer.id), 0);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_QUARANTINED), 1);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_INCOMING), 0);
    assert_true(kvt_core_is_quiet(pair->receiver->core));
    /* the hung receives end after all: memory is freed, and no event undoes the quarantine */
    pair->world->intercept = NULL;
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_deliver(held[i]);
    while (kvt_core_progress(pair->receiver->core))
        ;
    world_run_out(pair->world);
    assert_int_equal(world_count(pair->receiver, KVT_QUIESCED, pair->transfer.id), 0);
    world_assert_gauges_zero(pair->receiver);
    world_assert_gauges_zero(pair->sender);
}

static void a_quarantined_transfer_is_freed_with_its_core(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};

    drop_all_data(pair, held);
    world_abandon(pair->receiver, &pair->transfer);
    world_stop(pair->sender, &pair->transfer, pair->receiver->epoch);
    world_run(pair->world, 10 * SECOND);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_QUARANTINED), 1);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_QUARANTINED), 1);
    world_node_crash(pair->receiver); /* the leak checker looks at what is left */
    world_node_crash(pair->sender);
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_discard(held[i]);
}

/* ------------------------------------------------------------------------------------------ peers */

static void a_dead_node_fails_all_its_transfers(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};
    struct world_transfer other;

    world_transfer_init(&other, &pair->world->rng, 4, 0);
    world_expect(pair->receiver, &other, pair->sender->epoch, 60 * SECOND);
    drop_all_data(pair, held); /* one is landing, one is expected */
    world_node_crash(pair->sender);
    world_run(pair->world, TD_NS_PER_MS);
    assert_not_landed(pair, TD_PEER_LOST);
    assert_int_equal(world_find(pair->receiver, KVT_QUIESCED, other.id)->status, TD_PEER_LOST);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_PEERS), 0);
    assert_int_equal(world_stat(pair->receiver, KVT_STAT_PEERS_LOST), 1);
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_discard(held[i]);
}

static void a_dead_receiver_fails_what_is_sent_to_it(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};

    drop_all_data(pair, held);
    world_node_crash(pair->receiver);
    world_run(pair->world, TD_NS_PER_MS);
    assert_drained(pair, TD_PEER_LOST);
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_discard(held[i]);
}

static void a_dropped_peer_can_be_added_again(void **state)
{
    struct pair *pair = *state;
    struct kvt_command drop = {.kind = KVT_PEER_DROP, .peer = pair->sender->epoch};
    size_t lost = 0;

    expect_and_offer(pair);
    world_command(pair->receiver, &drop);
    assert_not_landed(pair, TD_CANCELED);
    world_run(pair->world, SECOND);
    assert_drained(pair, TD_PEER_LOST);
    drop.kind = KVT_PEER_DROP;
    world_command(pair->receiver, &drop); /* it is gone already */
    for (size_t i = 0; i < pair->receiver->event_count; i++)
        lost += pair->receiver->events[i].kind == KVT_PEER_LOST;
    assert_int_equal(lost, 1);
    world_connect(pair->sender, pair->receiver);
    pair->transfer.id.lo += 1;
    expect_and_offer(pair);
    send_all(pair);
    world_run(pair->world, SECOND);
    assert_landed(pair);
}

static void a_peer_that_does_not_answer_is_lost_in_time(void **state)
{
    struct pair *pair = *state;
    struct world_node *silent = world_node_add(pair->world, 3003);
    uint64_t added_ns = pair->world->now_ns;
    const struct kvt_event *last;

    pair->world->faults.drop = 1000;
    world_peer_add(pair->sender, silent);
    world_offer(pair->sender, &pair->transfer, silent->epoch, 60 * SECOND);
    world_send(pair->sender, &pair->transfer, silent->epoch, 0, 10, true);
    world_run_until(pair->world, added_ns + 5 * SECOND);
    assert_drained(pair, TD_TIMEOUT);
    last = &pair->sender->events[pair->sender->event_count - 3];
    assert_int_equal(last->kind, KVT_PEER_LOST);
    assert_int_equal(last->status, TD_TIMEOUT);
}

static void a_bad_address_is_a_lost_peer(void **state)
{
    struct pair *pair = *state;
    struct kvt_command command = {.kind = KVT_PEER_ADD, .peer = 55};

    memcpy(command.peer_add.transport, "loop", 5);
    command.peer_add.address = calloc(1, 10);
    command.peer_add.address_bytes = 10;
    world_command(pair->sender, &command);
    assert_int_equal(pair->sender->events[pair->sender->event_count - 1].kind, KVT_PEER_LOST);
    assert_int_equal(pair->sender->events[pair->sender->event_count - 1].status, TD_INVALID);
    command = (struct kvt_command){.kind = KVT_PEER_ADD, .peer = 55};
    memcpy(command.peer_add.transport, "nothing", 8);
    world_command(pair->sender, &command);
    assert_int_equal(pair->sender->events[pair->sender->event_count - 1].status, TD_UNSUPPORTED);
    assert_int_equal(world_stat(pair->sender, KVT_STAT_PEERS), 1);
}

/* --------------------------------------------------------------------------------------- stopping */

static void a_stopping_core_makes_everything_quiet_and_takes_nothing_new(void **state)
{
    struct pair *pair = *state;
    struct kvt_loop_message *held[16] = {NULL};
    struct world_transfer other;

    drop_all_data(pair, held);
    kvt_core_stop(pair->receiver->core);
    assert_false(kvt_core_is_quiet(pair->receiver->core));
    world_transfer_init(&other, &pair->world->rng, 4, 0);
    world_expect(pair->receiver, &other, pair->sender->epoch, 60 * SECOND);
    assert_int_equal(world_find(pair->receiver, KVT_QUIESCED, other.id)->status, TD_CANCELED);
    kvt_core_stop(pair->sender->core);
    world_run(pair->world, 7 * SECOND);
    assert_true(kvt_core_is_quiet(pair->receiver->core));
    assert_true(kvt_core_is_quiet(pair->sender->core));
    assert_not_landed(pair, TD_CANCELED);
    assert_drained(pair, TD_CANCELED);
    for (int i = 0; held[i] != NULL; i++)
        kvt_loop_discard(held[i]);
}

static void a_core_with_senseless_limits_does_not_open(void **state)
{
    struct kvt_core_config config = {.limits = kvt_limits_default(), .block_bytes = 16};
    uint8_t pool[16];
    struct kvt_core *core;
    struct td_error error;

    (void)state;
    config.memory = (struct kvt_memory){.base = pool, .bytes = sizeof pool, .fd = -1};
    assert_int_equal(kvt_core_open(&config, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "epoch"));
    config.epoch = 1;
    config.block_bytes = 17;
    assert_int_equal(kvt_core_open(&config, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "block_bytes"));
    config.block_bytes = 16;
    config.limits.attachment_bytes_max = KVT_ATTACHMENT_BYTES_MAX + 1;
    assert_int_equal(kvt_core_open(&config, &core, &error), TD_INVALID);
    config.limits = kvt_limits_default();
    config.limits.window_bytes = 0;
    assert_int_equal(kvt_core_open(&config, &core, &error), TD_INVALID);
}

#define PAIRED(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define HUNG(name)   cmocka_unit_test_setup_teardown(name, setup_hung, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIRED(a_transfer_lands_whole_and_verified),
        PAIRED(runs_may_come_one_by_one),
        PAIRED(a_last_chunk_without_blocks_still_completes),
        PAIRED(a_transfer_may_be_an_attachment_alone_or_have_none),
        PAIRED(a_block_without_a_hash_is_hashed_when_it_is_sent),
        PAIRED(neighbouring_slots_travel_as_one_piece_and_land_right),
        PAIRED(sends_wait_until_the_peer_is_connected),
        PAIRED(the_window_bounds_what_is_in_flight),
        PAIRED(transfers_to_one_peer_share_the_window_in_turn),
        PAIRED(success_is_final),
        PAIRED(failure_is_final_and_a_late_success_does_not_promote_it),
        PAIRED(a_chunk_for_an_ended_transfer_is_refused_and_brings_nothing_back),
        PAIRED(a_send_that_crossed_with_the_end_is_dropped),
        PAIRED(a_repeated_command_does_not_answer_twice),
        PAIRED(a_chunk_that_overtakes_its_expect_is_not_refused),
        PAIRED(a_chunk_that_overtakes_the_end_of_its_peer_is_refused),
        PAIRED(a_repeated_chunk_is_refused_and_counted),
        PAIRED(a_damaged_header_changes_nothing_at_the_receiver),
        PAIRED(a_header_under_another_key_changes_nothing),
        PAIRED(a_chunk_from_another_peer_is_refused),
        PAIRED(the_wrong_block_in_a_place_fails_the_transfer),
        PAIRED(another_idea_of_the_end_fails_the_transfer),
        PAIRED(more_blocks_than_expected_fail_the_transfer),
        PAIRED(content_that_changed_after_hashing_is_refused),
        PAIRED(a_damaged_attachment_is_refused),
        PAIRED(an_expectation_that_cannot_be_met_ends_at_once),
        PAIRED(a_send_that_is_not_the_next_part_fails_the_transfer),
        cmocka_unit_test(too_many_transfers_are_refused_by_name),
        PAIRED(waiting_for_a_transfer_ends_at_its_deadline),
        PAIRED(a_hanging_receive_is_cut_off_and_then_quiet),
        HUNG(what_cannot_be_made_quiet_is_quarantined),
        HUNG(a_quarantined_transfer_is_freed_with_its_core),
        PAIRED(a_dead_node_fails_all_its_transfers),
        PAIRED(a_dead_receiver_fails_what_is_sent_to_it),
        PAIRED(a_dropped_peer_can_be_added_again),
        PAIRED(a_peer_that_does_not_answer_is_lost_in_time),
        PAIRED(a_bad_address_is_a_lost_peer),
        PAIRED(a_stopping_core_makes_everything_quiet_and_takes_nothing_new),
        cmocka_unit_test(a_core_with_senseless_limits_does_not_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
