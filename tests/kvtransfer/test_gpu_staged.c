/* test_gpu_staged.c: a GPU's KV through the host's memory keeps the contract, is counted, and survives a GPU that fails. */
#include <string.h>

#include "kvtransfer/staged.h"
#include "tests/kvtransfer/contract.h"
#include "tests/kvtransfer/gpu_pool.h"

static void begin_and_send(struct contract *contract, const struct site_transfer *transfer)
{
    contract_begin(contract, transfer);
    site_send(contract->sender, transfer, CONTRACT_RECEIVER, 0, transfer->block_count);
}

static void the_way_through_the_host_is_named_and_counted(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 24, 100);

    assert_string_equal(contract->sender_up.lanes, "through the host (map)");
    assert_string_equal(contract->receiver_up.lanes, "through the host (map)");
    begin_and_send(contract, &transfer);
    contract_assert_landed(contract, &transfer);
    assert_int_equal(site_stat(contract->sender, KVT_STAT_BYTES_STAGED),
                     24 * SITE_BLOCK_BYTES + 100);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_BYTES_STAGED),
                     24 * SITE_BLOCK_BYTES + 100);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_BYTES_HASHED_ON_HOST),
                     24 * SITE_BLOCK_BYTES);
}

static void the_way_by_ucx_is_named_too(void **state)
{
    struct contract *contract = *state;

    assert_string_equal(contract->sender_up.lanes, "through the host (ucx (tcp))");
}

/* Copies stand still while both owners change their minds: nothing ends before its copy. */
static void what_is_being_copied_is_waited_for(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 24, 100);

    gpu_pool_double()->hold(true);
    begin_and_send(contract, &transfer);
    site_stop(contract->sender, &transfer, CONTRACT_RECEIVER);
    site_abandon(contract->receiver, &transfer);
    assert_int_equal(site_wait_end(contract->receiver, &transfer, false).kind, KVT_QUIESCED);
    /* the connection is cut, and still the copies read the pool: given up for now */
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).kind, KVT_QUARANTINED);
    assert_true(site_stat(contract->sender, KVT_STAT_SENDING) > 0);
    gpu_pool_double()->hold(false);
    site_wait_idle(contract->sender, KVT_STAT_SENDING);
    site_wait_idle(contract->sender, KVT_STAT_QUARANTINED);
}

/* More than fits into pinned memory is on the way: it takes turns. */
static void sends_wait_for_pinned_memory(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfers[16];

    for (uint32_t i = 0; i < 16; i++) {
        transfers[i] = site_transfer_make(2 * i, 16, 0);
        begin_and_send(contract, &transfers[i]);
    }
    for (uint32_t i = 0; i < 16; i++)
        contract_assert_landed(contract, &transfers[i]);
}

#define FROZEN \
    4 /* peers: with what may be on the way to each, they would have all the pinned memory */

static struct site *open_reader(struct site *sender, uint64_t epoch)
{
    struct site_config config = site_config_default(SITE_GPU_MAPHOST, epoch);
    struct site *site;

    config.is_elsewhere = true;
    site = site_open(&config);
    site_peer_add(sender, site);
    site_peer_add(site, sender);
    assert_int_equal(site_wait_peer(sender, epoch).kind, KVT_PEER_UP);
    assert_int_equal(site_wait_peer(site, CONTRACT_SENDER).kind, KVT_PEER_UP);
    return site;
}

static void offer_and_send(struct site *sender, const struct site_transfer *transfer,
                           const struct site *reader)
{
    site_fill(sender, transfer);
    site_offer(sender, transfer, site_epoch(reader));
    site_send(sender, transfer, site_epoch(reader), 0, transfer->block_count);
}

static void frozen_peers_leave_pinned_memory_to_others(void **state)
{
    struct site_config config = site_config_default(SITE_GPU_MAPHOST, CONTRACT_SENDER);
    struct site *frozen[FROZEN];
    struct site *sender;
    struct site *reader;
    struct site_transfer transfers[FROZEN];
    struct site_transfer transfer = site_transfer_make(2 * FROZEN, 12, 0);

    (void)state;
    config.stop_ms = config.cut_ms = 20000; /* nobody is given up */
    sender = site_open(&config);
    reader = open_reader(sender, CONTRACT_RECEIVER);
    for (uint32_t i = 0; i < FROZEN; i++) {
        frozen[i] = open_reader(sender, CONTRACT_RECEIVER + 1 + i);
        site_freeze(frozen[i]);
        transfers[i] = site_transfer_make(2 * i, 12, 0);
        offer_and_send(sender, &transfers[i], frozen[i]);
    }
    site_expect(reader, &transfer, CONTRACT_SENDER);
    offer_and_send(sender, &transfer, reader);
    assert_int_equal(site_wait_end(reader, &transfer, false).kind, KVT_LANDED);
    assert_int_equal(site_wait_end(sender, &transfer, true).kind, KVT_DRAINED);
    for (uint32_t i = 0; i < FROZEN; i++) {
        assert_int_equal(site_count(sender, KVT_DRAINED, &transfers[i], true), 0);
        site_kill(frozen[i]);
        assert_int_equal(site_wait_end(sender, &transfers[i], true).kind, KVT_DRAINED);
        site_close(frozen[i]);
    }
    site_close(sender);
    site_close(reader);
}

static void a_copy_that_cannot_be_queued_fails_its_transfer(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 8, 0);
    struct site_transfer next = site_transfer_make(2, 8, 0);

    gpu_pool_double()->break_call("cuMemcpyAsync", 1, 2);
    begin_and_send(contract, &transfer);
    assert_int_equal(site_wait_end(contract->sender, &transfer, true).status, TD_INTERNAL);
    site_abandon(contract->receiver, &transfer);
    site_wait_end(contract->receiver, &transfer, false);
    begin_and_send(contract, &next);
    contract_assert_landed(contract, &next);
}

static void staging_that_cannot_be_pinned_is_slow_and_works(void **state)
{
    struct kvt_memory memory;
    struct kvt_staged_config config;
    struct kvt_transport *transport;
    struct td_error error = {0};

    (void)state;
    gpu_pool_open(1 << 20, &memory);
    config = (struct kvt_staged_config){.memory = memory, .chunk_bytes = 65536};
    gpu_pool_double()->break_call("cuMemHostRegister_v2", 2, 0);
    assert_int_equal(kvt_staged_open(&config, &transport, &error), TD_OK);
    transport->ops->close(transport);
    gpu_pool_double()->break_call("cuStreamCreate", 2, 0);
    assert_int_equal(kvt_staged_open(&config, &transport, &error), TD_NO_MEMORY);
    assert_non_null(strstr(error.text, "cuStreamCreate"));
    config.memory.device = NULL;
    assert_int_equal(kvt_staged_open(&config, &transport, &error), TD_INVALID);
    gpu_pool_close(&memory);
}

/* What it was copying is given back with its marks: nobody has looked at them. */
static void closing_gives_back_what_is_being_copied(void **state)
{
    struct kvt_memory memory;
    struct kvt_staged_config config;
    struct kvt_transport *transport;
    struct kvt_endpoint peer = {0}; /* of no connection: it is needed only when the copy is there */
    struct kvt_piece piece;
    struct td_error error = {0};

    (void)state;
    gpu_pool_open(1 << 20, &memory);
    config = (struct kvt_staged_config){.memory = memory, .chunk_bytes = 65536};
    piece = (struct kvt_piece){memory.base, 65536};
    assert_int_equal(kvt_staged_open(&config, &transport, &error), TD_OK);
    assert_int_equal(
        transport->ops->send(transport, &peer, (const uint8_t *)"header", 6, &piece, 1, NULL),
        TD_OK);
    assert_int_equal(memory.device->mark_count, 1);
    transport->ops->close(transport);
    assert_int_equal(memory.device->mark_count, 0);
    gpu_pool_close(&memory);
}

static void a_pool_that_is_not_a_gpus_is_refused(void **state)
{
    static uint8_t ordinary[4096];
    struct kvt_cuda_config config = {.pool = ordinary, .pool_bytes = sizeof ordinary};
    struct kvt_device *device;
    struct td_error error = {0};
    uint8_t *pool = gpu_pool_take(1 << 16);

    (void)state;
    assert_int_equal(kvt_cuda_open(&config, &device, &error), TD_INVALID);
    config.pool = pool + 4096; /* not the beginning */
    assert_int_equal(kvt_cuda_open(&config, &device, &error), TD_INVALID);
    config.pool = pool;
    config.pool_bytes = (1 << 16) + 1; /* not all of it */
    assert_int_equal(kvt_cuda_open(&config, &device, &error), TD_INVALID);
    config.pool_bytes = 1 << 16;
    gpu_pool_double()->break_call("cuDevicePrimaryCtxRetain", 2, 0);
    assert_int_equal(kvt_cuda_open(&config, &device, &error), TD_NO_MEMORY);
    assert_int_equal(kvt_cuda_open(&config, &device, &error), TD_OK);
    kvt_device_close(device);
    gpu_pool_give(pool);
}

#define CASE(test, test_case) \
    cmocka_unit_test_prestate_setup_teardown(test, contract_setup, contract_teardown, test_case)

int main(int argc, char **argv)
{
    static struct contract_case map = {.transport = SITE_GPU_MAPHOST};
    static struct contract_case apart = {.transport = SITE_GPU_MAPHOST, .receiver_elsewhere = true};
    static struct contract_case held = {
        .transport = SITE_GPU_MAPHOST, .receiver_elsewhere = true, .is_impatient = true};
    static struct contract_case ucx = {.transport = SITE_GPU_UCXHOST, .sender_elsewhere = true};
    const struct CMUnitTest tests[] = {
        CASE(the_way_through_the_host_is_named_and_counted, &map),
        CASE(the_way_by_ucx_is_named_too, &ucx),
        CASE(what_is_being_copied_is_waited_for, &held),
        CASE(sends_wait_for_pinned_memory, &map),
        cmocka_unit_test(frozen_peers_leave_pinned_memory_to_others),
        CASE(a_copy_that_cannot_be_queued_fails_its_transfer, &apart),
        cmocka_unit_test(staging_that_cannot_be_pinned_is_slow_and_works),
        cmocka_unit_test(closing_gives_back_what_is_being_copied),
        cmocka_unit_test(a_pool_that_is_not_a_gpus_is_refused),
    };

    if (kvt_ucx_prepare_process() != TD_OK)
        return 2;
    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return cmocka_run_group_tests(tests, NULL, NULL) + contract_run(SITE_GPU_MAPHOST, "map host") +
           contract_run(SITE_GPU_UCXHOST, "ucx host");
}
