/*
 * test_driver.c: what kvtransfer/driver.h declares of NVIDIA's driver library is what NVIDIA's own header says: names of
 * symbols with their versions, constants, sizes. Built where there is a toolkit; needs no driver.
 */
#include <cuda.h>
#include <string.h>

#include "kvtransfer/driver.h"
#include "tests/support/support.h"

#define TEXT(x)  #x
#define VALUE(x) TEXT(x)

_Static_assert(sizeof(CUipcMemHandle) == sizeof(struct driver_handle), "handles");
_Static_assert(sizeof(CUuuid) == sizeof(struct driver_uuid), "uuids");
_Static_assert(sizeof(CUdeviceptr) == sizeof(unsigned long long), "addresses");
_Static_assert(sizeof(CUresult) == sizeof(int) && sizeof(CUdevice) == sizeof(int), "numbers");

/* The header's macros turn names without a version into those of the present one. */
static void symbols_are_those_of_the_present_version(void **state)
{
    static const char *const current[] = {
        VALUE(cuInit),
        VALUE(cuDriverGetVersion),
        VALUE(cuGetErrorName),
        VALUE(cuGetErrorString),
        VALUE(cuDeviceGetCount),
        VALUE(cuDeviceGet),
        VALUE(cuDeviceGetUuid),
        VALUE(cuDeviceCanAccessPeer),
        VALUE(cuDevicePrimaryCtxRetain),
        VALUE(cuDevicePrimaryCtxRelease),
        VALUE(cuCtxSetCurrent),
        VALUE(cuPointerGetAttribute),
        VALUE(cuMemGetAddressRange),
        VALUE(cuMemAlloc),
        VALUE(cuMemFree),
        VALUE(cuIpcGetMemHandle),
        VALUE(cuIpcOpenMemHandle),
        VALUE(cuIpcCloseMemHandle),
        VALUE(cuMemHostRegister),
        VALUE(cuMemHostUnregister),
        VALUE(cuStreamCreate),
        VALUE(cuStreamDestroy),
        VALUE(cuStreamSynchronize),
        VALUE(cuMemcpyAsync),
        VALUE(cuLaunchHostFunc),
        VALUE(cuEventCreate),
        VALUE(cuEventDestroy),
        VALUE(cuEventRecord),
        VALUE(cuEventQuery),
    };
    static const char *const ours[] = {
#define X(member, symbol, parameters) #symbol,
        DRIVER_FUNCTIONS(X)
#undef X
    };

    (void)state;
    assert_int_equal(sizeof ours, sizeof current);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_string_equal(ours[i], current[i]);
}

static void constants_are_those_of_the_header(void **state)
{
    (void)state;
    assert_int_equal(DRIVER_SUCCESS, CUDA_SUCCESS);
    assert_int_equal(DRIVER_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(DRIVER_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
    assert_int_equal(DRIVER_NOT_READY, CUDA_ERROR_NOT_READY);
    assert_int_equal(DRIVER_PEER_ACCESS_UNSUPPORTED, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
    assert_int_equal(DRIVER_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
    assert_int_equal(DRIVER_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
    assert_int_equal(DRIVER_IPC_LAZY_PEER_ACCESS, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    assert_int_equal(DRIVER_POINTER_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(symbols_are_those_of_the_present_version),
        cmocka_unit_test(constants_are_those_of_the_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
