/*
 * kv.c: the memory of the block pool on the host (the functions engine_kv_* of backend.h).
 *
 * A sealed memfd, so that a transport on the same host can map it too and nobody can shrink it under
 * a reader. Pages come when they are first touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/backend.h"

static td_status_t open_memory(size_t bytes, int *fd_out, struct td_error *error)
{
    int fd = memfd_create("tandem-kv", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

    if (fd < 0)
        return td_fail(error, TD_NO_MEMORY, "cannot create the KV pool: %s", strerror(errno));
    if (ftruncate(fd, (off_t)bytes) != 0 || fcntl(fd, F_ADD_SEALS, seals) != 0) {
        td_status_t status =
            td_fail(error, TD_NO_MEMORY, "cannot size the KV pool to %zu bytes: %s", bytes,
                    strerror(errno));

        close(fd);
        return status;
    }
    *fd_out = fd;
    return TD_OK;
}

td_status_t engine_kv_open(uint32_t block_count, uint32_t block_tokens, size_t block_bytes,
                           struct engine_kv *kv_out, struct td_error *error)
{
    size_t bytes;
    void *base;
    int fd = -1;
    td_status_t status;

    if (block_count == 0 || block_tokens == 0 || block_bytes == 0 ||
        __builtin_mul_overflow(block_bytes, (size_t)block_count, &bytes) || bytes > INT64_MAX)
        return td_fail(error, TD_LIMIT,
                       "a KV pool of %" PRIu32 " blocks of %zu bytes is not possible", block_count,
                       block_bytes);
    status = open_memory(bytes, &fd, error);
    if (status != TD_OK)
        return status;
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED) {
        status = td_fail(error, TD_NO_MEMORY, "cannot map a KV pool of %zu bytes: %s", bytes,
                         strerror(errno));
        close(fd);
        return status;
    }
    *kv_out = (struct engine_kv){.base = base,
                                 .fd = fd,
                                 .block_count = block_count,
                                 .block_tokens = block_tokens,
                                 .block_bytes = block_bytes};
    return TD_OK;
}

void engine_kv_clear_tail(const struct engine_model_info *info, uint8_t *block, uint32_t tokens)
{
    size_t pages = (size_t)info->kv_heads * info->layers * 2;
    size_t page_bytes = info->block_bytes / pages;
    size_t used_bytes = page_bytes / info->block_tokens * tokens;

    if (info->clear_tail != NULL) {
        info->clear_tail(info, block, tokens);
        return;
    }
    for (size_t page = 0; page < pages; page++)
        memset(block + page * page_bytes + used_bytes, 0, page_bytes - used_bytes);
}

void engine_kv_close(struct engine_kv *kv)
{
    if (kv->base != NULL)
        munmap(kv->base, kv->block_bytes * kv->block_count);
    if (kv->fd >= 0)
        close(kv->fd);
    *kv = (struct engine_kv){.fd = -1};
}
