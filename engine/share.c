/* share.c: dividing the room of a step among prompts; see share.h. */
#include "engine/share.h"

#include <math.h>
#include <stdlib.h>

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static struct engine_room half_of(const struct engine_room *room)
{
    return (struct engine_room){
        .rows = room->rows - room->rows / 2,
        .sure = room->sure - room->sure / 2,
        .ns = room->ns / 2,
    };
}

/* Gives a chunk as many rows as fit into `part`, at the expense of room. */
static void grant(const struct engine_pace *pace, struct engine_chunk *chunk,
                  struct engine_room part, struct engine_room *room)
{
    uint32_t position = chunk->position + chunk->rows;
    uint32_t wanted = least(chunk->left - chunk->rows, part.rows);
    uint32_t rows = engine_pace_fit(pace, position, wanted, part.ns);

    if (rows < part.sure)
        rows = least(wanted, part.sure);
    if (rows == 0)
        return;
    chunk->rows += rows;
    room->rows -= rows;
    room->sure -= least(rows, room->sure);
    room->ns = fmax(0, room->ns - engine_pace_cost(pace, position, rows));
}

/* What is left, then arrival: chunks lie in that order. */
static int by_left(const void *a, const void *b)
{
    const struct engine_chunk *first = *(struct engine_chunk *const *)a;
    const struct engine_chunk *second = *(struct engine_chunk *const *)b;

    if (first->left != second->left)
        return first->left < second->left ? -1 : 1;
    return first < second ? -1 : first > second;
}

void engine_share(const struct engine_pace *pace, struct engine_room room,
                  struct engine_chunk *chunks, struct engine_chunk **order, uint32_t count)
{
    struct engine_room half = half_of(&room);

    for (uint32_t i = 0; i < count; i++) {
        chunks[i].rows = 0;
        order[i] = &chunks[i];
    }
    if (count > 1) {
        grant(pace, &chunks[0], half, &room);
        qsort(order, count, sizeof *order, by_left);
    }
    for (uint32_t i = 0; i < count && room.rows > 0; i++)
        grant(pace, order[i], room, &room);
}
