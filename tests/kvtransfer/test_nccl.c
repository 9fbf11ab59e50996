/*
 * test_nccl.c: KV from GPU to GPU by NCCL, or what passes for it (stub_nccl.h): the contract, and what happens when ranks
 * do not join, when NCCL fails or hangs in any state, and when an abort does not come back.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/kvtransfer/contract.h"
#include "tests/kvtransfer/gpu_pool.h"
#include "tests/kvtransfer/nccl_double.h"

#define BLOCKS 24

static void begin_and_send(struct contract *contract, const struct site_transfer *transfer)
{
    contract_begin(contract, transfer);
    site_send(contract->sender, transfer, CONTRACT_RECEIVER, 0, transfer->block_count);
}

/* Both have lost the other; then they find each other again, and KV moves. */
static void assert_lost_and_found(struct contract *contract)
{
    struct site_transfer next = site_transfer_make(8, BLOCKS, 100);

    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    contract_connect(contract);
    begin_and_send(contract, &next);
    contract_assert_landed(contract, &next);
}

/* --------------------------------------------------------------------------------------- what moves */

static void blocks_go_by_nccl_and_attachments_beside_it(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);
    size_t before = nccl_double()->received_bytes();

    assert_string_equal(contract->sender_up.lanes, "nccl");
    assert_string_equal(contract->receiver_up.lanes, "nccl");
    assert_int_equal(nccl_double()->communicators(), 4); /* two ranks for each direction */
    begin_and_send(contract, &transfer);
    contract_assert_landed(contract, &transfer);
    assert_int_equal(nccl_double()->received_bytes() - before, BLOCKS * SITE_BLOCK_BYTES);
    assert_int_equal(site_stat(contract->sender, KVT_STAT_BYTES_STAGED), 0);
}

/* The sender's rank has nothing to do before the receiver has accepted. */
static void what_is_refused_is_never_sent(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);
    size_t before = nccl_double()->received_bytes();

    site_fill(contract->sender, &transfer);
    site_offer(contract->sender, &transfer, CONTRACT_RECEIVER);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 0, BLOCKS);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).status, TD_REFUSED);
    assert_int_equal(nccl_double()->received_bytes(), before);
}

/* ------------------------------------------------------------------------------------------ joining */

static void a_rank_that_never_joins_is_a_lost_peer(void **state)
{
    struct contract *contract = *state;
    struct site_config config = site_config_default(SITE_GPU_NCCL, 77);
    struct site *site;
    size_t aborts;

    config.connect_ms = 100;
    site = site_open(&config);
    nccl_double()->hold_joins(true);
    site_peer_add(site, contract->receiver);
    assert_int_equal(site_wait_peer(site, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    aborts = nccl_double()->aborts(); /* first: one that ends in between counts once */
    nccl_double()->wait_for_aborts(aborts + nccl_double()->communicators());
    site_close(site);
    nccl_double()->hold_joins(false);
    contract_connect(contract);
}

/* The sender wants to connect, and cannot; the next time both can. */
static void assert_lost_once(struct contract *contract)
{
    site_peer_add(contract->sender, contract->receiver);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    contract_connect(contract);
}

static void an_id_that_cannot_be_made_is_a_lost_peer(void **state)
{
    nccl_double()->break_call("ncclGetUniqueId", 2, 0);
    assert_lost_once(*state);
}

static void a_senders_rank_that_cannot_be_made_is_a_lost_peer(void **state)
{
    nccl_double()->break_call("ncclCommInitRankConfig", 2, 0);
    assert_lost_once(*state);
}

static void a_receivers_rank_that_cannot_be_made_is_a_lost_peer(void **state)
{
    nccl_double()->break_call("ncclCommInitRankConfig", 2, 1);
    assert_lost_once(*state);
}

static void a_rank_that_fails_while_it_joins_is_a_lost_peer(void **state)
{
    nccl_double()->break_call("ncclCommGetAsyncError", 2, 0);
    assert_lost_once(*state);
}

static void a_stream_that_cannot_be_made_is_a_lost_peer(void **state)
{
    gpu_pool_double()->break_call("cuStreamCreate", 2, 0);
    assert_lost_once(*state);
}

/* ----------------------------------------------------------------------------------------- failing */

static void a_call_that_fails_ends_the_pair_and_both_transfers(void **state)
{
    static const char *const calls[] = {"ncclSend", "ncclRecv", "ncclGroupStart", "ncclGroupEnd"};
    struct contract *contract = *state;

    for (uint32_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct site_transfer transfer = site_transfer_make(2 * i, 8, 0);

        transfer.id.lo = 1000 + i;
        nccl_double()->break_call(calls[i], 5, 0);
        begin_and_send(contract, &transfer);
        site_wait_end(contract->receiver, &transfer, false);
        site_wait_end(contract->sender, &transfer, true);
        assert_int_equal(site_count(contract->receiver, KVT_QUIESCED, &transfer, false), 1);
        assert_int_equal(site_count(contract->sender, KVT_DRAINED, &transfer, true), 1);
        assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
        assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
        contract_connect(contract);
    }
}

static void a_mark_that_cannot_be_set_ends_the_pair(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 8, 0);

    gpu_pool_double()->break_call("cuEventRecord", 2, 0);
    begin_and_send(contract, &transfer);
    site_wait_end(contract->receiver, &transfer, false);
    site_wait_end(contract->sender, &transfer, true);
    assert_lost_and_found(contract);
}

/* Bytes stand still, and NCCL says in the background that it has failed. */
static void a_failure_in_the_background_ends_the_pair(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);

    nccl_double()->hold_bytes(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    nccl_double()->fail_all(6);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).kind, KVT_QUIESCED);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_DRAINED);
    nccl_double()->hold_bytes(false);
    assert_lost_and_found(contract);
}

/* ----------------------------------------------------------------------------------------- hanging */

/* A peer is dropped while bytes stand still: the abort frees both sides, with nothing in quarantine. */
static void what_hangs_is_aborted_and_then_the_blocks_are_free(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);

    nccl_double()->hold_bytes(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_peer_drop(contract->receiver, CONTRACT_SENDER);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).kind, KVT_QUIESCED);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_DRAINED);
    nccl_double()->hold_bytes(false);
    assert_true(site_canary_is_intact(contract->receiver, &transfer));
    assert_lost_and_found(contract);
}

/* Until the abort has come back nobody knows what NCCL does: the blocks are in quarantine. */
static void an_abort_that_hangs_keeps_blocks_in_quarantine(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);

    nccl_double()->hold_bytes(true);
    nccl_double()->hold_aborts(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_abandon(contract->receiver, &transfer);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).kind, KVT_QUARANTINED);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_QUARANTINED);
    assert_true(site_stat(contract->receiver, KVT_STAT_RECEIVING) > 0);
    assert_true(site_stat(contract->sender, KVT_STAT_SENDING) > 0);
    nccl_double()->hold_aborts(false);
    site_wait_idle(contract->receiver, KVT_STAT_RECEIVING);
    site_wait_idle(contract->sender, KVT_STAT_SENDING);
    site_wait_idle(contract->receiver, KVT_STAT_QUARANTINED);
    site_wait_idle(contract->sender, KVT_STAT_QUARANTINED);
    nccl_double()->hold_bytes(false);
    assert_lost_and_found(contract);
}

/* The abort has returned, but the stream stands still: what NCCL has queued may run yet. */
static void a_stream_that_stands_still_keeps_blocks_in_quarantine(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);
    size_t aborts = nccl_double()->aborts();

    gpu_pool_double()->hold(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_abandon(contract->receiver, &transfer);
    nccl_double()->wait_for_aborts(aborts + 4);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).kind, KVT_QUARANTINED);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_QUARANTINED);
    gpu_pool_double()->hold(false);
    site_wait_idle(contract->receiver, KVT_STAT_RECEIVING);
    site_wait_idle(contract->sender, KVT_STAT_SENDING);
    site_wait_idle(contract->receiver, KVT_STAT_QUARANTINED);
    site_wait_idle(contract->sender, KVT_STAT_QUARANTINED);
    assert_lost_and_found(contract);
}

/* A peer that dies while this side hangs in NCCL: its socket tells, NCCL does not. */
static void a_peer_killed_while_bytes_stand_still_is_found_out(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, BLOCKS, 100);

    nccl_double()->hold_bytes(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_kill(contract->sender);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).kind, KVT_QUIESCED);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    nccl_double()->hold_bytes(false);
    site_wait_idle(contract->receiver, KVT_STAT_RECEIVING);
}

/* After an error that stays neither NCCL nor the driver says anything: the failure is found by looking. */
static void a_gpu_that_has_failed_is_found_out_without_a_call_of_the_driver(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 8, 0);

    gpu_pool_double()->hold(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    gpu_pool_double()->break_call("copy engine", 719, 0);
    gpu_pool_double()->hold(false);
    site_wait_end(contract->receiver, &transfer, false);
    assert_int_equal(site_count(contract->receiver, KVT_LANDED, &transfer, false), 0);
    site_wait_end(contract->sender, &transfer, true);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
}

/* What a broken GPU holds cannot be given back: descriptors are not counted. */
static int teardown_of_ruins(void **state)
{
    struct contract *contract = *state;

    site_close(contract->sender);
    site_close(contract->receiver);
    gpu_pool_double()->heal();
    free(contract);
    return 0;
}

#define CASE(test, test_case) \
    cmocka_unit_test_prestate_setup_teardown(test, contract_setup, contract_teardown, test_case)
#define APART(test, test_case)                                                              \
    cmocka_unit_test_prestate_setup_teardown(test, contract_setup_apart, contract_teardown, \
                                             test_case)

int main(int argc, char **argv)
{
    static struct contract_case here = {.transport = SITE_GPU_NCCL};
    static struct contract_case apart = {.transport = SITE_GPU_NCCL, .sender_elsewhere = true};
    static struct contract_case impatient = {.transport = SITE_GPU_NCCL, .is_impatient = true};
    const struct CMUnitTest tests[] = {
        CASE(blocks_go_by_nccl_and_attachments_beside_it, &here),
        CASE(what_is_refused_is_never_sent, &here),
        APART(a_rank_that_never_joins_is_a_lost_peer, &here),
        APART(an_id_that_cannot_be_made_is_a_lost_peer, &here),
        APART(a_senders_rank_that_cannot_be_made_is_a_lost_peer, &here),
        APART(a_receivers_rank_that_cannot_be_made_is_a_lost_peer, &here),
        APART(a_rank_that_fails_while_it_joins_is_a_lost_peer, &here),
        APART(a_stream_that_cannot_be_made_is_a_lost_peer, &here),
        CASE(a_call_that_fails_ends_the_pair_and_both_transfers, &here),
        CASE(a_mark_that_cannot_be_set_ends_the_pair, &here),
        CASE(a_failure_in_the_background_ends_the_pair, &here),
        CASE(what_hangs_is_aborted_and_then_the_blocks_are_free, &here),
        CASE(an_abort_that_hangs_keeps_blocks_in_quarantine, &impatient),
        CASE(a_stream_that_stands_still_keeps_blocks_in_quarantine, &impatient),
        CASE(a_peer_killed_while_bytes_stand_still_is_found_out, &apart),
    };
    const struct CMUnitTest last[] = {
        cmocka_unit_test_prestate_setup_teardown(
            a_gpu_that_has_failed_is_found_out_without_a_call_of_the_driver, contract_setup,
            teardown_of_ruins, &here),
    };

    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return cmocka_run_group_tests(tests, NULL, NULL) + contract_run(SITE_GPU_NCCL, "nccl") +
           cmocka_run_group_tests(last, NULL, NULL);
}
