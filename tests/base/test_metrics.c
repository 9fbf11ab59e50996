/* test_metrics.c: the exposition format, and counting from several threads. */
#include "lib/base/metrics.h"
#include "tests/support/support.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

static const uint64_t bounds[] = {1000, 2500, 10000, 0};

enum { REQUESTS, RUNNING, LATENCY, DEPTH, SECONDS };
static const struct td_metric families[] = {
    [REQUESTS] = {.name = "tandem_requests_total",
                  .kind = TD_METRIC_COUNTER,
                  .label = "outcome",
                  .help = "Requests by outcome."},
    [RUNNING] = {.name = "vllm:num_requests_running",
                 .kind = TD_METRIC_GAUGE,
                 .help = "Sequences in the batch."},
    [LATENCY] = {.name = "tandem_latency_seconds",
                 .kind = TD_METRIC_HISTOGRAM,
                 .bounds = bounds,
                 .unit = 1000,
                 .help = "Latency."},
    [DEPTH] = {.name = "tandem_depth", .kind = TD_METRIC_GAUGE, .label = "queue", .help = "Depth."},
    [SECONDS] = {.name = "tandem_cpu_seconds_total",
                 .kind = TD_METRIC_COUNTER,
                 .unit = 1e9,
                 .help = "Time."},
};

static struct td_metrics *metrics;

static int open_registry(void **state)
{
    (void)state;
    return td_metrics_new(20, "model_name", "a \"b\"\\\n", &metrics);
}

static int free_registry(void **state)
{
    (void)state;
    td_metrics_free(metrics);
    return 0;
}

static void assert_rendered(const struct td_metrics *registry, const char *expected)
{
    struct td_buf out;

    td_buf_init(&out, 1 << 16);
    td_metrics_render(registry, &out);
    assert_int_equal(out.status, TD_OK);
    assert_string_equal(out.length > 0 ? out.data : "", expected);
    td_buf_fini(&out);
}

static double read_depth(void *context)
{
    return *(double *)context;
}

static void series_are_shown_by_family_with_their_labels(void **state)
{
    static double depth = 2.5;

    (void)state;
    td_counter_add(td_metrics_counter(metrics, &families[REQUESTS], "ok"), 3);
    td_gauge_set(td_metrics_gauge(metrics, &families[RUNNING], NULL), -4);
    td_counter_add(td_metrics_counter(metrics, &families[REQUESTS], "failed"), UINT64_MAX);
    td_counter_add(td_metrics_counter(metrics, &families[REQUESTS], "ok"), 2); /* the same one */
    td_gauge_add(td_metrics_gauge(metrics, &families[RUNNING], NULL), 1);
    td_metrics_callback(metrics, &families[DEPTH], "a", read_depth, &depth);
    td_counter_add(td_metrics_counter(metrics, &families[SECONDS], NULL), 1500000000);
#define MODEL "model_name=\"a \\\"b\\\"\\\\\\n\""
    assert_rendered(metrics,
                    "# HELP tandem_requests_total Requests by outcome.\n"
                    "# TYPE tandem_requests_total counter\n"
                    "tandem_requests_total{" MODEL ",outcome=\"ok\"} 5\n"
                    "tandem_requests_total{" MODEL ",outcome=\"failed\"} 18446744073709551615\n"
                    "# HELP vllm:num_requests_running Sequences in the batch.\n"
                    "# TYPE vllm:num_requests_running gauge\n"
                    "vllm:num_requests_running{" MODEL "} -3\n"
                    "# HELP tandem_depth Depth.\n"
                    "# TYPE tandem_depth gauge\n"
                    "tandem_depth{" MODEL ",queue=\"a\"} 2.5\n"
                    "# HELP tandem_cpu_seconds_total Time.\n"
                    "# TYPE tandem_cpu_seconds_total counter\n"
                    "tandem_cpu_seconds_total{" MODEL "} 1.5\n");
}

static void buckets_are_cumulated_and_bounds_are_inclusive(void **state)
{
    struct td_metrics *plain = NULL;
    struct td_histogram *latency;

    (void)state;
    assert_int_equal(td_metrics_new(1, NULL, NULL, &plain), TD_OK);
    assert_rendered(plain, "");
    latency = td_metrics_histogram(plain, &families[LATENCY], NULL);
    td_histogram_observe(latency, 0);
    td_histogram_observe(latency, 1000);
    td_histogram_observe(latency, 1001);
    td_histogram_observe(latency, 10000);
    td_histogram_observe(latency, 10001);
    assert_rendered(plain, "# HELP tandem_latency_seconds Latency.\n"
                           "# TYPE tandem_latency_seconds histogram\n"
                           "tandem_latency_seconds_bucket{le=\"1.0\"} 2\n"
                           "tandem_latency_seconds_bucket{le=\"2.5\"} 3\n"
                           "tandem_latency_seconds_bucket{le=\"10.0\"} 4\n"
                           "tandem_latency_seconds_bucket{le=\"+Inf\"} 5\n"
                           "tandem_latency_seconds_sum 22.002\n"
                           "tandem_latency_seconds_count 5\n");
    td_metrics_free(plain);
}

static void values_that_are_no_numbers_are_shown_as_prometheus_wants(void **state)
{
    struct td_metrics *plain = NULL;
    double values[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};

    (void)state;
    assert_int_equal(td_metrics_new(3, NULL, NULL, &plain), TD_OK);
    td_metrics_callback(plain, &families[DEPTH], "a", read_depth, &values[0]);
    td_metrics_callback(plain, &families[DEPTH], "b", read_depth, &values[1]);
    td_metrics_callback(plain, &families[DEPTH], "c", read_depth, &values[2]);
    assert_rendered(plain, "# HELP tandem_depth Depth.\n# TYPE tandem_depth gauge\n"
                           "tandem_depth{queue=\"a\"} NaN\ntandem_depth{queue=\"b\"} +Inf\n"
                           "tandem_depth{queue=\"c\"} -Inf\n");
    td_metrics_free(plain);
}

static void a_label_is_cut_at_a_character_and_bad_bytes(void **state)
{
    struct td_metrics *plain = NULL;
    char label[200];
    struct td_buf out;

    (void)state;
    memset(label, 'a', sizeof label);
    memcpy(label + 125, "\xe4\xb8\xad", 3); /* would end at byte 128 */
    label[199] = '\0';
    assert_int_equal(td_metrics_new(2, NULL, NULL, &plain), TD_OK);
    td_metrics_gauge(plain, &families[DEPTH], label);
    td_metrics_gauge(plain, &families[DEPTH], "x\xff");
    td_buf_init(&out, 1 << 12);
    td_metrics_render(plain, &out);
    label[125] = '\0';
    assert_non_null(strstr(out.data, label));
    assert_null(strstr(out.data, "\xe4"));
    assert_non_null(strstr(out.data, "{queue=\"x\"} 0\n"));
    td_buf_fini(&out);
    td_metrics_free(plain);
}

#define COUNTS 100000

struct counting {
    struct td_counter *counter;
    struct td_gauge *gauge;
    struct td_histogram *histogram;
};

static void *count(void *argument)
{
    struct counting *counting = argument;

    for (uint64_t i = 0; i < COUNTS; i++) {
        td_counter_add(counting->counter, 1);
        td_gauge_add(counting->gauge, i % 2 == 0 ? 1 : -1);
        td_histogram_observe(counting->histogram, i % 2000);
    }
    return NULL;
}

static void no_count_is_lost_between_threads(void **state)
{
    struct td_metrics *plain = NULL;
    struct counting counting;
    pthread_t threads[2];
    struct td_buf out;

    (void)state;
    assert_int_equal(td_metrics_new(4, NULL, NULL, &plain), TD_OK);
    counting.counter = td_metrics_counter(plain, &families[REQUESTS], "ok");
    counting.gauge = td_metrics_gauge(plain, &families[RUNNING], NULL);
    counting.histogram = td_metrics_histogram(plain, &families[LATENCY], NULL);
    td_buf_init(&out, 1 << 16);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, &counting), 0);
    for (int i = 0; i < 50; i++) { /* scraping meanwhile */
        td_buf_clear(&out);
        td_metrics_render(plain, &out);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    td_buf_clear(&out);
    td_metrics_render(plain, &out);
    assert_non_null(strstr(out.data, "{outcome=\"ok\"} 200000\n"));
    assert_non_null(strstr(out.data, "vllm:num_requests_running 0\n"));
    assert_non_null(strstr(out.data, "_count 200000\n"));
    assert_non_null(strstr(out.data, "{le=\"1.0\"} 100100\n"));
    td_buf_fini(&out);
    td_metrics_free(plain);
}

static void documentation_is_a_table(void **state)
{
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 1 << 12);
    td_metrics_print_markdown(families, 2, &out);
    assert_string_equal(out.data,
                        "| metric | type | label | meaning |\n|---|---|---|---|\n"
                        "| `tandem_requests_total` | counter | `outcome` | Requests by outcome. |\n"
                        "| `vllm:num_requests_running` | gauge |  | Sequences in the batch. |\n\n");
    td_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_are_shown_by_family_with_their_labels),
        cmocka_unit_test(buckets_are_cumulated_and_bounds_are_inclusive),
        cmocka_unit_test(values_that_are_no_numbers_are_shown_as_prometheus_wants),
        cmocka_unit_test(a_label_is_cut_at_a_character_and_bad_bytes),
        cmocka_unit_test(no_count_is_lost_between_threads),
        cmocka_unit_test(documentation_is_a_table),
    };

    return cmocka_run_group_tests(tests, open_registry, free_registry);
}
