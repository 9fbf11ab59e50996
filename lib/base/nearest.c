/* nearest.c: see nearest.h. */
#include "lib/base/nearest.h"

#include <string.h>

#define BYTES_MAX 63
#define EDITS_MAX 2 /* beyond these it is a guess, not help */

/* The edits that make b of a; one row of the table at a time. */
static size_t edits_between(const char *a, const char *b)
{
    size_t row[BYTES_MAX + 1];
    size_t length = 0;

    while (length < BYTES_MAX && b[length] != '\0')
        length++;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 0; i < BYTES_MAX && a[i] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            best = row[j + 1] + 1 < best ? row[j + 1] + 1 : best;
            row[j + 1] = row[j] + 1 < best ? row[j] + 1 : best;
        }
    }
    return row[length];
}

void td_nearest_offer(struct td_nearest *nearest, const char *wanted, const char *name)
{
    size_t edits = edits_between(wanted, name);

    if (edits > EDITS_MAX || edits >= strlen(name) ||
        (nearest->name != NULL && edits >= nearest->edits))
        return;
    *nearest = (struct td_nearest){name, edits};
}
