/*
 * tensor.h: words for tensor cores and for copies into shared memory that run on their own, for the same two readers as
 * simt.h.
 *
 * All lanes of a warp say these words together. A fragment is a lane's part of a matrix, as the instruction mma.m16n8k16
 * wants it: of a matrix of 16 rows and 16 columns lane l holds, in rows l / 4 and l / 4 + 8, columns 2 * (l % 4) and
 * the next one, then the same eight columns on; of one of 16 rows and 8 columns, in column l / 4, rows 2 * (l % 4) and
 * the next one, and then eight rows on; of results, in rows l / 4 and l / 4 + 8, columns 2 * (l % 4) and the next one.
 *
 * The interpreter adds the 16 products of a result one after the other, each rounded once. Tensor cores add
 * them in an order and with a rounding of their own, which is the same for each place of the matrix: so results that
 * are made of the same numbers by the same steps have the same bits on a GPU, but not those of the interpreter.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_TENSOR_H
#define TANDEM_ENGINE_CUDA_KERNELS_TENSOR_H

#include "engine/cuda/kernels/simt.h"

#ifdef __CUDACC__
#define TENSOR_ALIGNED(bytes) __align__(bytes)
#else
#define TENSOR_ALIGNED(bytes) __attribute__((aligned(bytes)))
#endif

/* What is loaded and stored at once, and aligned to its size. */
struct TENSOR_ALIGNED(16) simt_words4 {
    uint32_t word[4];
};

struct TENSOR_ALIGNED(8) simt_words2 {
    uint32_t word[2];
};

struct TENSOR_ALIGNED(16) simt_floats4 {
    float value[4];
};

#ifdef __CUDACC__

/* sums += a * b: 16 x 16 halves times 16 x 8 halves, in floats. */
SIMT_INLINE void simt_mma_half(float *sums, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same with bf16. */
SIMT_INLINE void simt_mma_bf16(float *sums, const uint32_t *a, const uint32_t *b)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* a - b for two bf16 in a word each. */
SIMT_INLINE uint32_t simt_bf16_minus(uint32_t a, uint32_t b)
{
    __nv_bfloat162 left;
    __nv_bfloat162 right;

    memcpy(&left, &a, sizeof left);
    memcpy(&right, &b, sizeof right);
    left = __hsub2(left, right);
    memcpy(&a, &left, sizeof a);
    return a;
}

/* a * b, the same. */
SIMT_INLINE uint32_t simt_bf16_times(uint32_t a, uint32_t b)
{
    __nv_bfloat162 left;
    __nv_bfloat162 right;

    memcpy(&left, &a, sizeof left);
    memcpy(&right, &b, sizeof right);
    left = __hmul2(left, right);
    memcpy(&a, &left, sizeof a);
    return a;
}

SIMT_INLINE struct simt_words4 simt_load4(const void *from)
{
    return *(const struct simt_words4 *)from;
}

SIMT_INLINE struct simt_words2 simt_load2(const void *from)
{
    return *(const struct simt_words2 *)from;
}

/* The same for global memory that is read once in a launch, and never written in it. */
SIMT_INLINE struct simt_words4 simt_stream4(const void *from)
{
    struct simt_words4 words;

    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(words.word[0]), "=r"(words.word[1]), "=r"(words.word[2]), "=r"(words.word[3])
        : "l"(__cvta_generic_to_global(from)));
    return words;
}

SIMT_INLINE void simt_store4(void *to, struct simt_words4 words)
{
    *(struct simt_words4 *)to = words;
}

SIMT_INLINE uint32_t simt_shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/*
 * Four tiles of 8 rows of 16 bytes from shared memory: lanes 8i to 8i + 7 name the rows of tile i. out[i] is what lane l
 * gets of it: 16-bit elements 2 * (l % 4) and the next one of row l / 4.
 */
SIMT_INLINE void simt_load_tiles(uint32_t *out, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(simt_shared_address(row))
                 : "memory");
}

/* The same with rows and columns changed: elements of rows 2 * (l % 4) and the next one, in column l / 4. */
SIMT_INLINE void simt_load_tiles_turned(uint32_t *out, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(simt_shared_address(row))
                 : "memory");
}

/* Begins to copy 16 bytes into shared memory, both aligned to that; unless is_wanted, 16 zeros, and from is not read. */
SIMT_INLINE void simt_copy16(void *shared, const void *from, bool is_wanted)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(simt_shared_address(shared)),
                 "l"(__cvta_generic_to_global(from)), "r"(is_wanted ? 16 : 0)
                 : "memory");
}

/* The thread's copies since the last time are a group, maybe an empty one. */
SIMT_INLINE void simt_copy_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most that many groups of the thread (a constant) are under way. Others see them behind a barrier. */
#define simt_copy_wait_but(groups) asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory")

/* Shared memory whose size the launch says, aligned to 128 bytes. */
SIMT_INLINE uint8_t *simt_launch_memory(void)
{
    extern __shared__ __align__(128) uint8_t simt_launch_bytes[];

    return simt_launch_bytes;
}

/* What lane (l ^ apart) has. */
SIMT_INLINE float simt_exchange(float value, uint32_t apart)
{
    return __shfl_xor_sync(0xffffffffu, value, (int)apart);
}

/* What the thread wrote before is seen by whoever arrives later. */
SIMT_INLINE void simt_publish(void)
{
    __threadfence();
}

/* Counts arrivals; true for the last of count, behind which the counter is 0 again. */
SIMT_INLINE bool simt_arrive(uint32_t *counter, uint32_t count)
{
    return atomicInc(counter, count - 1) == count - 1;
}

/* Numbers that several threads change: a sum, the greatest, the least. */
SIMT_INLINE void simt_add(uint64_t *sum, uint64_t value)
{
    (void)atomicAdd((unsigned long long *)sum, (unsigned long long)value);
}

/* Counts the caller; returns how many were before. */
SIMT_INLINE uint32_t simt_count(uint32_t *counter)
{
    return atomicAdd(counter, 1u);
}

SIMT_INLINE void simt_raise(uint32_t *greatest, uint32_t value)
{
    (void)atomicMax(greatest, value);
}

SIMT_INLINE void simt_lower(uint32_t *least, uint32_t value)
{
    (void)atomicMin(least, value);
}

/* The upper half of a product. */
SIMT_INLINE uint64_t simt_multiply_high(uint64_t a, uint64_t b)
{
    return __umul64hi(a, b);
}

#else

#define simt_mma_half(sums, a, b) interpreter_mma(sums, a, b, model_half_to_float)
#define simt_mma_bf16(sums, a, b) interpreter_mma(sums, a, b, model_bfloat_to_float)
#define simt_bf16_minus(a, b)     interpreter_bf16_minus(a, b)
#define simt_bf16_times(a, b)     interpreter_bf16_times(a, b)
#define simt_load4(from)          (*(const struct simt_words4 *)interpreter_aligned(from, 16))
#define simt_load2(from)          (*(const struct simt_words2 *)interpreter_aligned(from, 8))
#define simt_stream4(from)        simt_load4(from)
#define simt_store4(to, words) \
    ((void)(*(struct simt_words4 *)interpreter_aligned(to, 16) = (words)))
#define simt_load_tiles(out, row)            interpreter_load(out, row, false)
#define simt_load_tiles_turned(out, row)     interpreter_load(out, row, true)
#define simt_copy16(shared, from, is_wanted) interpreter_copy(shared, from, is_wanted)
#define simt_copy_commit()                   interpreter_copy_commit()
#define simt_copy_wait_but(groups)           interpreter_copy_wait(groups)
#define simt_launch_memory()                 interpreter_shared
#define simt_exchange(value, apart)          interpreter_exchange(value, apart)
#define simt_publish()                       ((void)0) /* blocks run one after the other */

SIMT_INLINE bool simt_arrive(uint32_t *counter, uint32_t count)
{
    *counter = (*counter + 1) % count;
    return *counter == 0;
}

SIMT_INLINE void simt_add(uint64_t *sum, uint64_t value)
{
    *sum += value;
}

SIMT_INLINE uint32_t simt_count(uint32_t *counter)
{
    return (*counter)++;
}

SIMT_INLINE void simt_raise(uint32_t *greatest, uint32_t value)
{
    *greatest = value > *greatest ? value : *greatest;
}

SIMT_INLINE void simt_lower(uint32_t *least, uint32_t value)
{
    *least = value < *least ? value : *least;
}

__extension__ typedef unsigned __int128 simt_wide;

SIMT_INLINE uint64_t simt_multiply_high(uint64_t a, uint64_t b)
{
    return (uint64_t)((simt_wide)a * b >> 64);
}

#endif

#endif
