/*
 * runtime_folder.h: a private folder for the sockets of one cluster.
 *
 * Mode 0700, so that RPC over the sockets in it needs no certificates: only this user can open them.
 */
#ifndef TANDEM_CLI_RUNTIME_FOLDER_H
#define TANDEM_CLI_RUNTIME_FOLDER_H

#include "lib/base/status.h"

/* What fits in a socket's address (107 bytes) less the longest name that is put behind it. */
#define CLI_RUNTIME_FOLDER_BYTES 80
#define CLI_SOCKET_NAME_BYTES    24

/*
 * Makes a new folder below $XDG_RUNTIME_DIR, or below /tmp if that is not set, too long or not ours.
 * TD_IO with a sentence.
 */
td_status_t cli_runtime_folder_make(char path_out[static CLI_RUNTIME_FOLDER_BYTES],
                                    struct td_error *error) TD_MUST_USE;

/* Removes the folder with the sockets in it; what cannot be removed is left with a warning. */
void cli_runtime_folder_remove(const char *path);

#endif
