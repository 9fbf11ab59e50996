/* status.c: texts of the status codes, and filling of struct td_error. */
#include "lib/base/status.h"

#include <stdio.h>
#include <string.h>

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

td_status_t td_fail(struct td_error *error, td_status_t status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;

        error->status = status;
        va_start(arguments, format);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

void td_fail_wrap(struct td_error *error, const char *format, ...)
{
    char inner[sizeof error->text];
    char context[sizeof error->text];
    va_list arguments;

    if (error == NULL)
        return;
    memcpy(inner, error->text, sizeof inner);
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    snprintf(error->text, sizeof error->text, "%.120s: %.130s", context, inner);
}
