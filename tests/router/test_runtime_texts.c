/* test_runtime_texts.c: tokenizers that come from workers, and what workers may send instead. */
#include <stdlib.h>
#include <string.h>

#include "lib/text/source.h"
#include "router/runtime_internal.h"
#include "tests/router/cluster.h"

static struct router_texts_counters counters(const struct cluster *cluster)
{
    return *router_texts_counters(cluster->runtime->texts);
}

static bool a_text_failed(void *ctx)
{
    return counters(ctx).texts_failed > 0;
}

static void why_not(struct cluster *cluster, char why[static 256])
{
    assert_false(cluster->backend.is_ready(cluster->backend.impl, why, 256));
}

static void a_model_is_ready_when_its_tokenizer_is_here(void **state)
{
    struct cluster cluster;
    struct front_model model;
    struct fake_worker *worker;
    char why[256];

    (void)state;
    cluster_open(&cluster, NULL);
    worker = cluster_worker(&cluster, 1);
    cluster_scheduler(&cluster, cluster.scheduler_rpc);
    cluster_start(&cluster);
    while (cluster_gauges(&cluster).workers == 0)
        cluster_turns(&cluster, 1);
    if (!cluster_is_ready(&cluster)) {
        why_not(&cluster, why);
        assert_non_null(strstr(why, "it is being fetched"));
        assert_int_equal(cluster.backend.model_by_name(cluster.backend.impl, "tiny", &model),
                         TD_AGAIN);
    }
    cluster_until(&cluster, cluster_is_ready, &cluster);
    assert_int_equal(cluster.backend.model_by_name(cluster.backend.impl, "tiny", &model), TD_OK);
    assert_true(td_u128_equal(text_model_id(model.text), worker->text_id));
    assert_int_equal(worker->texts_asked, 1);
    cluster_close(&cluster);
}

static void workers_with_one_text_are_asked_once(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 3);
    scheduler_publish(&cluster.schedulers[0]);
    cluster_turns(&cluster, 20);
    assert_int_equal(cluster.workers[0].texts_asked + cluster.workers[1].texts_asked +
                         cluster.workers[2].texts_asked,
                     1);
    cluster_close(&cluster);
}

/* Opens a cluster of `workers`, the first of which is to be spoiled before cluster_start. */
static struct fake_worker *spoiled(struct cluster *cluster, int workers)
{
    cluster_open(cluster, NULL);
    for (int i = 0; i < workers; i++)
        cluster_worker(cluster, 1 + (uint64_t)i);
    cluster_scheduler(cluster, cluster->scheduler_rpc);
    return &cluster->workers[0];
}

static void bytes_that_are_not_the_text_are_refused_and_fetched_elsewhere(void **state)
{
    struct cluster cluster;
    struct fake_worker *worker = spoiled(&cluster, 2);
    uint8_t *wrong = malloc(cluster.text_bytes);

    (void)state;
    assert_non_null(wrong);
    memcpy(wrong, cluster.text, cluster.text_bytes);
    wrong[cluster.text_bytes / 2] ^= 1;
    worker->text = wrong;
    cluster_start(&cluster);
    cluster_until(&cluster, cluster_is_ready, &cluster);
    assert_int_equal(worker->texts_asked, 1);
    assert_int_equal(cluster.workers[1].texts_asked, 1);
    assert_int_equal(counters(&cluster).texts_failed, 1);
    cluster_close(&cluster);
    free(wrong);
}

static void a_text_beyond_all_bounds_is_refused(void **state)
{
    struct cluster cluster;
    struct fake_worker *worker = spoiled(&cluster, 1);
    char why[256];

    (void)state;
    worker->text_total = (uint64_t)TEXT_SOURCE_BYTES_MAX + 1;
    cluster_start(&cluster);
    cluster_until(&cluster, a_text_failed, &cluster);
    why_not(&cluster, why);
    assert_non_null(strstr(why, "total_bytes 67108865"));
    cluster_close(&cluster);
}

static void a_text_longer_than_it_said_is_refused(void **state)
{
    struct cluster cluster;
    struct fake_worker *worker = spoiled(&cluster, 1);
    char why[256];

    (void)state;
    worker->text_total = cluster.text_bytes - 1;
    cluster_start(&cluster);
    cluster_until(&cluster, a_text_failed, &cluster);
    why_not(&cluster, why);
    assert_non_null(strstr(why, "at offset 12288 of"));
    cluster_close(&cluster);
}

static void a_text_that_ends_early_is_fetched_again(void **state)
{
    struct cluster cluster;
    struct fake_worker *worker = spoiled(&cluster, 1);
    char why[256];

    (void)state;
    worker->text_total = cluster.text_bytes + 1;
    cluster_start(&cluster);
    cluster_until(&cluster, a_text_failed, &cluster);
    why_not(&cluster, why);
    assert_non_null(strstr(why, "it ended before the last byte"));
    worker->text_total = 0;
    cluster_until(&cluster, cluster_is_ready, &cluster);
    cluster_close(&cluster);
}

/* The bytes are what their id says, so nobody has better ones: it is said, and not tried again. */
static void a_text_that_makes_no_sense_is_fetched_once(void **state)
{
    static const uint8_t nonsense[] = "this is no tokenizer";
    struct cluster cluster;
    struct fake_worker *worker = spoiled(&cluster, 1);
    struct front_model model;
    char why[256];

    (void)state;
    worker->text = nonsense;
    worker->text_bytes = sizeof nonsense;
    worker->text_id = text_source_id(nonsense, sizeof nonsense);
    cluster_start(&cluster);
    cluster_until(&cluster, a_text_failed, &cluster);
    why_not(&cluster, why);
    assert_null(strstr(why, "it is being fetched"));
    assert_int_equal(cluster.backend.model_by_name(cluster.backend.impl, "tiny", &model), TD_AGAIN);
    scheduler_publish(&cluster.schedulers[0]);
    cluster_turns(&cluster, 20);
    assert_int_equal(worker->texts_asked, 1);
    cluster_close(&cluster);
}

static void closing_while_a_text_is_opened_leaks_nothing(void **state)
{
    struct cluster cluster;

    (void)state;
    for (int turns = 1; turns < 40; turns += 3) {
        spoiled(&cluster, 1);
        cluster_start(&cluster);
        cluster_turns(&cluster, turns);
        cluster_close(&cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_ready_when_its_tokenizer_is_here),
        cmocka_unit_test(workers_with_one_text_are_asked_once),
        cmocka_unit_test(bytes_that_are_not_the_text_are_refused_and_fetched_elsewhere),
        cmocka_unit_test(a_text_beyond_all_bounds_is_refused),
        cmocka_unit_test(a_text_longer_than_it_said_is_refused),
        cmocka_unit_test(a_text_that_ends_early_is_fetched_again),
        cmocka_unit_test(a_text_that_makes_no_sense_is_fetched_once),
        cmocka_unit_test(closing_while_a_text_is_opened_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
