/* host.c: identity of host and network namespace, see host.h. */
#include "kvtransfer/host.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/hash.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define NETNS_PATH   "/proc/self/ns/net"

td_status_t kvt_host_identity(struct td_u128 *identity_out, struct td_error *error)
{
    struct {
        char boot_id[64];
        uint64_t device;
        uint64_t inode;
    } parts;
    struct stat netns;
    FILE *file = fopen(BOOT_ID_PATH, "re");

    memset(&parts, 0, sizeof parts);
    if (file == NULL)
        return td_fail(error, TD_UNSUPPORTED, BOOT_ID_PATH ": %s", strerror(errno));
    if (fgets(parts.boot_id, sizeof parts.boot_id, file) == NULL) {
        fclose(file);
        return td_fail(error, TD_UNSUPPORTED, BOOT_ID_PATH ": empty");
    }
    fclose(file);
    if (stat(NETNS_PATH, &netns) != 0)
        return td_fail(error, TD_UNSUPPORTED, NETNS_PATH ": %s", strerror(errno));
    parts.device = (uint64_t)netns.st_dev;
    parts.inode = (uint64_t)netns.st_ino;
    *identity_out = td_hash128(&parts, sizeof parts);
    return TD_OK;
}
