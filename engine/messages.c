/* messages.c: what commands and events own, and giving it back; see engine.h. */
#include <stdlib.h>

#include "engine/engine.h"

void engine_mask_close(struct engine_mask *mask)
{
    if (mask->close != NULL)
        mask->close(mask->impl);
    *mask = (struct engine_mask){0};
}

void engine_command_fini(struct engine_command *command)
{
    switch (command->kind) {
    case ENGINE_SUBMIT:
        free(command->submit.tokens);
        free(command->submit.sampling.biases);
        engine_mask_close(&command->submit.mask);
        command->submit.tokens = NULL;
        command->submit.sampling.biases = NULL;
        break;
    case ENGINE_LANDED:
        free(command->landed.hidden);
        free(command->landed.hashes);
        command->landed.hidden = NULL;
        command->landed.hashes = NULL;
        break;
    case ENGINE_CANCEL:
    case ENGINE_ASKED:
    case ENGINE_RELEASE:
    case ENGINE_SNAPSHOT: break;
    }
}

static void step_fini(struct engine_event *event)
{
    if (event->step.lent)
        return;
    free(event->step.tokens);
    event->step.tokens = NULL;
}

static void cache_fini(struct engine_event *event)
{
    free(event->cache.stored);
    free(event->cache.removed);
    event->cache.stored = NULL;
    event->cache.removed = NULL;
}

void engine_event_fini(struct engine_event *event)
{
    switch (event->kind) {
    case ENGINE_RESERVED:
        free(event->reserved.blocks);
        event->reserved.blocks = NULL;
        break;
    case ENGINE_BLOCKS:
        free(event->blocks.blocks);
        event->blocks.blocks = NULL;
        break;
    case ENGINE_PREFILLED:
        free(event->prefilled.hidden);
        event->prefilled.hidden = NULL;
        break;
    case ENGINE_STEP: step_fini(event); break;
    case ENGINE_CACHE: cache_fini(event); break;
    case ENGINE_SNAPSHOT_TAKEN:
        free(event->snapshot.keys);
        event->snapshot.keys = NULL;
        break;
    case ENGINE_FINISHED:
    case ENGINE_STOPPED: break;
    }
}
