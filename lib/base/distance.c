/* distance.c: see distance.h. One row of the table at a time. */
#include "lib/base/distance.h"

#define BYTES_MAX 63

size_t td_distance(const char *a, const char *b)
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
