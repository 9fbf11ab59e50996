/*
 * scene.h: a small fleet, and a request that is placed in it.
 *
 * The plain worker computes 1,000 prompt tokens and 100 decode steps per second, runs 8 sequences and has 1,000 free
 * blocks of 16 tokens.
 */
#ifndef TANDEM_TESTS_SCHEDULER_SCENE_H
#define TANDEM_TESTS_SCHEDULER_SCENE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/time.h"
#include "scheduler/placement.h"

#define SCENE_NOW       (1000 * TD_NS_PER_SEC)
#define SCENE_MODEL     "smol"
#define SCENE_FLEET_MAX 8

struct scene {
    struct sched_config config;
    struct sched_fleet fleet;
    struct sched_worker *workers[SCENE_FLEET_MAX];
    uint32_t depth[SCHED_OWNERS_MAX];
    struct sched_prompt prompt;
    struct sched_placement placement;
    size_t count;
    uint64_t now_ns;
};

void scene_open(struct scene *scene);
void scene_close(struct scene *scene);

/* The worker's epoch is its number from 1, and so is its column of the index. */
struct sched_worker *scene_worker(struct scene *scene, Td__Role role, uint8_t state);
struct sched_worker *scene_decode(struct scene *scene);  /* ready */
struct sched_worker *scene_prefill(struct scene *scene); /* ready */

/* How many blocks of the prompt a worker has. */
void scene_cached(struct scene *scene, const struct sched_worker *on, uint32_t blocks);

/* Where the request would go; and the same with what is expected of it, or the test fails. */
const struct sched_placement *scene_choose(struct scene *scene);
void scene_expect_on(struct scene *scene, const struct sched_worker *expected);
void scene_expect_nowhere(struct scene *scene, td_status_t status, uint32_t retry_after_ms);

/* Chooses, and commits to it. */
const struct sched_placement *scene_place(struct scene *scene);

#define SCENE           \
    struct scene scene; \
    (void)state;        \
    scene_open(&scene)
#define END scene_close(&scene)

#endif
