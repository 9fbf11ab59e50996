/*
 * share.h: which prompts go on in a step, and by how many rows; part of the engine core.
 *
 * Half of the room is for the prompt that has been here longest. The rest, and what that one does not
 * need, goes to the prompts in order of what is left of them, shortest first; among equals the older goes first.
 *
 * So prompts of one length are computed one after the other, which is best for all of them; a short prompt
 * passes a long one that came before it; and nobody waits for ever, whatever keeps coming: a prompt
 * with n rows to go, and m rows in all before it among the older, is through after at most
 * (n + m) / ceil(room / 2) steps and one more for each of them, since that many rows of the oldest are
 * computed in each step. The same holds for time, where room is bounded by time.
 */
#ifndef TANDEM_ENGINE_SHARE_H
#define TANDEM_ENGINE_SHARE_H

#include <stdint.h>

#include "engine/pace.h"

/* A prompt that could go on. */
struct engine_chunk {
    uint32_t position; /* of its next row */
    uint32_t left;     /* rows to go; at least 1 */
    uint32_t rows;     /* output: how many of them in this step */
};

/* What prompts may have of a step. */
struct engine_room {
    uint32_t rows;
    uint32_t sure; /* of these, so many however long they take */
    double ns;     /* for all of them; INFINITY: no bound */
};

/* Fills in rows of `count` chunks, which are in order of arrival. order is scratch for `count` pointers. */
void engine_share(const struct engine_pace *pace, struct engine_room room,
                  struct engine_chunk *chunks, struct engine_chunk **order, uint32_t count);

#endif
