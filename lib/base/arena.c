/* arena.c: chunked bump allocator, see arena.h. */
#include "lib/base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_CHUNK_BYTES ((size_t)16 * 1024)
#define ARENA_ALIGNMENT   _Alignof(max_align_t)

struct td_arena_chunk {
    struct td_arena_chunk *next;
    size_t used;
    size_t capacity;
    _Alignas(max_align_t) unsigned char bytes[];
};

void td_arena_init(struct td_arena *arena, size_t bytes_max)
{
    *arena = (struct td_arena){.bytes_max = bytes_max};
}

void td_arena_fini(struct td_arena *arena)
{
    while (arena->chunks != NULL) {
        struct td_arena_chunk *chunk = arena->chunks;

        arena->chunks = chunk->next;
        free(chunk);
    }
    td_arena_init(arena, arena->bytes_max);
}

static void *failed(struct td_arena *arena, td_status_t status)
{
    if (arena->status == TD_OK)
        arena->status = status;
    return NULL;
}

/*
 * A chunk with room for bytes. A piece larger than a chunk gets one of its own, placed behind the
 * first, so that the room left in the first is not lost: memory stays below twice what was asked.
 */
static struct td_arena_chunk *chunk_add(struct td_arena *arena, size_t bytes)
{
    size_t capacity = bytes > ARENA_CHUNK_BYTES ? bytes : ARENA_CHUNK_BYTES;
    struct td_arena_chunk *chunk;
    size_t total;

    if (__builtin_add_overflow(sizeof *chunk, capacity, &total))
        return NULL;
    chunk = malloc(total);
    if (chunk == NULL)
        return NULL;
    chunk->used = 0;
    chunk->capacity = capacity;
    if (bytes > ARENA_CHUNK_BYTES && arena->chunks != NULL) {
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
    } else {
        chunk->next = arena->chunks;
        arena->chunks = chunk;
    }
    return chunk;
}

void *td_arena_alloc_unset(struct td_arena *arena, size_t bytes)
{
    struct td_arena_chunk *chunk = arena->chunks;
    size_t rounded;
    void *memory;

    if (bytes > SIZE_MAX - ARENA_ALIGNMENT)
        return failed(arena, TD_LIMIT);
    rounded = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    if (rounded > arena->bytes_max - arena->used)
        return failed(arena, TD_LIMIT);
    if (chunk == NULL || rounded > chunk->capacity - chunk->used) {
        chunk = chunk_add(arena, rounded);
        if (chunk == NULL)
            return failed(arena, TD_NO_MEMORY);
    }
    memory = chunk->bytes + chunk->used;
    chunk->used += rounded;
    arena->used += rounded;
    return memory;
}

void *td_arena_alloc(struct td_arena *arena, size_t bytes)
{
    void *memory = td_arena_alloc_unset(arena, bytes);

    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

void *td_arena_array(struct td_arena *arena, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return failed(arena, TD_LIMIT);
    return td_arena_alloc(arena, bytes);
}

char *td_arena_text(struct td_arena *arena, const char *text, size_t length)
{
    char *copy;

    if (length == SIZE_MAX)
        return failed(arena, TD_LIMIT);
    copy = td_arena_alloc_unset(arena, length + 1);
    if (copy == NULL)
        return NULL;
    if (length > 0)
        memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}
