/*
 * engine_report.h: what bench/engine_rig.h has measured, for people and for programs.
 */
#ifndef TANDEM_BENCH_ENGINE_REPORT_H
#define TANDEM_BENCH_ENGINE_REPORT_H

#include "bench/engine_rig.h"

/* Tables to stdout. */
void bench_engine_table(const struct bench_rig *rig);

/* One JSON object to stdout: keys in snake_case, units last. */
void bench_engine_json(const struct bench_rig *rig);

#endif
