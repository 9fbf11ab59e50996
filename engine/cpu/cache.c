/*
 * cache.c: opening, locking and making an entry; see cache.h.
 *
 * The header is one page, so that the content is aligned as pack.h wants it: magic, layout, digest, plan, size
 * and hash of the content, name of the model, then a hash of all that. The hash of the content is a hash
 * over the hashes of its pieces of 4 MiB, so that several threads can compute it.
 */
#include "engine/cpu/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/bytes.h"
#include "lib/base/hash.h"
#include "lib/base/time.h"

#define MAGIC       "TDWEIGHT"
#define PIECE_BYTES ((size_t)4 << 20)
#define RETRY_MS    100
#define LOCK_TRIES  1000

/* In the header, in this order. */
struct header {
    uint32_t layout;
    struct td_u128 digest;
    struct td_u128 plan;
    uint64_t bytes;
    struct td_u128 content;
    char model[CPU_CACHE_NAME_BYTES];
};

#define HEADER_HASHED (8 + 4 + 4 + 16 + 16 + 8 + 16 + CPU_CACHE_NAME_BYTES)

/* ------------------------------------------------------------------ names */

td_status_t cpu_cache_folder(char path_out[static PATH_MAX], struct td_error *error)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int length;

    if (cache != NULL && cache[0] == '/') /* others are to be ignored, says its specification */
        length = snprintf(path_out, PATH_MAX, "%s/tandem/weights", cache);
    else if (home != NULL && home[0] == '/')
        length = snprintf(path_out, PATH_MAX, "%s/.cache/tandem/weights", home);
    else
        return td_fail(error, TD_NOT_FOUND, "neither XDG_CACHE_HOME nor HOME names a folder");
    if (length < 0 || length >= PATH_MAX)
        return td_fail(error, TD_LIMIT, "the path of the cache is too long");
    return TD_OK;
}

static void file_of(const struct cpu_cache_entry *entry, char out[static CPU_CACHE_FILE_BYTES])
{
    char digest[TD_U128_HEX_BYTES];

    snprintf(out, CPU_CACHE_FILE_BYTES, "%s-%" PRIu32 ".weights",
             td_u128_hex(entry->digest, digest), entry->layout);
}

static td_status_t path_of(const char *folder, const char *file, const char *ending,
                           char out[static PATH_MAX], struct td_error *error)
{
    int length = snprintf(out, PATH_MAX, "%s/%s%s", folder, file, ending);

    return length > 0 && length < PATH_MAX
               ? TD_OK
               : td_fail(error, TD_LIMIT, "the path of the cache is too long");
}

static td_status_t entry_path(const struct cpu_cache_entry *entry, const char *ending,
                              char out[static PATH_MAX], struct td_error *error)
{
    char file[CPU_CACHE_FILE_BYTES];

    file_of(entry, file);
    return path_of(entry->folder, file, ending, out, error);
}

/* ------------------------------------------------------------------ hashing */

struct hashing {
    const uint8_t *bytes;
    size_t length;
    struct td_u128 *pieces;
};

static void hash_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct hashing *hashing = context;
    size_t start = unit * PIECE_BYTES;
    size_t left = hashing->length - start;

    (void)thread;
    hashing->pieces[unit] =
        td_hash128(hashing->bytes + start, left < PIECE_BYTES ? left : PIECE_BYTES);
}

static td_status_t hash_content(const uint8_t *bytes, size_t length, struct cpu_team *team,
                                struct td_u128 *hash_out, struct td_error *error)
{
    size_t count = (length + PIECE_BYTES - 1) / PIECE_BYTES;
    struct hashing hashing = {.bytes = bytes, .length = length};

    if (count > CPU_UNITS_MAX)
        return td_fail(error, TD_LIMIT, "%zu bytes of weights are too many for a cache", length);
    hashing.pieces = calloc(count + 1, sizeof *hashing.pieces);
    if (hashing.pieces == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a hash");
    cpu_team_run(team, hash_unit, &hashing, (uint32_t)count);
    *hash_out = td_hash128(hashing.pieces, count * sizeof *hashing.pieces);
    free(hashing.pieces);
    return TD_OK;
}

/* ------------------------------------------------------------------ headers */

static void write_header(const struct header *header, uint8_t out[static CPU_CACHE_HEADER_BYTES])
{
    struct td_writer writer = td_writer_over(out, CPU_CACHE_HEADER_BYTES);

    memset(out, 0, CPU_CACHE_HEADER_BYTES);
    td_write_bytes(&writer, MAGIC, 8);
    td_write_u32(&writer, header->layout);
    td_write_u32(&writer, CPU_CACHE_HEADER_BYTES);
    td_write_u128(&writer, header->digest);
    td_write_u128(&writer, header->plan);
    td_write_u64(&writer, header->bytes);
    td_write_u128(&writer, header->content);
    td_write_bytes(&writer, header->model, sizeof header->model);
    td_write_u128(&writer, td_hash128(out, HEADER_HASHED));
}

static bool read_header(const uint8_t *bytes, size_t length, struct header *header_out)
{
    struct td_reader reader = td_reader_over(bytes, length);
    const uint8_t *magic = td_read_bytes(&reader, 8);
    const uint8_t *name;
    uint32_t size;
    struct td_u128 hash;

    header_out->layout = td_read_u32(&reader);
    size = td_read_u32(&reader);
    header_out->digest = td_read_u128(&reader);
    header_out->plan = td_read_u128(&reader);
    header_out->bytes = td_read_u64(&reader);
    header_out->content = td_read_u128(&reader);
    name = td_read_bytes(&reader, sizeof header_out->model);
    hash = td_read_u128(&reader);
    if (!reader.ok || memcmp(magic, MAGIC, 8) != 0 || size != CPU_CACHE_HEADER_BYTES ||
        !td_u128_equal(hash, td_hash128(bytes, HEADER_HASHED)))
        return false;
    memcpy(header_out->model, name, sizeof header_out->model);
    header_out->model[sizeof header_out->model - 1] = '\0';
    return true;
}

bool cpu_cache_read_header(const uint8_t *bytes, size_t length, struct cpu_cache_info *info_out)
{
    struct header header;

    if (!read_header(bytes, length, &header))
        return false;
    info_out->digest = header.digest;
    info_out->layout = header.layout;
    memcpy(info_out->model, header.model, sizeof header.model);
    return true;
}

/* ------------------------------------------------------------------ opening */

static td_status_t check(const struct cpu_cache_entry *entry, const struct model_map *map,
                         struct cpu_team *team, struct td_error *error)
{
    struct header header;
    struct td_u128 hash;
    td_status_t status;

    if (map->length < CPU_CACHE_HEADER_BYTES ||
        map->length - CPU_CACHE_HEADER_BYTES != entry->bytes)
        return td_fail(error, TD_CORRUPT, "it has %zu bytes instead of %zu", map->length,
                       entry->bytes + CPU_CACHE_HEADER_BYTES);
    if (!read_header(map->bytes, map->length, &header))
        return td_fail(error, TD_CORRUPT, "its header is damaged");
    if (header.layout != entry->layout || header.bytes != entry->bytes ||
        !td_u128_equal(header.digest, entry->digest) || !td_u128_equal(header.plan, entry->plan))
        return td_fail(error, TD_CORRUPT, "it holds something else than its name says");
    status = hash_content(map->bytes + CPU_CACHE_HEADER_BYTES, entry->bytes, team, &hash, error);
    if (status == TD_OK && !td_u128_equal(hash, header.content))
        return td_fail(error, TD_CORRUPT, "its content does not match its hash");
    return status;
}

/*
 * What is asked about the file is asked of the open one, so that nobody can put another in its place in between.
 * Links are not followed: who owns a link is not who owns what it names. Marks it as used, where that is allowed.
 */
static td_status_t open_file(const char *path, int *fd_out, struct td_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat about;

    if (fd < 0)
        return td_fail(error, errno == ENOENT ? TD_NOT_FOUND : TD_IO, "cannot open %.180s: %s",
                       path, errno == ELOOP ? "it is a link" : strerror(errno));
    if (fstat(fd, &about) != 0 || (about.st_uid != geteuid() && about.st_uid != 0)) {
        close(fd);
        return td_fail(error, TD_CORRUPT, "%.180s belongs to another user", path);
    }
    futimens(fd, NULL);
    *fd_out = fd;
    return TD_OK;
}

td_status_t cpu_cache_open(const struct cpu_cache_entry *entry, struct cpu_team *team,
                           struct model_map *map_out, struct td_error *error)
{
    char path[PATH_MAX];
    struct model_map map;
    int fd = -1;
    td_status_t status = entry_path(entry, "", path, error);

    if (status == TD_OK)
        status = open_file(path, &fd, error);
    if (status != TD_OK)
        return status;
    status = model_map_file(fd, path, &map, error);
    close(fd);
    if (status != TD_OK)
        return status;
    /* What is not in memory yet comes in large pages: reading weights takes a tenth less time. */
    (void)madvise((void *)(uintptr_t)map.bytes, map.length, MADV_HUGEPAGE);
    status = check(entry, &map, team, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "%.150s", path);
        model_map_close(&map);
        return status;
    }
    *map_out = map;
    return TD_OK;
}

/* ------------------------------------------------------------------ locking */

/* mkdir -p */
static td_status_t make_folder(const char *folder, struct td_error *error)
{
    char path[PATH_MAX];

    if (strlen(folder) >= sizeof path)
        return td_fail(error, TD_LIMIT, "the path of the cache is too long");
    snprintf(path, sizeof path, "%s", folder);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return td_fail(error, TD_IO, "cannot make %.150s: %s", path, strerror(errno));
        *slash = '/';
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return td_fail(error, TD_IO, "cannot make %.150s: %s", path, strerror(errno));
    return TD_OK;
}

/*
 * Whoever gives a lock back removes its file first. So a lock is only worth something if the file is
 * still the one of that name.
 */
static bool is_still_there(const struct cpu_cache_lock *lock)
{
    struct stat ours;
    struct stat named;

    return fstat(lock->fd, &ours) == 0 && stat(lock->path, &named) == 0 &&
           ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

td_status_t cpu_cache_try_lock(const char *folder, const char *file,
                               struct cpu_cache_lock *lock_out, struct td_error *error)
{
    td_status_t status = path_of(folder, file, ".lock", lock_out->path, error);

    for (int i = 0; i < LOCK_TRIES && status == TD_OK; i++) {
        lock_out->fd = open(lock_out->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (lock_out->fd < 0)
            return td_fail(error, TD_IO, "cannot open %.150s: %s", lock_out->path, strerror(errno));
        if (flock(lock_out->fd, LOCK_EX | LOCK_NB) != 0)
            status = errno == EWOULDBLOCK
                         ? td_fail(error, TD_STATE, "another process is making %s", file)
                         : td_fail(error, TD_IO, "cannot lock %.150s: %s", lock_out->path,
                                   strerror(errno));
        else if (is_still_there(lock_out))
            return TD_OK;
        close(lock_out->fd);
    }
    return status == TD_OK
               ? td_fail(error, TD_IO, "cannot lock %.150s: it is another file each time",
                         lock_out->path)
               : status;
}

td_status_t cpu_cache_lock(const struct cpu_cache_entry *entry, void (*waiting)(void *ctx),
                           void *ctx, struct cpu_cache_lock *lock_out, struct td_error *error)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
    uint64_t start_ns = td_now_ns();
    char file[CPU_CACHE_FILE_BYTES];
    td_status_t status = make_folder(entry->folder, error);

    file_of(entry, file);
    if (status == TD_OK)
        status = cpu_cache_try_lock(entry->folder, file, lock_out, error);
    while (status == TD_STATE) {
        if (td_now_ns() - start_ns > CPU_CACHE_WAIT_MS * UINT64_C(1000000))
            return td_fail(error, TD_TIMEOUT, "another process has been making %s for too long",
                           file);
        if (waiting != NULL)
            waiting(ctx);
        nanosleep(&pause, NULL);
        status = cpu_cache_try_lock(entry->folder, file, lock_out, error);
    }
    return status;
}

void cpu_cache_unlock(struct cpu_cache_lock *lock)
{
    unlink(lock->path);
    close(lock->fd);
}

/* ------------------------------------------------------------------ making */

static td_status_t write_all(int fd, const uint8_t *bytes, size_t length, off_t offset,
                             struct td_error *error)
{
    while (length > 0) {
        size_t most = length < ((size_t)64 << 20) ? length : (size_t)64 << 20;
        ssize_t written = pwrite(fd, bytes, most, offset);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return td_fail(error, TD_IO, "writing: %s",
                           written < 0 ? strerror(errno) : "nothing was taken");
        bytes += written;
        length -= (size_t)written;
        offset += written;
    }
    return TD_OK;
}

/* The space first: a full disk is said before anything is written. */
static td_status_t write_file(int fd, const struct header *header, const uint8_t *content,
                              struct td_error *error)
{
    uint8_t page[CPU_CACHE_HEADER_BYTES];
    int rc = posix_fallocate(fd, 0, (off_t)(header->bytes + sizeof page));
    td_status_t status;

    if (rc != 0 && rc != EOPNOTSUPP && rc != EINVAL)
        return td_fail(error, TD_IO, "no room for %" PRIu64 " bytes: %s", header->bytes,
                       strerror(rc));
    write_header(header, page);
    status = write_all(fd, content, header->bytes, sizeof page, error);
    if (status == TD_OK)
        status = write_all(fd, page, sizeof page, 0, error);
    if (status == TD_OK && fsync(fd) != 0)
        status = td_fail(error, TD_IO, "writing: %s", strerror(errno));
    return status;
}

/* So that the rename is on the disk too. */
static void sync_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static td_status_t store_file(const struct cpu_cache_entry *entry, const struct header *header,
                              const uint8_t *content, struct td_error *error)
{
    char path[PATH_MAX];
    char temporary[PATH_MAX];
    int fd;
    td_status_t status = entry_path(entry, "", path, error);

    if (status == TD_OK)
        status = entry_path(entry, ".tmp", temporary, error);
    if (status != TD_OK)
        return status;
    unlink(temporary); /* of a maker that died */
    fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return td_fail(error, TD_IO, "cannot make %.150s: %s", temporary, strerror(errno));
    status = write_file(fd, header, content, error);
    close(fd);
    if (status == TD_OK && rename(temporary, path) != 0)
        status = td_fail(error, TD_IO, "cannot rename: %s", strerror(errno));
    if (status != TD_OK) {
        td_fail_wrap(error, "%.150s", temporary);
        unlink(temporary);
        return status;
    }
    sync_folder(entry->folder);
    return TD_OK;
}

td_status_t cpu_cache_store(const struct cpu_cache_entry *entry, const uint8_t *content,
                            uint64_t bytes_max, struct cpu_team *team, struct td_error *error)
{
    struct header header = {.layout = entry->layout,
                            .digest = entry->digest,
                            .plan = entry->plan,
                            .bytes = entry->bytes};
    uint64_t bytes = entry->bytes + CPU_CACHE_HEADER_BYTES;
    char file[CPU_CACHE_FILE_BYTES];
    td_status_t status;

    file_of(entry, file);
    if (bytes > bytes_max || !cpu_cache_make_room(entry->folder, file, bytes_max - bytes))
        return td_fail(error, TD_LIMIT, "%" PRIu64 " bytes are more than the cache may have",
                       bytes);
    snprintf(header.model, sizeof header.model, "%s", entry->model);
    status = hash_content(content, entry->bytes, team, &header.content, error);
    return status == TD_OK ? store_file(entry, &header, content, error) : status;
}
