/* contract.c: see contract.h. */
#include "tests/kvtransfer/contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 24
#define BLOB   2304 /* bytes of attachment: a hidden state */

/*
 * Where everybody answers, limits are for hangs alone, however busy the machine is; where somebody is silent, they are
 * what the test waits for.
 */
#define PATIENT_MS   20000
#define IMPATIENT_MS 300

/* ------------------------------------------------------------------------------ setup, teardown */

static struct site *open_site(const struct contract_case *test_case, uint64_t epoch,
                              bool is_elsewhere)
{
    struct site_config config = site_config_default(test_case->transport, epoch);

    config.is_elsewhere = is_elsewhere;
    config.stop_ms = config.cut_ms = test_case->is_impatient ? IMPATIENT_MS : PATIENT_MS;
    if (test_case->chunk_bytes != 0) {
        config.chunk_bytes = test_case->chunk_bytes;
        config.window_bytes = 2 * test_case->chunk_bytes;
    }
    return site_open(&config);
}

int contract_setup_apart(void **state)
{
    const struct contract_case *test_case = *state;
    struct contract *contract = calloc(1, sizeof *contract);

    assert_non_null(contract);
    contract->descriptors = site_descriptors();
    contract->sender = open_site(test_case, CONTRACT_SENDER, test_case->sender_elsewhere);
    contract->receiver = open_site(test_case, CONTRACT_RECEIVER, test_case->receiver_elsewhere);
    *state = contract;
    return 0;
}

int contract_setup(void **state)
{
    contract_setup_apart(state);
    contract_connect(*state);
    return 0;
}

int contract_teardown(void **state)
{
    struct contract *contract = *state;

    site_close(contract->sender);
    site_close(contract->receiver);
    assert_int_equal(site_descriptors(), contract->descriptors);
    free(contract);
    return 0;
}

void contract_connect(struct contract *contract)
{
    site_peer_add(contract->sender, contract->receiver);
    site_peer_add(contract->receiver, contract->sender);
    contract->sender_up = site_wait_peer(contract->sender, CONTRACT_RECEIVER);
    contract->receiver_up = site_wait_peer(contract->receiver, CONTRACT_SENDER);
    assert_int_equal(contract->sender_up.kind, KVT_PEER_UP);
    assert_int_equal(contract->receiver_up.kind, KVT_PEER_UP);
}

void contract_begin(struct contract *contract, const struct site_transfer *transfer)
{
    site_fill(contract->sender, transfer);
    site_expect(contract->receiver, transfer, CONTRACT_SENDER);
    site_offer(contract->sender, transfer, CONTRACT_RECEIVER);
}

static void send_all(struct contract *contract, const struct site_transfer *transfer)
{
    site_send(contract->sender, transfer, CONTRACT_RECEIVER, 0, transfer->block_count);
}

void contract_assert_landed(struct contract *contract, const struct site_transfer *transfer)
{
    struct site_event in = site_wait_end(contract->receiver, transfer, false);
    struct site_event out = site_wait_end(contract->sender, transfer, true);

    assert_int_equal(in.kind, KVT_LANDED);
    assert_true(in.is_right);
    assert_int_equal(in.bytes, (uint64_t)transfer->block_count * SITE_BLOCK_BYTES +
                                   transfer->attachment_bytes);
    assert_int_equal(out.kind, KVT_DRAINED);
    assert_int_equal(out.status, TD_OK);
    assert_int_equal(site_count(contract->receiver, KVT_ARRIVING, transfer, false), 1);
    assert_int_equal(site_count(contract->receiver, KVT_LANDED, transfer, false), 1);
    assert_int_equal(site_count(contract->receiver, KVT_FAILED, transfer, false), 0);
    assert_int_equal(site_count(contract->sender, KVT_FAILED, transfer, true), 0);
    assert_true(site_canary_is_intact(contract->receiver, transfer));
}

/* It ended at this site, as a failure of that kind, and nothing touches its slots. */
static void assert_quiesced(struct site *receiver, const struct site_transfer *transfer,
                            td_status_t why)
{
    struct site_event end = site_wait_end(receiver, transfer, false);

    assert_int_equal(end.kind, KVT_QUIESCED);
    assert_int_equal(end.status, why);
    assert_int_equal(site_count(receiver, KVT_LANDED, transfer, false), 0);
    assert_true(site_canary_is_intact(receiver, transfer));
}

static void assert_drained(struct site *sender, const struct site_transfer *transfer,
                           td_status_t why)
{
    struct site_event end = site_wait_end(sender, transfer, true);

    assert_int_equal(end.kind, KVT_DRAINED);
    assert_int_equal(end.status, why);
}

/* ------------------------------------------------------------------------------------ the good way */

static void a_transfer_lands_whole_and_verified(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    contract_begin(contract, &transfer);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 0, 10);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 10, 1);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 11, BLOCKS - 11);
    contract_assert_landed(contract, &transfer);
}

static void a_transfer_may_be_blocks_or_an_attachment_alone(void **state)
{
    struct contract *contract = *state;
    struct site_transfer blocks = site_transfer_make(0, 1, 0);
    struct site_transfer blob = site_transfer_make(1, 0, KVT_ATTACHMENT_BYTES_MAX);
    struct site_transfer byte = site_transfer_make(2, 0, 1);

    contract_begin(contract, &blocks);
    contract_begin(contract, &blob);
    contract_begin(contract, &byte);
    send_all(contract, &blocks);
    send_all(contract, &blob);
    send_all(contract, &byte);
    contract_assert_landed(contract, &blocks);
    contract_assert_landed(contract, &blob);
    contract_assert_landed(contract, &byte);
}

/* The attachment that comes behind all blocks makes a chunk of its own. */
static void an_attachment_may_come_last_and_alone(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 4, BLOB);

    contract_begin(contract, &transfer);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 0, 3);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 3, 1);
    contract_assert_landed(contract, &transfer);
}

static void many_transfers_go_both_ways_at_once(void **state)
{
    struct contract *contract = *state;
    struct site_transfer there[8];
    struct site_transfer back[8];

    for (uint32_t i = 0; i < 8; i++) {
        there[i] = site_transfer_make(8 * i, 20 + i, i % 2 == 0 ? BLOB : 0);
        back[i] = site_transfer_make(8 * i + 4, 20 + i, i % 2 == 0 ? 0 : BLOB);
        contract_begin(contract, &there[i]);
        site_fill(contract->receiver, &back[i]);
        site_expect(contract->sender, &back[i], CONTRACT_RECEIVER);
        site_offer(contract->receiver, &back[i], CONTRACT_SENDER);
    }
    for (uint32_t i = 0; i < 8; i++) {
        send_all(contract, &there[i]);
        site_send(contract->receiver, &back[i], CONTRACT_SENDER, 0, back[i].block_count);
    }
    for (uint32_t i = 0; i < 8; i++) {
        struct site_event in = site_wait_end(contract->sender, &back[i], false);

        contract_assert_landed(contract, &there[i]);
        assert_int_equal(in.kind, KVT_LANDED);
        assert_true(in.is_right);
        assert_drained(contract->receiver, &back[i], TD_OK);
    }
}

/* ------------------------------------------------------------------------------- what is refused */

static void a_header_under_another_key_is_refused(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);
    struct site_transfer other = transfer;

    other.mac_key[5] ^= 1;
    site_fill(contract->sender, &transfer);
    site_expect(contract->receiver, &other, CONTRACT_SENDER);
    site_offer(contract->sender, &transfer, CONTRACT_RECEIVER);
    send_all(contract, &transfer);
    assert_drained(contract->sender, &transfer, TD_REFUSED);
    assert_true(site_stat(contract->receiver, KVT_STAT_REFUSED_FORGED) > 0);
    assert_int_equal(site_count(contract->receiver, KVT_ARRIVING, &transfer, false), 0);
    site_abandon(contract->receiver, &transfer);
    assert_quiesced(contract->receiver, &transfer, TD_CANCELED);
}

/* The sender believes in another incarnation of the receiver than the one that listens there. */
static void a_chunk_for_another_epoch_is_refused(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);
    size_t length;
    const uint8_t *address = site_address(contract->receiver, &length);

    site_peer_add_at(contract->sender, CONTRACT_RECEIVER - 1, address, length);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER - 1).kind, KVT_PEER_UP);
    site_fill(contract->sender, &transfer);
    site_expect(contract->receiver, &transfer, CONTRACT_SENDER);
    site_offer(contract->sender, &transfer, CONTRACT_RECEIVER - 1);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER - 1, 0, BLOCKS);
    assert_drained(contract->sender, &transfer, TD_REFUSED);
    assert_true(site_stat(contract->receiver, KVT_STAT_REFUSED_STALE) > 0);
    site_abandon(contract->receiver, &transfer);
    assert_quiesced(contract->receiver, &transfer, TD_CANCELED);
}

static void a_chunk_that_nobody_expects_is_refused(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    site_fill(contract->sender, &transfer);
    site_offer(contract->sender, &transfer, CONTRACT_RECEIVER);
    send_all(contract, &transfer);
    assert_drained(contract->sender, &transfer, TD_REFUSED);
    assert_true(site_stat(contract->receiver, KVT_STAT_REFUSED_UNKNOWN) > 0);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_BYTES_RECEIVED), 0);
}

static void a_block_that_was_damaged_is_found_and_refused(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);
    struct site_transfer next = site_transfer_make(4, BLOCKS, BLOB);

    contract_begin(contract, &transfer);
    site_damage(contract->sender, &transfer, BLOCKS - 2);
    send_all(contract, &transfer);
    assert_quiesced(contract->receiver, &transfer, TD_CORRUPT);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_CORRUPT), 1);
    site_wait_end(contract->sender, &transfer, true);
    contract_begin(contract, &next); /* the connection goes on */
    send_all(contract, &next);
    contract_assert_landed(contract, &next);
}

/* -------------------------------------------------------------------------------- in the middle */

/* Half of the transfer is sent, and has begun to arrive. */
static void send_half(struct contract *contract, const struct site_transfer *transfer)
{
    contract_begin(contract, transfer);
    site_send(contract->sender, transfer, CONTRACT_RECEIVER, 0, transfer->block_count / 2);
    site_wait(contract->receiver, KVT_ARRIVING, transfer, false);
}

static void abandoned_in_the_middle_it_is_quiet_and_the_sender_learns_it(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);
    struct site_transfer next = site_transfer_make(4, BLOCKS, BLOB);

    send_half(contract, &transfer);
    site_abandon(contract->receiver, &transfer);
    assert_quiesced(contract->receiver, &transfer, TD_CANCELED);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, BLOCKS / 2, BLOCKS - BLOCKS / 2);
    assert_drained(contract->sender, &transfer, TD_REFUSED);
    assert_true(site_canary_is_intact(contract->receiver, &transfer));
    contract_begin(contract, &next);
    send_all(contract, &next);
    contract_assert_landed(contract, &next);
}

static void stopped_in_the_middle_it_drains_and_the_receiver_may_wait(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    send_half(contract, &transfer);
    site_stop(contract->sender, &transfer, CONTRACT_RECEIVER);
    assert_drained(contract->sender, &transfer, TD_CANCELED);
    assert_int_equal(site_count(contract->receiver, KVT_FAILED, &transfer, false), 0);
    site_abandon(contract->receiver, &transfer);
    assert_quiesced(contract->receiver, &transfer, TD_CANCELED);
}

/* Everything is on its way when both owners change their minds: whatever wins, it ends once. */
static void stopped_and_abandoned_at_full_speed_it_ends_once(void **state)
{
    struct contract *contract = *state;

    for (uint32_t i = 0; i < 12; i++) {
        struct site_transfer transfer = site_transfer_make(i, 60, BLOB);
        struct site_event in;

        contract_begin(contract, &transfer);
        send_all(contract, &transfer);
        if (i % 3 > 0)
            site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
        if (i % 2 == 0)
            site_abandon(contract->receiver, &transfer);
        else
            site_stop(contract->sender, &transfer, CONTRACT_RECEIVER);
        assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_DRAINED);
        site_abandon(contract->receiver, &transfer);
        in = site_wait_end(contract->receiver, &transfer, false);
        assert_true(in.kind == KVT_QUIESCED || (in.kind == KVT_LANDED && in.is_right));
        assert_true(site_canary_is_intact(contract->receiver, &transfer));
    }
}

static void waiting_for_what_never_comes_ends_at_the_deadline(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    transfer.lifetime_ms = 50;
    site_expect(contract->receiver, &transfer, CONTRACT_SENDER);
    site_offer(contract->sender, &transfer, CONTRACT_RECEIVER);
    assert_quiesced(contract->receiver, &transfer, TD_TIMEOUT);
    assert_drained(contract->sender, &transfer, TD_TIMEOUT);
}

/* --------------------------------------------------------------------------------------- peers */

/* A chunk may be refused for its transfer, which has ended, before the end of the connection shows. */
static void assert_learned_of_the_end(struct site *sender, const struct site_transfer *transfer)
{
    struct site_event end = site_wait_end(sender, transfer, true);

    assert_int_equal(end.kind, KVT_DRAINED);
    assert_true(end.status == TD_PEER_LOST || end.status == TD_REFUSED);
}

static void a_dropped_peer_fails_its_transfers_and_can_be_added_again(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);
    struct site_transfer next = site_transfer_make(4, BLOCKS, BLOB);

    for (uint32_t i = 0; i < 3; i++) {
        transfer.id.lo = 1000 + i;
        next.id.lo = 2000 + i;
        send_half(contract, &transfer);
        site_peer_drop(contract->receiver, CONTRACT_SENDER);
        assert_quiesced(contract->receiver, &transfer, TD_CANCELED);
        assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
        assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
        assert_learned_of_the_end(contract->sender, &transfer);
        contract_connect(contract);
        contract_begin(contract, &next);
        send_all(contract, &next);
        contract_assert_landed(contract, &next);
    }
}

static void sends_wait_until_the_peer_is_connected(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    site_peer_add(contract->sender, contract->receiver);
    site_peer_add(contract->receiver, contract->sender);
    contract_begin(contract, &transfer);
    send_all(contract, &transfer);
    contract_assert_landed(contract, &transfer);
}

/* Whatever is done to an address, it is a lost peer and nothing else. */
static void a_damaged_address_is_a_lost_peer(void **state)
{
    struct contract *contract = *state;
    uint8_t damaged[KVT_ADDRESS_BYTES_MAX];
    size_t length;
    const uint8_t *address = site_address(contract->receiver, &length);

    for (size_t i = 0; i < length; i++) {
        memcpy(damaged, address, length);
        damaged[i] ^= (uint8_t)(1u << (i % 8));
        site_peer_add_at(contract->sender, 1, damaged, length);
        assert_int_equal(site_wait_peer(contract->sender, 1).kind, KVT_PEER_LOST);
    }
    for (size_t i = 0; i < length; i++) {
        site_peer_add_at(contract->sender, 1, address, i);
        assert_int_equal(site_wait_peer(contract->sender, 1).kind, KVT_PEER_LOST);
    }
}

static void an_address_of_somebody_who_has_gone_is_a_lost_peer(void **state)
{
    struct contract *contract = *state;
    struct site_config config = site_config_default(site_kind(contract->sender), 77);
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
    size_t length;
    struct site *site = site_open(&config);
    const uint8_t *theirs = site_address(site, &length);

    memcpy(address, theirs, length);
    site_close(site);
    config.epoch = 78;
    config.connect_ms = 300; /* where nobody says that nobody is there */
    site = site_open(&config);
    site_peer_add_at(site, 77, address, length);
    assert_int_equal(site_wait_peer(site, 77).kind, KVT_PEER_LOST);
    site_close(site);
}

/* ------------------------------------------------------------------------------- death and frost */

static void a_sender_killed_before_it_sends_is_a_lost_peer(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    site_expect(contract->receiver, &transfer, CONTRACT_SENDER);
    site_kill(contract->sender);
    assert_quiesced(contract->receiver, &transfer, TD_PEER_LOST);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
}

static void a_sender_killed_in_the_middle_leaves_the_slots_quiet(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    send_half(contract, &transfer);
    site_kill(contract->sender);
    assert_quiesced(contract->receiver, &transfer, TD_PEER_LOST);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
}

/* All is on its way, in large chunks: the kill comes while bytes move. */
static void a_sender_killed_at_full_speed_leaves_the_slots_quiet(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 200, BLOB);
    struct site_event end;

    contract_begin(contract, &transfer);
    send_all(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_kill(contract->sender);
    end = site_wait_end(contract->receiver, &transfer, false);
    assert_true((end.kind == KVT_QUIESCED && end.status == TD_PEER_LOST) ||
                (end.kind == KVT_LANDED && end.is_right));
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    assert_true(site_canary_is_intact(contract->receiver, &transfer));
    site_wait_idle(contract->receiver, KVT_STAT_RECEIVING);
}

static void a_sender_killed_after_the_transfer_changes_nothing(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, BLOB);

    contract_begin(contract, &transfer);
    send_all(contract, &transfer);
    contract_assert_landed(contract, &transfer);
    site_kill(contract->sender);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    assert_int_equal(site_count(contract->receiver, KVT_LANDED, &transfer, false), 1);
    assert_true(site_canary_is_intact(contract->receiver, &transfer));
}

/*
 * A frozen process is not dead: nothing tells that it is not merely slow. The owner's patience ends the
 * transfer, the connection is cut, and what the process does when it is woken reaches nothing of ours.
 */
static void a_sender_frozen_at_full_speed_is_cut_off_and_stays_so(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 200, BLOB);
    struct site_event end;

    contract_begin(contract, &transfer);
    send_all(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_freeze(contract->sender);
    site_abandon(contract->receiver, &transfer);
    end = site_wait_end(contract->receiver, &transfer, false);
    assert_true(end.kind == KVT_QUIESCED || end.kind == KVT_QUARANTINED || end.is_right);
    site_thaw(contract->sender);
    site_wait_end(contract->sender, &transfer, true);
    if (end.kind != KVT_QUARANTINED)
        assert_true(site_canary_is_intact(contract->receiver, &transfer));
    site_wait_idle(contract->receiver, KVT_STAT_RECEIVING);
    site_wait_idle(contract->receiver, KVT_STAT_QUARANTINED);
}

static bool is_ucx_over_shared_memory(const struct site *site)
{
    return site_kind(site) == SITE_UCX_SHM || site_kind(site) == SITE_GPU_UCX;
}

static void a_receiver_killed_at_full_speed_frees_the_senders_blocks(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 200, BLOB);
    struct site_event end;

    contract_begin(contract, &transfer);
    send_all(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_kill(contract->receiver);
    end = site_wait_end(contract->sender, &transfer, true);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    /* UCX 1.13 over shared memory loses track of a send now and then: see docs/kvtransfer.md */
    if (end.kind == KVT_QUARANTINED && is_ucx_over_shared_memory(contract->sender))
        return;
    assert_int_equal(end.kind, KVT_DRAINED);
    site_wait_idle(contract->sender, KVT_STAT_SENDING);
}

/*
 * A receiver that reads by itself may read on when it is woken: until then its sender's blocks are in
 * quarantine. One that is sent to is cut off.
 */
static void a_receiver_frozen_at_full_speed_never_gets_blocks_that_are_used_again(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 200, BLOB);
    struct site_event in;

    contract_begin(contract, &transfer);
    send_all(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_freeze(contract->receiver);
    site_stop(contract->sender, &transfer, CONTRACT_RECEIVER);
    site_wait_end(contract->sender, &transfer, true); /* DRAINED spoils the blocks */
    site_thaw(contract->receiver);
    site_abandon(contract->receiver, &transfer);
    in = site_wait_end(contract->receiver, &transfer, false);
    assert_true(in.kind == KVT_QUIESCED || in.kind == KVT_QUARANTINED || in.is_right);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_CORRUPT), 0);
    if (is_ucx_over_shared_memory(contract->sender))
        return; /* see the test before */
    site_wait_idle(contract->sender, KVT_STAT_SENDING);
    site_wait_idle(contract->sender, KVT_STAT_QUARANTINED);
}

/* ------------------------------------------------------------------------------------------- main */

enum { HERE = 1, SENDER = 2, RECEIVER = 4, PLACES = 3 };

struct contract_test {
    const char *name;
    CMUnitTestFunction function;
    CMFixtureFunction setup;
    unsigned places;      /* who may live elsewhere */
    uint32_t chunk_bytes; /* 0: small ones */
    bool is_silent;       /* somebody is frozen */
};

#define CONNECTED(test, places)                       \
    {                                                 \
#test, test, contract_setup, places, 0, false \
    }
#define APART(test, places)                                 \
    {                                                       \
#test, test, contract_setup_apart, places, 0, false \
    }
#define LARGE(test, places)                                               \
    {                                                                     \
#test, test, contract_setup, places, 64 * SITE_BLOCK_BYTES, false \
    }
#define FROZEN(test, places)                                             \
    {                                                                    \
#test, test, contract_setup, places, 64 * SITE_BLOCK_BYTES, true \
    }

static const struct contract_test contract_tests[] = {
    CONNECTED(a_transfer_lands_whole_and_verified, HERE | SENDER | RECEIVER),
    CONNECTED(a_transfer_may_be_blocks_or_an_attachment_alone, HERE | SENDER),
    CONNECTED(an_attachment_may_come_last_and_alone, HERE | SENDER),
    CONNECTED(many_transfers_go_both_ways_at_once, HERE | SENDER),
    CONNECTED(a_header_under_another_key_is_refused, HERE | SENDER),
    CONNECTED(a_chunk_for_another_epoch_is_refused, HERE | SENDER),
    CONNECTED(a_chunk_that_nobody_expects_is_refused, HERE | SENDER),
    CONNECTED(a_block_that_was_damaged_is_found_and_refused, HERE | SENDER),
    CONNECTED(abandoned_in_the_middle_it_is_quiet_and_the_sender_learns_it, HERE | SENDER),
    CONNECTED(stopped_in_the_middle_it_drains_and_the_receiver_may_wait, HERE | SENDER),
    LARGE(stopped_and_abandoned_at_full_speed_it_ends_once, HERE | SENDER | RECEIVER),
    CONNECTED(waiting_for_what_never_comes_ends_at_the_deadline, HERE),
    CONNECTED(a_dropped_peer_fails_its_transfers_and_can_be_added_again, HERE | SENDER | RECEIVER),
    APART(sends_wait_until_the_peer_is_connected, HERE | SENDER | RECEIVER),
    APART(a_damaged_address_is_a_lost_peer, HERE),
    APART(an_address_of_somebody_who_has_gone_is_a_lost_peer, HERE),
    CONNECTED(a_sender_killed_before_it_sends_is_a_lost_peer, SENDER),
    CONNECTED(a_sender_killed_in_the_middle_leaves_the_slots_quiet, SENDER),
    LARGE(a_sender_killed_at_full_speed_leaves_the_slots_quiet, SENDER),
    CONNECTED(a_sender_killed_after_the_transfer_changes_nothing, SENDER),
    FROZEN(a_sender_frozen_at_full_speed_is_cut_off_and_stays_so, SENDER),
    LARGE(a_receiver_killed_at_full_speed_frees_the_senders_blocks, RECEIVER),
    FROZEN(a_receiver_frozen_at_full_speed_never_gets_blocks_that_are_used_again, RECEIVER),
};

#define CONTRACT_TESTS (sizeof contract_tests / sizeof contract_tests[0])

/* Descriptors that a library keeps for good are open before any test counts. */
static void warm_up(enum site_transport transport)
{
    struct site_config config = site_config_default(transport, 1);

    site_close(site_open(&config));
}

int contract_run(enum site_transport transport, const char *name)
{
    static const char *const where[PLACES] = {"one process", "sender elsewhere",
                                              "receiver elsewhere"};
    static struct contract_case cases[CONTRACT_TESTS * PLACES];
    static struct CMUnitTest tests[CONTRACT_TESTS * PLACES];
    static char names[CONTRACT_TESTS * PLACES][160];
    bool loses_sends = transport == SITE_UCX_SHM; /* and is silent about it, see above */
    size_t count = 0;

    for (unsigned place = 0; place < PLACES; place++) {
        for (size_t i = 0; i < CONTRACT_TESTS; i++) {
            const struct contract_test *test = &contract_tests[i];

            if ((test->places & 1u << place) == 0)
                continue;
            cases[count] = (struct contract_case){.transport = transport,
                                                  .sender_elsewhere = (1u << place) == SENDER,
                                                  .receiver_elsewhere = (1u << place) == RECEIVER,
                                                  .chunk_bytes = test->chunk_bytes,
                                                  .is_impatient = test->is_silent || loses_sends};
            snprintf(names[count], sizeof names[count], "%s (%s, %s)", test->name, name,
                     where[place]);
            tests[count] = (struct CMUnitTest){.name = names[count],
                                               .test_func = test->function,
                                               .setup_func = test->setup,
                                               .teardown_func = contract_teardown,
                                               .initial_state = &cases[count]};
            count++;
        }
    }
    warm_up(transport);
    return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}
