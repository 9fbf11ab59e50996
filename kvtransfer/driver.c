/* driver.c: see driver.h. */
#include "kvtransfer/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    bool is_loaded;
    struct driver library;
} loaded = {.lock = PTHREAD_MUTEX_INITIALIZER};

static td_status_t find(void *object, const char *symbol, void *function_out,
                        struct td_error *error)
{
    void *found = dlsym(object, symbol);

    if (found == NULL)
        return td_fail(error, TD_UNSUPPORTED,
                       "the NVIDIA driver has no %s: install one for CUDA 12 or newer", symbol);
    memcpy(function_out, &found, sizeof found);
    return TD_OK;
}

static td_status_t find_all(void *object, struct driver *library, struct td_error *error)
{
    td_status_t status = TD_OK;

#define X(member, symbol, parameters) \
    if (status == TD_OK)              \
        status = find(object, #symbol, &library->member, error);
    DRIVER_FUNCTIONS(X)
#undef X
    return status;
}

static td_status_t start(struct driver *library, struct td_error *error)
{
    td_status_t status = driver_check(library, library->init(0), "cuInit", error);

    if (status != TD_OK)
        return status;
    return driver_check(library, library->driver_version(&library->version), "cuDriverGetVersion",
                        error);
}

static td_status_t load(const char *path, struct td_error *error)
{
    struct driver library = {0};
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    td_status_t status;

    if (object == NULL)
        return td_fail(error, TD_NOT_FOUND, "there is no NVIDIA driver: %s", dlerror());
    status = find_all(object, &library, error);
    if (status == TD_OK)
        status = start(&library, error);
    if (status != TD_OK) {
        dlclose(object);
        return status;
    }
    loaded.library = library; /* the object stays: drivers keep threads */
    loaded.is_loaded = true;
    return TD_OK;
}

td_status_t driver_load(const char *path, const struct driver **library_out, struct td_error *error)
{
    td_status_t status = TD_OK;

    pthread_mutex_lock(&loaded.lock);
    if (!loaded.is_loaded)
        status = load(path != NULL ? path : DRIVER_DEFAULT, error);
    pthread_mutex_unlock(&loaded.lock);
    if (status == TD_OK)
        *library_out = &loaded.library;
    return status;
}

static td_status_t status_of(int result)
{
    switch (result) {
    case DRIVER_SUCCESS: return TD_OK;
    case DRIVER_OUT_OF_MEMORY: return TD_NO_MEMORY;
    case DRIVER_NO_DEVICE: return TD_NOT_FOUND;
    case DRIVER_PEER_ACCESS_UNSUPPORTED: return TD_UNSUPPORTED;
    default: return TD_INTERNAL;
    }
}

td_status_t driver_check(const struct driver *library, int result, const char *what,
                         struct td_error *error)
{
    const char *name = NULL;
    const char *text = NULL;

    if (result == DRIVER_SUCCESS)
        return TD_OK;
    if (library->error_name(result, &name) != DRIVER_SUCCESS || name == NULL)
        name = "unknown error";
    if (library->error_text(result, &text) != DRIVER_SUCCESS || text == NULL)
        text = "no text";
    return td_fail(error, status_of(result), "%s: %s (%s, %d)", what, text, name, result);
}
