/*
 * group.h: words for warpgroups, which Hopper alone has (sm_90a): products that four warps make together out of shared
 * memory, copies of whole pieces into it, and gates, at which threads wait for copies and for each other.
 *
 * A product (wgmma, m64nNk16) multiplies 64 rows, of which warp w of the four has 16w to 16w + 15 as the fragments of
 * tensor.h in its registers, with 16 columns of N tokens in shared memory, and adds to results that lie in registers as
 * those of N / 8 times simt_mma do. It runs on its own: between simt_group_fence and the wait for it nobody may touch
 * registers or memory that it uses.
 *
 * In shared memory a token's 64 columns of bf16 are 128 bytes, and token follows token. The tensor core exchanges pieces
 * of 16 bytes: bits 4 to 6 of an address are changed by bits 7 to 9. So groups of 8 tokens begin at multiples of 1024,
 * and whoever writes puts piece p of token i at p ^ i % 8.
 *
 * Gates are mbarriers: a phase ends when all arrivals and all bytes that were expected have come. Who waits names the
 * parity of the phase that must have ended: 0 for the first.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_GROUP_H
#define TANDEM_ENGINE_CUDA_KERNELS_GROUP_H

#include "engine/cuda/kernels/tensor.h"

#define GROUP_THREADS   128
#define GROUP_TOKEN     128  /* bytes of a token's 64 columns */
#define GROUP_EIGHT     1024 /* of 8 tokens: what they are aligned to */
#define GROUP_TILES_MAX 32   /* of 8 tokens, in one product */

/*
 * What the tensor core is told of tokens in shared memory: bits 0 to 13 the address over 16, bits 32 to 45 the bytes from
 * 8 tokens to the next 8 over 16, bits 62 and 63 the exchange of pieces in 128 bytes. Bits 16 to 29 are for other layouts.
 */
SIMT_INLINE uint64_t group_tokens(uint32_t shared_address)
{
    return (uint64_t)1 << 62 | (uint64_t)(GROUP_EIGHT >> 4) << 32 | (uint64_t)1 << 16 |
           (shared_address >> 4 & 0x3fff);
}

#ifdef __CUDACC__

/* Whether this is compiled for a GPU that has warpgroups; for others the words do nothing, and nobody runs them. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define GROUP_IS_THERE 1
#define GROUP_ASM(...) asm volatile(__VA_ARGS__)
#else
#define GROUP_IS_THERE 0
#define GROUP_ASM(...) ((void)0)
#endif

/* Registers that a product will use or has used are as the program says: before the first one, and behind a wait. */
SIMT_INLINE void simt_group_fence(void)
{
    GROUP_ASM("wgmma.fence.sync.aligned;" ::: "memory");
}

/* The products since the last time are a group. */
SIMT_INLINE void simt_group_commit(void)
{
    GROUP_ASM("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Waits until at most that many groups (a constant) are under way. */
#define simt_group_wait_but(groups) \
    GROUP_ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory")

#define GROUP_4(d, i)  "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define GROUP_16(d, i) GROUP_4(d, i), GROUP_4(d, i + 1), GROUP_4(d, i + 2), GROUP_4(d, i + 3)
#define GROUP_64(d, i) GROUP_16(d, i), GROUP_16(d, i + 4), GROUP_16(d, i + 8), GROUP_16(d, i + 12)

/* Behind a wait: the compiler may not have read results before it. */
SIMT_INLINE void simt_group_settle_128(float sums[][4])
{
    GROUP_ASM("" : GROUP_64(sums, 0)::"memory");
}

SIMT_INLINE void simt_group_settle_256(float sums[][4])
{
    GROUP_ASM("" : GROUP_64(sums, 0)::"memory");
    GROUP_ASM("" : GROUP_64(sums, 16)::"memory");
}

#define GROUP_NAMES_64                                                                 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

#define GROUP_NAMES_128                                                                      \
    GROUP_NAMES_64                                                                           \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "     \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "       \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, " \
    "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "   \
    "%125, %126, %127"

/* Begins sums = a * tokens, or adds it to the sums: 128 tokens, 16 tiles of results. */
SIMT_INLINE void simt_group_mma_128(float sums[][4], const uint32_t *a, uint64_t tokens,
                                    bool is_added)
{
    GROUP_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
              "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" GROUP_NAMES_64 "}, "
              "{%64, %65, %66, %67}, %68, p, 1, 1, 0;\n}"
              : GROUP_64(sums, 0)
              : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(tokens), "r"((int)is_added)
              : "memory");
}

/* The same for 256 tokens, 32 tiles. */
SIMT_INLINE void simt_group_mma_256(float sums[][4], const uint32_t *a, uint64_t tokens,
                                    bool is_added)
{
    GROUP_ASM("{\n.reg .pred p;\nsetp.ne.b32 p, %133, 0;\n"
              "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" GROUP_NAMES_128 "}, "
              "{%128, %129, %130, %131}, %132, p, 1, 1, 0;\n}"
              : GROUP_64(sums, 0), GROUP_64(sums, 16)
              : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(tokens), "r"((int)is_added)
              : "memory");
}

/* The warpgroup takes registers that others have given, or gives some: so many for each thread from now on (a constant). */
#define simt_group_take_registers(count) \
    GROUP_ASM("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count))
#define simt_group_give_registers(count) \
    GROUP_ASM("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count))

/* A gate that so many arrivals open. One thread makes it, and a barrier of the block follows. */
SIMT_INLINE void simt_gate_make(uint64_t *gate, uint32_t arrivals)
{
    GROUP_ASM("mbarrier.init.shared::cta.b64 [%0], %1;\nfence.proxy.async.shared::cta;" ::"r"(
                  simt_shared_address(gate)),
              "r"(arrivals)
              : "memory");
}

/* One thread arrives, and so many bytes must come too. */
SIMT_INLINE void simt_gate_expect(uint64_t *gate, uint32_t bytes)
{
    GROUP_ASM(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(simt_shared_address(gate)),
        "r"(bytes)
        : "memory");
}

/* One thread begins a copy of bytes that the gate expects: a multiple of 16, both places aligned to that. */
SIMT_INLINE void simt_gate_copy(uint64_t *gate, void *shared, const void *from, uint32_t bytes)
{
    GROUP_ASM("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
              "[%3];" ::"r"(simt_shared_address(shared)),
              "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(simt_shared_address(gate))
              : "memory");
}

/* A warp arrives, once, behind all that its lanes have done. */
SIMT_INLINE void simt_gate_arrive(uint64_t *gate)
{
    __syncwarp();
    if (simt_lane() == 0)
        GROUP_ASM("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(simt_shared_address(gate))
                  : "memory");
}

/* Waits until a phase of that parity has ended; the one behind it must not end before. */
SIMT_INLINE void simt_gate_wait(uint64_t *gate, uint32_t parity)
{
    GROUP_ASM("{\n.reg .pred p;\nAGAIN:\n"
              "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
              "@!p bra AGAIN;\n}" ::"r"(simt_shared_address(gate)),
              "r"(parity)
              : "memory");
}

#else

#define GROUP_IS_THERE                   1
#define simt_group_fence()               ((void)0)
#define simt_group_commit()              interpreter_group_commit()
#define simt_group_wait_but(groups)      interpreter_group_wait(groups)
#define simt_group_take_registers(count) ((void)0)
#define simt_group_give_registers(count) ((void)0)
#define simt_group_settle_128(sums)      ((void)(sums))
#define simt_group_settle_256(sums)      ((void)(sums))
#define simt_group_mma_128(sums, a, tokens, is_added) \
    interpreter_group_mma(sums, 16, a, tokens, is_added)
#define simt_group_mma_256(sums, a, tokens, is_added) \
    interpreter_group_mma(sums, 32, a, tokens, is_added)
#define simt_shared_address(shared)               interpreter_shared_address(shared)
#define simt_gate_make(gate, arrivals)            interpreter_gate_make(gate, arrivals)
#define simt_gate_expect(gate, bytes)             interpreter_gate_expect(gate, bytes)
#define simt_gate_copy(gate, shared, from, bytes) interpreter_gate_copy(gate, shared, from, bytes)
#define simt_gate_arrive(gate)                    interpreter_gate_arrive(gate)
#define simt_gate_wait(gate, parity)              interpreter_gate_wait(gate, parity)

#endif

#endif
