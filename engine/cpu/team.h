/*
 * team.h: a small team of threads that share the units of one piece of work after another.
 *
 * The caller leads: it publishes a piece, works on it like everybody else, and returns when all units are
 * done. Units are taken from one counter, so whoever is fast does more, and a helper that was
 * not running takes none: the leader never waits for a thread that has not begun. That keeps two processes with
 * two threads each on two cores at work. Whoever waits spins for a few microseconds, then sleeps.
 *
 * Which thread does which unit is chance, so a unit's result must not depend on it. One leader at a time.
 */
#ifndef TANDEM_ENGINE_CPU_TEAM_H
#define TANDEM_ENGINE_CPU_TEAM_H

#include <stdint.h>

#include "lib/base/status.h"

#define CPU_THREADS_MAX 256
#define CPU_UNITS_MAX   ((UINT32_C(1) << 28) - 1)

struct cpu_team;

/* Does one unit. thread is 0 for the leader and below the team's size for helpers: names scratch memory. */
typedef void (*cpu_unit_fn)(void *context, uint32_t unit, uint32_t thread);

/* A team of `threads` with the caller counted: starts threads - 1 helpers. */
td_status_t cpu_team_open(uint32_t threads, struct cpu_team **team_out,
                          struct td_error *error) TD_MUST_USE;

/* Ends and joins the helpers. No run may be going on. */
void cpu_team_close(struct cpu_team *team);

/* Does units 0 to units - 1 (at most CPU_UNITS_MAX) and returns when all of them are done. */
void cpu_team_run(struct cpu_team *team, cpu_unit_fn unit_fn, void *context, uint32_t units);

uint32_t cpu_team_threads(const struct cpu_team *team);

#endif
