/*
 * codec.h: messages to bytes and back, by the same code that production uses.
 *
 * Whatever a process of the simulator says to another one passes through here, so that what a core
 * builds can be packed, and what was packed is all that the other side gets.
 */
#ifndef TANDEM_SIM_CODEC_H
#define TANDEM_SIM_CODEC_H

#include <assert.h>

#include "proto/tandem.pb-c.h"
#include "sim/world.h"

static inline uint8_t *sim_pack(const void *message, size_t *length_out)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = sim_alloc(length, 1);
    size_t written = protobuf_c_message_pack(message, bytes);

    assert(written == length);
    *length_out = length;
    return bytes;
}

/* Our own messages can always be read. Freed with sim_message_free. */
static inline void *sim_unpack(const ProtobufCMessageDescriptor *descriptor, const uint8_t *bytes,
                               size_t length)
{
    void *message = protobuf_c_message_unpack(descriptor, NULL, length, bytes);

    assert(message != NULL);
    return message;
}

static inline void sim_message_free(void *message)
{
    protobuf_c_message_free_unpacked(message, NULL);
}

#endif
