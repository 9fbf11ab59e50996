/*
 * blas.c: see blas.h.
 *
 * The declarations below are the part of the library's interface that is used here, which has been the same since CUDA 11;
 * numbers are those of its documentation. Matrices of rows are columns to the library, so y = x W^T is computed as
 * y^T = W x^T. How a product is best computed is asked once for each shape and kept in a small table.
 */
#include "engine/cuda/gpu/blas.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SHAPES_KEPT 1024 /* a power of two; about 400 bytes each */

/* cublasComputeType_t, cudaDataType_t, cublasOperation_t, cublasLtEpilogue_t and names of attributes */
enum {
    COMPUTE_32F = 68,
    R_32F = 0,
    R_16BF = 14,
    OPERATION_TRANSPOSED = 1,
    EPILOGUE_BIAS = 4,
    DESC_TRANSA = 3,
    DESC_EPILOGUE = 7,
    DESC_BIAS_POINTER = 8,
    PREFERENCE_WORKSPACE_BYTES = 1,
    PREFERENCE_ALIGNMENT_C = 7,
    PREFERENCE_ALIGNMENT_D = 8,
};

/* cublasLtMatmulAlgo_t and cublasLtMatmulHeuristicResult_t */
struct algorithm {
    uint64_t data[8];
};

struct heuristic {
    struct algorithm algorithm;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

/* LIBRARY(X): X(member, name, arguments): all return a status, 0: success. Pointers stand for the library's handles. */
#define LIBRARY(X)                                                                                 \
    X(create, cublasLtCreate, (void **handle))                                                     \
    X(destroy, cublasLtDestroy, (void *handle))                                                    \
    X(desc_create, cublasLtMatmulDescCreate, (void **desc, int compute, int scale))                \
    X(desc_destroy, cublasLtMatmulDescDestroy, (void *desc))                                       \
    X(desc_set, cublasLtMatmulDescSetAttribute,                                                    \
      (void *desc, int attribute, const void *value, size_t size))                                 \
    X(layout_create, cublasLtMatrixLayoutCreate,                                                   \
      (void **layout, int type, uint64_t rows, uint64_t columns, int64_t stride))                  \
    X(layout_destroy, cublasLtMatrixLayoutDestroy, (void *layout))                                 \
    X(preference_create, cublasLtMatmulPreferenceCreate, (void **preference))                      \
    X(preference_destroy, cublasLtMatmulPreferenceDestroy, (void *preference))                     \
    X(preference_set, cublasLtMatmulPreferenceSetAttribute,                                        \
      (void *preference, int attribute, const void *value, size_t size))                           \
    X(choose, cublasLtMatmulAlgoGetHeuristic,                                                      \
      (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference, int wanted, \
       struct heuristic *found, int *found_count))                                                 \
    X(matmul, cublasLtMatmul,                                                                      \
      (void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,  \
       void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,   \
       const struct algorithm *algorithm, void *workspace, size_t workspace_bytes,                 \
       struct CUstream_st *stream))

/* What a way of computing is for. */
struct shape {
    uint32_t rows;
    uint32_t columns;
    uint32_t tokens;
    uint32_t stride;
    bool has_bias;
};

struct known {
    struct shape shape; /* rows 0: nothing is known */
    void *desc;
    void *matrix;
    void *x;
    void *y;
    struct algorithm algorithm;
};

struct gpu_blas {
    void *library;
    void *handle;
    void *preference;
    void *workspace;
    size_t workspace_bytes;
    struct known known[SHAPES_KEPT];
#define X(member, name, arguments) int(*member) arguments;
    LIBRARY(X)
#undef X
};

/* ------------------------------------------------------------------ the library */

static td_status_t find_library(struct gpu_blas *blas, struct td_error *error)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

    for (size_t i = 0; i < sizeof names / sizeof names[0] && blas->library == NULL; i++)
        blas->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (blas->library == NULL)
        return td_fail(error, TD_NOT_FOUND,
                       "the fast variant needs cuBLASLt, and neither libcublasLt.so.13 nor .12 was "
                       "found: install it, say where it is in LD_LIBRARY_PATH, or do without");
    return TD_OK;
}

static td_status_t find_functions(struct gpu_blas *blas, struct td_error *error)
{
#define X(member, name, arguments)                                                              \
    {                                                                                           \
        void *found = dlsym(blas->library, #name);                                              \
                                                                                                \
        if (found == NULL)                                                                      \
            return td_fail(error, TD_UNSUPPORTED, "this cuBLASLt has no " #name);               \
        memcpy(&blas->member, &found, sizeof found); /* as POSIX makes functions of pointers */ \
    }
    LIBRARY(X)
#undef X
    return TD_OK;
}

static td_status_t check(int code, const char *what, struct td_error *error)
{
    return code == 0 ? TD_OK : td_fail(error, TD_INTERNAL, "cuBLASLt: %s: status %d", what, code);
}

/* Results may begin where 16 bytes do: keys and values lie behind queries. Everything else begins at 256. */
static td_status_t state_preferences(struct gpu_blas *blas, struct td_error *error)
{
    uint64_t most = blas->workspace_bytes;
    uint32_t alignment = CUDA_DENSE_ALIGNMENT;
    int code = blas->preference_create(&blas->preference);

    if (code == 0)
        code =
            blas->preference_set(blas->preference, PREFERENCE_WORKSPACE_BYTES, &most, sizeof most);
    if (code == 0)
        code = blas->preference_set(blas->preference, PREFERENCE_ALIGNMENT_C, &alignment,
                                    sizeof alignment);
    if (code == 0)
        code = blas->preference_set(blas->preference, PREFERENCE_ALIGNMENT_D, &alignment,
                                    sizeof alignment);
    return check(code, "preferences", error);
}

td_status_t gpu_blas_open(void *workspace, size_t bytes, struct gpu_blas **blas_out,
                          struct td_error *error)
{
    struct gpu_blas *blas = calloc(1, sizeof *blas);
    td_status_t status;

    if (blas == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for cuBLASLt");
    blas->workspace = workspace;
    blas->workspace_bytes = bytes;
    status = find_library(blas, error);
    if (status == TD_OK)
        status = find_functions(blas, error);
    if (status == TD_OK)
        status = check(blas->create(&blas->handle), "create", error);
    if (status == TD_OK)
        status = state_preferences(blas, error);
    if (status != TD_OK) {
        gpu_blas_close(blas);
        return status;
    }
    *blas_out = blas;
    return TD_OK;
}

/* ------------------------------------------------------------------ shapes */

static void forget(struct gpu_blas *blas, struct known *known)
{
    if (known->y != NULL)
        (void)blas->layout_destroy(known->y);
    if (known->x != NULL)
        (void)blas->layout_destroy(known->x);
    if (known->matrix != NULL)
        (void)blas->layout_destroy(known->matrix);
    if (known->desc != NULL)
        (void)blas->desc_destroy(known->desc);
    *known = (struct known){0};
}

static td_status_t describe(struct gpu_blas *blas, struct known *known, struct td_error *error)
{
    const struct shape *shape = &known->shape;
    int32_t transposed = OPERATION_TRANSPOSED;
    uint32_t epilogue = EPILOGUE_BIAS;
    int code = blas->desc_create(&known->desc, COMPUTE_32F, R_32F);

    if (code == 0)
        code = blas->desc_set(known->desc, DESC_TRANSA, &transposed, sizeof transposed);
    if (code == 0 && shape->has_bias)
        code = blas->desc_set(known->desc, DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (code == 0)
        code = blas->layout_create(&known->matrix, R_16BF, shape->columns, shape->rows,
                                   shape->columns);
    if (code == 0)
        code =
            blas->layout_create(&known->x, R_16BF, shape->columns, shape->tokens, shape->columns);
    if (code == 0)
        code = blas->layout_create(&known->y, R_32F, shape->rows, shape->tokens, shape->stride);
    return check(code, "describing a product", error);
}

static td_status_t choose(struct gpu_blas *blas, struct known *known, const float *bias,
                          struct td_error *error)
{
    struct heuristic found = {0};
    int count = 0;
    td_status_t status = describe(blas, known, error);

    if (status == TD_OK && bias != NULL) /* its alignment counts */
        status = check(blas->desc_set(known->desc, DESC_BIAS_POINTER, &bias, sizeof bias), "bias",
                       error);
    if (status == TD_OK)
        status = check(blas->choose(blas->handle, known->desc, known->matrix, known->x, known->y,
                                    known->y, blas->preference, 1, &found, &count),
                       "choosing an algorithm", error);
    if (status == TD_OK && count == 0)
        status = td_fail(error, TD_UNSUPPORTED,
                         "cuBLASLt knows no way to multiply %" PRIu32 " x %" PRIu32 " by %" PRIu32
                         " rows",
                         known->shape.rows, known->shape.columns, known->shape.tokens);
    known->algorithm = found.algorithm;
    return status;
}

static uint32_t place_of(const struct shape *shape)
{
    uint32_t mixed = shape->rows * 0x9e3779b1u;

    mixed = (mixed ^ shape->columns ^ mixed >> 15) * 0x85ebca77u;
    mixed = (mixed ^ shape->tokens ^ mixed >> 13) * 0xc2b2ae3du;
    mixed ^= shape->stride * 2 + shape->has_bias;
    return (mixed ^ mixed >> 16) % SHAPES_KEPT;
}

static bool is_same(const struct shape *a, const struct shape *b)
{
    return a->rows == b->rows && a->columns == b->columns && a->tokens == b->tokens &&
           a->stride == b->stride && a->has_bias == b->has_bias;
}

/* What is known of a shape; it takes the place of another if need be. */
static td_status_t look_up(struct gpu_blas *blas, const struct cuda_dense *dense,
                           struct known **known_out, struct td_error *error)
{
    const struct shape shape = {.rows = dense->rows,
                                .columns = dense->columns,
                                .tokens = dense->tokens,
                                .stride = dense->stride,
                                .has_bias = dense->bias != NULL};
    struct known *known = &blas->known[place_of(&shape)];
    td_status_t status = TD_OK;

    if (!is_same(&known->shape, &shape)) {
        forget(blas, known);
        known->shape = shape;
        status = choose(blas, known, dense->bias, error);
    }
    if (status != TD_OK) {
        forget(blas, known);
        return status;
    }
    *known_out = known;
    return TD_OK;
}

/* ------------------------------------------------------------------ products */

td_status_t gpu_blas_multiply(struct gpu_blas *blas, const struct cuda_dense *dense,
                              struct CUstream_st *stream, struct td_error *error)
{
    const float alpha = 1;
    const float beta = dense->is_added ? 1 : 0;
    struct known *known = NULL;
    td_status_t status = look_up(blas, dense, &known, error);

    if (status == TD_OK && dense->bias != NULL)
        status =
            check(blas->desc_set(known->desc, DESC_BIAS_POINTER, &dense->bias, sizeof dense->bias),
                  "bias", error);
    if (status != TD_OK)
        return status;
    return check(blas->matmul(blas->handle, known->desc, &alpha, dense->matrix, known->matrix,
                              dense->x, known->x, &beta, dense->y, known->y, dense->y, known->y,
                              &known->algorithm, blas->workspace, blas->workspace_bytes, stream),
                 "a product", error);
}

void gpu_blas_close(struct gpu_blas *blas)
{
    if (blas == NULL)
        return;
    for (uint32_t i = 0; i < SHAPES_KEPT && blas->handle != NULL; i++)
        forget(blas, &blas->known[i]);
    if (blas->preference != NULL)
        (void)blas->preference_destroy(blas->preference);
    if (blas->handle != NULL)
        (void)blas->destroy(blas->handle);
    if (blas->library != NULL)
        (void)dlclose(blas->library);
    free(blas);
}
