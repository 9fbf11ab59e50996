/*
 * unpack.h: messages of peers, unpacked into an arena: bounded, and freed all at once.
 *
 * A message of a few bytes can say that it holds a million empty objects; the arena's maximum is what
 * such a message may cost.
 */
#ifndef TANDEM_ROUTER_UNPACK_H
#define TANDEM_ROUTER_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "lib/base/arena.h"

/* The message, which lives as long as the arena's content; NULL: malformed, or over the maximum. */
void *router_unpack(struct td_arena *arena, const ProtobufCMessageDescriptor *type,
                    const uint8_t *bytes, size_t length);

#endif
