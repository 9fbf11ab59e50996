/*
 * cuda_trial.h: whether a process can read another's memory of a GPU by CUDA's IPC handles, by doing it.
 *
 * For those who check a machine: drivers, containers and virtual machines differ in this, and nothing else tells.
 */
#ifndef TANDEM_KVTRANSFER_CUDA_TRIAL_H
#define TANDEM_KVTRANSFER_CUDA_TRIAL_H

#include <stddef.h>

#include "lib/base/status.h"

#define KVT_CUDA_TRIAL_BYTES ((size_t)1 << 20)

/*
 * Forks: a process that shares memory of the first GPU (this one), and one that opens it, copies out of it and compares. CUDA must
 * not have been used in this process before. library: as kvt_cuda_config.library.
 * The error says which side failed, and in what.
 */
td_status_t kvt_cuda_try_ipc(const char *library, struct td_error *error) TD_MUST_USE;

#endif
