/* metrics.c: registry and text exposition, see metrics.h. */
#include "lib/base/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json_write.h"
#include "lib/base/ring.h"
#include "lib/base/time.h"
#include "lib/base/utf8.h"

#define LABEL_BYTES_MAX 128

/* Each on its own cache lines: two threads that count different things do not disturb each other. */
struct series {
    _Alignas(TD_CACHE_LINE) union {
        struct td_counter counter;
        struct td_gauge gauge;
        struct td_histogram histogram;
    };
    const struct td_metric *family;
    struct series *next; /* of the same family */
    bool first;          /* of its family */
    char label_value[LABEL_BYTES_MAX];
    td_metric_read_fn read; /* NULL: the value is in the union */
    void *context;
};

struct td_metrics {
    struct series *series;
    size_t count;
    size_t count_max;
    char constant_name[LABEL_BYTES_MAX]; /* empty: none */
    char constant_value[LABEL_BYTES_MAX];
};

const uint64_t td_metric_latency_ns[] = {
    1 * TD_NS_PER_MS,    2 * TD_NS_PER_MS,    5 * TD_NS_PER_MS,
    10 * TD_NS_PER_MS,   20 * TD_NS_PER_MS,   40 * TD_NS_PER_MS,
    60 * TD_NS_PER_MS,   80 * TD_NS_PER_MS,   100 * TD_NS_PER_MS,
    250 * TD_NS_PER_MS,  500 * TD_NS_PER_MS,  750 * TD_NS_PER_MS,
    1 * TD_NS_PER_SEC,   2500 * TD_NS_PER_MS, 5 * TD_NS_PER_SEC,
    7500 * TD_NS_PER_MS, 10 * TD_NS_PER_SEC,  20 * TD_NS_PER_SEC,
    40 * TD_NS_PER_SEC,  60 * TD_NS_PER_SEC,  0,
};

static void copy_label(char out[static LABEL_BYTES_MAX], const char *text)
{
    /* Prometheus refuses a whole scrape over one byte that is not UTF-8 */
    size_t length = td_utf8_valid_prefix(text, strnlen(text, LABEL_BYTES_MAX - 1));

    memcpy(out, text, length);
    out[length] = '\0';
}

td_status_t td_metrics_new(size_t series_max, const char *label_name, const char *label_value,
                           struct td_metrics **metrics_out)
{
    struct td_metrics *metrics = calloc(1, sizeof *metrics);
    size_t bytes;

    assert(series_max > 0);
    if (metrics == NULL)
        return TD_NO_MEMORY;
    if (!__builtin_mul_overflow(series_max, sizeof *metrics->series, &bytes))
        metrics->series = aligned_alloc(TD_CACHE_LINE, bytes);
    if (metrics->series == NULL) {
        free(metrics);
        return TD_NO_MEMORY;
    }
    memset(metrics->series, 0, bytes);
    metrics->count_max = series_max;
    if (label_name != NULL) {
        copy_label(metrics->constant_name, label_name);
        copy_label(metrics->constant_value, label_value);
    }
    *metrics_out = metrics;
    return TD_OK;
}

void td_metrics_free(struct td_metrics *metrics)
{
    if (metrics == NULL)
        return;
    free(metrics->series);
    free(metrics);
}

/* ------------------------------------------------------------------------------------------- */

static bool is_name(const char *name)
{
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:0123456789");

    return good > 0 && name[good] == '\0' && (name[0] < '0' || name[0] > '9');
}

static size_t bound_count(const uint64_t *bounds)
{
    size_t count = 0;

    while (bounds[count] != 0) {
        assert(count < TD_METRIC_BOUNDS_MAX);
        assert(count == 0 || bounds[count] > bounds[count - 1]);
        count++;
    }
    return count;
}

static struct series *series_new(struct td_metrics *metrics, const struct td_metric *family,
                                 struct series *previous)
{
    struct series *series = &metrics->series[metrics->count];

    assert(metrics->count < metrics->count_max);
    assert(is_name(family->name));
    assert(family->help != NULL);
    metrics->count++;
    series->family = family;
    series->first = previous == NULL;
    if (previous != NULL)
        previous->next = series;
    return series;
}

/* The series of family with this label value, new or old. */
static struct series *series_of(struct td_metrics *metrics, const struct td_metric *family,
                                const char *label_value)
{
    char label[LABEL_BYTES_MAX] = "";
    struct series *last = NULL;
    struct series *series;

    assert((family->label == NULL) == (label_value == NULL));
    if (label_value != NULL)
        copy_label(label, label_value);
    for (size_t i = 0; i < metrics->count; i++) {
        series = &metrics->series[i];
        if (series->family != family) {
            assert(strcmp(series->family->name, family->name) != 0);
            continue;
        }
        if (strcmp(series->label_value, label) == 0)
            return series;
        last = series;
    }
    series = series_new(metrics, family, last);
    memcpy(series->label_value, label, sizeof label);
    return series;
}

struct td_counter *td_metrics_counter(struct td_metrics *metrics, const struct td_metric *family,
                                      const char *label_value)
{
    assert(family->kind == TD_METRIC_COUNTER);
    return &series_of(metrics, family, label_value)->counter;
}

struct td_gauge *td_metrics_gauge(struct td_metrics *metrics, const struct td_metric *family,
                                  const char *label_value)
{
    assert(family->kind == TD_METRIC_GAUGE);
    return &series_of(metrics, family, label_value)->gauge;
}

struct td_histogram *td_metrics_histogram(struct td_metrics *metrics,
                                          const struct td_metric *family, const char *label_value)
{
    struct td_histogram *histogram;

    assert(family->kind == TD_METRIC_HISTOGRAM);
    assert(bound_count(family->bounds) > 0);
    histogram = &series_of(metrics, family, label_value)->histogram;
    histogram->bounds = family->bounds;
    return histogram;
}

void td_metrics_callback(struct td_metrics *metrics, const struct td_metric *family,
                         const char *label_value, td_metric_read_fn read, void *context)
{
    struct series *series = series_of(metrics, family, label_value);

    assert(family->kind != TD_METRIC_HISTOGRAM);
    series->read = read;
    series->context = context;
}

void td_histogram_observe(struct td_histogram *histogram, uint64_t value)
{
    size_t bucket = 0;

    while (histogram->bounds[bucket] != 0 && value > histogram->bounds[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum, value, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------- */

static void render_label_value(const char *value, struct td_buf *out)
{
    for (; *value != '\0'; value++) {
        if (*value == '\n')
            td_buf_append_text(out, "\\n");
        else if (*value == '"' || *value == '\\')
            td_buf_append(out, (const char[]){'\\', *value}, 2);
        else
            td_buf_append_char(out, *value);
    }
}

static void render_label(const char *name, const char *value, const char **joint,
                         struct td_buf *out)
{
    td_buf_printf(out, "%s%s=\"", *joint, name);
    render_label_value(value, out);
    td_buf_append_char(out, '"');
    *joint = ",";
}

/* Name and labels: vllm:ttft_bucket{model_name="m",le="0.1"}. bound is NULL but for buckets. */
static void render_head(const struct td_metrics *metrics, const struct series *series,
                        const char *suffix, const char *bound, struct td_buf *out)
{
    const char *joint = "{";

    td_buf_printf(out, "%s%s", series->family->name, suffix);
    if (metrics->constant_name[0] != '\0')
        render_label(metrics->constant_name, metrics->constant_value, &joint, out);
    if (series->family->label != NULL)
        render_label(series->family->label, series->label_value, &joint, out);
    if (bound != NULL)
        render_label("le", bound, &joint, out);
    td_buf_append_text(out, joint[0] == ',' ? "} " : " ");
}

static void render_double(double value, struct td_buf *out)
{
    if (isfinite(value))
        td_json_write_double(out, value);
    else
        td_buf_append_text(out, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
}

static void render_in_unit(uint64_t value, double unit, struct td_buf *out)
{
    if (unit == 0)
        td_json_write_uint(out, value);
    else
        render_double((double)value / unit, out);
}

static void render_histogram(const struct td_metrics *metrics, const struct series *series,
                             struct td_buf *out)
{
    const struct td_histogram *histogram = &series->histogram;
    double unit = series->family->unit;
    uint64_t count = 0;
    struct td_buf bound;

    td_buf_init(&bound, 64);
    for (size_t i = 0;; i++) {
        bool beyond = histogram->bounds[i] == 0;

        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        td_buf_clear(&bound);
        render_in_unit(histogram->bounds[i], unit, &bound);
        render_head(metrics, series, "_bucket", beyond || bound.data == NULL ? "+Inf" : bound.data,
                    out);
        td_buf_printf(out, "%" PRIu64 "\n", count);
        if (beyond)
            break;
    }
    td_buf_fini(&bound);
    render_head(metrics, series, "_sum", NULL, out);
    render_in_unit(atomic_load_explicit(&histogram->sum, memory_order_relaxed), unit, out);
    td_buf_append_char(out, '\n');
    /* the buckets' sum, not a counter of its own: a scrape never contradicts itself */
    render_head(metrics, series, "_count", NULL, out);
    td_buf_printf(out, "%" PRIu64 "\n", count);
}

static void render_gauge(const struct series *series, struct td_buf *out)
{
    int64_t value = atomic_load_explicit(&series->gauge.value, memory_order_relaxed);

    if (series->family->unit == 0)
        td_json_write_int(out, value);
    else
        render_double((double)value / series->family->unit, out);
}

static void render_series(const struct td_metrics *metrics, const struct series *series,
                          struct td_buf *out)
{
    if (series->family->kind == TD_METRIC_HISTOGRAM) {
        render_histogram(metrics, series, out);
        return;
    }
    render_head(metrics, series, "", NULL, out);
    if (series->read != NULL)
        render_double(series->read(series->context), out);
    else if (series->family->kind == TD_METRIC_COUNTER)
        render_in_unit(atomic_load_explicit(&series->counter.value, memory_order_relaxed),
                       series->family->unit, out);
    else
        render_gauge(series, out);
    td_buf_append_char(out, '\n');
}

static const char *kind_text(enum td_metric_kind kind)
{
    return kind == TD_METRIC_COUNTER ? "counter" : kind == TD_METRIC_GAUGE ? "gauge" : "histogram";
}

void td_metrics_render(const struct td_metrics *metrics, struct td_buf *out)
{
    for (size_t i = 0; i < metrics->count; i++) {
        const struct series *series = &metrics->series[i];
        const struct td_metric *family = series->family;

        if (!series->first)
            continue;
        td_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                      kind_text(family->kind));
        for (; series != NULL; series = series->next)
            render_series(metrics, series, out);
    }
}

void td_metrics_print_markdown(const struct td_metric *families, size_t count, struct td_buf *out)
{
    td_buf_append_text(out, "| metric | type | label | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++) {
        td_buf_printf(out, "| `%s` | %s | ", families[i].name, kind_text(families[i].kind));
        if (families[i].label != NULL)
            td_buf_printf(out, "`%s`", families[i].label);
        td_buf_printf(out, " | %s |\n", families[i].help);
    }
    td_buf_append_text(out, "\n");
}
