/*
 * cache.h: packed weights kept in files, one for each model, which all processes of a user on this host map.
 *
 * Owns the folder, the form of the files, and the manners of making one: whoever needs an entry that is not
 * there takes its lock, makes it under another name, and renames it when it is on disk; others wait for the
 * lock and then find it. So a file with the name of an entry is whole, or a disk is at fault; and yet it is
 * checked before use (length, header, hash of all bytes), for what is wrong in it would be wrong in every
 * answer. What does not pass is made again. Nothing here is needed: without a cache, every process packs for
 * itself.
 *
 *   <digest>-<layout>.weights       an entry: digest of the model, CPU_PACK_VERSION
 *   <digest>-<layout>.weights.tmp   one that is being made, or was when its maker died
 *   <digest>-<layout>.weights.lock  held (flock) by its maker; the system lets go when the maker dies
 *
 * The hash finds accidents, not enemies: whoever may write to the folder may choose the weights. Files of other
 * users (but root) and links are not used. Calls block on the disk; none but waiting for a lock blocks on a process.
 */
#ifndef TANDEM_ENGINE_CPU_CACHE_H
#define TANDEM_ENGINE_CPU_CACHE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/team.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"
#include "model/map.h"

#define CPU_CACHE_HEADER_BYTES 4096
#define CPU_CACHE_NAME_BYTES   128 /* of a model */
#define CPU_CACHE_FILE_BYTES   96  /* of a file's name */
#define CPU_CACHE_ENTRIES_MAX  4096
#define CPU_CACHE_WAIT_MS      300000 /* for another process that makes an entry */

/* Which entry, and what must be in it. */
struct cpu_cache_entry {
    const char *folder;
    struct td_u128 digest; /* of the model */
    uint32_t layout;       /* CPU_PACK_VERSION */
    struct td_u128 plan;   /* hash of all that decides where what lies */
    size_t bytes;          /* of the content */
    const char *model;     /* its name, for people */
};

/* ${XDG_CACHE_HOME:-~/.cache}/tandem/weights. TD_NOT_FOUND without a home, TD_LIMIT if too long. */
td_status_t cpu_cache_folder(char path_out[static PATH_MAX], struct td_error *error) TD_MUST_USE;

/*
 * Maps an entry that passes every check, and marks it as used now. The content starts CPU_CACHE_HEADER_BYTES into the
 * mapping. The team shares the hashing. TD_NOT_FOUND if there is none; anything else says what is wrong with it.
 */
td_status_t cpu_cache_open(const struct cpu_cache_entry *entry, struct cpu_team *team,
                           struct model_map *map_out, struct td_error *error) TD_MUST_USE;

/* A lock on making an entry. */
struct cpu_cache_lock {
    int fd;
    char path[PATH_MAX];
};

/*
 * Takes the lock for making an entry, and makes the folder before if need be. While another process has the lock,
 * `waiting` (may be NULL) is called ten times a second. Given back by
 * cpu_cache_unlock. TD_IO, TD_LIMIT, or TD_TIMEOUT after CPU_CACHE_WAIT_MS.
 */
td_status_t cpu_cache_lock(const struct cpu_cache_entry *entry, void (*waiting)(void *ctx),
                           void *ctx, struct cpu_cache_lock *lock_out,
                           struct td_error *error) TD_MUST_USE;
void cpu_cache_unlock(struct cpu_cache_lock *lock);

/*
 * With the lock: writes an entry and puts it in the place of what is there. bytes_max limits all entries
 * together: the ones not used for longest are removed for it. TD_LIMIT if it is too large even so,
 * TD_IO for a full disk and the like; then nothing is left behind.
 */
td_status_t cpu_cache_store(const struct cpu_cache_entry *entry, const uint8_t *content,
                            uint64_t bytes_max, struct cpu_team *team,
                            struct td_error *error) TD_MUST_USE;

/* ---- for people (cache_list.c) ---- */

struct cpu_cache_info {
    char file[CPU_CACHE_FILE_BYTES];
    char model[CPU_CACHE_NAME_BYTES]; /* empty if the header is not to be read */
    struct td_u128 digest;
    uint32_t layout;
    uint64_t bytes;     /* of the file */
    int64_t last_use_s; /* since 1970 */
    bool is_leftover;   /* of a maker that died: no entry */
    bool is_readable;   /* its header is whole */
};

/* All entries and leftovers of a folder, the last used first (free). No folder: none. */
td_status_t cpu_cache_list(const char *folder, struct cpu_cache_info **list_out, size_t *count_out,
                           struct td_error *error) TD_MUST_USE;

/* Removes one file of the list and its lock. Processes that map it keep it. TD_STATE if it is being made. */
td_status_t cpu_cache_remove(const char *folder, const struct cpu_cache_info *info,
                             struct td_error *error) TD_MUST_USE;

/* ---- for cache_list.c alone ---- */

/* A header's fields, if it is whole. */
bool cpu_cache_read_header(const uint8_t *bytes, size_t length, struct cpu_cache_info *info_out);

/* Takes the lock of a file of this name unless somebody has it: TD_OK, TD_STATE or TD_IO. */
td_status_t cpu_cache_try_lock(const char *folder, const char *file,
                               struct cpu_cache_lock *lock_out, struct td_error *error) TD_MUST_USE;

/*
 * Removes leftovers whose makers are gone, and entries (but `keep`) from the one not used for longest on
 * until those left have at most bytes_max bytes together; false if they have more.
 */
bool cpu_cache_make_room(const char *folder, const char *keep, uint64_t bytes_max);

#endif
