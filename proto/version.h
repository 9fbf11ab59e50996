/*
 * version.h: the protocol versions that this build speaks, and how two sides agree on one.
 */
#ifndef TANDEM_PROTO_VERSION_H
#define TANDEM_PROTO_VERSION_H

#include <stdint.h>

/* 2: sampling has min_p and penalties, which a worker of version 1 would skip, and answer otherwise. */
#define TD_PROTOCOL_MIN UINT32_C(2)
#define TD_PROTOCOL_MAX UINT32_C(2)

/* The newest version that both this build and a peer with [min, max] speak, or 0 if there is none. */
static inline uint32_t td_protocol_choose(uint32_t min, uint32_t max)
{
    uint32_t newest = max < TD_PROTOCOL_MAX ? max : TD_PROTOCOL_MAX;

    return newest >= min && newest >= TD_PROTOCOL_MIN ? newest : 0;
}

#endif
