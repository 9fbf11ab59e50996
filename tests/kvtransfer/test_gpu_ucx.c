/* test_gpu_ucx.c: a GPU's KV by UCX, block by block: over a UCX that passes for one with CUDA (cuda_ucx.h). */
#include <string.h>

#include "kvtransfer/ucx_private.h"
#include "tests/kvtransfer/contract.h"
#include "tests/kvtransfer/cuda_ucx.h"
#include "tests/kvtransfer/gpu_pool.h"

#define DIRECT "am_send(rndv) from cuda memory length 65536 rendezvous zero-copy read from remote "

static void lanes_are_named_and_nothing_is_staged(void **state)
{
    struct contract *contract = *state;
    struct site_transfer transfer = site_transfer_make(0, 24, 100);
    size_t pool_parts = cuda_ucx()->pool_parts;
    size_t other_parts = cuda_ucx()->other_parts;

    assert_string_equal(contract->sender_up.lanes, "ucx (rc_mlx5,cuda_copy)");
    assert_string_equal(contract->receiver_up.lanes, "ucx (rc_mlx5,cuda_copy)");
    contract_begin(contract, &transfer);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 0, transfer.block_count);
    contract_assert_landed(contract, &transfer);
    assert_int_equal(cuda_ucx()->pool_parts - pool_parts, 2 * 24); /* sent and landed here */
    assert_int_equal(cuda_ucx()->other_parts - other_parts, 2);    /* the attachment */
    assert_int_equal(site_stat(contract->sender, KVT_STAT_BYTES_STAGED), 0);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_BYTES_STAGED), 0);
}

/* Both sides find it out by themselves, and leave it. */
static void a_way_through_the_host_is_refused_before_anything_travels(void **state)
{
    struct contract *contract = *state;
    const char *way = cuda_ucx()->way;

    cuda_ucx()->way = "am_send(rndv) from cuda memory length 65536 rendezvous fragmented copy-in "
                      "copy-out rc_mlx5/mlx5_0:1";
    site_peer_add(contract->sender, contract->receiver);
    site_peer_add(contract->receiver, contract->sender);
    contract->sender_up = site_wait_peer(contract->sender, CONTRACT_RECEIVER);
    contract->receiver_up = site_wait_peer(contract->receiver, CONTRACT_SENDER);
    assert_int_equal(contract->sender_up.kind, KVT_PEER_LOST);
    assert_int_equal(contract->receiver_up.kind, KVT_PEER_LOST);
    assert_true(contract->sender_up.status == TD_UNSUPPORTED ||
                contract->receiver_up.status == TD_UNSUPPORTED);
    cuda_ucx()->way = way;
}

/* One side is content and up before the other one has looked; it hears that it was left. */
static void who_gives_a_peer_up_says_so(void **state)
{
    struct contract *contract = *state;
    const char *way = cuda_ucx()->way;

    site_peer_add(contract->sender, contract->receiver);
    contract->sender_up = site_wait_peer(contract->sender, CONTRACT_RECEIVER);
    assert_int_equal(contract->sender_up.kind, KVT_PEER_UP);
    cuda_ucx()->way = DIRECT "tcp/eth0";
    site_peer_add(contract->receiver, contract->sender);
    contract->receiver_up = site_wait_peer(contract->receiver, CONTRACT_SENDER);
    assert_int_equal(contract->receiver_up.kind, KVT_PEER_LOST);
    assert_int_equal(contract->receiver_up.status, TD_UNSUPPORTED);
    contract->sender_up = site_wait_peer(contract->sender, CONTRACT_RECEIVER);
    assert_int_equal(contract->sender_up.kind, KVT_PEER_LOST);
    assert_int_equal(contract->sender_up.status, TD_PEER_LOST);
    cuda_ucx()->way = way;
}

static void ucxs_words_are_understood(void **state)
{
    static const struct {
        const char *text;
        bool is_direct;
    } cases[] = {
        {DIRECT "rc_mlx5/mlx5_0:1 11794.23 MB/s 3.10 us", true},
        {DIRECT "cuda_ipc/cuda", true},
        {DIRECT "50% on dc_mlx5/mlx5_0:1 and 50% on dc_mlx5/mlx5_1:1", true},
        {DIRECT "50% on rc_mlx5/mlx5_0:1 and 50% on tcp/eth0", false},
        {DIRECT "tcp/eth0", false},
        {DIRECT "", false},
        {"am_send(rndv) from host memory length 65536 rendezvous zero-copy read from remote "
         "rc_mlx5/mlx5_0:1",
         false},
        {"am_send(rndv) from cuda memory length 65536 rendezvous pipeline cuda_copy, read from "
         "remote, cuda_copy rc_mlx5/mlx5_0:1",
         false},
        {"am_send(rndv) from cuda memory length 65536 rendezvous zero-copy flushed write to remote "
         "cuda_ipc/cuda",
         false},
        /* as 1.22 says it of ordinary memory over TCP */
        {"{proto|cb|init|rk_use} am_send(rndv) from host memory length 1048576 rendezvous "
         "fragmented copy-in copy-out tcp/lo 12.0 MB/s 83430.34 us",
         false},
        {"flags:0x42048 send length 1048576 ucp_proto_progress_am_rndv_rts() comp:done()", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(ucx_text_is_direct(cases[i].text), cases[i].is_direct);
}

static void assert_refused(const struct kvt_memory *memory, const char *why)
{
    struct kvt_ucx_config config = kvt_ucx_config_default();
    struct kvt_transport *transport = NULL;
    struct td_error error = {0};

    assert_int_equal(kvt_ucx_open_direct(&config, memory, SITE_BLOCK_BYTES, &transport, &error),
                     TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, why));
    assert_null(transport);
}

static void a_ucx_that_cannot_is_refused_and_says_why(void **state)
{
    struct kvt_memory memory;

    (void)state;
    gpu_pool_open(4 * (size_t)SITE_BLOCK_BYTES, &memory);
    cuda_ucx()->minor = 19;
    assert_refused(&memory, "too old");
    cuda_ucx()->minor = 22;
    cuda_ucx()->knows_cuda = false;
    assert_refused(&memory, "without CUDA");
    cuda_ucx()->knows_cuda = true;
    cuda_ucx()->can_register = false;
    assert_refused(&memory, "register");
    cuda_ucx()->can_register = true;
    assert_int_equal(cuda_ucx()->registered, 0);
    gpu_pool_close(&memory);
}

static void on_wake(void *impl)
{
    (void)impl;
}

/* What is left then is the way through the host. */
static void a_runtime_goes_on_without_it(void **state)
{
    struct kvt_runtime_config config = {.epoch = 1,
                                        .block_bytes = SITE_BLOCK_BYTES,
                                        .limits = kvt_limits_default(),
                                        .use_ucx = true,
                                        .use_ucxhost = true,
                                        .ucx = kvt_ucx_config_default(),
                                        .ring_capacity = 16,
                                        .wake = on_wake};
    struct kvt_runtime *runtime = NULL;
    struct td_error error = {0};
    const uint8_t *address;
    size_t length;

    (void)state;
    gpu_pool_open(4 * (size_t)SITE_BLOCK_BYTES, &config.memory);
    config.limits.chunk_bytes = SITE_BLOCK_BYTES;
    config.limits.window_bytes = SITE_BLOCK_BYTES;
    cuda_ucx()->knows_cuda = false;
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_OK);
    assert_int_equal(kvt_runtime_address(runtime, "ucx", &address, &length), TD_NOT_FOUND);
    assert_int_equal(kvt_runtime_address(runtime, "ucxhost", &address, &length), TD_OK);
    assert_int_equal(kvt_runtime_close(runtime), 0);
    config.use_ucxhost = false; /* who asks for this alone is told */
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "without CUDA"));
    cuda_ucx()->knows_cuda = true;
    gpu_pool_close(&config.memory);
}

#define CASE(test, test_case) \
    cmocka_unit_test_prestate_setup_teardown(test, contract_setup, contract_teardown, test_case)

int main(int argc, char **argv)
{
    static struct contract_case here = {.transport = SITE_GPU_UCX};
    const struct CMUnitTest tests[] = {
        CASE(lanes_are_named_and_nothing_is_staged, &here),
        cmocka_unit_test_prestate_setup_teardown(
            a_way_through_the_host_is_refused_before_anything_travels, contract_setup_apart,
            contract_teardown, &here),
        cmocka_unit_test_prestate_setup_teardown(who_gives_a_peer_up_says_so, contract_setup_apart,
                                                 contract_teardown, &here),
        cmocka_unit_test(ucxs_words_are_understood),
        cmocka_unit_test(a_ucx_that_cannot_is_refused_and_says_why),
        cmocka_unit_test(a_runtime_goes_on_without_it),
    };
    int failed;

    if (kvt_ucx_prepare_process() != TD_OK)
        return 2;
    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    failed = cmocka_run_group_tests(tests, NULL, NULL) + contract_run(SITE_GPU_UCX, "ucx gpu");
    if (cuda_ucx()->registered != 0) {
        fprintf(stderr, "pools are left registered\n");
        failed++;
    }
    return failed;
}
