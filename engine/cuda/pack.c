/* pack.c: see pack.h. */
#include "engine/cuda/pack.h"

#include <math.h>

#include "engine/cuda/plan.h"
#include "lib/base/bytes.h"

#define SECTION      512 /* bytes of a tile that a warp loads at once: see kernels/packed.h */
#define PER_LANE     32
#define SUPER        256   /* columns of a block of the K types */
#define TILES_ACROSS 4     /* tiles that a block of the kernel makes */
#define TILES_MAX    32768 /* rows of tiles that it makes at a time: blocks in y are few */

static size_t pieces(size_t count, size_t each)
{
    return count / each + (count % each != 0);
}

/* Tiles as kernels/packed.h lays them out; said once more, since that is for kernels only. A test compares. */
static size_t tile_bytes(uint32_t type)
{
    const size_t scales = CUDA_TILE_ROWS * sizeof(uint32_t);

    switch ((enum cuda_type)type) {
    case CUDA_TYPE_F8_E4M3:
    case CUDA_TYPE_Q8_0: return 2 * SECTION + scales;
    case CUDA_TYPE_Q4_0:
    case CUDA_TYPE_Q4_K: return SECTION + scales;
    case CUDA_TYPE_Q4_1: return SECTION + 2 * scales;
    case CUDA_TYPE_Q5_0:
    case CUDA_TYPE_Q5_K: return SECTION + 4 * PER_LANE + scales;
    case CUDA_TYPE_Q5_1: return SECTION + 4 * PER_LANE + 2 * scales;
    case CUDA_TYPE_Q6_K: return SECTION + 8 * PER_LANE + scales;
    case CUDA_TYPE_F32:
    case CUDA_TYPE_F16:
    case CUDA_TYPE_BF16: break;
    }
    return 4 * SECTION;
}

static bool is_k(uint32_t type)
{
    return type == CUDA_TYPE_Q4_K || type == CUDA_TYPE_Q5_K || type == CUDA_TYPE_Q6_K;
}

static bool is_plain(enum model_type type)
{
    return type == MODEL_TYPE_F32 || type == MODEL_TYPE_F16 || type == MODEL_TYPE_BF16;
}

static bool have_same_blocks(const struct model_scales *a, const struct model_scales *b)
{
    return (a->values == NULL) == (b->values == NULL) && a->rows == b->rows &&
           a->columns == b->columns && a->across == b->across;
}

bool cuda_pack_can_pair(const struct model_matrix *gate, const struct model_matrix *up)
{
    return gate->type == up->type && gate->rows == up->rows && gate->columns == up->columns &&
           gate->row_bytes == up->row_bytes && (gate->data == NULL) == (up->data == NULL) &&
           have_same_blocks(&gate->scales, &up->scales) && gate->rows <= UINT32_MAX / 2;
}

bool cuda_pack_can_join(const struct model_matrix *first, uint32_t rows,
                        const struct model_matrix *next)
{
    return first->type == next->type && first->columns == next->columns &&
           rows % CUDA_TILE_ROWS == 0 && next->rows <= UINT32_MAX - rows;
}

struct cuda_matrix cuda_pack_describe(const struct cuda_pack_source *source)
{
    const struct model_matrix *matrix = source->matrix;
    uint32_t type = (uint32_t)matrix->type;

    if (is_plain(matrix->type))
        type = source->is_rounded ? CUDA_TYPE_F8_E4M3 : CUDA_TYPE_BF16;
    return (struct cuda_matrix){.rows = source->mate != NULL ? 2 * matrix->rows : matrix->rows,
                                .columns = matrix->columns,
                                .type = type,
                                .is_paired = source->mate != NULL};
}

/* With those that fill the rows up, which kernels read too. */
static size_t row_tiles(const struct cuda_matrix *matrix)
{
    return pieces(matrix->rows, CUDA_TILE_ROWS * CUDA_MANY_ROWS) * CUDA_MANY_ROWS;
}

bool cuda_packed_bytes(const struct cuda_matrix *matrix, size_t *bytes_out)
{
    size_t each = pieces(matrix->columns, CUDA_TILE_COLUMNS) * tile_bytes(matrix->type);

    if (is_k(matrix->type))
        each += pieces(matrix->columns, SUPER) * CUDA_TILE_ROWS * sizeof(uint32_t);
    return !__builtin_mul_overflow(row_tiles(matrix), each, bytes_out);
}

/* Bytes that a row takes of staging memory: its weights, and as many scales as it may bring. */
static size_t staged_bytes(const struct model_matrix *matrix)
{
    size_t across = matrix->scales.values != NULL ? matrix->scales.across : 1;

    return matrix->row_bytes < SIZE_MAX / 4 ? matrix->row_bytes + across * sizeof(float)
                                            : SIZE_MAX / 2;
}

size_t cuda_pack_staging(const struct model_matrix *matrix, size_t bytes)
{
    size_t row_bytes = staged_bytes(matrix);
    size_t rows =
        row_bytes < SIZE_MAX / 2 / CUDA_TILE_ROWS ? row_bytes * CUDA_TILE_ROWS : SIZE_MAX / 2;

    return rows > bytes ? rows : bytes;
}

/* Of random weights, so that sums over a row keep the size of what they are made from. */
static float random_size(const struct model_matrix *matrix)
{
    return 1.0f / sqrtf((float)matrix->columns);
}

/* Random rows of about the size that real ones have; FP8 has its scale for that. */
static void make_random(struct cuda_device *device, const struct model_matrix *matrix,
                        uint64_t seed, uint8_t *to, size_t bytes)
{
    const struct model_type_info *info = model_type_info((uint32_t)matrix->type);
    float largest = 1; /* quant, or scale times quant, of a block */
    struct cuda_fill_args args = {.data = to,
                                  .blocks = bytes / info->block_bytes,
                                  .seed = seed,
                                  .type = (uint32_t)matrix->type,
                                  .block_bytes = info->block_bytes};

    switch (matrix->type) {
    case MODEL_TYPE_Q4_1:
    case MODEL_TYPE_Q5_1: args.has_minimum = true; /* fall through */
    case MODEL_TYPE_Q4_0:
    case MODEL_TYPE_Q5_0: largest = 16; break;
    case MODEL_TYPE_Q8_0: largest = 128; break;
    case MODEL_TYPE_Q4_K:
    case MODEL_TYPE_Q5_K: args.has_minimum = true, largest = 63 * 16; break;
    case MODEL_TYPE_Q6_K: args.scale_at = 208, largest = 128 * 32; break;
    case MODEL_TYPE_F32:
    case MODEL_TYPE_F16:
    case MODEL_TYPE_BF16:
    case MODEL_TYPE_F8_E4M3: break;
    }
    args.range =
        matrix->type == MODEL_TYPE_F8_E4M3 ? MODEL_E4M3_MAX : random_size(matrix) / largest;
    cuda_device_launch(device, CUDA_KERNEL_FILL,
                       (struct cuda_grid){(uint32_t)((args.blocks + 255) / 256), 1, 1}, &args);
}

/* Rows of the file to the device's memory. */
static void stage(const struct cuda_packer *packer, const struct model_matrix *matrix,
                  uint64_t seed, const struct cuda_pack_args *args, uint32_t first, uint8_t *to)
{
    size_t at = first * matrix->row_bytes;
    size_t bytes = args->rows * matrix->row_bytes;

    if (matrix->data != NULL)
        cuda_loader_copy(packer->loader, to, matrix->data + at, bytes);
    else
        make_random(packer->device, matrix, seed + at, to, bytes);
}

/* Tiles that a launch makes; behind the last rows of the matrix also those that fill it up, with zeros. */
static uint32_t tiles_of(const struct cuda_pack_args *args, uint32_t each)
{
    size_t tiles = pieces(args->rows, each);

    if (args->first_tile + tiles == pieces(args->matrix.rows, CUDA_TILE_ROWS))
        tiles = row_tiles(&args->matrix) - args->first_tile;
    return (uint32_t)tiles;
}

/* Scales of the file to the device's memory: those of the rows that are staged. */
static void stage_scales(const struct cuda_packer *packer, const struct model_matrix *matrix,
                         uint32_t first, uint32_t rows, float *to)
{
    const struct model_scales *scales = &matrix->scales;
    uint32_t from = first / scales->rows;
    uint32_t count = (first + rows - 1) / scales->rows - from + 1;

    cuda_loader_copy(packer->loader, to, scales->values + (size_t)from * scales->across,
                     (size_t)count * scales->across * sizeof(float));
}

/* Scales that rows get with which they are rounded. */
static void find_scales(const struct cuda_packer *packer, const struct cuda_pack_args *args,
                        const uint8_t *source, float *to)
{
    const struct cuda_row_scales_args find = {.source = source,
                                              .row_bytes = args->row_bytes,
                                              .source_type = args->source_type,
                                              .columns = args->matrix.columns,
                                              .scales = to};

    cuda_device_launch(packer->device, CUDA_KERNEL_ROW_SCALES, (struct cuda_grid){args->rows, 1, 1},
                       &find);
}

/* What a piece of one matrix needs on the device, from `to` on; returns where that ends. */
static uint8_t *stage_source(const struct cuda_packer *packer, const struct model_matrix *matrix,
                             uint64_t seed, struct cuda_pack_args *args, uint32_t first,
                             uint32_t which, uint8_t *to)
{
    float *scales = (float *)(void *)(to + args->rows * matrix->row_bytes);

    stage(packer, matrix, seed, args, first, to);
    args->sources[which] = to;
    if (args->matrix.type != CUDA_TYPE_F8_E4M3)
        return (uint8_t *)scales;
    if (matrix->type != MODEL_TYPE_F8_E4M3)
        find_scales(packer, args, to, scales);
    else if (matrix->scales.values != NULL)
        stage_scales(packer, matrix, first, args->rows, scales);
    else
        return (uint8_t *)scales;
    args->scales.rows[which] = scales;
    return (uint8_t *)(scales + (size_t)args->rows * args->scales.across);
}

/* How scales of a source are spread, and which it has where they are in no array. */
static struct cuda_scales describe_scales(const struct model_matrix *matrix)
{
    const struct model_scales *scales = &matrix->scales;

    if (scales->values == NULL)
        return (struct cuda_scales){
            .all = matrix->data != NULL ? 1.0f : random_size(matrix) / MODEL_E4M3_MAX,
            .down = 1,
            .across = 1,
            .columns = UINT32_MAX};
    return (struct cuda_scales){
        .down = scales->rows, .across = scales->across, .columns = scales->columns};
}

void cuda_pack(const struct cuda_packer *packer, const struct cuda_pack_source *source,
               const struct cuda_matrix *matrix, uint8_t *to)
{
    const struct model_matrix *rows = source->matrix;
    const uint32_t each = source->mate != NULL ? CUDA_TILE_ROWS / 2 : CUDA_TILE_ROWS;
    const size_t fits = packer->staging_bytes / (staged_bytes(rows) * CUDA_TILE_ROWS);
    const uint32_t at_once = (uint32_t)(fits < TILES_MAX ? fits : TILES_MAX);
    struct cuda_pack_args args = {.row_bytes = rows->row_bytes,
                                  .source_type = (uint32_t)rows->type,
                                  .matrix = *matrix,
                                  .data = to,
                                  .scales = describe_scales(rows)};

    for (uint32_t first = 0; first < rows->rows; first += args.rows) {
        uint32_t left = rows->rows - first;
        uint8_t *second;

        args.rows = left / each < at_once ? left : at_once * each;
        args.first_tile = source->first_tile + first / each;
        args.scales.phase = first % args.scales.down;
        second = stage_source(packer, rows, source->seed, &args, first, 0, packer->staging);
        if (source->mate != NULL)
            (void)stage_source(packer, source->mate, ~source->seed, &args, first, 1, second);
        cuda_device_launch(
            packer->device, CUDA_KERNEL_PACK,
            (struct cuda_grid){
                (uint32_t)pieces(pieces(matrix->columns, CUDA_TILE_COLUMNS), TILES_ACROSS),
                tiles_of(&args, each), 1},
            &args);
    }
}
