/*
 * distance.h: how far apart two names are, for "did you mean".
 */
#ifndef TANDEM_LIB_BASE_DISTANCE_H
#define TANDEM_LIB_BASE_DISTANCE_H

#include <stddef.h>

/* Beyond two edits it is a guess, not help. */
#define TD_DISTANCE_HELPFUL 2

/*
 * How many letters must be changed, added or left out to make b of a (Levenshtein). Only the first 63
 * bytes of each are looked at.
 */
size_t td_distance(const char *a, const char *b);

#endif
