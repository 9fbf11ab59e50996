/*
 * fleet_json.h: every worker as the scheduler sees it, for /fleet.
 */
#ifndef TANDEM_SCHEDULER_FLEET_JSON_H
#define TANDEM_SCHEDULER_FLEET_JSON_H

#include "lib/base/buf.h"
#include "scheduler/core.h"

/* Appends {"workers": [...], "index": {...}}. Ids are hexadecimal texts: JSON has no 64 bits. */
void sched_fleet_write_json(const struct sched_core *core, struct td_buf *out);

#endif
