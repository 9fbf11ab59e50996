/*
 * stub_blas.c: a stand-in for cuBLASLt that multiplies in ordinary memory, one product after the other.
 *
 * It knows the part of the interface that engine/cuda/gpu/blas.c uses, with the numbers of NVIDIA's documentation, written
 * down once more: what is no product of that interface (a size of an attribute, layouts that do not fit each other, a
 * workspace that is larger than was allowed, pointers that are not aligned as was promised, an algorithm that was
 * found for another shape) is refused, and noted. Column-major, as the library is.
 */
#include "tests/cuda/stub_blas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/status.h"

#define EXPORTED __attribute__((visibility("default")))

enum { INVALID_VALUE = 7 }; /* CUBLAS_STATUS_INVALID_VALUE */
enum { COMPUTE_32F = 68, R_32F = 0, R_16BF = 14 };
enum { TRANSA = 3, EPILOGUE = 7, BIAS_POINTER = 8 }; /* CUBLASLT_MATMUL_DESC_... */
enum { MAX_WORKSPACE_BYTES = 1, MIN_ALIGNMENT_C = 7, MIN_ALIGNMENT_D = 8 }; /* ..._PREF_... */
enum { OP_N = 0, OP_T = 1, EPILOGUE_DEFAULT = 1, EPILOGUE_BIAS = 4 };

struct description {
    int compute;
    int scale;
    int32_t transa;
    uint32_t epilogue;
    const float *bias;
};

struct layout {
    int type;
    uint64_t rows;
    uint64_t columns;
    int64_t stride;
};

struct preference {
    uint64_t workspace_bytes;
    uint32_t alignment_c;
    uint32_t alignment_d;
};

/* cublasLtMatmulAlgo_t: 64 bytes. Here: what it was found for. */
struct algorithm {
    uint64_t rows;
    uint64_t columns;
    uint64_t tokens;
    uint64_t stride;
    uint64_t epilogue;
    uint64_t workspace_bytes;
    uint64_t alignment;
    uint64_t seal;
};

struct heuristic {
    struct algorithm algorithm;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

/* What a product is of: all that a call gives. */
struct product {
    const struct description *description;
    const struct layout *a;
    const struct layout *b;
    const struct layout *c;
    const struct layout *d;
};

#define SEAL 0x7a11d01d

_Static_assert(sizeof(struct algorithm) == 64, "as cublasLtMatmulAlgo_t");
_Static_assert(sizeof(struct heuristic) == 96, "as cublasLtMatmulHeuristicResult_t");

EXPORTED extern struct stub_blas stub_blas;
struct stub_blas stub_blas;

TD_PRINTF(1, 2) static int refuse(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (stub_blas.complaint[0] == '\0')
        vsnprintf(stub_blas.complaint, sizeof stub_blas.complaint, format, arguments);
    va_end(arguments);
    return INVALID_VALUE;
}

static int fails(const char *name)
{
    return stub_blas.failing != NULL && strcmp(stub_blas.failing, name) == 0;
}

static int make(void **out, const void *object, size_t bytes, const char *name)
{
    if (fails(name))
        return STUB_BLAS_FAILED;
    *out = malloc(bytes);
    if (*out == NULL)
        return STUB_BLAS_FAILED;
    memcpy(*out, object, bytes);
    stub_blas.objects++;
    return 0;
}

static int drop(void *object)
{
    if (object == NULL)
        return refuse("nothing was destroyed");
    free(object);
    stub_blas.objects--;
    return 0;
}

/* ------------------------------------------------------------------ objects */

EXPORTED int cublasLtCreate(void **handle);
EXPORTED int cublasLtDestroy(void *handle);
EXPORTED int cublasLtMatmulDescCreate(void **desc, int compute, int scale);
EXPORTED int cublasLtMatmulDescDestroy(void *desc);
EXPORTED int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value,
                                            size_t size);
EXPORTED int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns,
                                        int64_t stride);
EXPORTED int cublasLtMatrixLayoutDestroy(void *layout);
EXPORTED int cublasLtMatmulPreferenceCreate(void **preference);
EXPORTED int cublasLtMatmulPreferenceDestroy(void *preference);
EXPORTED int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute,
                                                  const void *value, size_t size);
EXPORTED int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c,
                                            void *d, void *preference, int wanted,
                                            struct heuristic *found, int *found_count);
EXPORTED int cublasLtMatmul(void *handle, void *desc, const void *alpha, const void *a,
                            void *a_layout, const void *b, void *b_layout, const void *beta,
                            const void *c, void *c_layout, void *d, void *d_layout,
                            const struct algorithm *algorithm, void *workspace,
                            size_t workspace_bytes, void *stream);

int cublasLtCreate(void **handle)
{
    return make(handle, "handle", 7, "Create");
}

int cublasLtDestroy(void *handle)
{
    return drop(handle);
}

int cublasLtMatmulDescCreate(void **desc, int compute, int scale)
{
    const struct description description = {
        .compute = compute, .scale = scale, .transa = OP_N, .epilogue = EPILOGUE_DEFAULT};

    return make(desc, &description, sizeof description, "MatmulDescCreate");
}

int cublasLtMatmulDescDestroy(void *desc)
{
    return drop(desc);
}

int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value, size_t size)
{
    struct description *description = desc;

    if (fails("MatmulDescSetAttribute"))
        return STUB_BLAS_FAILED;
    if (attribute == TRANSA && size == sizeof description->transa)
        memcpy(&description->transa, value, size);
    else if (attribute == EPILOGUE && size == sizeof description->epilogue)
        memcpy(&description->epilogue, value, size);
    else if (attribute == BIAS_POINTER && size == sizeof description->bias)
        memcpy(&description->bias, value, size);
    else
        return refuse("attribute %d of a product, of %zu bytes", attribute, size);
    return 0;
}

int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns,
                               int64_t stride)
{
    const struct layout made = {type, rows, columns, stride};

    if (rows == 0 || columns == 0 || stride < (int64_t)rows)
        return refuse("a layout of %llu x %llu, stride %lld", (unsigned long long)rows,
                      (unsigned long long)columns, (long long)stride);
    return make(layout, &made, sizeof made, "MatrixLayoutCreate");
}

int cublasLtMatrixLayoutDestroy(void *layout)
{
    return drop(layout);
}

int cublasLtMatmulPreferenceCreate(void **preference)
{
    const struct preference made = {.alignment_c = 256, .alignment_d = 256};

    return make(preference, &made, sizeof made, "MatmulPreferenceCreate");
}

int cublasLtMatmulPreferenceDestroy(void *preference)
{
    return drop(preference);
}

int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value,
                                         size_t size)
{
    struct preference *set = preference;

    if (attribute == MAX_WORKSPACE_BYTES && size == sizeof set->workspace_bytes)
        memcpy(&set->workspace_bytes, value, size);
    else if (attribute == MIN_ALIGNMENT_C && size == sizeof set->alignment_c)
        memcpy(&set->alignment_c, value, size);
    else if (attribute == MIN_ALIGNMENT_D && size == sizeof set->alignment_d)
        memcpy(&set->alignment_d, value, size);
    else
        return refuse("attribute %d of preferences, of %zu bytes", attribute, size);
    return 0;
}

/* ------------------------------------------------------------------ products */

/* Whether it is D = op(A) B + C of bf16 in and floats out. */
static int check_product(const struct product *product)
{
    const struct description *description = product->description;
    int is_transposed = description->transa == OP_T;
    uint64_t rows = is_transposed ? product->a->columns : product->a->rows;
    uint64_t inner = is_transposed ? product->a->rows : product->a->columns;

    if (description->compute != COMPUTE_32F || description->scale != R_32F)
        return refuse("computed in %d and scaled in %d", description->compute, description->scale);
    if (product->a->type != R_16BF || product->b->type != R_16BF || product->c->type != R_32F ||
        product->d->type != R_32F)
        return refuse("types %d, %d, %d, %d", product->a->type, product->b->type, product->c->type,
                      product->d->type);
    if (product->b->rows != inner || product->d->rows != rows ||
        product->d->columns != product->b->columns ||
        memcmp(product->c, product->d, sizeof *product->c) != 0)
        return refuse("layouts that do not fit each other");
    return 0;
}

static struct algorithm algorithm_of(const struct product *product)
{
    return (struct algorithm){.rows = product->d->rows,
                              .columns = product->b->rows,
                              .tokens = product->d->columns,
                              .stride = (uint64_t)product->d->stride,
                              .epilogue = product->description->epilogue,
                              .seal = SEAL};
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c, void *d,
                                   void *preference, int wanted, struct heuristic *found,
                                   int *found_count)
{
    const struct product product = {desc, a, b, c, d};
    const struct preference *preferred = preference;
    int code = check_product(&product);

    stub_blas.asked++;
    if (fails("MatmulAlgoGetHeuristic"))
        return STUB_BLAS_FAILED;
    if (code != 0)
        return code;
    if (handle == NULL || wanted != 1)
        return refuse("%d algorithms wanted", wanted);
    if (product.description->epilogue == EPILOGUE_BIAS && product.description->bias == NULL)
        return refuse("an algorithm for a bias that is not there");
    memset(found, 0, sizeof *found);
    found->algorithm = algorithm_of(&product);
    found->algorithm.workspace_bytes = preferred->workspace_bytes;
    found->algorithm.alignment = preferred->alignment_c < preferred->alignment_d
                                     ? preferred->alignment_c
                                     : preferred->alignment_d;
    found->workspace_bytes = preferred->workspace_bytes;
    *found_count = stub_blas.tokens_wrong == 0 || product.d->columns != stub_blas.tokens_wrong;
    return 0;
}

static float float_of(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static float dot(const struct product *product, const uint16_t *a, const uint16_t *b, uint64_t row,
                 uint64_t column)
{
    int is_transposed = product->description->transa == OP_T;
    uint64_t along = is_transposed ? 1 : (uint64_t)product->a->stride;
    uint64_t down = is_transposed ? (uint64_t)product->a->stride : 1;
    float sum = 0;

    for (uint64_t i = 0; i < product->b->rows; i++)
        sum += float_of(a[row * down + i * along]) *
               float_of(b[column * (uint64_t)product->b->stride + i]);
    return sum;
}

static int check_call(const struct product *product, const struct algorithm *algorithm,
                      const void *d, const void *workspace, size_t workspace_bytes)
{
    struct algorithm expected = algorithm_of(product);

    if (algorithm == NULL || algorithm->seal != SEAL)
        return refuse("an algorithm that was never found");
    expected.workspace_bytes = algorithm->workspace_bytes;
    expected.alignment = algorithm->alignment;
    if (memcmp(&expected, algorithm, sizeof expected) != 0)
        return refuse("an algorithm of another shape");
    if (workspace == NULL || workspace_bytes < algorithm->workspace_bytes)
        return refuse("a workspace of %zu bytes", workspace_bytes);
    if (algorithm->alignment == 0 || (uintptr_t)d % algorithm->alignment != 0)
        return refuse("results that are not aligned to %llu",
                      (unsigned long long)algorithm->alignment);
    return 0;
}

int cublasLtMatmul(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                   const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                   void *d, void *d_layout, const struct algorithm *algorithm, void *workspace,
                   size_t workspace_bytes, void *stream)
{
    const struct product product = {desc, a_layout, b_layout, c_layout, d_layout};
    const struct description *description = desc;
    const float *before = c;
    float *after = d;
    float scale;
    float kept;
    int code = check_product(&product);

    if (fails("Matmul"))
        return STUB_BLAS_FAILED;
    if (code == 0)
        code = check_call(&product, algorithm, d, workspace, workspace_bytes);
    if (code != 0 || handle == NULL)
        return INVALID_VALUE;
    memcpy(&scale, alpha, sizeof scale);
    memcpy(&kept, beta, sizeof kept);
    for (uint64_t column = 0; column < product.d->columns; column++) {
        for (uint64_t row = 0; row < product.d->rows; row++) {
            uint64_t at = column * (uint64_t)product.d->stride + row;
            float value = scale * dot(&product, a, b, row, column);

            if (kept != 0) /* else C is not read, as the library has it */
                value += kept * before[at];
            after[at] =
                value + (description->epilogue == EPILOGUE_BIAS ? description->bias[row] : 0);
        }
    }
    stub_blas.multiplied++;
    stub_blas.stream = stream;
    return 0;
}
