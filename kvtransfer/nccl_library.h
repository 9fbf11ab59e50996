/*
 * nccl_library.h: the few functions of NVIDIA's NCCL that transfers need, found at run time.
 *
 * NCCL's C interface grows and does not change: what is declared here is its part of version 2.18, which all later
 * ones keep. What a caller sets of a communicator travels in a struct with its size and version, of which a newer
 * library reads only as much as is there (its own rule). No header of NCCL's is needed, at build time or at run time.
 */
#ifndef TANDEM_KVTRANSFER_NCCL_LIBRARY_H
#define TANDEM_KVTRANSFER_NCCL_LIBRARY_H

#include <stddef.h>

#include "lib/base/status.h"

#define NCCL_LIBRARY_DEFAULT "libnccl.so.2"
#define NCCL_VERSION_MIN     21800 /* 2.18: communicators that are made and aborted without blocking */
#define NCCL_UNIQUE_ID_BYTES 128
#define NCCL_VERSION_BYTES   24

/* Results that mean something here; all others are failures. */
#define NCCL_SUCCESS      0
#define NCCL_SYSTEM_ERROR 2
#define NCCL_REMOTE_ERROR 6
#define NCCL_IN_PROGRESS  7

#define NCCL_BYTE         0 /* ncclInt8 */
#define NCCL_CONFIG_MAGIC 0xcafebeefu
#define NCCL_CONFIG_UNSET (-2147483647 - 1)

/* Names the two ranks of a communicator that belong together; made by one of them. */
struct nccl_unique_id {
    char bytes[NCCL_UNIQUE_ID_BYTES];
};

/* ncclConfig_t of version 2.18; `later` is padding there, and a setting of later versions. */
struct nccl_config {
    size_t size;
    unsigned magic;
    unsigned version;
    int blocking;
    int cga_cluster_size;
    int ctas_min; /* thread blocks of a kernel */
    int ctas_max;
    const char *net_name;
    int split_share;
    int later;
};
_Static_assert(sizeof(struct nccl_config) == 48, "the layout of ncclConfig_t of 2.18");

/* X(member, symbol, parameters): all return an int, 0 is success. Communicators and streams are pointers. */
#define NCCL_FUNCTIONS(X)                                                                     \
    X(get_version, ncclGetVersion, (int *version_out))                                        \
    X(get_unique_id, ncclGetUniqueId, (struct nccl_unique_id * id_out))                       \
    X(init_rank, ncclCommInitRankConfig,                                                      \
      (void **communicator_out, int rank_count, struct nccl_unique_id id, int rank,           \
       struct nccl_config *config))                                                           \
    X(abort, ncclCommAbort, (void *communicator))                                             \
    X(async_error, ncclCommGetAsyncError, (void *communicator, int *result_out))              \
    X(group_start, ncclGroupStart, (void))                                                    \
    X(group_end, ncclGroupEnd, (void))                                                        \
    X(send, ncclSend,                                                                         \
      (const void *from, size_t count, int type, int peer, void *communicator, void *stream)) \
    X(receive, ncclRecv,                                                                      \
      (void *to, size_t count, int type, int peer, void *communicator, void *stream))

struct nccl_library {
#define X(member, symbol, parameters) int(*member) parameters;
    NCCL_FUNCTIONS(X)
#undef X
    const char *(*error_text)(int result);
    int version; /* 23203 is 2.32.3 */
    char version_text[NCCL_VERSION_BYTES];
};

/*
 * Loads the library, once in a process: it is never unloaded, and who asks for another path after that gets the first.
 * path NULL: NCCL_LIBRARY_DEFAULT, where the loader finds it. Any thread. The error says what is missing and what to do.
 * TD_NOT_FOUND: there is none; TD_UNSUPPORTED: it is too old.
 */
td_status_t nccl_library_load(const char *path, const struct nccl_library **library_out,
                              struct td_error *error) TD_MUST_USE;

/* A config with everything unset but that calls do not block. */
struct nccl_config nccl_config_default(void);

/* TD_OK for success; else the error says what failed, with the library's words. */
td_status_t nccl_library_check(const struct nccl_library *library, int result, const char *what,
                               struct td_error *error);

#endif
