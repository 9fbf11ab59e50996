/*
 * arena.h: memory that lives and dies together (one request, one parsed document), with a maximum.
 *
 * An allocation can fail; the first reason stays in status, so that a caller who only saw NULL can
 * tell a limit from an empty machine. Not thread-safe: one owner.
 */
#ifndef TANDEM_LIB_BASE_ARENA_H
#define TANDEM_LIB_BASE_ARENA_H

#include <stddef.h>

#include "lib/base/status.h"

struct td_arena_chunk;

struct td_arena {
    struct td_arena_chunk *chunks;
    size_t used;        /* bytes handed out, with padding */
    size_t bytes_max;   /* more than this is refused */
    td_status_t status; /* sticky: TD_OK, TD_LIMIT or TD_NO_MEMORY */
};

/* An empty arena that hands out at most bytes_max bytes. Allocates nothing yet. */
void td_arena_init(struct td_arena *arena, size_t bytes_max);

/* Frees everything that came from the arena; it may be used again. */
void td_arena_fini(struct td_arena *arena);

/* Zeroed memory aligned for any type, or NULL: over the maximum, or no memory (see status). */
void *td_arena_alloc(struct td_arena *arena, size_t bytes);

/* Zeroed array of count elements, or NULL; count * size is checked for overflow. */
void *td_arena_array(struct td_arena *arena, size_t count, size_t size);

/* A NUL-terminated copy of length bytes, or NULL. */
char *td_arena_text(struct td_arena *arena, const char *text, size_t length);

/*
 * As td_arena_alloc, but the bytes are whatever was there: for text that is written at once (twice
 * as fast for long strings).
 */
void *td_arena_alloc_unset(struct td_arena *arena, size_t bytes);

#endif
