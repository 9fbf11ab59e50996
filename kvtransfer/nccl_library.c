/* nccl_library.c: see nccl_library.h. */
#include "kvtransfer/nccl_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define TOO_OLD "2.18 or newer is needed (pip install nvidia-nccl-cu13, or NVIDIA's packages)"

static struct {
    pthread_mutex_t lock;
    bool is_loaded;
    struct nccl_library library;
} loaded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static td_status_t find(void *object, const char *symbol, void *function_out,
                        struct td_error *error)
{
    void *found = dlsym(object, symbol);

    if (found == NULL)
        return td_fail(error, TD_UNSUPPORTED, "NCCL has no %s: " TOO_OLD, symbol);
    memcpy(function_out, &found, sizeof found);
    return TD_OK;
}

static td_status_t find_all(void *object, struct nccl_library *library, struct td_error *error)
{
    td_status_t status = find(object, "ncclGetErrorString", &library->error_text, error);

#define X(member, symbol, parameters) \
    if (status == TD_OK)              \
        status = find(object, #symbol, &library->member, error);
    NCCL_FUNCTIONS(X)
#undef X
    return status;
}

static td_status_t read_version(struct nccl_library *library, struct td_error *error)
{
    td_status_t status = nccl_library_check(library, library->get_version(&library->version),
                                            "ncclGetVersion", error);
    int version = library->version;

    if (status != TD_OK)
        return status;
    /* before 2.9 the minor number had one digit less: 2804 */
    if (version < NCCL_VERSION_MIN)
        return td_fail(error, TD_UNSUPPORTED, "NCCL %d is too old: " TOO_OLD, version);
    snprintf(library->version_text, sizeof library->version_text, "%d.%d.%d", version / 10000,
             version / 100 % 100, version % 100);
    return TD_OK;
}

static td_status_t load(const char *path, struct td_error *error)
{
    struct nccl_library library = {0};
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    td_status_t status;

    if (object == NULL)
        return td_fail(error, TD_NOT_FOUND,
                       "there is no NCCL: %s (" TOO_OLD "; LD_LIBRARY_PATH says where it is)",
                       dlerror());
    status = find_all(object, &library, error);
    if (status == TD_OK)
        status = read_version(&library, error);
    if (status != TD_OK) {
        dlclose(object);
        return status;
    }
    loaded.library = library; /* the object stays: it keeps threads */
    loaded.is_loaded = true;
    return TD_OK;
}

td_status_t nccl_library_load(const char *path, const struct nccl_library **library_out,
                              struct td_error *error)
{
    td_status_t status = TD_OK;

    pthread_mutex_lock(&loaded.lock);
    if (!loaded.is_loaded)
        status = load(path != NULL ? path : NCCL_LIBRARY_DEFAULT, error);
    pthread_mutex_unlock(&loaded.lock);
    if (status == TD_OK)
        *library_out = &loaded.library;
    return status;
}

struct nccl_config nccl_config_default(void)
{
    return (struct nccl_config){.size = sizeof(struct nccl_config),
                                .magic = NCCL_CONFIG_MAGIC,
                                .version = NCCL_VERSION_MIN,
                                .blocking = 0,
                                .cga_cluster_size = NCCL_CONFIG_UNSET,
                                .ctas_min = NCCL_CONFIG_UNSET,
                                .ctas_max = NCCL_CONFIG_UNSET,
                                .split_share = NCCL_CONFIG_UNSET,
                                .later = NCCL_CONFIG_UNSET};
}

static td_status_t status_of(int result)
{
    switch (result) {
    case NCCL_SUCCESS: return TD_OK;
    case NCCL_SYSTEM_ERROR: return TD_IO;
    case NCCL_REMOTE_ERROR: return TD_PEER_LOST;
    default: return TD_INTERNAL;
    }
}

td_status_t nccl_library_check(const struct nccl_library *library, int result, const char *what,
                               struct td_error *error)
{
    const char *text;

    if (result == NCCL_SUCCESS)
        return TD_OK;
    text = library->error_text(result);
    return td_fail(error, status_of(result), "%s: %s (%d)", what, text != NULL ? text : "no text",
                   result);
}
