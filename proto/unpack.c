/* unpack.c: see unpack.h. */
#include "proto/unpack.h"

static void *take(void *arena, size_t bytes)
{
    return td_arena_alloc_unset(arena, bytes);
}

static void leave(void *arena, void *memory)
{
    (void)arena; /* goes with the arena */
    (void)memory;
}

void *proto_unpack(struct td_arena *arena, const ProtobufCMessageDescriptor *type,
                   const uint8_t *bytes, size_t length)
{
    ProtobufCAllocator allocator = {.alloc = take, .free = leave, .allocator_data = arena};

    return protobuf_c_message_unpack(type, &allocator, length, bytes);
}
