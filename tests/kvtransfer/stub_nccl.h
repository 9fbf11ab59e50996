/*
 * stub_nccl.h: what a test can ask of the double of NCCL (stub_nccl.c).
 *
 * The double is a shared object with the symbols of libnccl.so.2 that this project uses, loaded by its path, that works
 * on streams of the double of the driver (stub_driver.h). Ranks are joined by a socket, also between processes. A group
 * that was ended is in the stream only after its communicator has been asked for its state; what is in the stream waits
 * for the other rank, for ever if that has gone, or until the abort; and an abort may return before the stream goes on.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_STUB_NCCL_H
#define TANDEM_TESTS_KVTRANSFER_STUB_NCCL_H

#include <stdbool.h>
#include <stddef.h>

/* X(name, result, parameters): functions that only the double has, found with dlsym under stub_nccl_<name>. */
#define STUB_NCCL_FUNCTIONS(X)                                                     \
    X(set_version, void, (int version))                                            \
    /* The next call but `after` of a function, by its symbol, returns this. */    \
    X(break_call, void, (const char *symbol, int result, int after))               \
    /* Ranks do not come to join; what is in streams stands still; aborts hang. */ \
    X(hold_joins, void, (bool is_held))                                            \
    X(hold_bytes, void, (bool is_held))                                            \
    X(hold_aborts, void, (bool is_held))                                           \
    /* Every communicator of this process has failed, as it says when asked. */    \
    X(fail_all, void, (int result))                                                \
    /* Communicators that were made and not aborted, and bytes received so far. */ \
    X(communicators, size_t, (void))                                               \
    X(received_bytes, size_t, (void))                                              \
    /* Waits until so many aborts have begun since the library was loaded. */      \
    X(wait_for_aborts, void, (size_t count))                                       \
    X(aborts, size_t, (void))

#endif
