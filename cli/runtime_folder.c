/* runtime_folder.c: see runtime_folder.h. */
#include "cli/runtime_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"

#define TEMPLATE "tandem-XXXXXX"

static bool make_below(const char *parent, char path_out[static CLI_RUNTIME_FOLDER_BYTES])
{
    char path[CLI_RUNTIME_FOLDER_BYTES];
    int length = snprintf(path, sizeof path, "%s/" TEMPLATE, parent);

    if (length < 0 || (size_t)length >= sizeof path || parent[0] != '/')
        return false;
    if (mkdtemp(path) == NULL) /* mode 0700 */
        return false;
    memcpy(path_out, path, (size_t)length + 1);
    return true;
}

td_status_t cli_runtime_folder_make(char path_out[static CLI_RUNTIME_FOLDER_BYTES],
                                    struct td_error *error)
{
    const char *parent = getenv("XDG_RUNTIME_DIR");

    if (parent != NULL && make_below(parent, path_out))
        return TD_OK;
    if (make_below("/tmp", path_out))
        return TD_OK;
    return td_fail(
        error, TD_IO,
        "cannot make a folder for sockets below /tmp: %s; XDG_RUNTIME_DIR may name another place",
        strerror(errno));
}

void cli_runtime_folder_remove(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder != NULL)
        closedir(folder);
    if (rmdir(path) != 0)
        td_log(TD_LOG_WARN, "cli", "cannot remove %s: %s", path, strerror(errno));
}
