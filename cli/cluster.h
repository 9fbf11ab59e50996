/*
 * cluster.h: which processes a cluster on this host has, and what each is told.
 *
 * Pure planning: from options to command lines. The processes talk RPC through unix sockets in a
 * private folder, so no port but the client's is taken, and no certificate is needed.
 */
#ifndef TANDEM_CLI_CLUSTER_H
#define TANDEM_CLI_CLUSTER_H

#include <stdint.h>

#include "cli/supervisor.h"
#include "lib/base/arena.h"
#include "lib/base/flags.h"
#include "lib/net/address.h"

struct cli_cluster_options {
    uint32_t prefill;
    uint32_t decode;
    const char *host;
    bool gpu;                        /* all workers compute on one GPU */
    const char *gpu_memory_fraction; /* of each worker; NULL: the card is divided */
    unsigned gpu_weights;            /* enum cuda_weights_form, of all workers, with gpu */
    unsigned gpu_warpgroups;         /* enum cuda_warpgroups, of all workers, with gpu */
    unsigned gpu_launches;           /* enum cuda_launches, of all workers, with gpu */
    bool fast_variant;               /* of all workers, with gpu */
    uint32_t threads;                /* of each worker; 0: the CPUs are divided */
    unsigned numerics;               /* enum cpu_numerics */
    unsigned kv_dtype;               /* enum cpu_kv_dtype */
    uint64_t kv_bytes;               /* of each worker; 0: its own default */
    struct td_flag_list served_names;
    uint64_t start_ms;
    uint64_t drain_ms;
    /* Commands have tables of their own for these, with defaults of their own. */
    uint32_t port;
    unsigned kv_transport;      /* of cli_kv_transports */
    unsigned log_level;         /* enum td_log_level */
    uint32_t remote_tokens_min; /* 0: the scheduler's own default */
};

/* "auto", "ucx", "map", NULL; and "error" to "debug", NULL. For flags of kind choice. */
extern const char *const cli_kv_transports[];
extern const char *const cli_log_levels[];

/* All but the last four. */
struct td_flag_table cli_cluster_table(struct cli_cluster_options *options);

/* Places of the processes in a plan. */
#define CLI_CLUSTER_SCHEDULER 0
#define CLI_CLUSTER_ROUTER    1
#define CLI_CLUSTER_WORKERS   2 /* prefill workers, then decode workers */

#define CLI_WORKERS_MAX (CLI_CHILDREN_MAX - CLI_CLUSTER_WORKERS)

struct cli_cluster_surroundings {
    const char *program_folder; /* where the binaries are */
    const char *runtime_folder; /* for sockets */
    uint32_t cpus;              /* to divide */
};

struct cli_cluster {
    struct cli_child_plan plans[CLI_CHILDREN_MAX];
    size_t count;
    /* Part of the router's command line: may be rewritten for when it is started again. */
    char router_address[NET_ADDRESS_BYTES_MAX];
};

/* Threads of the worker at a place (prefill workers first), if so many CPUs are divided among all. */
uint32_t cli_cluster_threads(const struct cli_cluster_options *options, uint32_t cpus,
                             uint32_t place);

/* With --gpu, what each worker is told to take of the card's memory; 0: what was given is no share. */
double cli_cluster_gpu_fraction(const struct cli_cluster_options *options);

/* TD_INVALID with a sentence that names the flag, for options that make no cluster. */
td_status_t cli_cluster_check(const struct cli_cluster_options *options,
                              struct td_error *error) TD_MUST_USE;

/* Of options that make a cluster; else as above. All texts are in the arena. */
td_status_t cli_cluster_plan(const char *model, const struct cli_cluster_options *options,
                             const struct cli_cluster_surroundings *surroundings,
                             struct td_arena *arena, struct cli_cluster *cluster_out,
                             struct td_error *error) TD_MUST_USE;

/* The folder of this program's own file. */
td_status_t cli_program_folder(struct td_arena *arena, const char **folder_out,
                               struct td_error *error) TD_MUST_USE;

#endif
