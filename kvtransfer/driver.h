/*
 * driver.h: the few functions of NVIDIA's driver library that transfers need, found at run time.
 *
 * The driver's C interface is stable and comes with every driver, so that this room needs no toolkit, at build time
 * or at run time. What is declared here is compared with NVIDIA's own header where there is one
 * (tests/kvtransfer/test_driver.c).
 */
#ifndef TANDEM_KVTRANSFER_DRIVER_H
#define TANDEM_KVTRANSFER_DRIVER_H

#include <stddef.h>

#include "lib/base/status.h"

#define DRIVER_DEFAULT "libcuda.so.1"

/* Results that mean something here; all others are failures. */
#define DRIVER_SUCCESS                 0
#define DRIVER_OUT_OF_MEMORY           2
#define DRIVER_NO_DEVICE               100
#define DRIVER_NOT_READY               600
#define DRIVER_PEER_ACCESS_UNSUPPORTED 217
#define DRIVER_STREAM_NON_BLOCKING     1
#define DRIVER_EVENT_DISABLE_TIMING    2
#define DRIVER_IPC_LAZY_PEER_ACCESS    1
#define DRIVER_POINTER_DEVICE_ORDINAL  9
#define DRIVER_HANDLE_BYTES            64
#define DRIVER_UUID_BYTES              16

struct driver_uuid {
    unsigned char bytes[DRIVER_UUID_BYTES];
};

struct driver_handle {
    unsigned char bytes[DRIVER_HANDLE_BYTES];
};

/* X(member, symbol, parameters): all return an int, 0 is success. Devices are ints, contexts and the like pointers. */
#define DRIVER_FUNCTIONS(X)                                                                        \
    X(init, cuInit, (unsigned flags))                                                              \
    X(driver_version, cuDriverGetVersion, (int *version_out))                                      \
    X(error_name, cuGetErrorName, (int result, const char **name_out))                             \
    X(error_text, cuGetErrorString, (int result, const char **text_out))                           \
    X(device_count, cuDeviceGetCount, (int *count_out))                                            \
    X(device_get, cuDeviceGet, (int *device_out, int ordinal))                                     \
    X(device_uuid, cuDeviceGetUuid_v2, (struct driver_uuid * uuid_out, int device))                \
    X(device_can_access, cuDeviceCanAccessPeer, (int *can_out, int device, int peer))              \
    X(context_retain, cuDevicePrimaryCtxRetain, (void **context_out, int device))                  \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (int device))                                 \
    X(context_set, cuCtxSetCurrent, (void *context))                                               \
    X(pointer_attribute, cuPointerGetAttribute,                                                    \
      (void *value_out, int attribute, unsigned long long pointer))                                \
    X(address_range, cuMemGetAddressRange_v2,                                                      \
      (unsigned long long *base_out, size_t *bytes_out, unsigned long long pointer))               \
    X(alloc, cuMemAlloc_v2, (unsigned long long *base_out, size_t bytes))                          \
    X(release, cuMemFree_v2, (unsigned long long base))                                            \
    X(handle_get, cuIpcGetMemHandle, (struct driver_handle * handle_out, unsigned long long base)) \
    X(handle_open, cuIpcOpenMemHandle_v2,                                                          \
      (unsigned long long *base_out, struct driver_handle handle, unsigned flags))                 \
    X(handle_close, cuIpcCloseMemHandle, (unsigned long long base))                                \
    X(host_register, cuMemHostRegister_v2, (void *base, size_t bytes, unsigned flags))             \
    X(host_unregister, cuMemHostUnregister, (void *base))                                          \
    X(stream_create, cuStreamCreate, (void **stream_out, unsigned flags))                          \
    X(stream_destroy, cuStreamDestroy_v2, (void *stream))                                          \
    X(stream_wait, cuStreamSynchronize, (void *stream))                                            \
    X(copy, cuMemcpyAsync,                                                                         \
      (unsigned long long to, unsigned long long from, size_t bytes, void *stream))                \
    X(call_host, cuLaunchHostFunc, (void *stream, void (*function)(void *), void *argument))       \
    X(event_create, cuEventCreate, (void **event_out, unsigned flags))                             \
    X(event_destroy, cuEventDestroy_v2, (void *event))                                             \
    X(event_record, cuEventRecord, (void *event, void *stream))                                    \
    X(event_query, cuEventQuery, (void *event))

struct driver {
#define X(member, symbol, parameters) int(*member) parameters;
    DRIVER_FUNCTIONS(X)
#undef X
    int version; /* of CUDA, as the driver says: 13000 */
};

/*
 * Loads and starts the library, once in a process: it is never unloaded, and who asks for another path after that gets
 * the first. path NULL: DRIVER_DEFAULT. TD_NOT_FOUND: no driver, or no GPU; TD_UNSUPPORTED: a function is
 * missing.
 */
td_status_t driver_load(const char *path, const struct driver **library_out,
                        struct td_error *error) TD_MUST_USE;

/* TD_OK for success; else the error says what failed, with the library's words. */
td_status_t driver_check(const struct driver *library, int result, const char *what,
                         struct td_error *error);

#endif
