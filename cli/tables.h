/*
 * tables.h: the flags of the commands as tables, for the commands themselves and for
 * docs/operations.md, which prints them.
 */
#ifndef TANDEM_CLI_TABLES_H
#define TANDEM_CLI_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cluster.h"

struct cli_demo_options {
    struct cli_cluster_options cluster;
    const char *once;
    bool aggregated;
    bool json;
    uint32_t max_tokens;
};

struct cli_chat_options {
    struct cli_cluster_options cluster; /* with a model file */
    const char *model_name;
    const char *system;
    struct td_flag_list settings;
    const char *api_key_file;
    bool quiet;
};

struct cli_check_options {
    struct cli_cluster_options cluster;
    const char *certs;
    struct td_flag_list listen;
    const char *ucx_interface;
    bool json;
};

struct cli_inspect_options {
    bool tensors;
    bool json;
};

struct cli_certs_options {
    const char *renew;
    bool add_missing;
};

struct cli_cache_options {
    const char *folder;
};

/* What these commands have beside cli_cluster_table. */
struct td_flag_table cli_serve_table(struct cli_cluster_options *options);
struct td_flag_table cli_demo_table(struct cli_demo_options *options);
struct td_flag_table cli_chat_table(struct cli_chat_options *options);
struct td_flag_table cli_chat_cluster_table(struct cli_chat_options *options);

struct td_flag_table cli_check_table(struct cli_check_options *options);
struct td_flag_table cli_inspect_table(struct cli_inspect_options *options);
struct td_flag_table cli_certs_table(struct cli_certs_options *options);
struct td_flag_table cli_cache_table(struct cli_cache_options *options);

#endif
