/*
 * tokenizer.c: `tandem bench tokenizer`: how fast text becomes token ids, by kind of text and by length.
 *
 * Times are those of the thread's own processor time: megabytes a second of one core, whatever else runs.
 * Beside them stands how fast the same core checks the same bytes for UTF-8, which any tokenizer has to do
 * at least, and copies them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/prose.h"
#include "bench/stats.h"
#include "lib/base/flags.h"
#include "lib/base/progress.h"
#include "lib/base/utf8.h"
#include "lib/net/program.h"
#include "lib/text/model.h"
#include "model/gguf_text.h"
#include "model/tokenizer_json.h"

#define SEED        2026
#define BYTES_MAX   ((size_t)32 << 20)
#define DRAWN_BYTES ((size_t)4 << 20) /* longer text is this again and again */
#define ROUND_BYTES ((size_t)1 << 20) /* of short texts, one measurement encodes so many */

static const size_t lengths[] = {(size_t)1 << 10, (size_t)32 << 10, (size_t)1 << 20, BYTES_MAX};

#define LENGTH_COUNT (sizeof lengths / sizeof lengths[0])

struct options {
    const char *model;
    const char *file;
    uint32_t repeats;
    bool json;
};

struct rig {
    struct options options;
    struct text_model *text;
    double read_ms;
    double open_ms;
    struct td_buf kinds[BENCH_PROSE_COUNT]; /* ROUND_BYTES of each, or all of --file in the last */
    struct td_buf mixed;                    /* BYTES_MAX */
    double bytes_per_token[BENCH_PROSE_COUNT];
    struct bench_stats kind_mb_per_s[BENCH_PROSE_COUNT];
    struct bench_stats length_mb_per_s[LENGTH_COUNT];
    struct bench_stats check_mb_per_s;
    struct bench_stats copy_mb_per_s;
};

static const struct td_flag flags[] = {
    {TD_FLAG_AS_TEXT(struct options, file), .name = "file", .fallback = "",
     .help = "Encode this file too, at most 32 MiB of it."},
    {TD_FLAG_AS_UINT32(struct options, repeats), .name = "repeats", .fallback = "5", .min = 1,
     .max = BENCH_SAMPLES_MAX, .help = "How often everything is measured, in turn."},
    {TD_FLAG_AS_BOOL(struct options, json), .name = "json", .help = "Write one JSON object."},
};

/* ------------------------------------------------------------------ measuring */

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static double mb_per_s(size_t bytes, uint64_t start_ns)
{
    return (double)bytes * 1e3 / (double)(cpu_ns() - start_ns + 1);
}

/* Encodes bytes in texts of `length`; returns how many ids. */
static td_status_t encode(const struct rig *rig, const char *bytes, size_t total, size_t length,
                          uint64_t *ids_out)
{
    td_status_t status = TD_OK;

    *ids_out = 0;
    for (size_t at = 0; at < total && status == TD_OK; at += length) {
        struct text_tokens tokens;

        text_tokens_init(&tokens, UINT32_MAX);
        status = text_encode(rig->text, bytes + at, total - at < length ? total - at : length, 0,
                             &tokens);
        *ids_out += tokens.count;
        text_tokens_fini(&tokens);
    }
    return status;
}

static td_status_t measure_encode(struct rig *rig, const struct td_buf *text, size_t total,
                                  size_t length, struct bench_stats *stats, uint64_t *ids_out)
{
    uint64_t start_ns = cpu_ns();
    td_status_t status = encode(rig, text->data, total, length, ids_out);

    bench_stats_add(stats, mb_per_s(total, start_ns));
    return status;
}

static void measure_limits(struct rig *rig, char *copy)
{
    volatile size_t sink;
    uint64_t start_ns = cpu_ns();

    sink = td_utf8_valid_prefix(rig->mixed.data, rig->mixed.length);
    bench_stats_add(&rig->check_mb_per_s, mb_per_s(rig->mixed.length, start_ns));
    start_ns = cpu_ns();
    memcpy(copy, rig->mixed.data, rig->mixed.length);
    bench_stats_add(&rig->copy_mb_per_s, mb_per_s(rig->mixed.length, start_ns));
    sink = (size_t)copy[rig->mixed.length / 2];
    (void)sink;
}

static td_status_t measure_once(struct rig *rig, char *copy)
{
    td_status_t status = TD_OK;
    uint64_t ids;

    measure_limits(rig, copy);
    for (size_t kind = 0; kind < BENCH_PROSE_COUNT && status == TD_OK; kind++) {
        const struct td_buf *text = &rig->kinds[kind];

        status =
            measure_encode(rig, text, text->length, text->length, &rig->kind_mb_per_s[kind], &ids);
        rig->bytes_per_token[kind] = (double)text->length / (double)(ids > 0 ? ids : 1);
    }
    for (size_t i = 0; i < LENGTH_COUNT && status == TD_OK; i++) {
        size_t total = lengths[i] < ROUND_BYTES ? ROUND_BYTES : lengths[i];

        status =
            measure_encode(rig, &rig->mixed, total < rig->mixed.length ? total : rig->mixed.length,
                           lengths[i], &rig->length_mb_per_s[i], &ids);
    }
    return status;
}

/* ------------------------------------------------------------------ reporting */

static void report_json(const struct rig *rig)
{
    struct td_buf buf;
    struct td_json_writer writer;
    char key[64];

    td_buf_init(&buf, (size_t)1 << 16);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    td_json_put_text(&writer, "model", rig->options.model);
    td_json_put_uint(&writer, "tokens", text_model_token_count(rig->text));
    td_json_put_double(&writer, "read_ms", rig->read_ms);
    td_json_put_double(&writer, "open_ms", rig->open_ms);
    for (size_t kind = 0; kind < BENCH_PROSE_COUNT; kind++) {
        snprintf(key, sizeof key, "%s_mb_per_s", bench_prose_name((enum bench_prose)kind));
        bench_stats_put(&writer, key, &rig->kind_mb_per_s[kind]);
        snprintf(key, sizeof key, "%s_bytes_per_token", bench_prose_name((enum bench_prose)kind));
        td_json_put_double(&writer, key, rig->bytes_per_token[kind]);
    }
    for (size_t i = 0; i < LENGTH_COUNT; i++) {
        snprintf(key, sizeof key, "mixed_%zu_kib_mb_per_s", lengths[i] >> 10);
        bench_stats_put(&writer, key, &rig->length_mb_per_s[i]);
    }
    bench_stats_put(&writer, "utf8_check_mb_per_s", &rig->check_mb_per_s);
    bench_stats_put(&writer, "memcpy_mb_per_s", &rig->copy_mb_per_s);
    td_json_put_double(&writer, "mixed_share_of_utf8_check",
                       bench_stats_median(&rig->kind_mb_per_s[BENCH_PROSE_MIXED]) /
                           bench_stats_median(&rig->check_mb_per_s));
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}

static void report_line(const char *what, const struct bench_stats *stats)
{
    printf("%-24s %10.1f %10.1f %10.1f  MB/s\n", what, bench_stats_at(stats, 0.0),
           bench_stats_median(stats), bench_stats_at(stats, 1.0));
}

static void report_table(const struct rig *rig)
{
    char what[64];

    printf("%s: %" PRIu32 " tokens, read in %.0f ms, tables made in %.0f ms, %" PRIu32 " repeats\n",
           rig->options.model, text_model_token_count(rig->text), rig->read_ms, rig->open_ms,
           rig->options.repeats);
    printf("%-24s %10s %10s %10s\n", "", "min", "median", "max");
    report_line("memcpy", &rig->copy_mb_per_s);
    report_line("UTF-8 check", &rig->check_mb_per_s);
    for (size_t kind = 0; kind < BENCH_PROSE_COUNT; kind++) {
        bool is_file = kind == BENCH_PROSE_MIXED && rig->options.file[0] != '\0';

        snprintf(what, sizeof what, "%s, %.2f bytes/id",
                 is_file ? "the file" : bench_prose_name((enum bench_prose)kind),
                 rig->bytes_per_token[kind]);
        report_line(what, &rig->kind_mb_per_s[kind]);
    }
    for (size_t i = 0; i < LENGTH_COUNT; i++) {
        snprintf(what, sizeof what, "mixed, texts of %zu KiB", lengths[i] >> 10);
        report_line(what, &rig->length_mb_per_s[i]);
    }
}

/* ------------------------------------------------------------------ opening */

static td_status_t open_source(struct rig *rig, const struct text_source *source, uint64_t start_ns,
                               struct td_error *error)
{
    td_status_t status;

    rig->read_ms = (double)(cpu_ns() - start_ns) / 1e6;
    start_ns = cpu_ns();
    status = text_model_open(source, &rig->text, error);
    rig->open_ms = (double)(cpu_ns() - start_ns) / 1e6;
    return status;
}

static td_status_t open_folder(struct rig *rig, struct td_error *error)
{
    struct model_tokenizer_json *tokenizer;
    uint64_t start_ns = cpu_ns();
    td_status_t status = model_tokenizer_json_open(rig->options.model, &tokenizer, error);

    if (status != TD_OK)
        return status;
    status = open_source(rig, model_tokenizer_json_source(tokenizer), start_ns, error);
    model_tokenizer_json_close(tokenizer);
    return status;
}

static td_status_t open_gguf(struct rig *rig, struct td_error *error)
{
    struct model_gguf *file;
    struct text_source source;
    uint64_t start_ns = cpu_ns();
    td_status_t status = model_gguf_open(rig->options.model, &file, error);

    if (status != TD_OK)
        return status;
    status = model_gguf_text(file, &source, error);
    if (status == TD_NOT_FOUND)
        td_fail(error, status, "%s has no tokenizer", rig->options.model);
    if (status == TD_OK) {
        status = open_source(rig, &source, start_ns, error);
        text_source_fini(&source);
    }
    model_gguf_close(file);
    return status;
}

static td_status_t read_file(const char *path, struct td_buf *out, struct td_error *error)
{
    FILE *file = fopen(path, "rb");
    char *room = td_buf_reserve(out, BYTES_MAX);

    if (file != NULL && room != NULL)
        td_buf_commit(out, fread(room, 1, BYTES_MAX, file));
    if (file != NULL)
        fclose(file);
    return file != NULL && out->length > 0
               ? TD_OK
               : td_fail(error, TD_IO, "--file: %s cannot be read, or is empty", path);
}

/* Appends the text to itself until it has length bytes. */
static void repeat(struct td_buf *text, size_t length)
{
    while (text->length < length && text->status == TD_OK) {
        size_t missing = length - text->length;
        size_t bytes = text->length < missing ? text->length : missing;
        char *room = td_buf_reserve(text, bytes);

        if (room == NULL)
            return;
        memcpy(room, text->data, bytes);
        td_buf_commit(text, bytes);
    }
}

static td_status_t make_texts(struct rig *rig, struct td_error *error)
{
    const char *file = rig->options.file;
    struct td_rng rng;

    td_rng_init(&rng, SEED);
    for (size_t kind = 0; kind < BENCH_PROSE_COUNT; kind++) {
        bool is_file = kind == BENCH_PROSE_MIXED && file[0] != '\0';

        td_buf_init(&rig->kinds[kind], BYTES_MAX + 1);
        if (!is_file)
            bench_prose_append((enum bench_prose)kind, &rng, ROUND_BYTES, &rig->kinds[kind]);
        else if (read_file(file, &rig->kinds[kind], error) != TD_OK)
            return error->status;
        if (rig->kinds[kind].status != TD_OK)
            return td_fail(error, rig->kinds[kind].status, "no memory for the texts");
    }
    td_buf_init(&rig->mixed, 2 * BYTES_MAX);
    bench_prose_append(BENCH_PROSE_MIXED, &rng, DRAWN_BYTES, &rig->mixed);
    repeat(&rig->mixed, BYTES_MAX);
    return rig->mixed.status == TD_OK
               ? TD_OK
               : td_fail(error, rig->mixed.status, "no memory for the texts");
}

static td_status_t open_rig(struct rig *rig, struct td_error *error)
{
    struct stat about;
    td_status_t status;

    if (stat(rig->options.model, &about) != 0)
        return td_fail(error, TD_IO, "%s cannot be found", rig->options.model);
    status = S_ISDIR(about.st_mode) ? open_folder(rig, error) : open_gguf(rig, error);
    return status == TD_OK ? make_texts(rig, error) : status;
}

static void close_rig(struct rig *rig)
{
    for (size_t kind = 0; kind < BENCH_PROSE_COUNT; kind++)
        td_buf_fini(&rig->kinds[kind]);
    td_buf_fini(&rig->mixed);
    text_model_close(rig->text);
}

/* Returns -1 to go on, or the status to exit with. */
static int parse_options(struct options *options, int argc, char **argv, struct td_arena *arena)
{
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = options};
    const struct td_flags program = {
        .program = "tandem bench tokenizer",
        .summary = "Measures how fast text becomes token ids.",
        .usage = "MODEL [flags]",
        .purpose = "measures how fast text becomes token ids",
        .about = "Prints megabytes a second of one core by kind of text and by length, beside the "
                 "speed of checking the same bytes for UTF-8. MODEL is a GGUF file or a folder "
                 "with a tokenizer.json.",
        .examples = "  tandem bench tokenizer model.gguf\n"
                    "  tandem bench tokenizer model.gguf --file README.md --json\n",
        .see_also = "tandem-bench(1), tandem-inspect(1)",
        .tables = &table,
        .table_count = 1};
    struct td_flags_result result = {0};
    int exit_status = net_program_flags(&program, argc, argv, arena, &result);

    if (exit_status >= 0)
        return exit_status;
    if (result.positionals.count != 1) {
        fprintf(stderr,
                "tandem bench tokenizer: one model is wanted: tandem bench tokenizer MODEL\n");
        return NET_EXIT_USAGE;
    }
    options->model = result.positionals.items[0];
    return -1;
}

static td_status_t measure(struct rig *rig, struct td_error *error)
{
    struct td_progress progress;
    char *copy = malloc(rig->mixed.length);
    td_status_t status = TD_OK;

    if (copy == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the measurement");
    memset(copy, 0, rig->mixed.length);
    td_progress_begin(&progress, "tandem bench tokenizer", "measuring");
    for (uint32_t i = 0; i < rig->options.repeats && status == TD_OK; i++) {
        td_progress_update(&progress, i, rig->options.repeats);
        status = measure_once(rig, copy);
    }
    td_progress_hide(&progress);
    free(copy);
    return status == TD_OK ? TD_OK : td_fail(error, status, "encoding: %s", td_status_text(status));
}

int bench_tokenizer(int argc, char **argv)
{
    struct rig rig = {.text = NULL};
    struct td_arena arena;
    struct td_error error = {0};
    td_status_t status;
    int exit_status = parse_options(&rig.options, argc, argv, &arena);

    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_OK;
    status = open_rig(&rig, &error);
    if (status == TD_OK)
        status = measure(&rig, &error);
    if (status != TD_OK) {
        fprintf(stderr, "tandem bench tokenizer: %s\n", error.text);
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
