/* cache_list.c: what is in the folder of packed weights, and removing it; see cache.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/cpu/cache.h"

#define ENTRY    ".weights"
#define LEFTOVER ".weights.tmp"

static bool ends_with(const char *text, const char *ending)
{
    size_t length = strlen(text);
    size_t ending_length = strlen(ending);

    return length > ending_length && strcmp(text + length - ending_length, ending) == 0;
}

/* Other people's files are passed over. */
static bool describe(int folder, const char *file, struct cpu_cache_info *info)
{
    uint8_t header[CPU_CACHE_HEADER_BYTES];
    struct stat about;
    ssize_t length;
    int fd;

    *info = (struct cpu_cache_info){.is_leftover = ends_with(file, LEFTOVER)};
    if (strlen(file) >= sizeof info->file || !(info->is_leftover || ends_with(file, ENTRY)))
        return false;
    memcpy(info->file, file, strlen(file));
    fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return false;
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        close(fd);
        return false;
    }
    info->bytes = (uint64_t)about.st_size;
    info->last_use_s = about.st_mtim.tv_sec;
    length = pread(fd, header, sizeof header, 0);
    if (length > 0 && !info->is_leftover)
        info->is_readable = cpu_cache_read_header(header, (size_t)length, info);
    close(fd);
    return true;
}

static int by_last_use(const void *a, const void *b)
{
    const struct cpu_cache_info *left = a;
    const struct cpu_cache_info *right = b;

    if (left->last_use_s != right->last_use_s)
        return left->last_use_s < right->last_use_s ? 1 : -1;
    return strcmp(left->file, right->file);
}

static td_status_t read_folder(DIR *folder, struct cpu_cache_info **list_out, size_t *count_out,
                               struct td_error *error)
{
    struct cpu_cache_info *list = NULL;
    size_t count = 0;
    const struct dirent *entry;

    while ((entry = readdir(folder)) != NULL && count < CPU_CACHE_ENTRIES_MAX) {
        struct cpu_cache_info info;
        struct cpu_cache_info *larger;

        if (!describe(dirfd(folder), entry->d_name, &info))
            continue;
        larger = realloc(list, (count + 1) * sizeof *list);
        if (larger == NULL) {
            free(list);
            return td_fail(error, TD_NO_MEMORY, "no memory for the list of the cache");
        }
        list = larger;
        list[count++] = info;
    }
    if (count > 0)
        qsort(list, count, sizeof *list, by_last_use);
    *list_out = list;
    *count_out = count;
    return TD_OK;
}

td_status_t cpu_cache_list(const char *folder, struct cpu_cache_info **list_out, size_t *count_out,
                           struct td_error *error)
{
    DIR *stream = opendir(folder);
    td_status_t status;

    if (stream == NULL && errno == ENOENT) {
        *list_out = NULL;
        *count_out = 0;
        return TD_OK;
    }
    if (stream == NULL)
        return td_fail(error, TD_IO, "cannot read %.150s: %s", folder, strerror(errno));
    status = read_folder(stream, list_out, count_out, error);
    closedir(stream);
    return status;
}

/* The name of the entry that a leftover would have become. */
static void entry_of(const struct cpu_cache_info *info, char out[static CPU_CACHE_FILE_BYTES])
{
    size_t length = strlen(info->file);

    if (info->is_leftover)
        length -= strlen(LEFTOVER) - strlen(ENTRY);
    memcpy(out, info->file, length);
    out[length] = '\0';
}

td_status_t cpu_cache_remove(const char *folder, const struct cpu_cache_info *info,
                             struct td_error *error)
{
    char file[CPU_CACHE_FILE_BYTES];
    struct cpu_cache_lock lock;
    int folder_fd;
    td_status_t status;

    entry_of(info, file);
    status = cpu_cache_try_lock(folder, file, &lock, error);
    if (status != TD_OK)
        return status;
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0 || (unlinkat(folder_fd, info->file, 0) != 0 && errno != ENOENT))
        status = td_fail(error, TD_IO, "cannot remove %s: %s", info->file, strerror(errno));
    if (folder_fd >= 0)
        close(folder_fd);
    cpu_cache_unlock(&lock);
    return status;
}

bool cpu_cache_make_room(const char *folder, const char *keep, uint64_t bytes_max)
{
    struct cpu_cache_info *list = NULL;
    struct td_error error = {0};
    size_t count = 0;
    uint64_t bytes = 0; /* of those used later than the one that is looked at */

    if (cpu_cache_list(folder, &list, &count, &error) != TD_OK)
        return true; /* what cannot be read cannot be counted */
    for (size_t i = 0; i < count; i++) {
        const struct cpu_cache_info *info = &list[i];

        if (strncmp(info->file, keep, strlen(keep)) == 0)
            continue; /* is replaced */
        if ((info->is_leftover || bytes + info->bytes > bytes_max) &&
            cpu_cache_remove(folder, info, &error) == TD_OK)
            continue;
        bytes += info->bytes;
    }
    free(list);
    return bytes <= bytes_max;
}
