/*
 * memory.h: how much memory this process may still use: what the host has, and what the control groups
 * around the process (v1 and v2) leave of it.
 */
#ifndef TANDEM_CLI_MEMORY_H
#define TANDEM_CLI_MEMORY_H

#include <stdint.h>

/* In bytes. */
struct cli_memory {
    uint64_t total;     /* of the host */
    uint64_t available; /* of the host: without swapping, as the kernel estimates it */
    uint64_t limit;     /* the tightest limit of a control group; UINT64_MAX: none */
    uint64_t below;     /* what is left below the limit that leaves the least; UINT64_MAX: none */
};

/* root is where /proc and /sys are looked for: "" outside of tests. Zeros if /proc is not there. */
struct cli_memory cli_memory_look(const char *root);

/* The smaller of what the host and the control groups leave. */
uint64_t cli_memory_free(const struct cli_memory *memory);

#endif
