/* trace.h: the "tandem" object of an answer: where the time went, and the KV that crossed. */
#ifndef TANDEM_FRONT_TRACE_H
#define TANDEM_FRONT_TRACE_H

#include "front/result.h"
#include "lib/base/buf.h"

/* Appends {"stages_ms":{...},"kv":{...}}. */
void front_trace_write(const struct front_result *result, struct td_buf *out);

#endif
