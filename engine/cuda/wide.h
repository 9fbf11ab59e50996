/*
 * wide.h: whether product_wide may be used: the proof, at opening, that it gives the bits of other kernels.
 *
 * That a tensor core adds alike whether one warp tells it to (mma.sync) or four do (wgmma) is written nowhere. The class of
 * numbers rests on it, so each device shows it, for the types of weights at hand, on inputs that are random and adverse:
 * exponents near each other and far apart, zeros, numbers below the normal ones. One bit that differs, and the engine
 * goes on without.
 *
 * The proof has a limit, for where a barrier of the kernel never opened it would hold the opening for ever. A person can leave
 * it all out (--gpu-warpgroups).
 */
#ifndef TANDEM_ENGINE_CUDA_WIDE_H
#define TANDEM_ENGINE_CUDA_WIDE_H

#include <stdbool.h>

#include "engine/cuda/device.h"
#include "engine/cuda/weights.h"
#include "lib/base/status.h"
#include "lib/base/time.h"

/* Each product takes some microseconds; a GPU that others use may let it wait. */
#define CUDA_WIDE_LIMIT_NS (10 * TD_NS_PER_SEC)

/*
 * Runs product_wide and product_tiled on a device that has_warpgroups, in memory that is given back. What came out is
 * logged. TD_NO_MEMORY, or the device's failure, which names the setting, TD_TIMEOUT where a product has not ended within
 * limit_ns: the device hangs then, see device.h. That bits differ is no failure.
 */
td_status_t cuda_wide_prove(struct cuda_device *device, const struct cuda_weights *weights,
                            uint32_t layers, uint64_t limit_ns, bool *is_same_out,
                            struct td_error *error) TD_MUST_USE;

#endif
