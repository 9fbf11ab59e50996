/* hash.c: see hash.h. */
#include "engine/cuda/hash.h"

#include <stdlib.h>
#include <string.h>

#define AT_ONCE   256 /* blocks of one launch: more than a chunk of a transfer has */
#define BYTES_MIN 241 /* shorter ones are hashed otherwise */

/* The default secret of XXH3, as its specification gives it. */
static const uint64_t secret[CUDA_HASH_SECRET] = {
    0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072,
    0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82, 0x8e2443f7744608b8, 0x4c263a81e69035e0,
    0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
    0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8,
    0xc3ebd33483acc5ea, 0xeb6313faffa081c5, 0x49daf0b751dd0d17, 0x9e68d429265516d3,
    0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af,
};

struct cuda_hasher {
    struct cuda_device *device;
    uint64_t *blocks; /* of the device: addresses, then results */
    uint64_t *results;
    uint64_t *host_blocks; /* the same of the host, as the device copies it */
    uint64_t *host_results;
};

td_status_t cuda_hasher_open(struct cuda_device *device, struct cuda_hasher **hasher_out,
                             struct td_error *error)
{
    struct cuda_hasher *hasher = calloc(1, sizeof *hasher);
    size_t bytes = 3 * AT_ONCE * sizeof(uint64_t); /* an address and two halves for each */
    void *memory = NULL;
    void *host = NULL;
    td_status_t status;

    if (hasher == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for hashing on the GPU");
    status = cuda_device_take(device, bytes, &memory, error);
    if (status == TD_OK)
        status = cuda_device_take_host(device, bytes, &host, error);
    if (status != TD_OK) {
        cuda_device_give(device, memory);
        free(hasher);
        return status;
    }
    *hasher = (struct cuda_hasher){.device = device,
                                   .blocks = memory,
                                   .results = (uint64_t *)memory + AT_ONCE,
                                   .host_blocks = host,
                                   .host_results = (uint64_t *)host + AT_ONCE};
    *hasher_out = hasher;
    return TD_OK;
}

void cuda_hasher_close(struct cuda_hasher *hasher)
{
    if (hasher == NULL)
        return;
    cuda_device_give(hasher->device, hasher->blocks);
    cuda_device_give_host(hasher->device, hasher->host_blocks);
    free(hasher);
}

static td_status_t hash_some(struct cuda_hasher *hasher, const void *const *blocks, size_t count,
                             size_t block_bytes, struct td_u128 *hashes_out)
{
    struct cuda_hash_args args = {
        .blocks = hasher->blocks, .out = hasher->results, .bytes = block_bytes};
    struct td_error error = {0};
    td_status_t status;

    memcpy(args.secret, secret, sizeof secret);
    for (size_t i = 0; i < count; i++)
        hasher->host_blocks[i] = (uint64_t)(uintptr_t)blocks[i];
    cuda_device_upload(hasher->device, hasher->blocks, hasher->host_blocks,
                       count * sizeof *hasher->blocks);
    cuda_device_launch(hasher->device, CUDA_KERNEL_HASH, (struct cuda_grid){(uint32_t)count, 1, 1},
                       &args);
    cuda_device_download(hasher->device, hasher->host_results, hasher->results,
                         2 * count * sizeof *hasher->results);
    status = cuda_device_wait(hasher->device, &error); /* which has said what failed */
    if (status != TD_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        hashes_out[i] = (struct td_u128){.lo = hasher->host_results[2 * i],
                                         .hi = hasher->host_results[2 * i + 1]};
    return TD_OK;
}

td_status_t cuda_hasher_hash(void *impl, const void *const *blocks, size_t count,
                             size_t block_bytes, struct td_u128 *hashes_out)
{
    td_status_t status = TD_OK;

    if (block_bytes < BYTES_MIN || block_bytes % 8 != 0)
        return TD_UNSUPPORTED;
    for (size_t i = 0; i < count && status == TD_OK; i += AT_ONCE)
        status = hash_some(impl, blocks + i, count - i < AT_ONCE ? count - i : AT_ONCE, block_bytes,
                           hashes_out + i);
    return status;
}
