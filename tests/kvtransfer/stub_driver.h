/*
 * stub_driver.h: what a test can ask of the double of NVIDIA's driver library (stub_driver.c).
 *
 * The double is a shared object with the symbols of libcuda.so.1 that this project uses, loaded by its path. "Memory of a
 * GPU" is shared memory behind addresses that the processor may not touch: who dereferences one crashes. Copies run on a
 * thread of each stream, in order; handles open in other processes and not in their own, and memory that others have
 * open cannot be freed; errors from 700 to 799 stay.
 *
 * STUB_DRIVER_BREAKS in the environment names a function that always fails, for processes that no test can talk to.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_STUB_DRIVER_H
#define TANDEM_TESTS_KVTRANSFER_STUB_DRIVER_H

#include <stdbool.h>
#include <stddef.h>

/* X(name, result, parameters): functions that only the double has, found with dlsym under stub_driver_<name>. */
#define STUB_DRIVER_FUNCTIONS(X)                                                                       \
    /* The next call but `after` of a function, by its symbol, returns this. */                        \
    X(break_call, void, (const char *symbol, int result, int after))                                   \
    /* What lies behind an address, for a double of a card that reads it. NULL: no memory of a GPU. */ \
    X(reach, void *, (const void *address, size_t bytes))                                              \
    /* Whether the calling thread has a context. */                                                    \
    X(has_context, bool, (void))                                                                       \
    /* Streams stand still, and go on. */                                                              \
    X(hold, void, (bool is_held))                                                                      \
    /* Handles of peers are not closed until this ends; how many calls wait for that. */               \
    X(hold_closes, void, (bool are_held))                                                              \
    X(waiting_closes, size_t, (void))                                                                  \
    /* Errors that stay are over, as if in a new process. */                                           \
    X(heal, void, (void))                                                                              \
    /* Of copies done since the library was loaded. */                                                 \
    X(copied_bytes, size_t, (void))                                                                    \
    /* Pools of peers that are open at this moment. */                                                 \
    X(open_handles, size_t, (void))                                                                    \
    /* Which GPU of the two the next cuMemAlloc is on, and whether they can access each other. */      \
    X(use_gpu, void, (int ordinal, bool can_access_others))

#endif
