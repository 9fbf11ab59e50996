/*
 * test_hash.c: content hashes of blocks where they lie are those of lib/base to the bit, at every length and content;
 * tails are cleared behind their tokens and nowhere else.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/blocks.h"
#include "engine/cuda/hash.h"
#include "lib/base/hash.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define BLOCKS    5
#define BYTES_MAX ((size_t)70 << 10) /* more than two tiles */

static struct {
    struct cuda_device *device;
    struct cuda_hasher *hasher;
    uint8_t *memory; /* of the device */
    uint8_t *bytes;
} bench;

static int set_up(void **state)
{
    struct td_error error = {0};
    void *memory;

    (void)state;
    bench.device = cuda_rig_device();
    assert_int_equal(cuda_hasher_open(bench.device, &bench.hasher, &error), TD_OK);
    assert_int_equal(cuda_device_take(bench.device, BLOCKS * BYTES_MAX, &memory, &error), TD_OK);
    bench.memory = memory;
    bench.bytes = malloc(BLOCKS * BYTES_MAX);
    assert_non_null(bench.bytes);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(bench.bytes);
    cuda_device_give(bench.device, bench.memory);
    cuda_hasher_close(bench.hasher);
    cuda_device_close(bench.device);
    return 0;
}

static void assert_hashes(size_t block_bytes, uint32_t count)
{
    const void *blocks[BLOCKS];
    struct td_u128 hashes[BLOCKS];

    cuda_device_upload(bench.device, bench.memory, bench.bytes, count * block_bytes);
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = bench.memory + (count - 1 - i) * block_bytes; /* not in their order */
    assert_int_equal(cuda_hasher_hash(bench.hasher, blocks, count, block_bytes, hashes), TD_OK);
    for (uint32_t i = 0; i < count; i++)
        if (!td_u128_equal(hashes[i],
                           td_hash128(bench.bytes + (count - 1 - i) * block_bytes, block_bytes)))
            fail_msg("block %u of %zu bytes", i, block_bytes);
}

static void every_length_gives_the_hash_of_the_host(void **state)
{
    static const size_t lengths[] = {248,   256,   320,   1016,  1024,  1032,     1088,
                                     2048,  2056,  4096,  8192,  9216,  32768,    33792,
                                     34816, 36864, 65536, 65544, 66560, BYTES_MAX};
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 1);
    for (size_t i = 0; i < BLOCKS * BYTES_MAX; i++)
        bench.bytes[i] = (uint8_t)td_rng_next(&rng);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        assert_hashes(lengths[i], 1 + (uint32_t)(i % BLOCKS));
}

static void every_content_gives_the_hash_of_the_host(void **state)
{
    (void)state;
    for (int value = 0; value < 256; value += 51) {
        memset(bench.bytes, value, BLOCKS * BYTES_MAX);
        assert_hashes(4096, 2);
        for (size_t bit = 0; bit < (size_t)4096 * 8; bit += 4099) {
            bench.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_hashes(4096, 1);
        }
    }
}

static void lengths_that_the_kernel_does_not_know_are_refused(void **state)
{
    const void *block = bench.memory;
    struct td_u128 hash;

    (void)state;
    assert_int_equal(cuda_hasher_hash(bench.hasher, &block, 1, 240, &hash), TD_UNSUPPORTED);
    assert_int_equal(cuda_hasher_hash(bench.hasher, &block, 1, 4097, &hash), TD_UNSUPPORTED);
    assert_int_equal(cuda_hasher_hash(bench.hasher, &block, 0, 4096, &hash), TD_OK);
}

static void behind_the_tokens_of_a_tail_there_are_zeros(void **state)
{
    const struct engine_model_info info = {
        .kv_heads = 2, .layers = 3, .block_tokens = 16, .block_bytes = (size_t)2 * 3 * 2 * 16 * 24};
    struct engine_kv kv = {.base = bench.memory,
                           .block_count = 3,
                           .block_tokens = 16,
                           .block_bytes = info.block_bytes};
    uint8_t *expected = malloc(3 * kv.block_bytes);
    struct cuda_blocks *blocks;
    struct td_error error = {0};
    struct td_u128 hash = {.lo = 1};

    (void)state;
    assert_non_null(expected);
    memset(bench.bytes, 0xab, 3 * kv.block_bytes);
    memcpy(expected, bench.bytes, 3 * kv.block_bytes);
    engine_kv_clear_tail(&info, expected + kv.block_bytes, 5);
    cuda_device_upload(bench.device, bench.memory, bench.bytes, 3 * kv.block_bytes);
    assert_int_equal(cuda_blocks_open(bench.device, &info, &kv, &blocks, &error), TD_OK);
    assert_int_equal(kv.ops->seal_tail(kv.impl, 1, 5, &hash), TD_OK);
    assert_true(td_u128_is_zero(hash));
    cuda_device_download(bench.device, bench.bytes, bench.memory, 3 * kv.block_bytes);
    assert_int_equal(cuda_device_wait(bench.device, &error), TD_OK);
    assert_memory_equal(bench.bytes, expected, 3 * kv.block_bytes);
    cuda_blocks_close(blocks);
    free(expected);
}

/* An argument chooses tests by their names: tests/gpu/run has slow tools run some. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_gives_the_hash_of_the_host),
        cmocka_unit_test(every_content_gives_the_hash_of_the_host),
        cmocka_unit_test(lengths_that_the_kernel_does_not_know_are_refused),
        cmocka_unit_test(behind_the_tokens_of_a_tail_there_are_zeros),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
