/*
 * gguf_map.h: mapping a model file read-only, and dying clearly when it shrinks.
 *
 * Owns the mapping and the small table of mapped ranges that the SIGBUS handler looks into. The
 * pages are shared with every process on the host that maps the same file.
 */
#ifndef TANDEM_ENGINE_GGUF_MAP_H
#define TANDEM_ENGINE_GGUF_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

struct engine_gguf_map {
    const uint8_t *bytes; /* NULL: nothing is mapped */
    size_t length;
};

/* Maps a regular file. TD_IO or TD_INVALID (empty, or no regular file). */
td_status_t engine_gguf_map_open(const char *path, struct engine_gguf_map *map_out,
                                 struct td_error *error) TD_MUST_USE;
void engine_gguf_map_close(struct engine_gguf_map *map);

#endif
