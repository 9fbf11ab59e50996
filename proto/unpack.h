/*
 * unpack.h: the one way in which messages from outside are unpacked: into an arena, bounded.
 *
 * A message of a few bytes can say that it holds a million empty objects. The arena's maximum is all
 * that such a message may cost, and everything of it is freed at once.
 */
#ifndef TANDEM_PROTO_UNPACK_H
#define TANDEM_PROTO_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "lib/base/arena.h"

/*
 * The message of this type, which lives as long as the arena's content. NULL: malformed, or over the
 * arena's maximum (its status tells which).
 */
void *proto_unpack(struct td_arena *arena, const ProtobufCMessageDescriptor *type,
                   const uint8_t *bytes, size_t length);

#endif
