/*
 * cpus.h: how many CPUs this process may use, and how they are divided among workers.
 *
 * The scheduling affinity counts, and so does the CPU quota of the control groups (v1 and v2) around
 * the process: in a container that may use two of 64 CPUs, 64 threads would be throttled.
 */
#ifndef TANDEM_LIB_BASE_CPUS_H
#define TANDEM_LIB_BASE_CPUS_H

#include <stdint.h>

/* The smaller of what the affinity allows and the quota; at least 1. */
uint32_t td_cpus_usable(void);

/* By the scheduling affinity alone; at least 1. */
uint32_t td_cpus_allowed(void);

/*
 * The quota as whole CPUs, rounded up; 0: none is set. root is where the files /proc/self/cgroup and
 * /sys/fs/cgroup are looked for: "" outside of tests.
 */
uint32_t td_cpus_quota(const char *root);

/*
 * Threads for worker i of count: an even share, at least 1, and the first workers get what is left
 * over.
 */
uint32_t td_cpus_share(uint32_t cpus, uint32_t count, uint32_t i);

#endif
