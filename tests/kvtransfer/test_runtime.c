/*
 * test_runtime.c: the transfer thread: handing over in both directions, full rings, stopping.
 *
 * Over the map transport, because it is fast and its library is ours: all of it is visible to the
 * thread sanitizer.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "tests/kvtransfer/site.h"
#include "tests/support/support.h"

#define LEFT  UINT64_C(0x11)
#define RIGHT UINT64_C(0x22)

struct pair {
    struct site *left;
    struct site *right;
};

static struct pair pair_open(uint32_t ring_capacity)
{
    struct site_config left = site_config_default(SITE_MAP, LEFT);
    struct site_config right = site_config_default(SITE_MAP, RIGHT);
    struct pair pair;

    left.ring_capacity = right.ring_capacity = ring_capacity;
    pair.left = site_open(&left);
    pair.right = site_open(&right);
    site_peer_add(pair.left, pair.right);
    site_peer_add(pair.right, pair.left);
    return pair;
}

static void pair_close(struct pair *pair)
{
    assert_int_equal(site_close(pair->left), 0);
    assert_int_equal(site_close(pair->right), 0);
}

/* ------------------------------------------------------------------------------------ handing over */

/*
 * What an asker does: EXPECT into the ring, then the ask over the network. Here the ring is full of
 * other work and the answer is as fast as it can be.
 */
static void a_chunk_never_overtakes_an_expect_that_was_pushed_before_the_ask(void **state)
{
    struct pair pair = pair_open(512);
    struct site_transfer nobody = site_transfer_make(100000, 1, 0);

    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        struct site_transfer transfer = site_transfer_make(i, 0, 16);

        site_offer(pair.left, &transfer, RIGHT);
        for (uint32_t j = 0; j < i; j++)
            site_abandon(pair.right, &nobody);
        site_expect(pair.right, &transfer, LEFT);
        site_send(pair.left, &transfer, RIGHT, 0, 0);
        assert_int_equal(site_wait_end(pair.right, &transfer, false).kind, KVT_LANDED);
        assert_int_equal(site_wait_end(pair.left, &transfer, true).status, TD_OK);
    }
    assert_int_equal(site_stat(pair.right, KVT_STAT_REFUSED_UNKNOWN), 0);
    pair_close(&pair);
}

/* Commands are pushed and nothing is popped: events overflow, and come when there is room again. */
static void full_rings_lose_nothing_and_wake_whoever_waits(void **state)
{
    struct pair pair = pair_open(2);

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        struct site_transfer transfer = site_transfer_make(i, 3, 16);

        site_fill(pair.left, &transfer);
        site_expect(pair.right, &transfer, LEFT);
        site_offer(pair.left, &transfer, RIGHT);
        for (uint32_t block = 0; block < 3; block++)
            site_send(pair.left, &transfer, RIGHT, block, 1);
        if (i % 25 != 24)
            continue;
        for (uint32_t j = i - 24; j <= i; j++) {
            transfer = site_transfer_make(j, 3, 16);
            assert_int_equal(site_wait_end(pair.right, &transfer, false).kind, KVT_LANDED);
            assert_int_equal(site_wait_end(pair.left, &transfer, true).status, TD_OK);
        }
    }
    pair_close(&pair);
}

/* ----------------------------------------------------------------------------------------- stopping */

static size_t lasts(struct site *site, const struct site_transfer *transfer, bool is_sender)
{
    return site_count(site, KVT_LANDED, transfer, is_sender) +
           site_count(site, KVT_QUIESCED, transfer, is_sender) +
           site_count(site, KVT_DRAINED, transfer, is_sender) +
           site_count(site, KVT_QUARANTINED, transfer, is_sender);
}

static void begin_some(struct pair *pair, struct td_rng *rng, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct site_transfer transfer = site_transfer_make(i, 8, 16);
        uint32_t half = (uint32_t)td_rng_below(rng, 8);

        site_fill(pair->left, &transfer);
        site_expect(pair->right, &transfer, LEFT);
        site_offer(pair->left, &transfer, RIGHT);
        if (half > 0)
            site_send(pair->left, &transfer, RIGHT, 0, half);
        if (td_rng_below(rng, 2) == 0)
            site_send(pair->left, &transfer, RIGHT, half, 8 - half);
        if (td_rng_below(rng, 4) == 0)
            site_abandon(pair->right, &transfer);
        if (td_rng_below(rng, 4) == 0)
            site_stop(pair->left, &transfer, RIGHT);
    }
}

/* Whatever is under way when it is stopped, each transfer has one last event, and nothing is left. */
static void stopped_at_any_moment_every_transfer_ends_once(void **state)
{
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 7);
    for (uint32_t round = 0; round < 60; round++) {
        struct pair pair = pair_open(1u << (1 + round % 8));
        uint32_t count = (uint32_t)td_rng_below(&rng, 12);

        begin_some(&pair, &rng, count);
        site_wind_down(round % 2 == 0 ? pair.left : pair.right);
        site_wind_down(round % 2 == 0 ? pair.right : pair.left);
        for (uint32_t i = 0; i < count; i++) {
            struct site_transfer transfer = site_transfer_make(i, 8, 16);

            assert_int_equal(lasts(pair.left, &transfer, true), 1);
            assert_int_equal(lasts(pair.right, &transfer, false), 1);
        }
        assert_int_equal(site_stat(pair.left, KVT_STAT_OUTGOING), 0);
        assert_int_equal(site_stat(pair.right, KVT_STAT_INCOMING), 0);
        pair_close(&pair);
    }
}

/* Closing without stopping, with events nobody has popped and commands nobody has taken. */
static void closed_at_any_moment_nothing_leaks_or_hangs(void **state)
{
    size_t descriptors = site_descriptors();
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 8);
    for (uint32_t round = 0; round < 60; round++) {
        struct pair pair = pair_open(1u << (1 + round % 8));

        begin_some(&pair, &rng, (uint32_t)td_rng_below(&rng, 12));
        pair_close(&pair);
    }
    assert_int_equal(site_descriptors(), descriptors);
}

static void what_is_asked_after_the_stop_is_canceled(void **state)
{
    struct pair pair = pair_open(16);
    struct site_transfer in = site_transfer_make(0, 4, 16);
    struct site_transfer out = site_transfer_make(1, 4, 16);
    struct site_event end;

    (void)state;
    site_wind_down(pair.right);
    site_expect(pair.right, &in, LEFT);
    end = site_wait_end(pair.right, &in, false);
    assert_int_equal(end.kind, KVT_QUIESCED);
    assert_int_equal(end.status, TD_CANCELED);
    site_offer(pair.right, &out, LEFT);
    end = site_wait_end(pair.right, &out, true);
    assert_int_equal(end.kind, KVT_DRAINED);
    assert_int_equal(end.status, TD_CANCELED);
    pair_close(&pair);
}

/* ------------------------------------------------------------------------------------------ opening */

static void on_wake(void *impl)
{
    (void)impl;
}

static struct kvt_runtime_config config_over(struct kvt_memory memory)
{
    return (struct kvt_runtime_config){.epoch = 1,
                                       .memory = memory,
                                       .block_bytes = 4096,
                                       .limits = kvt_limits_default(),
                                       .use_map = true,
                                       .ring_capacity = 4,
                                       .wake = on_wake};
}

static void what_cannot_be_opened_says_why_and_leaves_nothing(void **state)
{
    size_t descriptors = site_descriptors();
    struct kvt_memory memory = {.base = malloc(65536), .bytes = 65536, .fd = -1};
    struct kvt_runtime_config config = config_over(memory);
    struct kvt_runtime *runtime = NULL;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "memfd"));
    config.memory.fd = 0; /* whatever it is, it cannot be sealed */
    assert_int_not_equal(kvt_runtime_open(&config, &runtime, &error), TD_OK);
    config.use_map = false;
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "transport"));
    config.use_ucx = true; /* but the process was not prepared */
    config.ucx = kvt_ucx_config_default();
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_STATE);
    config.epoch = 0;
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "epoch"));
    assert_null(runtime);
    assert_int_equal(site_descriptors(), descriptors);
    free(memory.base);
}

static void an_address_is_there_for_what_is_open_only(void **state)
{
    struct kvt_memory memory = {.bytes = 65536};
    struct kvt_runtime_config config;
    struct kvt_runtime *runtime;
    struct td_error error = {0};
    const uint8_t *address;
    size_t length;

    (void)state;
    memory.fd = memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(memory.fd, 65536), 0);
    memory.base = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
    config = config_over(memory);
    assert_int_equal(kvt_runtime_open(&config, &runtime, &error), TD_OK);
    assert_int_equal(kvt_runtime_address(runtime, "map", &address, &length), TD_OK);
    assert_true(length > 0 && length <= KVT_ADDRESS_BYTES_MAX);
    assert_int_equal(kvt_runtime_address(runtime, "ucx", &address, &length), TD_NOT_FOUND);
    assert_non_null(kvt_runtime_library(runtime, "map"));
    assert_null(kvt_runtime_library(runtime, "ucx"));
    assert_int_equal(kvt_runtime_close(runtime), 0);
    munmap(memory.base, 65536);
    close(memory.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_never_overtakes_an_expect_that_was_pushed_before_the_ask),
        cmocka_unit_test(full_rings_lose_nothing_and_wake_whoever_waits),
        cmocka_unit_test(stopped_at_any_moment_every_transfer_ends_once),
        cmocka_unit_test(closed_at_any_moment_nothing_leaks_or_hangs),
        cmocka_unit_test(what_is_asked_after_the_stop_is_canceled),
        cmocka_unit_test(what_cannot_be_opened_says_why_and_leaves_nothing),
        cmocka_unit_test(an_address_is_there_for_what_is_open_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
