/* status.c: texts of the status codes, and filling of struct td_error. */
#include "lib/base/status.h"

#include <stdio.h>
#include <string.h>

#define CONTEXT_BYTES_MAX 120

const char *td_status_text(td_status_t status)
{
    switch (status) {
#define X(name, value, text) \
    case TD_##name: return text;
        TD_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

const char *td_status_name(td_status_t status)
{
    switch (status) {
    case TD_OK: return "ok";
    case TD_AGAIN: return "again";
    case TD_INVALID: return "invalid";
    case TD_LIMIT: return "limit";
    case TD_NO_MEMORY: return "no_memory";
    case TD_TIMEOUT: return "timeout";
    case TD_PEER_LOST: return "peer_lost";
    case TD_CANCELED: return "canceled";
    case TD_REFUSED: return "refused";
    case TD_NOT_FOUND: return "not_found";
    case TD_UNSUPPORTED: return "unsupported";
    case TD_EXHAUSTED: return "exhausted";
    case TD_CORRUPT: return "corrupt";
    case TD_STALE: return "stale";
    case TD_IO: return "io";
    case TD_STATE: return "state";
    case TD_INTERNAL: return "internal";
    }
    return "unknown";
}

/* What a file or a peer put into a name must not move a terminal's cursor, or look like a second line. */
static void make_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

td_status_t td_fail(struct td_error *error, td_status_t status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;

        error->status = status;
        va_start(arguments, format);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
        make_one_line(error->text);
    }
    return status;
}

/* What went wrong matters most: the context is cut to 120 bytes, and only then the rest to fit. */
void td_fail_wrap(struct td_error *error, const char *format, ...)
{
    char text[sizeof error->text] = "";
    va_list arguments;
    size_t used;
    size_t rest;

    if (error == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(text, CONTEXT_BYTES_MAX + 1, format, arguments);
    va_end(arguments);
    make_one_line(text);
    used = strlen(text);
    text[used++] = ':';
    text[used++] = ' ';
    rest = strlen(error->text);
    if (rest > sizeof text - 1 - used)
        rest = sizeof text - 1 - used;
    memcpy(text + used, error->text, rest);
    text[used + rest] = '\0';
    memcpy(error->text, text, sizeof text);
}
