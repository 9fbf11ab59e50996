/*
 * parts.h: the parts of `tandem check`: each looks at something and adds rows. Not for use elsewhere.
 */
#ifndef TANDEM_CLI_CHECK_PARTS_H
#define TANDEM_CLI_CHECK_PARTS_H

#include "cli/check/table.h"
#include "cli/tables.h"

/* CPU, memory, limits of the process, clock, folders. root: "" outside of tests, see cgroup.h. */
void check_machine(struct check_table *table, const struct cli_check_options *options,
                   const char *root);

/* CUDA and GPUs: what is missing is a problem with --gpu. */
void check_gpu(struct check_table *table, const struct cli_check_options *options);

/* How KV gets from GPU to GPU, tried where there is one. driver: NULL outside of tests, see kvt_cuda_config. */
void check_gpu_ways(struct check_table *table, const struct cli_check_options *options,
                    const char *driver);

/* Memory of the GPU that --gpu means, as check_gpu has written it into the table; 0: it found none. */
double check_gpu_memory_bytes(const struct check_table *table);

/* The addresses that will be listened on. */
void check_ports(struct check_table *table, const struct cli_check_options *options);

/* A role's folder, or one with a folder for each role. */
void check_certs(struct check_table *table, const char *folder);

/* A short transfer over each lane, in processes of their own. */
void check_transports(struct check_table *table, const struct cli_check_options *options);

/*
 * The file, its text, the memory it needs, and a few tokens, in a process of its own. With --gpu, the GPU's memory, for
 * which the table has what check_gpu wrote; and no tokens, which a CPU would write.
 */
void check_model(struct check_table *table, const char *path,
                 const struct cli_check_options *options);

#endif
