/*
 * self.h: what this process costs its host, as the kernel counts it, as metrics.
 */
#ifndef TANDEM_LIB_BASE_SELF_H
#define TANDEM_LIB_BASE_SELF_H

#include "lib/base/metrics.h"

/*
 * Registers process_open_fds (without the one that counts them) and process_resident_memory_bytes: two
 * series, 0 if /proc cannot be read.
 */
void td_self_register(struct td_metrics *metrics);

#endif
