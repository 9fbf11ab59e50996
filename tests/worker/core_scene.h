/*
 * core_scene.h: one worker core that is told wrong things: the rig, and what cmocka does before and
 * after each test.
 */
#ifndef TANDEM_TESTS_WORKER_CORE_SCENE_H
#define TANDEM_TESTS_WORKER_CORE_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/worker/core_rig.h"

#define ID     9
#define TOKENS 18

extern struct rig rig;
extern struct rig_stream router;

/* A decode worker whose router is linked; a prefill worker. */
int scene_open_decode(void **state);
int scene_open_prefill(void **state);
int scene_close(void **state);

#define DECODE(test)  cmocka_unit_test_setup_teardown(test, scene_open_decode, scene_close)
#define PREFILL(test) cmocka_unit_test_setup_teardown(test, scene_open_prefill, scene_close)

#endif
