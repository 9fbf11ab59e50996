/*
 * test_gpu_map.c: pools of GPUs, opened from process to process by CUDA's handles: the contract, and what happens when
 * a peer dies while it is copied from, when GPUs do not reach each other, and when a GPU fails.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvtransfer/map.h"
#include "tests/kvtransfer/contract.h"
#include "tests/kvtransfer/gpu_pool.h"

static void begin_and_send(struct contract *contract, const struct site_transfer *transfer)
{
    contract_begin(contract, transfer);
    site_send(contract->sender, transfer, CONTRACT_RECEIVER, 0, transfer->block_count);
}

static void nothing_goes_through_the_host(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 24, 100);

    assert_string_equal(contract->sender_up.lanes, "map (cuda ipc)");
    assert_string_equal(contract->receiver_up.lanes, "map (cuda ipc)");
    begin_and_send(contract, &transfer);
    contract_assert_landed(contract, &transfer);
    assert_int_equal(site_stat(contract->sender, KVT_STAT_BYTES_STAGED), 0);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_BYTES_STAGED), 0);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_BYTES_HASHED_ON_HOST),
                     24 * SITE_BLOCK_BYTES);
}

/* The GPU is still at it: the slots are nobody's until it has ended, and the mapping stays. */
static void a_sender_killed_while_its_pool_is_copied_is_waited_for(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 24, 100);
    struct site_event end;

    gpu_pool_double()->hold(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_kill(contract->sender);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    end = site_wait_end(contract->receiver, &transfer, false);
    assert_int_equal(end.kind, KVT_QUARANTINED); /* 600 ms have not been enough */
    assert_true(site_stat(contract->receiver, KVT_STAT_RECEIVING) > 0);
    assert_int_equal(gpu_pool_double()->open_handles(), 1);
    gpu_pool_double()->hold(false);
    site_wait_idle(contract->receiver, KVT_STAT_RECEIVING);
    site_wait_idle(contract->receiver, KVT_STAT_QUARANTINED);
    while (gpu_pool_double()->open_handles() > 0)
        ;
}

/* The sender learns only when the copy has ended that its blocks are free. */
static void a_receiver_that_is_cut_off_keeps_the_senders_blocks_until_its_copy_ends(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 24, 100);

    gpu_pool_double()->hold(true);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_peer_drop(contract->receiver, CONTRACT_SENDER);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    site_wait(contract->receiver, KVT_FAILED, &transfer, false);
    site_stop(contract->sender, &transfer, CONTRACT_RECEIVER);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_QUARANTINED);
    gpu_pool_double()->hold(false);
    site_wait_end(contract->receiver, &transfer, false);
    site_wait_idle(contract->sender, KVT_STAT_QUARANTINED);
    site_wait_idle(contract->sender, KVT_STAT_SENDING);
}

/* The end of the connection is what tells an owner that its pool may be freed. */
static void a_peer_learns_of_the_end_only_when_its_pool_is_closed(void **state)
{
    struct contract *contract = *state;

    gpu_pool_double()->hold_closes(true);
    site_peer_drop(contract->receiver, CONTRACT_SENDER);
    while (gpu_pool_double()->waiting_closes() == 0)
        ;
    assert_true(
        site_is_turning(contract->receiver)); /* for as long as the driver does not answer */
    for (int i = 0; i < 100; i++)
        assert_int_equal(site_stat(contract->sender, KVT_STAT_PEERS), 1);
    gpu_pool_double()->hold_closes(false);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    assert_int_equal(gpu_pool_double()->open_handles(), 0);
    while (site_is_turning(contract->receiver))
        ;
}

static void *close_site(void *argument)
{
    site_close(argument);
    return NULL;
}

/* The double refuses to free what a peer has open: then closing the site fails the test. */
static void a_pool_that_a_frozen_peer_has_open_is_not_freed(void **state)
{
    struct contract *contract = *state;
    pthread_t closing;

    site_freeze(contract->receiver);
    assert_int_equal(pthread_create(&closing, NULL, close_site, contract->sender), 0);
    usleep(50000); /* long enough to free it, for who does not wait */
    site_thaw(contract->receiver);
    pthread_join(closing, NULL);
    site_close(contract->receiver);
    assert_int_equal(site_descriptors(), contract->descriptors);
    free(contract);
}

/* The mapping is refused, and so is the connection: never another way behind the owner's back. */
static void a_pool_that_cannot_be_opened_is_a_lost_peer(void **state)
{
    struct contract *contract = *state;

    gpu_pool_double()->break_call("cuIpcOpenMemHandle_v2", 1, 0);
    site_peer_add(contract->sender, contract->receiver);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    assert_int_equal(gpu_pool_double()->open_handles(), 0);
    contract_connect(contract); /* the next time it works */
}

static void a_copy_that_cannot_be_queued_refuses_its_chunk(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 8, 0);
    struct site_transfer next = site_transfer_make(2, 8, 0);

    gpu_pool_double()->break_call("cuMemcpyAsync", 1, 1);
    begin_and_send(contract, &transfer);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).status, TD_INTERNAL);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).status, TD_REFUSED);
    begin_and_send(contract, &next);
    contract_assert_landed(contract, &next);
}

/* ------------------------------------------------------------------------- which GPUs reach which */

static struct td_u128 reach_of(int gpu, bool can_access_others)
{
    struct kvt_memory memory;
    struct td_u128 reach;
    struct td_error error = {0};

    gpu_pool_double()->use_gpu(gpu, can_access_others);
    gpu_pool_open(1 << 16, &memory);
    assert_int_equal(kvt_memory_reach(&memory, &reach, &error), TD_OK);
    gpu_pool_close(&memory);
    gpu_pool_double()->use_gpu(0, true);
    return reach;
}

static void gpus_that_access_each_other_say_so_when_they_pair(void **state)
{
    struct kvt_memory ordinary = {.fd = -1};
    struct td_u128 host;

    (void)state;
    assert_int_equal(kvt_memory_reach(&ordinary, &host, NULL), TD_OK);
    assert_true(td_u128_equal(reach_of(0, true), reach_of(1, true)));
    assert_true(td_u128_equal(reach_of(0, false), reach_of(0, false)));
    assert_false(td_u128_equal(reach_of(0, false), reach_of(1, false)));
    assert_false(td_u128_equal(reach_of(0, true), reach_of(0, false)));
    assert_false(td_u128_equal(reach_of(0, true), host));
}

/* A share of this process with another's token: it is opened by its handle, of which the GPU is looked at first. */
static td_status_t open_from(const struct kvt_memory *memory, const uint8_t *share, uint64_t bytes,
                             struct td_error *error)
{
    struct kvt_mapping *mapping = NULL;
    td_status_t status = memory->device->ops->open(memory->device, share, bytes, &mapping, error);

    assert_int_equal(mapping != NULL, status == TD_OK);
    if (mapping != NULL)
        memory->device->ops->unmap(memory->device, mapping);
    return status;
}

#define SHARE_BASE \
    20 /* where the address is in a share, least byte first: after magic and process */
#define SHARE_BYTES 28

static void a_share_is_checked_before_it_is_opened(void **state)
{
    const uint64_t bytes = 1 << 16;
    struct kvt_memory here;
    struct kvt_memory other;
    uint8_t share[KVT_SHARE_BYTES];
    struct td_error error = {0};

    (void)state;
    gpu_pool_open(bytes, &here);
    gpu_pool_double()->use_gpu(1, false);
    gpu_pool_open(bytes, &other);
    assert_int_equal(other.device->ops->share(other.device, share, &error), TD_OK);
    assert_int_equal(open_from(&here, share, bytes, &error), TD_OK); /* of our own process */
    assert_int_equal(open_from(&here, share, bytes + 1, &error), TD_INVALID);
    assert_int_equal(open_from(&here, share, 0, &error), TD_INVALID);
    share[SHARE_BASE] ^= 1; /* its end is past the allocation's */
    assert_int_equal(open_from(&here, share, bytes, &error), TD_INVALID);
    share[SHARE_BASE] ^= 1;
    share[SHARE_BASE + 7] ^= 0x80; /* where nothing is */
    assert_int_equal(open_from(&here, share, bytes, &error), TD_INVALID);
    share[SHARE_BASE + 7] ^= 0x80;
    share[SHARE_BYTES + 6] ^= 0x10; /* more bytes than there are */
    assert_int_equal(open_from(&here, share, bytes + ((uint64_t)0x10 << 48), &error), TD_INVALID);
    share[SHARE_BYTES + 6] ^= 0x10;
    share[4] ^= 1; /* of another process now */
    assert_int_equal(open_from(&here, share, bytes, &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "cannot read directly"));
    gpu_pool_double()->use_gpu(0, true);
    assert_int_equal(open_from(&here, share, bytes, &error), TD_INTERNAL); /* the handle is ours */
    assert_non_null(strstr(error.text, "cuIpcOpenMemHandle"));
    share[36] ^= 1; /* of a GPU that is not here */
    assert_int_equal(open_from(&here, share, bytes, &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "CUDA_VISIBLE_DEVICES"));
    share[0] ^= 1;
    assert_int_equal(open_from(&here, share, bytes, &error), TD_INVALID);
    gpu_pool_close(&other);
    gpu_pool_close(&here);
}

static void blocks_are_hashed_where_memory_cannot_be_pinned(void **state)
{
    const size_t bytes = 1 << 12;
    struct kvt_memory memory;
    struct td_u128 hashes[2];
    uint8_t block[1 << 12];

    (void)state;
    gpu_pool_open(2 * bytes, &memory);
    for (size_t i = 0; i < bytes; i++)
        block[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < 2; i++)
        gpu_pool_write((uint8_t *)memory.base + i * bytes, block, bytes);
    gpu_pool_double()->break_call("cuMemHostRegister_v2", 801, 0);
    assert_int_equal(
        memory.device->ops->hash(memory.device,
                                 (const void *const[]){memory.base, (uint8_t *)memory.base + bytes},
                                 2, bytes, hashes),
        TD_OK);
    for (size_t i = 0; i < 2; i++)
        assert_true(td_u128_equal(hashes[i], td_hash128(block, bytes)));
    gpu_pool_close(&memory);
}

static void a_pool_that_cannot_be_shared_is_refused_at_opening(void **state)
{
    struct kvt_memory memory;
    struct kvt_transport *transport;
    struct td_error error = {0};

    (void)state;
    gpu_pool_open(1 << 16, &memory);
    gpu_pool_double()->break_call("cuIpcGetMemHandle", 801, 0);
    assert_int_equal(kvt_map_open(&memory, 0, &transport, &error), TD_INTERNAL);
    assert_non_null(strstr(error.text, "cuIpcGetMemHandle"));
    gpu_pool_double()->break_call("cuStreamCreate", 2, 0);
    assert_int_equal(kvt_map_open(&memory, 0, &transport, &error), TD_NO_MEMORY);
    gpu_pool_close(&memory);
}

/* After an error that stays the driver calls nobody: the failure is found by looking. */
static void a_gpu_that_has_failed_is_found_out_without_a_call_of_the_driver(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 8, 0);

    gpu_pool_double()->hold(true);
    begin_and_send(contract, &transfer);
    while (site_stat(contract->receiver, KVT_STAT_RECEIVING) < 2 ||
           site_is_turning(contract->receiver))
        ; /* until all copies and their marks are queued */
    gpu_pool_double()->break_call("copy engine", 719, 3);
    gpu_pool_double()->hold(false);
    site_wait_end(contract->receiver, &transfer, false);
    assert_int_equal(site_count(contract->receiver, KVT_LANDED, &transfer, false), 0);
    site_wait_end(contract->sender, &transfer, true);
}

/* An error that stays: nothing lands any more, everything ends, and nothing hangs. */
static void a_gpu_that_has_failed_ends_everything(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 8, 0);
    struct site_event end;

    gpu_pool_double()->break_call("copy engine", 719, 3);
    begin_and_send(contract, &transfer);
    site_wait(contract->receiver, KVT_ARRIVING, &transfer, false);
    site_stop(contract->sender, &transfer, CONTRACT_RECEIVER);
    site_abandon(contract->receiver, &transfer);
    end = site_wait_end(contract->receiver, &transfer, false);
    assert_true(end.kind == KVT_QUIESCED || end.kind == KVT_QUARANTINED);
    site_wait_end(contract->sender, &transfer, true);
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

int main(int argc, char **argv)
{
    static struct contract_case apart = {.transport = SITE_GPU_MAP, .sender_elsewhere = true};
    static struct contract_case reader_apart = {.transport = SITE_GPU_MAP,
                                                .receiver_elsewhere = true};
    static struct contract_case held = {
        .transport = SITE_GPU_MAP, .sender_elsewhere = true, .is_impatient = true};
    const struct CMUnitTest tests[] = {
        CASE(nothing_goes_through_the_host, &apart),
        CASE(a_sender_killed_while_its_pool_is_copied_is_waited_for, &held),
        CASE(a_receiver_that_is_cut_off_keeps_the_senders_blocks_until_its_copy_ends, &held),
        CASE(a_peer_learns_of_the_end_only_when_its_pool_is_closed, &apart),
        cmocka_unit_test_prestate_setup_teardown(a_pool_that_a_frozen_peer_has_open_is_not_freed,
                                                 contract_setup, NULL, &reader_apart),
        cmocka_unit_test_prestate_setup_teardown(a_pool_that_cannot_be_opened_is_a_lost_peer,
                                                 contract_setup_apart, contract_teardown, &apart),
        CASE(a_copy_that_cannot_be_queued_refuses_its_chunk, &apart),
        cmocka_unit_test(gpus_that_access_each_other_say_so_when_they_pair),
        cmocka_unit_test(a_share_is_checked_before_it_is_opened),
        cmocka_unit_test(blocks_are_hashed_where_memory_cannot_be_pinned),
        cmocka_unit_test(a_pool_that_cannot_be_shared_is_refused_at_opening),
    };
    const struct CMUnitTest last[] = {
        cmocka_unit_test_prestate_setup_teardown(
            a_gpu_that_has_failed_is_found_out_without_a_call_of_the_driver, contract_setup,
            teardown_of_ruins, &apart),
        cmocka_unit_test_prestate_setup_teardown(a_gpu_that_has_failed_ends_everything,
                                                 contract_setup, teardown_of_ruins, &apart),
    };

    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return cmocka_run_group_tests(tests, NULL, NULL) + contract_run(SITE_GPU_MAP, "gpu map") +
           cmocka_run_group_tests(last, NULL, NULL);
}
