/* show.c: see show.h. */
#include "model/show.h"

const char *model_show(struct td_span text, char *out, size_t size)
{
    size_t length = text.length < size ? text.length : size - 1;

    for (size_t i = 0; i < length; i++)
        out[i] = (unsigned char)text.bytes[i] < 0x20 || text.bytes[i] == 0x7f ? '?' : text.bytes[i];
    out[length] = '\0';
    return out;
}
