/* engine_report.c: see engine_report.h. */
#include "bench/engine_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/cpu/kernels.h"
#include "lib/base/buf.h"

/* Mean milliseconds of a phase: of a whole prompt, or of a step of decoding. */
static double phase_ms(const struct bench_rig *rig, const struct bench_cell *cell, unsigned phase)
{
    double count = cell == &rig->prompt ? rig->options->repeats : (double)cell->phases.steps;

    return (double)cell->phases.ns[phase] / count / 1e6;
}

static double all_phases_ms(const struct bench_rig *rig, const struct bench_cell *cell)
{
    double sum = 0;

    for (unsigned phase = 0; phase < CPU_PHASE_COUNT; phase++)
        sum += phase_ms(rig, cell, phase);
    return sum;
}

/* ------------------------------------------------------------------ for people */

static void say(const char *what, const struct bench_stats *stats, double scale, const char *unit)
{
    printf("%-26s %10.2f %10.2f %10.2f  %s\n", what, bench_stats_at(stats, 0.0) * scale,
           bench_stats_median(stats) * scale, bench_stats_at(stats, 1.0) * scale, unit);
}

static void say_phases(const struct bench_rig *rig)
{
    uint32_t batches = rig->options->batch_count;

    printf("\n%-26s %10s", "time, in ms", "prompt");
    for (uint32_t i = 0; i < batches; i++)
        printf("  step of %3" PRIu32, rig->options->batches[i]);
    printf("\n");
    for (unsigned phase = 0; phase < CPU_PHASE_COUNT; phase++) {
        printf("%-26s %10.3f", cpu_phase_name((enum cpu_phase)phase),
               phase_ms(rig, &rig->prompt, phase));
        for (uint32_t i = 0; i < batches; i++)
            printf(" %11.3f", phase_ms(rig, &rig->decode[i], phase));
        printf("\n");
    }
    printf("%-26s %10.3f", "all", all_phases_ms(rig, &rig->prompt));
    for (uint32_t i = 0; i < batches; i++)
        printf(" %11.3f", all_phases_ms(rig, &rig->decode[i]));
    printf("\n");
}

void bench_engine_table(const struct bench_rig *rig)
{
    const struct bench_engine_options *options = rig->options;
    char what[64];

    printf("%s, %s kernels, %" PRIu32 " threads, %s, KV %s, %" PRIu32 " tokens in front, %" PRIu32
           " repeats\n",
           rig->model->name, cpu_kernels_name(), options->threads, rig->backend->info.numerics,
           rig->backend->info.kv_dtype, options->depth, options->repeats);
    printf("%-26s %10s %10s %10s\n", "", "min", "median", "max");
    say("reading packed weights", &rig->read_gb_per_s, 1, "GB/s");
    if (rig->multiply_gop_per_s.count > 0)
        say("multiplying in registers", &rig->multiply_gop_per_s, 1, "billion int8 operations/s");
    snprintf(what, sizeof what, "prompt of %" PRIu32, options->prompt);
    say(what, &rig->prompt.tokens_per_s, 1, "tokens/s");
    if (rig->prompt.limit_share.count > 0)
        say("", &rig->prompt.limit_share, 100, "% of multiplying");
    for (uint32_t i = 0; i < options->batch_count; i++) {
        snprintf(what, sizeof what, "decode, batch of %" PRIu32, options->batches[i]);
        say(what, &rig->decode[i].tokens_per_s, 1, "tokens/s");
        say("", &rig->decode[i].limit_share, 100, "% of reading");
    }
    say_phases(rig);
}

/* ------------------------------------------------------------------ for programs */

static void put_phases(struct td_json_writer *writer, const struct bench_rig *rig,
                       const struct bench_cell *cell)
{
    char key[64];

    td_json_begin_object(writer, "phases_ms");
    for (unsigned phase = 0; phase < CPU_PHASE_COUNT; phase++) {
        snprintf(key, sizeof key, "%s", cpu_phase_name((enum cpu_phase)phase));
        for (char *space = key; (space = strchr(space, ' ')) != NULL;)
            *space = '_';
        td_json_put_double(writer, key, phase_ms(rig, cell, phase));
    }
    td_json_end(writer);
}

static void put_prompt(struct td_json_writer *writer, const struct bench_rig *rig)
{
    td_json_begin_object(writer, "prompt");
    td_json_put_uint(writer, "tokens", rig->options->prompt);
    td_json_put_double(writer, "operations", bench_rig_prompt_operations(rig));
    bench_stats_put(writer, "tokens_per_s", &rig->prompt.tokens_per_s);
    if (rig->prompt.limit_share.count > 0)
        bench_stats_put(writer, "int8_peak_share", &rig->prompt.limit_share);
    put_phases(writer, rig, &rig->prompt);
    td_json_end(writer);
}

static void put_decode(struct td_json_writer *writer, const struct bench_rig *rig, uint32_t index)
{
    uint32_t sequences = rig->options->batches[index];

    td_json_begin_object(writer, NULL);
    td_json_put_uint(writer, "batch", sequences);
    td_json_put_double(writer, "step_bytes", bench_rig_step_bytes(rig, sequences));
    bench_stats_put(writer, "tokens_per_s", &rig->decode[index].tokens_per_s);
    bench_stats_put(writer, "read_share", &rig->decode[index].limit_share);
    put_phases(writer, rig, &rig->decode[index]);
    td_json_end(writer);
}

static void put_run(struct td_json_writer *writer, const struct bench_rig *rig)
{
    const struct bench_engine_options *options = rig->options;

    td_json_put_text(writer, "model", rig->model->name);
    td_json_put_text(writer, "kernels", cpu_kernels_name());
    td_json_put_text(writer, "kv_dtype", rig->backend->info.kv_dtype);
    td_json_put_text(writer, "numerics", rig->backend->info.numerics);
    td_json_put_uint(writer, "threads", options->threads);
    td_json_put_uint(writer, "repeats", options->repeats);
    td_json_put_uint(writer, "depth_tokens", options->depth);
    td_json_put_uint(writer, "gen_tokens", options->gen);
    td_json_put_uint(writer, "weights_bytes", rig->weights->bytes);
    td_json_put_double(writer, "kv_bytes_per_token", bench_rig_kv_bytes_per_token(rig));
}

void bench_engine_json(const struct bench_rig *rig)
{
    struct td_buf buf;
    struct td_json_writer writer;

    td_buf_init(&buf, (size_t)1 << 16);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    put_run(&writer, rig);
    bench_stats_put(&writer, "read_gb_per_s", &rig->read_gb_per_s);
    if (rig->multiply_gop_per_s.count > 0)
        bench_stats_put(&writer, "int8_peak_gop_per_s", &rig->multiply_gop_per_s);
    put_prompt(&writer, rig);
    td_json_begin_array(&writer, "decode");
    for (uint32_t i = 0; i < rig->options->batch_count; i++)
        put_decode(&writer, rig, i);
    td_json_end(&writer);
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}
