/*
 * self.h: what this process costs its host, as the kernel counts it: for metrics and leak tests.
 */
#ifndef TANDEM_LIB_BASE_SELF_H
#define TANDEM_LIB_BASE_SELF_H

#include <stdint.h>

#include "lib/base/metrics.h"

/* Open descriptors, the one that counts them left out; 0 if /proc cannot be read. */
uint64_t td_self_descriptors(void);

/* Bytes of memory in use (resident); 0 if /proc cannot be read. */
uint64_t td_self_resident_bytes(void);

/* Registers both as process_open_fds and process_resident_memory_bytes (two series). */
void td_self_register(struct td_metrics *metrics);

#endif
