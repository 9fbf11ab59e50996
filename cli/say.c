/* say.c: see say.h. */
#include "cli/say.h"

#include <stdio.h>
#include <unistd.h>

#define LINE_BYTES 1024

void cli_say(const char *format, ...)
{
    char line[LINE_BYTES] = "tandem: ";
    size_t start = 8;
    va_list arguments;
    int length;
    ssize_t written;

    va_start(arguments, format);
    length = vsnprintf(line + start, sizeof line - start - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    if ((size_t)length > sizeof line - start - 2)
        length = (int)(sizeof line - start - 2);
    line[start + (size_t)length] = '\n';
    written = write(STDERR_FILENO, line, start + (size_t)length + 1);
    (void)written; /* nobody else to tell */
}
