/* test_announce.c: what a scheduler is told of the load, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/worker/core_rig.h"

struct scene {
    struct rig rig;
    struct worker_announcer *announcer;
    uint32_t ready; /* how often there was something to send */
};

/* A scheduler that is connected and has been told who we are, and of the load. */
static void scene_open(struct scene *scene)
{
    *scene = (struct scene){0};
    rig_open(&scene->rig, TD__ROLE__ROLE_PREFILL);
    assert_int_equal(worker_announcer_open(scene->rig.core, &scene->ready, &scene->announcer),
                     TD_OK);
    worker_announcer_connected(scene->announcer, scene->rig.now_ns);
    while (worker_announcer_next(scene->announcer, scene->rig.now_ns) != NULL) {
    }
    scene->ready = 0;
}

static void scene_close(struct scene *scene)
{
    worker_announcer_close(scene->announcer);
    rig_close(&scene->rig);
}

static void step_with(struct scene *scene, const struct engine_load *load)
{
    struct engine_event event = {.kind = ENGINE_STEP, .step.load = *load};

    worker_core_on_engine(scene->rig.core, &event, scene->rig.now_ns);
}

/* The next message, which is a load report and the only one. */
static Td__LoadReport next_report(struct scene *scene)
{
    const Td__AnnounceIn *message = worker_announcer_next(scene->announcer, scene->rig.now_ns);
    Td__LoadReport report;

    assert_non_null(message);
    assert_int_equal(message->kind_case, TD__ANNOUNCE_IN__KIND_LOAD);
    report = *message->load;
    assert_null(worker_announcer_next(scene->announcer, scene->rig.now_ns));
    return report;
}

static void a_report_tells_what_is_left_of_prompts(void **state)
{
    struct engine_load load = {.running = 3,
                               .prefilling = 2,
                               .prefilling_tokens = 30000,
                               .waiting = 4,
                               .waiting_tokens = 5000,
                               .steps = 1};
    struct scene scene;
    Td__LoadReport report;

    (void)state;
    scene_open(&scene);
    step_with(&scene, &load);
    report = next_report(&scene);
    assert_int_equal(report.running, 3);
    assert_int_equal(report.prefilling, 2);
    assert_int_equal(report.prefilling_tokens, 30000);
    assert_int_equal(report.waiting, 4);
    assert_int_equal(report.waiting_tokens, 5000);
    scene_close(&scene);
}

/* Rows are computed with every step: they wait for the next report. That a prompt is complete does not. */
static void a_prompt_that_is_complete_is_told_at_once(void **state)
{
    struct engine_load load = {.running = 2, .prefilling = 1, .prefilling_tokens = 900, .steps = 1};
    struct scene scene;

    (void)state;
    scene_open(&scene);
    step_with(&scene, &load);
    assert_int_equal(next_report(&scene).prefilling_tokens, 900);
    scene.ready = 0;
    load.prefilling_tokens = 400;
    load.steps++;
    step_with(&scene, &load);
    assert_int_equal(scene.ready, 0);
    assert_null(worker_announcer_next(scene.announcer, scene.rig.now_ns));
    load.prefilling = load.prefilling_tokens = 0;
    load.steps++;
    step_with(&scene, &load);
    assert_true(scene.ready > 0);
    assert_int_equal(next_report(&scene).prefilling, 0);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_report_tells_what_is_left_of_prompts),
        cmocka_unit_test(a_prompt_that_is_complete_is_told_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
