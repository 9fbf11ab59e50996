/* scene.c: see scene.h. */
#include "tests/scheduler/scene.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"

void scene_open(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    scene->config = sched_config_default();
    scene->now_ns = SCENE_NOW;
    sched_fleet_init(&scene->fleet);
    scene->prompt = (struct sched_prompt){
        .model = SCENE_MODEL,
        .tokens = 100,
        .new_tokens_max = 64,
        .request = {.hi = 1, .lo = 2},
        .depth = scene->depth,
    };
}

void scene_close(struct scene *scene)
{
    for (size_t i = 0; i < scene->count; i++) {
        scene->workers[i]->feed.state = SCHED_FEED_CLOSED;
        sched_fleet_remove(&scene->fleet, scene->workers[i]);
    }
    sched_fleet_fini(&scene->fleet);
}

/* The worker's epoch is its number from 1, and so is its column of the index. */
struct sched_worker *scene_worker(struct scene *scene, Td__Role role, uint8_t state)
{
    uint64_t epoch = scene->count + 1;
    char target[32];
    struct sched_identity identity = {
        .epoch = epoch,
        .role = role,
        .model_count = 1,
        .content_id = {.hi = 7, .lo = 7},
        .block_tokens = 16,
        .block_count = 1000,
        .max_context = 8192,
        .max_sequences = 8,
        .max_waiting = 8,
    };
    struct sched_worker *added;

    snprintf(target, sizeof target, "host-%d:1", (int)epoch);
    td_arena_init(&identity.arena, 4096);
    identity.rpc_target = td_arena_text(&identity.arena, target, strlen(target));
    identity.http_address = td_arena_text(&identity.arena, "", 0);
    identity.models[0] = td_arena_text(&identity.arena, SCENE_MODEL, strlen(SCENE_MODEL));
    assert_int_equal(sched_fleet_add(&scene->fleet, &identity, &added), TD_OK);
    added->state = state;
    added->feed.owner = (uint16_t)epoch;
    added->load = (struct sched_load){
        .blocks_free = 1000, .prefill_tokens_per_s = 1000, .decode_step_us = 10000};
    scene->workers[scene->count++] = added;
    return added;
}

struct sched_worker *scene_decode(struct scene *scene)
{
    return scene_worker(scene, TD__ROLE__ROLE_DECODE, SCHED_WORKER_READY);
}

struct sched_worker *scene_prefill(struct scene *scene)
{
    return scene_worker(scene, TD__ROLE__ROLE_PREFILL, SCHED_WORKER_READY);
}

void scene_cached(struct scene *scene, const struct sched_worker *on, uint32_t blocks)
{
    scene->depth[on->feed.owner] = blocks;
}

const struct sched_placement *scene_choose(struct scene *scene)
{
    sched_placement_choose(&scene->fleet, &scene->config, &scene->prompt, scene->now_ns,
                           &scene->placement);
    return &scene->placement;
}

void scene_expect_on(struct scene *scene, const struct sched_worker *expected)
{
    const struct sched_placement *placement = scene_choose(scene);

    if (placement->status != TD_OK)
        fail_msg("nowhere: %s", placement->message);
    if (placement->serving.worker != expected)
        fail_msg("placed on %s", placement->reason);
}

void scene_expect_nowhere(struct scene *scene, td_status_t status, uint32_t retry_after_ms)
{
    const struct sched_placement *placement = scene_choose(scene);

    assert_int_equal(placement->status, status);
    assert_int_equal(placement->retry_after_ms, retry_after_ms);
    assert_true(placement->message[0] != '\0');
}

const struct sched_placement *scene_place(struct scene *scene)
{
    scene_choose(scene);
    assert_int_equal(scene->placement.status, TD_OK);
    sched_placement_commit(&scene->placement, scene->now_ns);
    return &scene->placement;
}
