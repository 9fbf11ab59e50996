/*
 * nearest.h: which known name somebody may have meant, for "did you mean".
 */
#ifndef TANDEM_LIB_BASE_NEAREST_H
#define TANDEM_LIB_BASE_NEAREST_H

#include <stddef.h>

/* The nearest of the names offered so far. Zeroed: none was. */
struct td_nearest {
    const char *name; /* NULL: none is near enough to be help and not a guess */
    size_t edits;
};

/*
 * Offers a name, which must live as long as the struct. Near are names that letters changed, added or left
 * out turn into each other (Levenshtein), at most two of them and not all of the name; of equally near ones
 * the first. Only the first 63 bytes of each are looked at.
 */
void td_nearest_offer(struct td_nearest *nearest, const char *wanted, const char *name);

#endif
