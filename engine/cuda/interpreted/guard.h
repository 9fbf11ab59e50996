/*
 * guard.h: between interpreter.c, which knows when kernels may touch what, and device.c, which has the memory.
 */
#ifndef TANDEM_ENGINE_CUDA_INTERPRETED_GUARD_H
#define TANDEM_ENGINE_CUDA_INTERPRETED_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#define GUARD_PAGE 4096 /* what is guarded begins on one */

/* See interpreter_guard: the whole pages of it. guard_remove of what is not guarded does nothing. */
void guard_add(void *memory, size_t bytes);
void guard_remove(const void *memory);
bool guard_is_used(void);

/* From guard_close, which is told who is running, to guard_open an access ends the process. */
void guard_close(const char *kernel);
void guard_open(void);

#endif
