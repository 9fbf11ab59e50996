/*
 * map.h: mapping a model file read-only, and dying clearly when it shrinks.
 *
 * Owns the mapping and the small table of mapped ranges that the SIGBUS handler looks into. The
 * pages are shared with every process on the host that maps the same file.
 */
#ifndef TANDEM_MODEL_MAP_H
#define TANDEM_MODEL_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

struct model_map {
    const uint8_t *bytes; /* NULL: nothing is mapped */
    size_t length;
};

/* Maps a regular file. TD_IO or TD_INVALID (empty, or no regular file). */
td_status_t model_map_open(const char *path, struct model_map *map_out,
                           struct td_error *error) TD_MUST_USE;

/* The same of an open file, which stays the caller's; path is for messages. */
td_status_t model_map_file(int fd, const char *path, struct model_map *map_out,
                           struct td_error *error) TD_MUST_USE;
void model_map_close(struct model_map *map);

/*
 * model_map_install_sigbus: have this process end with a clear message when a mapped model file
 * shrinks under it (exit status 74), instead of dying without a word.
 * A SIGBUS from anything else does what it would have done. Programs call it once, before threads
 * start; libraries never do.
 */
td_status_t model_map_install_sigbus(struct td_error *error) TD_MUST_USE;

#endif
