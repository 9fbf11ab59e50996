/*
 * index.c: `tandem bench index`: how fast the scheduler's prefix index takes changes and finds prefixes.
 *
 * The table is filled to the last place with keys in random order, as block keys come from many
 * requests at once, so that hardly any access finds its memory in a cache. Each repeat also counts how
 * many independent random reads per second the same amount of memory gives: a key that is found costs
 * at least two, its bucket and its entry.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/stats.h"
#include "lib/base/flags.h"
#include "lib/base/progress.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "lib/net/program.h"
#include "scheduler/index.h"

#define SEED        2026
#define OWNERS      8       /* each key is held by two of them */
#define MATCHES     1000000 /* keys looked up per repeat, at least */
#define MISSES      100000
#define READS       4000000
#define FIXED_BYTES 8192 /* more than the index itself takes beside its table */
#define BYTES_A_KEY 60
#define SWEEP_CHUNK 16384

struct options {
    uint32_t keys;
    uint32_t prefix_keys;
    uint32_t repeats;
    bool json;
};

struct rig {
    struct options options;
    uint64_t *pairs; /* [2 * keys]: prefix after prefix */
    uint32_t *order; /* [keys]: in which they are put */
    uint64_t *memory;
    size_t memory_words;
    struct td_rng rng;
    struct sched_index *index;
    uint16_t owners[OWNERS];
    struct sched_index_stats shape;
    struct bench_stats insert_per_s;
    struct bench_stats match_per_s;
    struct bench_stats match_us;
    struct bench_stats miss_per_s;
    struct bench_stats churn_per_s;
    struct bench_stats drop_per_s;
    struct bench_stats sweep_per_s;
    struct bench_stats read_per_s;
};

static const struct td_flag flags[] = {
    {TD_FLAG_AS_UINT32(struct options, keys), .name = "keys", .fallback = "1048576", .min = 1024,
     .max = 1 << 26, .help = "Keys in the index, which is just large enough for them."},
    {TD_FLAG_AS_UINT32(struct options, prefix_keys), .name = "prefix-keys", .fallback = "4096",
     .min = 1, .max = 1024 * 1024, .help = "Keys of each prompt that is looked up."},
    {TD_FLAG_AS_UINT32(struct options, repeats), .name = "repeats", .fallback = "5", .min = 1,
     .max = BENCH_SAMPLES_MAX, .help = "How often everything is measured, in turn."},
    {TD_FLAG_AS_BOOL(struct options, json), .name = "json", .help = "Write one JSON object."},
};

/* ------------------------------------------------------------------ measuring */

static double per_s(uint64_t count, uint64_t start_ns)
{
    return (double)count * 1e9 / (double)(td_now_ns() - start_ns);
}

static struct td_u128 key_at(const struct rig *rig, uint32_t i)
{
    return (struct td_u128){.hi = rig->pairs[2 * (size_t)i], .lo = rig->pairs[2 * (size_t)i + 1]};
}

/* Every prefix belongs to two owners as a whole. */
static uint16_t owner_of(const struct rig *rig, uint32_t key, uint32_t which)
{
    return rig->owners[(key / rig->options.prefix_keys + which) % OWNERS];
}

static void measure_insert(struct rig *rig)
{
    uint64_t start_ns = td_now_ns();

    for (uint32_t which = 0; which < 2; which++)
        for (uint32_t i = 0; i < rig->options.keys; i++)
            sched_index_put(rig->index, owner_of(rig, rig->order[i], which),
                            key_at(rig, rig->order[i]));
    bench_stats_add(&rig->insert_per_s, per_s(2 * (uint64_t)rig->options.keys, start_ns));
}

/* Finds whole prefixes; returns the keys found, which must be all. */
static uint64_t measure_match(struct rig *rig)
{
    uint32_t prefix = rig->options.prefix_keys;
    uint32_t prefixes = rig->options.keys / prefix;
    uint32_t rounds = (MATCHES + prefix - 1) / prefix;
    uint32_t depth[SCHED_OWNERS_MAX];
    uint64_t found = 0;
    uint64_t start_ns = td_now_ns();

    for (uint32_t i = 0; i < rounds; i++) {
        uint32_t first = (uint32_t)td_rng_below(&rig->rng, prefixes) * prefix;
        struct sched_keys keys = {.pairs = rig->pairs + 2 * (size_t)first, .count = prefix};

        sched_index_match(rig->index, keys, depth);
        found += depth[owner_of(rig, first, 0)];
    }
    bench_stats_add(&rig->match_us, (double)(td_now_ns() - start_ns) / 1e3 / rounds);
    bench_stats_add(&rig->match_per_s, per_s((uint64_t)rounds * prefix, start_ns));
    return found - (uint64_t)rounds * prefix;
}

static void measure_miss(struct rig *rig)
{
    uint32_t depth[SCHED_OWNERS_MAX];
    uint64_t start_ns = td_now_ns();

    for (uint32_t i = 0; i < MISSES; i++) {
        uint64_t pair[2] = {td_rng_next(&rig->rng), td_rng_next(&rig->rng)};

        sched_index_match(rig->index, (struct sched_keys){.pairs = pair, .count = 1}, depth);
    }
    bench_stats_add(&rig->miss_per_s, per_s(MISSES, start_ns));
}

static struct td_u128 random_key(struct rig *rig)
{
    uint64_t hi = td_rng_next(&rig->rng);

    return (struct td_u128){.hi = hi, .lo = td_rng_next(&rig->rng)};
}

/* The table is full: each new key pushes one out. */
static void measure_churn(struct rig *rig)
{
    uint32_t count = rig->options.keys / 4;
    uint64_t start_ns = td_now_ns();

    for (uint32_t i = 0; i < count; i++)
        sched_index_put(rig->index, rig->owners[i % OWNERS], random_key(rig));
    bench_stats_add(&rig->churn_per_s, per_s(count, start_ns));
}

static void measure_drop(struct rig *rig)
{
    uint32_t count = rig->options.keys / 2;
    uint64_t start_ns = td_now_ns();

    for (uint32_t i = 0; i < count; i++)
        sched_index_drop(rig->index, owner_of(rig, rig->order[i], 0), key_at(rig, rig->order[i]));
    bench_stats_add(&rig->drop_per_s, per_s(count, start_ns));
}

/* All owners leave; the sweep walks the table once. */
static void measure_sweep(struct rig *rig)
{
    uint64_t start_ns = td_now_ns();

    for (uint32_t i = 0; i < OWNERS; i++)
        sched_index_release(rig->index, rig->owners[i]);
    while (sched_index_sweep(rig->index, SWEEP_CHUNK))
        continue;
    bench_stats_add(&rig->sweep_per_s, per_s(rig->shape.count_max, start_ns));
}

static void measure_memory(struct rig *rig)
{
    volatile uint64_t sink;
    uint64_t sum = 0;
    uint64_t at = 88172645463325252;
    uint64_t start_ns = td_now_ns();

    for (uint32_t i = 0; i < READS; i++) {
        at ^= at << 13; /* xorshift64 (Marsaglia): the addresses do not wait for the reads */
        at ^= at >> 7;
        at ^= at << 17;
        sum += rig->memory[at % rig->memory_words];
    }
    sink = sum;
    (void)sink;
    bench_stats_add(&rig->read_per_s, per_s(READS, start_ns));
}

static td_status_t measure_once(struct rig *rig, struct td_error *error)
{
    const struct td_u128 seed = {.hi = td_rng_next(&rig->rng), .lo = td_rng_next(&rig->rng)};
    size_t bytes = FIXED_BYTES + (size_t)rig->options.keys * BYTES_A_KEY;
    td_status_t status = sched_index_open(bytes, seed, &rig->index);
    uint64_t missing;

    if (status != TD_OK)
        return td_fail(error, status, "index: %s", td_status_text(status));
    rig->shape = sched_index_stats(rig->index);
    for (uint32_t i = 0; i < OWNERS; i++)
        if (sched_index_claim(rig->index, &rig->owners[i]) != TD_OK)
            abort(); /* a new index has room for all */
    measure_insert(rig);
    missing = measure_match(rig);
    measure_miss(rig);
    measure_churn(rig);
    measure_drop(rig);
    measure_sweep(rig);
    measure_memory(rig);
    sched_index_close(rig->index);
    return missing == 0 ? TD_OK : td_fail(error, TD_INTERNAL, "keys that were put are missing");
}

/* ------------------------------------------------------------------ reporting */

static const struct {
    const char *name; /* in JSON */
    const char *text;
    const char *unit;
    double scale;
    size_t offset;
} rows[] = {
    {"insert_keys_per_s", "insert", "million keys/s", 1e6, offsetof(struct rig, insert_per_s)},
    {"match_keys_per_s", "match, per key", "million keys/s", 1e6,
     offsetof(struct rig, match_per_s)},
    {"match_us", "match, per prompt", "us", 1, offsetof(struct rig, match_us)},
    {"miss_per_s", "match of nothing", "million/s", 1e6, offsetof(struct rig, miss_per_s)},
    {"churn_keys_per_s", "insert when full", "million keys/s", 1e6,
     offsetof(struct rig, churn_per_s)},
    {"drop_keys_per_s", "remove", "million keys/s", 1e6, offsetof(struct rig, drop_per_s)},
    {"sweep_keys_per_s", "sweep", "million keys/s", 1e6, offsetof(struct rig, sweep_per_s)},
    {"memory_random_reads_per_s", "random reads", "million/s", 1e6,
     offsetof(struct rig, read_per_s)},
};

#define ROW_COUNT (sizeof rows / sizeof rows[0])

static const struct bench_stats *stats_of(const struct rig *rig, size_t row)
{
    return (const struct bench_stats *)(const void *)((const char *)rig + rows[row].offset);
}

static void report_json(const struct rig *rig)
{
    struct td_buf buf;
    struct td_json_writer writer;

    td_buf_init(&buf, (size_t)1 << 16);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    td_json_put_uint(&writer, "keys", rig->options.keys);
    td_json_put_uint(&writer, "prefix_keys", rig->options.prefix_keys);
    td_json_put_uint(&writer, "repeats", rig->options.repeats);
    td_json_put_uint(&writer, "index_bytes", rig->shape.bytes);
    for (size_t i = 0; i < ROW_COUNT; i++)
        bench_stats_put(&writer, rows[i].name, stats_of(rig, i));
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}

static void report_table(const struct rig *rig)
{
    printf("%" PRIu32 " keys in %zu bytes, prompts of %" PRIu32 " keys, %" PRIu32 " repeats\n",
           rig->options.keys, rig->shape.bytes, rig->options.prefix_keys, rig->options.repeats);
    printf("%-24s %10s %10s %10s\n", "", "min", "median", "max");
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct bench_stats *stats = stats_of(rig, i);

        printf("%-24s %10.2f %10.2f %10.2f  %s\n", rows[i].text,
               bench_stats_at(stats, 0.0) / rows[i].scale,
               bench_stats_median(stats) / rows[i].scale,
               bench_stats_at(stats, 1.0) / rows[i].scale, rows[i].unit);
    }
}

/* ------------------------------------------------------------------ opening */

static void shuffle(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->options.keys; i++)
        rig->order[i] = i;
    for (uint32_t i = rig->options.keys; i > 1; i--) {
        uint32_t other = (uint32_t)td_rng_below(&rig->rng, i);
        uint32_t swap = rig->order[i - 1];

        rig->order[i - 1] = rig->order[other];
        rig->order[other] = swap;
    }
}

static td_status_t open_rig(struct rig *rig, struct td_error *error)
{
    size_t keys = rig->options.keys;

    if (rig->options.prefix_keys > rig->options.keys)
        return td_fail(error, TD_INVALID, "--prefix-keys is more than --keys");
    rig->memory_words = keys * BYTES_A_KEY / sizeof *rig->memory;
    rig->pairs = calloc(2 * keys, sizeof *rig->pairs);
    rig->order = calloc(keys, sizeof *rig->order);
    rig->memory = malloc(rig->memory_words * sizeof *rig->memory);
    if (rig->pairs == NULL || rig->order == NULL || rig->memory == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the measurement");
    td_rng_init(&rig->rng, SEED);
    for (size_t i = 0; i < 2 * keys; i++)
        rig->pairs[i] = td_rng_next(&rig->rng);
    memset(rig->memory, 1, rig->memory_words * sizeof *rig->memory);
    shuffle(rig);
    return TD_OK;
}

static void close_rig(struct rig *rig)
{
    free(rig->pairs);
    free(rig->order);
    free(rig->memory);
}

/* Returns -1 to go on, or the status to exit with. */
static int parse_options(struct options *options, int argc, char **argv, struct td_arena *arena)
{
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = options};
    const struct td_flags program = {.program = "tandem bench index",
                                     .summary = "Measures the scheduler's prefix index.",
                                     .usage = "[flags]",
                                     .purpose = "measures the scheduler's prefix index",
                                     .about =
                                         "Prints changes and matches a second beside the random "
                                         "reads that the memory can do, which bound both.",
                                     .examples = "  tandem bench index\n"
                                                 "  tandem bench index --json\n",
                                     .see_also = "tandem-bench(1), tandem-scheduler(1)",
                                     .tables = &table,
                                     .table_count = 1};
    struct td_flags_result result = {0};
    int exit_status = net_program_flags(&program, argc, argv, arena, &result);

    return exit_status < 0 ? net_program_no_words(&program, &result) : exit_status;
}

int bench_index(int argc, char **argv)
{
    struct rig rig = {0};
    struct td_progress progress;
    struct td_arena arena;
    struct td_error error = {0};
    td_status_t status;
    int exit_status;

    exit_status = parse_options(&rig.options, argc, argv, &arena);
    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_OK;
    status = open_rig(&rig, &error);
    td_progress_begin(&progress, "tandem bench index", "measuring");
    for (uint32_t i = 0; i < rig.options.repeats && status == TD_OK; i++) {
        td_progress_update(&progress, i, rig.options.repeats);
        status = measure_once(&rig, &error);
    }
    td_progress_hide(&progress);
    if (status != TD_OK) {
        fprintf(stderr, "tandem bench index: %s\n", error.text);
        exit_status = NET_EXIT_FAILURE;
    } else if (rig.options.json) {
        report_json(&rig);
    } else {
        report_table(&rig);
    }
    close_rig(&rig);
fini_arena:
    td_arena_fini(&arena);
    return exit_status;
}
