/*
 * test_runtime_stop.c: the end of a worker in every state of what it does, the ends that it does not choose,
 * beginnings that fail, and what schedulers hear of it all.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/runtime_site.h"

static const struct start long_answer = {.prompt_tokens = 40, .max_new_tokens = 400};

static void close_decode(struct site *site, int exit_status)
{
    site_until(site, station_has_stopped, &site->decode);
    assert_int_equal(site->decode.exit_status, exit_status);
    station_close(&site->decode);
}

/* ---- draining ---- */

static void a_drain_waits_for_what_runs_and_takes_nothing_new(void **state)
{
    struct site site;
    struct router router;
    struct heard *heard;
    struct heard *late;

    (void)state;
    site_open(&site);
    station_open(&site, &site.decode, NULL);
    router_open(&router, &site.decode);
    heard = router_start_and_hold(&router, &long_answer);
    worker_runtime_drain(site.decode.runtime);
    worker_runtime_drain(site.decode.runtime);
    late = router_ask(&router, &long_answer);
    assert_int_equal(late->finish, TD__FINISH__FINISH_REFUSED);
    assert_int_equal(late->code, (uint32_t)-TD_EXHAUSTED);
    assert_int_equal(site.decode.stops, 0);
    engines_go_on();
    site_until(&site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    assert_int_equal(heard->count, 400);
    close_decode(&site, 0);
    router_close(&router);
    site_close(&site);
}

static void a_drain_ends_though_a_router_is_connected_and_has_nothing(void **state)
{
    struct site site;
    struct router router;

    (void)state;
    site_open(&site);
    station_open(&site, &site.decode, NULL);
    router_open(&router, &site.decode);
    worker_runtime_drain(site.decode.runtime);
    close_decode(&site, 0);
    site_until(&site, stream_is_closed, &router.stream);
    router_close(&router);
    site_close(&site);
}

/* ---- being stopped ---- */

/* How far a request is when the end comes. */
enum scene {
    SCENE_IDLE,
    SCENE_COLLECTING,
    SCENE_RUNNING,
    SCENE_UNACKNOWLEDGED,
    SCENE_PAIRING,
    SCENE_ASKING,
    SCENE_LANDING,
    SCENE_COUNT,
};

struct play {
    struct site site;
    struct router router;
    struct holder holder;
    enum scene scene;
    struct heard *heard;
};

static bool scene_is_set(void *ctx)
{
    struct play *play = ctx;

    switch (play->scene) {
    case SCENE_PAIRING: return play->holder.pairs > 0;
    case SCENE_ASKING: return play->holder.asks > 0;
    case SCENE_LANDING: return play->holder.renews > 0;
    case SCENE_COLLECTING: return station_gauges(&play->site.decode).requests > 0;
    default: return true;
    }
}

static void play_scene(struct play *play)
{
    struct start start = long_answer;

    switch (play->scene) {
    case SCENE_COLLECTING: start.send_tokens = 10; break;
    case SCENE_UNACKNOWLEDGED:
        start.max_new_tokens = 1;
        play->router.keeps_ends = true;
        break;
    case SCENE_PAIRING:
    case SCENE_ASKING:
    case SCENE_LANDING: start.prefill[0] = play->holder.address; break;
    default: break;
    }
    if (play->scene == SCENE_RUNNING)
        play->heard = router_start_and_hold(&play->router, &start);
    else if (play->scene == SCENE_UNACKNOWLEDGED)
        play->heard = router_ask(&play->router, &start);
    else if (play->scene != SCENE_IDLE)
        play->heard = router_start(&play->router, &start);
    site_until(&play->site, scene_is_set, play);
}

static void play_open(struct play *play, enum scene scene)
{
    static const enum holder_manner manners[SCENE_COUNT] = {[SCENE_PAIRING] = HOLDER_SILENT_PAIR,
                                                            [SCENE_ASKING] = HOLDER_SILENT_ASK,
                                                            [SCENE_LANDING] = HOLDER_SILENT_LATER};

    play->scene = scene;
    site_open(&play->site);
    station_open(&play->site, &play->site.prefill, NULL);
    station_open(&play->site, &play->site.decode, NULL);
    holder_open(&play->holder, &play->site, manners[scene]);
    router_open(&play->router, &play->site.decode);
    play_scene(play);
}

static void play_close(struct play *play, int exit_status)
{
    engines_go_on();
    close_decode(&play->site, exit_status);
    router_close(&play->router);
    holder_close(&play->holder);
    station_end(&play->site.prefill);
    site_close(&play->site);
}

static void a_stop_breaks_off_whatever_runs(void **state)
{
    (void)state;
    for (int scene = 0; scene < SCENE_COUNT; scene++) {
        struct play play;

        play_open(&play, (enum scene)scene);
        worker_runtime_stop(play.site.decode.runtime);
        worker_runtime_stop(play.site.decode.runtime);
        worker_runtime_drain(play.site.decode.runtime);
        play_close(&play, 0);
    }
}

static void a_stop_ends_a_drain_that_waits(void **state)
{
    (void)state;
    for (int scene = 0; scene < SCENE_COUNT; scene++) {
        struct play play;

        play_open(&play, (enum scene)scene);
        worker_runtime_drain(play.site.decode.runtime);
        worker_runtime_stop(play.site.decode.runtime);
        play_close(&play, 0);
    }
}

static void nothing_is_begun_while_a_worker_stops(void **state)
{
    struct play play;
    struct heard *late;

    (void)state;
    play_open(&play, SCENE_RUNNING); /* the engine is held, and so is the end */
    worker_runtime_stop(play.site.decode.runtime);
    late = router_ask(&play.router, &long_answer);
    assert_int_equal(late->finish, TD__FINISH__FINISH_REFUSED);
    play_close(&play, 0);
}

/* ---- ends that a worker does not choose ---- */

/* The engine reports more in quarantine than is allowed. */
static void lose_too_much(struct station *station)
{
    struct engine_event event = {.kind = ENGINE_STEP};

    event.step.lent = true;
    event.step.load.balance.total = 100;
    event.step.load.balance.quarantined = 50;
    worker_core_on_engine(station->runtime->core, &event, td_now_ns());
}

static void a_worker_that_cannot_go_on_ends_at_once_and_says_so(void **state)
{
    (void)state;
    td_log_set_level((enum td_log_level) - 1); /* it is an error that is logged */
    for (int scene = 0; scene < SCENE_COUNT; scene++) {
        for (int draining = 0; draining < 2; draining++) {
            struct play play;

            play_open(&play, (enum scene)scene);
            if (draining)
                worker_runtime_drain(play.site.decode.runtime);
            lose_too_much(&play.site.decode);
            play_close(&play, NET_EXIT_FAILURE);
        }
    }
    td_log_set_level(TD_LOG_ERROR);
}

static bool has_export(void *ctx)
{
    return station_gauges(ctx).transfers_out > 0;
}

static bool no_transfer_lives(void *ctx)
{
    return station_gauges(ctx).transfers_out == 0;
}

static void a_prefill_worker_that_cannot_go_on_breaks_off_its_asks(void **state)
{
    int listener = mute_listener();

    (void)state;
    td_log_set_level((enum td_log_level) - 1);
    for (int how = 0; how < 4; how++) {
        bool is_broken = how % 2 == 0;
        struct site site;
        struct asker asker;
        Td__PairRequest *request;
        struct pair_answer answer;

        site_open(&site);
        station_open(&site, &site.prefill, NULL);
        request = pair_request_new(&site.prefill, 99);
        pair_ask(&site, site.prefill.options.listen, request, &answer);
        asker_open(&asker, &site.prefill);
        if (how < 2)
            engines_hold(); /* nothing is computed yet */
        asker_ask(&asker, &site.prefill, 99, 200, NULL);
        site_until(&site, asker_is_accepted, &asker);
        site_until(&site, has_export, &site.prefill);
        if (is_broken)
            lose_too_much(&site.prefill);
        else
            worker_runtime_stop(site.prefill.runtime);
        site_until(&site, no_transfer_lives, &site.prefill);
        engines_go_on();
        site_until(&site, station_has_stopped, &site.prefill);
        assert_int_equal(site.prefill.exit_status, is_broken ? NET_EXIT_FAILURE : 0);
        station_close(&site.prefill);
        stream_close(&asker.stream);
        pair_answer_free(&answer);
        pair_request_free(request);
        site_close(&site);
    }
    td_log_set_level(TD_LOG_ERROR);
    close(listener);
}

static void a_prefill_worker_may_go_in_the_middle(void **state)
{
    struct site site;
    struct router router;
    struct heard *heard;

    (void)state;
    for (int i = 0; i < 4; i++) {
        site_open(&site);
        station_open(&site, &site.prefill, NULL);
        station_open(&site, &site.decode, NULL);
        router_open(&router, &site.decode);
        engines_hold();
        heard = router_start(&router, &(struct start){.prompt_tokens = 480,
                                                      .max_new_tokens = 5,
                                                      .prefill = {site.prefill.options.listen}});
        site_until(&site, has_export, &site.prefill);
        engines_go_on();
        site_turns(&site, i);
        worker_runtime_stop(site.prefill.runtime);
        site_until(&site, station_has_stopped, &site.prefill);
        station_close(&site.prefill);
        site_until(&site, heard_end, heard);
        assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
        router_close(&router);
        station_end(&site.decode);
        site_close(&site);
    }
}

/* ---- beginnings that fail ---- */

static void whatever_cannot_be_opened_is_named_and_nothing_is_left_open(void **state)
{
    static const struct {
        const char *flag;
        const char *says;
    } wrong[] = {
        {"--model=tests/data/nothing.gguf", "nothing.gguf"},
        {"--model=tests/data/tiny-llama/golden.json", "name its folder"},
        {"--model=tests/data/text/tiny_llama.source", "GGUF"},
        {"--block-tokens=17", "17"},
        {"--listen=nonsense", "nonsense"},
        {"--listen=unix:/no/such/folder/socket", "/no/such/folder"},
        {"--http-listen=nonsense", "nonsense"},
        {"--http-listen=192.0.2.1:80", "192.0.2.1"},
        {"--sequences-max=4000", ""},
        {"--listen=0.0.0.0:0", "certificates"},
    };
    struct site site;

    (void)state;
    site_open(&site);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *const flags[] = {wrong[i].flag, NULL};
        struct td_error error = {0};

        assert_int_not_equal(station_try(&site, &site.decode, flags, &error), TD_OK);
        assert_string_not_equal(error.text, "");
        if (strstr(error.text, wrong[i].says) == NULL)
            fail_msg("%s: %s", wrong[i].flag, error.text);
    }
    site_close(&site);
}

/* ---- flags that do not go together ---- */

static td_status_t check(const char *const *words, struct td_error *error)
{
    struct worker_options options = {0};
    struct td_flag_table tables[WORKER_TABLES];
    struct td_flags parser = {.program = "test", .tables = tables, .table_count = WORKER_TABLES};
    struct td_flags_result result;
    struct td_arena arena;
    char *copy[8];
    size_t count = 0;
    td_status_t status;

    td_arena_init(&arena, 1 << 16);
    for (; words[count] != NULL; count++)
        copy[count] = (char *)(uintptr_t)words[count];
    worker_option_tables(&options, tables);
    status = td_flags_parse(&parser, &arena, (struct td_flag_list){copy, count}, &result, error);
    if (options.listen == NULL)
        options.listen = "127.0.0.1:7201";
    if (status == TD_OK)
        status = worker_options_check(&options, error);
    td_arena_fini(&arena);
    return status;
}

static void flags_that_do_not_go_together_are_named(void **state)
{
    static char long_target[400] = "--advertise=";
    static char long_name[200] = "--served-model-name=";
    const struct {
        const char *words[5];
        const char *says;
    } wrong[] = {
        {{long_target}, "--advertise"},
        {{"--advertise=nonsense"}, "--advertise"},
        {{"--advertise=unix:"}, "--advertise"},
        {{"--advertise=0.0.0.0:7201"}, "--advertise"},
        {{"--advertise=10.0.0.1:0"}, "--advertise"},
        {{"--listen=0.0.0.0:7201", "--scheduler=a:1"}, "--advertise"},
        {{"--listen=[::]:7201", "--scheduler=a:1"}, "--advertise"},
        {{"--scheduler=nonsense"}, "--scheduler"},
        {{"--scheduler=a:1,b:2,c:3", "--schedulers-max=2"}, "--schedulers-max"},
        {{long_name}, "--served-model-name"},
        {{"--served-model-name=a\xff"}, "--served-model-name"},
        {{"--served-model-name=1,2,3,4,5,6,7,8,9"}, "--served-model-name"},
        {{"--sequences-max=64", "--step-tokens=32"}, "--step-tokens"},
        {{"--lease-time=2ms"}, "--lease-time"},
        {{"--heartbeat-time=5000ms"}, "--stall-time"},
        {{"--quarantine-max-percent=101"}, "--quarantine-max-percent"},
        {{"--no-ucx-shm", "--no-ucx-tcp"}, "--kv-transport"},
        {{"--kv-transport=nccl"}, "--kv-transport nccl is for --device gpu"},
    };
    static const char *const right[][5] = {
        {NULL},
        {"--listen=0.0.0.0:7201"}, /* nobody is told of it */
        {"--listen=0.0.0.0:7201", "--scheduler=a:1", "--advertise=10.0.0.1:7201"},
        {"--advertise=[2001:db8::1]:7201", "--scheduler=unix:/run/s,[::1]:7100"},
        {"--no-ucx-shm", "--no-ucx-tcp", "--kv-transport=map"},
        {"--no-ucx-shm", "--no-ucx-tcp", "--kv-transport=nccl", "--device=gpu"},
    };
    struct td_error error = {0};

    (void)state;
    memset(long_target + strlen(long_target), 'a', 300);
    memcpy(long_target + 312, ":7201", 6);
    memset(long_name + strlen(long_name), 'n', WORKER_MODEL_NAME_BYTES);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(check(wrong[i].words, &error), TD_INVALID);
        assert_non_null(strstr(error.text, wrong[i].says));
    }
    for (size_t i = 0; i < sizeof right / sizeof right[0]; i++)
        assert_int_equal(check(right[i], &error), TD_OK);
}

/* ---- schedulers ---- */

static bool is_registered(void *ctx)
{
    const struct watcher *watcher = ctx;

    return watcher->registrations > 0 && watcher->loads > 0 && watcher->ready;
}

static bool has_snapshot(void *ctx)
{
    const struct watcher *watcher = ctx;

    return watcher->snapshots > 0;
}

static bool has_events(void *ctx)
{
    const struct watcher *watcher = ctx;

    return watcher->events > 0;
}

static bool is_told_of_the_drain(void *ctx)
{
    const struct watcher *watcher = ctx;

    return watcher->drainings > 0 && !watcher->ready;
}

static void open_watched(struct site *site, struct watcher *watcher)
{
    static char flag[120];
    const char *flags[] = {flag, "--load-time=20ms", NULL};

    snprintf(flag, sizeof flag, "--scheduler=%s", watcher->address);
    station_open(site, &site->decode, flags);
    site_until(site, is_registered, watcher);
    assert_string_equal(watcher->target, site->decode.options.listen);
}

static void a_scheduler_hears_everything_from_registration_to_drain(void **state)
{
    struct site site;
    struct watcher watcher;
    struct router router;
    struct heard *heard;

    (void)state;
    site_open(&site);
    watcher_open(&watcher, &site);
    open_watched(&site, &watcher);
    watcher_ask_for_snapshot(&watcher);
    site_until(&site, has_snapshot, &watcher);
    router_open(&router, &site.decode);
    heard = router_start_and_hold(&router, &long_answer);
    worker_runtime_drain(site.decode.runtime);
    site_until(&site, is_told_of_the_drain, &watcher);
    engines_go_on();
    site_until(&site, heard_end, heard);
    site_until(&site, has_events, &watcher);
    close_decode(&site, 0);
    router_close(&router);
    watcher_close(&watcher);
    site_close(&site);
}

static void a_scheduler_that_went_away_is_called_again(void **state)
{
    struct site site;
    struct watcher watcher;

    (void)state;
    site_open(&site);
    watcher_open(&watcher, &site);
    open_watched(&site, &watcher);
    watcher.registrations = watcher.loads = 0;
    rpc_call_finish(watcher.call, TD_PEER_LOST, "restarting");
    site_until(&site, is_registered, &watcher);
    watcher_close(&watcher);
    site_turns(&site, 20);
    watcher_open(&watcher, &site);
    site_until(&site, is_registered, &watcher);
    station_end(&site.decode);
    watcher_close(&watcher);
    site_close(&site);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drain_waits_for_what_runs_and_takes_nothing_new),
        cmocka_unit_test(a_drain_ends_though_a_router_is_connected_and_has_nothing),
        cmocka_unit_test(a_stop_breaks_off_whatever_runs),
        cmocka_unit_test(a_stop_ends_a_drain_that_waits),
        cmocka_unit_test(nothing_is_begun_while_a_worker_stops),
        cmocka_unit_test(a_worker_that_cannot_go_on_ends_at_once_and_says_so),
        cmocka_unit_test(a_prefill_worker_that_cannot_go_on_breaks_off_its_asks),
        cmocka_unit_test(a_prefill_worker_may_go_in_the_middle),
        cmocka_unit_test(whatever_cannot_be_opened_is_named_and_nothing_is_left_open),
        cmocka_unit_test(flags_that_do_not_go_together_are_named),
        cmocka_unit_test(a_scheduler_hears_everything_from_registration_to_drain),
        cmocka_unit_test(a_scheduler_that_went_away_is_called_again),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("worker runtime: ends", tests, site_warm_up, NULL);
}
