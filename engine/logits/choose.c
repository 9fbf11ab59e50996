/* choose.c: which passes over logits this processor can run; see logits.h. */
#include <stddef.h>
#include <string.h>

#include "engine/logits/logits.h"

uint32_t engine_logits_available(
    const struct engine_logits *sets_out[static ENGINE_LOGITS_SETS_MAX])
{
    uint32_t count = 0;

    sets_out[count++] = &engine_logits_reference;
#ifdef __x86_64__
    /* These builtins also ask whether the system saves the registers. */
    if (__builtin_cpu_supports("avx2"))
        sets_out[count++] = &engine_logits_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        sets_out[count++] = &engine_logits_avx512;
#endif
    return count;
}

const struct engine_logits *engine_logits_choose(const char *name)
{
    const struct engine_logits *sets[ENGINE_LOGITS_SETS_MAX];
    uint32_t count = engine_logits_available(sets);

    for (uint32_t i = 0; name != NULL && i < count; i++)
        if (strcmp(name, sets[i]->name) == 0)
            return sets[i];
    return sets[count - 1];
}
