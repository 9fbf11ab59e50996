/* site_memory.c: the pool of a site, in ordinary memory or a GPU's, see site_private.h. */
#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvtransfer/gpu_pool.h"
#include "tests/kvtransfer/site_private.h"

bool site_is_on_gpu(const struct site *site)
{
    return site->config.transport >= SITE_GPU_MAP;
}

void site_memory_open(struct site *site)
{
    struct kvt_memory *memory = &site->memory;
    size_t bytes = (size_t)SITE_SLOTS * SITE_BLOCK_BYTES;

    if (site_is_on_gpu(site)) {
        gpu_pool_open(bytes, memory);
        return;
    }
    memory->bytes = bytes;
    memory->fd = memfd_create("site", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert(memory->fd >= 0 && ftruncate(memory->fd, (off_t)bytes) == 0);
    memory->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
    assert(memory->base != MAP_FAILED);
}

void site_memory_close(struct site *site)
{
    if (site_is_on_gpu(site)) {
        gpu_pool_close(&site->memory);
        return;
    }
    munmap(site->memory.base, site->memory.bytes);
    close(site->memory.fd);
}

void site_slot_write(const struct site *site, uint32_t slot, const uint8_t *bytes)
{
    uint8_t *to = site->memory.base + (size_t)slot * SITE_BLOCK_BYTES;

    if (site_is_on_gpu(site))
        gpu_pool_write(to, bytes, SITE_BLOCK_BYTES);
    else
        memcpy(to, bytes, SITE_BLOCK_BYTES);
}

void site_slot_read(const struct site *site, uint32_t slot, uint8_t *bytes)
{
    const uint8_t *from = site->memory.base + (size_t)slot * SITE_BLOCK_BYTES;

    if (site_is_on_gpu(site))
        gpu_pool_read(bytes, from, SITE_BLOCK_BYTES);
    else
        memcpy(bytes, from, SITE_BLOCK_BYTES);
}
