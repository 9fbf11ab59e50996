/*
 * limits.h: what this machine could do at most, measured in the same run as what it does.
 *
 * Two limits bound a CPU backend: how fast its threads can read the packed weights, and how many whole-number
 * products they can make in registers. Both are measured with the instructions that the kernels in use have: wide
 * loads from several streams at once, for one stream does not keep enough of them on their way; and chains of
 * the multiplication itself, without a load between them.
 */
#ifndef TANDEM_BENCH_LIMITS_H
#define TANDEM_BENCH_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/team.h"

#define BENCH_STREAMS      4 /* of one thread; with 1 a third less was measured, 8 gained nothing */
#define BENCH_STREAM_BYTES 256 /* taken from one stream before the next */

/* One instruction set. */
struct bench_probe {
    /* Reads BENCH_STREAMS streams of `bytes` each (a multiple of BENCH_STREAM_BYTES), one behind the other. */
    uint64_t (*read)(const uint8_t *memory, size_t bytes);
    /* Multiplies bytes in registers so many rounds; NULL if there are no such instructions. */
    uint64_t (*multiply)(uint64_t rounds);
    uint64_t round_operations; /* a multiplication and an addition are two */
};

extern const struct bench_probe bench_probe_plain;
extern const struct bench_probe bench_probe_avx2;   /* only where the processor is an x86-64 */
extern const struct bench_probe bench_probe_avx512; /* the same */
extern const struct bench_probe bench_probe_vnni;   /* the same */

/* The one for kernels of this name (cpu_kernels_name). */
const struct bench_probe *bench_probe_for(const char *kernels);

/* GB/s of reading this memory with the whole team, some milliseconds long. */
double bench_limit_read(const struct bench_probe *probe, struct cpu_team *team,
                        const uint8_t *memory, size_t bytes);

/* Billions of operations a second of the whole team; 0 if the probe cannot multiply. */
double bench_limit_multiply(const struct bench_probe *probe, struct cpu_team *team);

#endif
