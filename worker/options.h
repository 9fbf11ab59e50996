/*
 * options.h: the flags of the worker binaries, beyond those that every process has.
 */
#ifndef TANDEM_WORKER_OPTIONS_H
#define TANDEM_WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/flags.h"
#include "lib/base/status.h"
#include "worker/types.h"

/* Values of --kv-transport. */
enum worker_kv_transport {
    WORKER_KV_AUTO = 0, /* map between processes of one host, else ucx */
    WORKER_KV_UCX,
    WORKER_KV_MAP,
    WORKER_KV_NCCL, /* between GPUs' pools; through the host where that does not connect */
};

/* --kv-bytes 0 with --device cpu. */
#define WORKER_KV_BYTES_CPU ((uint64_t)512 << 20)

/* All texts live as long as the process. */
struct worker_options {
    const char *model; /* a GGUF file or a folder */
    struct td_flag_list served_names;
    const char *listen;    /* RPC */
    const char *advertise; /* NULL: the listening address */
    const char *http_listen;
    struct td_flag_list schedulers;
    unsigned generation; /* enum front_generation */

    const char *weights_cache; /* a folder, or "none"; NULL: the user's */
    uint64_t weights_cache_bytes;

    const char *device;              /* see engine/cuda/choice.h */
    const char *gpu_memory_fraction; /* NULL: not given */
    unsigned gpu_weights;            /* enum cuda_weights_form */
    unsigned gpu_warpgroups;         /* enum cuda_warpgroups */
    unsigned gpu_launches;           /* enum cuda_launches */
    bool fast_variant;               /* see engine/cuda/fast.h */
    unsigned numerics;               /* enum cpu_numerics */
    unsigned kv_dtype;               /* enum cpu_kv_dtype; --device cpu */
    uint32_t threads;                /* 0: the cores that this process may use */
    uint64_t kv_bytes;               /* 0: a default of the device's */
    uint32_t block_tokens;
    uint32_t step_tokens;
    uint32_t step_target_ms; /* 0: none */
    uint64_t hang_ms;        /* 0: a default of the device's */
    uint32_t sequences_max;
    uint32_t waiting_max;
    uint32_t import_tokens_min;

    unsigned kv_transport; /* enum worker_kv_transport */
    bool ucx_shm;
    bool ucx_tcp;
    const char *ucx_interface;

    struct worker_times times;
    struct worker_counts counts;
};

#define WORKER_TABLES 5

/* Fills tables_out with the flags over options. listen and http_listen have no default here. */
void worker_option_tables(struct worker_options *options,
                          struct td_flag_table tables_out[static WORKER_TABLES]);

/* What a flag's own range cannot say: TD_INVALID names the flag and what is wrong with it. */
td_status_t worker_options_check(const struct worker_options *options,
                                 struct td_error *error) TD_MUST_USE;

#endif
