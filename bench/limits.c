/* limits.c: see limits.h. */
#include "bench/limits.h"

#include <string.h>

#include "lib/base/time.h"

#define UNIT_BYTES      ((size_t)1 << 20) /* read by one thread at a time */
#define MEASURE_NS_MIN  ((uint64_t)30000000)
#define MULTIPLY_UNITS  64
#define MULTIPLY_ROUNDS 20000 /* of a unit: a fraction of a millisecond */

struct reading {
    const struct bench_probe *probe;
    const uint8_t *memory;
    size_t bytes;
};

/* What a probe returns goes here, so that no compiler leaves out the work. */
static void sink(uint64_t value)
{
    volatile uint64_t place = value;

    (void)place;
}

static uint64_t read_plain(const uint8_t *memory, size_t bytes)
{
    uint64_t sums[BENCH_STREAM_BYTES / sizeof(uint64_t)] = {0};
    uint64_t words[BENCH_STREAM_BYTES / sizeof(uint64_t)];
    uint64_t sum = 0;

    for (size_t i = 0; i < bytes; i += BENCH_STREAM_BYTES)
        for (size_t stream = 0; stream < BENCH_STREAMS; stream++) {
            memcpy(words, memory + stream * bytes + i, sizeof words);
            for (size_t word = 0; word < sizeof words / sizeof words[0]; word++)
                sums[word] |= words[word];
        }
    for (size_t word = 0; word < sizeof sums / sizeof sums[0]; word++)
        sum |= sums[word];
    return sum;
}

const struct bench_probe bench_probe_plain = {.read = read_plain};

const struct bench_probe *bench_probe_for(const char *kernels)
{
#ifdef __x86_64__
    if (strcmp(kernels, "avx2") == 0)
        return &bench_probe_avx2;
    if (strcmp(kernels, "avx512") == 0)
        return &bench_probe_avx512;
    if (strcmp(kernels, "vnni") == 0 || strcmp(kernels, "bf16") == 0)
        return &bench_probe_vnni;
#endif
    (void)kernels;
    return &bench_probe_plain;
}

static void read_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct reading *reading = context;
    size_t first = unit * UNIT_BYTES;
    size_t left = reading->bytes - first;
    size_t bytes = (left < UNIT_BYTES ? left : UNIT_BYTES) / BENCH_STREAMS;

    (void)thread;
    sink(reading->probe->read(reading->memory + first, bytes));
}

double bench_limit_read(const struct bench_probe *probe, struct cpu_team *team,
                        const uint8_t *memory, size_t bytes)
{
    size_t whole = bytes / (BENCH_STREAMS * BENCH_STREAM_BYTES);
    struct reading reading = {
        .probe = probe, .memory = memory, .bytes = whole * BENCH_STREAMS * BENCH_STREAM_BYTES};
    uint32_t units = (uint32_t)((reading.bytes + UNIT_BYTES - 1) / UNIT_BYTES);
    uint64_t start_ns = td_now_ns();
    uint64_t elapsed_ns;
    double read = 0;

    do {
        cpu_team_run(team, read_unit, &reading, units);
        read += (double)reading.bytes;
        elapsed_ns = td_now_ns() - start_ns;
    } while (elapsed_ns < MEASURE_NS_MIN);
    return read / (double)elapsed_ns;
}

static void multiply_unit(void *context, uint32_t unit, uint32_t thread)
{
    const struct bench_probe *probe = context;

    (void)unit;
    (void)thread;
    sink(probe->multiply(MULTIPLY_ROUNDS));
}

double bench_limit_multiply(const struct bench_probe *probe, struct cpu_team *team)
{
    struct bench_probe own = *probe;
    uint64_t start_ns = td_now_ns();
    uint64_t elapsed_ns;
    double rounds = 0;

    if (probe->multiply == NULL)
        return 0;
    do {
        cpu_team_run(team, multiply_unit, &own, MULTIPLY_UNITS);
        rounds += (double)MULTIPLY_UNITS * MULTIPLY_ROUNDS;
        elapsed_ns = td_now_ns() - start_ns;
    } while (elapsed_ns < MEASURE_NS_MIN);
    return rounds * (double)probe->round_operations / (double)elapsed_ns;
}
