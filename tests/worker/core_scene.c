/* core_scene.c: see core_scene.h. */
#include "tests/worker/core_scene.h"

struct rig rig;
struct rig_stream router;

int scene_open_decode(void **state)
{
    (void)state;
    rig_open(&rig, TD__ROLE__ROLE_DECODE);
    rig_link(&rig, &router);
    return 0;
}

int scene_open_prefill(void **state)
{
    (void)state;
    rig_open(&rig, TD__ROLE__ROLE_PREFILL);
    return 0;
}

int scene_close(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}
