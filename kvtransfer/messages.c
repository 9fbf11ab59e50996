/* messages.c: frees what commands and events own, see kvtransfer.h. */
#include <stdlib.h>

#include "kvtransfer/kvtransfer.h"

void kvt_command_fini(struct kvt_command *command)
{
    switch (command->kind) {
    case KVT_PEER_ADD:
        free(command->peer_add.address);
        command->peer_add.address = NULL;
        break;
    case KVT_EXPECT:
        free(command->expect.blocks);
        command->expect.blocks = NULL;
        break;
    case KVT_SEND:
        free(command->send.blocks);
        free(command->send.attachment);
        command->send.blocks = NULL;
        command->send.attachment = NULL;
        break;
    case KVT_PEER_DROP:
    case KVT_ABANDON:
    case KVT_OFFER:
    case KVT_STOP: break;
    }
}

void kvt_event_fini(struct kvt_event *event)
{
    if (event->kind != KVT_LANDED)
        return;
    free(event->landed.hashes);
    free(event->landed.attachment);
    event->landed.hashes = NULL;
    event->landed.attachment = NULL;
}
