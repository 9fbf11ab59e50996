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
    arena->used = 0;
}

static struct td_arena_chunk *chunk_add(struct td_arena *arena, size_t bytes)
{
    size_t capacity = bytes > ARENA_CHUNK_BYTES ? bytes : ARENA_CHUNK_BYTES;
    struct td_arena_chunk *chunk = malloc(sizeof *chunk + capacity);

    if (chunk == NULL)
        return NULL;
    chunk->used = 0;
    chunk->capacity = capacity;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return chunk;
}

void *td_arena_alloc(struct td_arena *arena, size_t bytes)
{
    struct td_arena_chunk *chunk = arena->chunks;
    size_t rounded;
    void *memory;

    if (bytes > SIZE_MAX - ARENA_ALIGNMENT)
        return NULL;
    rounded = (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
    if (rounded > arena->bytes_max - arena->used)
        return NULL;
    if (chunk == NULL || rounded > chunk->capacity - chunk->used) {
        chunk = chunk_add(arena, rounded);
        if (chunk == NULL)
            return NULL;
    }
    memory = chunk->bytes + chunk->used;
    chunk->used += rounded;
    arena->used += rounded;
    memset(memory, 0, rounded);
    return memory;
}

void *td_arena_array(struct td_arena *arena, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return td_arena_alloc(arena, bytes);
}

char *td_arena_text(struct td_arena *arena, const char *text, size_t length)
{
    char *copy;

    if (length == SIZE_MAX)
        return NULL;
    copy = td_arena_alloc(arena, length + 1);
    if (copy != NULL && length > 0)
        memcpy(copy, text, length);
    return copy;
}
