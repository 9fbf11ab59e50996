/*
 * test_wide.c: products by warpgroups: the bits of other kernels for all types and sizes, the proof of that at opening,
 * and what becomes of a device where it fails.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/forward.h"
#include "engine/cuda/kernels/packed.h"
#include "engine/cuda/multiply.h"
#include "engine/cuda/pack.h"
#include "engine/cuda/wide.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define ROWS_MAX    150
#define COLUMNS_MAX 584
#define TOKENS_MAX  300
#define STRIDE      (ROWS_MAX + 2)
#define Y_BYTES     ((size_t)TOKENS_MAX * STRIDE * sizeof(float))
#define VOCAB       40
#define PROMPT      140 /* more than product_wide is for, at least */

static const enum cuda_type types[] = {
#define X(name, member) CUDA_TYPE_##member,
    CUDA_PACKED_TYPES(X)
#undef X
};

#define TYPES (sizeof types / sizeof types[0])

/* ------------------------------------------------------------------ devices */

/* The device of this program, if it has warpgroups; the interpreter has what is asked for. */
static struct cuda_device *open_device(void)
{
    struct cuda_device *device = cuda_rig_device();

    if (device->info.is_interpreted)
        device->info.has_warpgroups = true;
    if (!device->info.has_warpgroups) {
        cuda_device_close(device);
        skip();
    }
    return device;
}

/* Counts product_wide, and after the one with number wrong_at (from 1) changes a bit of a result. */
static struct {
    const struct cuda_device_ops *ops;
    uint32_t launches;
    uint32_t wrong_at;
} watch;

static bool is_wide(enum cuda_kernel kernel)
{
    switch ((int)kernel) {
#define X(name, member) case CUDA_KERNEL_PRODUCT_WIDE_##member:
        CUDA_PACKED_TYPES(X)
#undef X
        return true;
    default: return false;
    }
}

static td_status_t watched_launch(struct cuda_device *device, enum cuda_kernel kernel,
                                  struct cuda_grid grid, const void *args, struct td_error *error)
{
    const struct cuda_product_args *product = args;
    td_status_t status = watch.ops->launch(device, kernel, grid, args, error);

    if (is_wide(kernel) && ++watch.launches == watch.wrong_at) {
        uint32_t *word = (uint32_t *)(void *)(product->y + 5 * product->stride + 3);

        *word ^= 1;
    }
    return status;
}

/* For the interpreter, whose memory tests may write. */
static struct cuda_device *open_watched(uint32_t wrong_at)
{
    static struct cuda_device_ops ops;
    struct cuda_device *device = open_device();

    if (!device->info.is_interpreted) {
        cuda_device_close(device);
        skip();
    }
    watch.ops = device->ops;
    watch.launches = 0;
    watch.wrong_at = wrong_at;
    ops = *device->ops;
    ops.launch = watched_launch;
    device->ops = &ops;
    device->info.multiprocessors = 2; /* so few that one block is worth it */
    return device;
}

/*
 * On this one product_wide never ends. Behind it all that waits for the device without a limit would never return, and who
 * calls it fails the test; what was taken is the device's own to let go of.
 */
#define TAKEN_MAX 32

static struct {
    const struct cuda_device_ops *ops;
    bool hangs;
    void *taken[TAKEN_MAX];
    void *taken_host[TAKEN_MAX];
} stuck;

static void note_change(void **places, const void *from, void *to)
{
    for (size_t i = 0; i < TAKEN_MAX; i++)
        if (places[i] == from) {
            places[i] = to;
            return;
        }
    fail_msg("more than %d pieces of memory, or none such", TAKEN_MAX);
}

static td_status_t stuck_take(struct cuda_device *device, size_t bytes, void **memory_out,
                              struct td_error *error)
{
    td_status_t status = stuck.ops->take(device, bytes, memory_out, error);

    if (status == TD_OK)
        note_change(stuck.taken, NULL, *memory_out);
    return status;
}

static void stuck_give(struct cuda_device *device, void *memory)
{
    assert_false(stuck.hangs);
    note_change(stuck.taken, memory, NULL);
    stuck.ops->give(device, memory);
}

static td_status_t stuck_take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                                   struct td_error *error)
{
    td_status_t status = stuck.ops->take_host(device, bytes, memory_out, error);

    if (status == TD_OK)
        note_change(stuck.taken_host, NULL, *memory_out);
    return status;
}

static void stuck_give_host(struct cuda_device *device, void *memory)
{
    assert_false(stuck.hangs);
    note_change(stuck.taken_host, memory, NULL);
    stuck.ops->give_host(device, memory);
}

static td_status_t stuck_launch(struct cuda_device *device, enum cuda_kernel kernel,
                                struct cuda_grid grid, const void *args, struct td_error *error)
{
    stuck.hangs = stuck.hangs || is_wide(kernel);
    return stuck.hangs ? TD_OK : stuck.ops->launch(device, kernel, grid, args, error);
}

static td_status_t stuck_download(struct cuda_device *device, void *to, const void *from,
                                  size_t bytes, struct td_error *error)
{
    assert_false(stuck.hangs);
    return stuck.ops->download(device, to, from, bytes, error);
}

static td_status_t stuck_wait(struct cuda_device *device, struct td_error *error)
{
    assert_false(stuck.hangs);
    return stuck.ops->wait(device, error);
}

static td_status_t stuck_poll(struct cuda_device *device, struct td_error *error)
{
    return stuck.hangs ? TD_AGAIN : stuck.ops->poll(device, error);
}

static void stuck_close(struct cuda_device *device)
{
    assert_int_equal(device->is_hung, stuck.hangs);
    for (size_t i = 0; i < TAKEN_MAX; i++) {
        if (stuck.taken[i] != NULL)
            stuck.ops->give(device, stuck.taken[i]);
        if (stuck.taken_host[i] != NULL)
            stuck.ops->give_host(device, stuck.taken_host[i]);
    }
    stuck.ops->close(device);
}

static struct cuda_device *open_stuck(void)
{
    static struct cuda_device_ops ops;
    struct cuda_device *device = open_watched(0);

    memset(&stuck, 0, sizeof stuck);
    stuck.ops = watch.ops;
    ops = *stuck.ops;
    ops.take = stuck_take;
    ops.give = stuck_give;
    ops.take_host = stuck_take_host;
    ops.give_host = stuck_give_host;
    ops.launch = stuck_launch;
    ops.download = stuck_download;
    ops.wait = stuck_wait;
    ops.poll = stuck_poll;
    ops.close = stuck_close;
    device->ops = &ops;
    return device;
}

/* ------------------------------------------------------------------ products */

struct scene {
    struct cuda_device *device;
    struct cuda_multiplier multiplier;
    struct cuda_matrix matrix;
    uint8_t *weights;
    uint16_t *x;
    float *bias;
    float *y;
};

static void *taken(struct cuda_device *device, size_t bytes)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(device, bytes, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    return memory;
}

static void wait_for(struct cuda_device *device)
{
    struct td_error error = {0};

    if (cuda_device_wait(device, &error) != TD_OK)
        fail_msg("%s", error.text);
}

/* Words whose halves are numbers as halves and as bf16, none of them large. */
static void send_random(struct scene *scene, void *to, size_t bytes, uint64_t seed)
{
    uint32_t *words = malloc(bytes);
    struct td_rng rng;

    assert_non_null(words);
    td_rng_init(&rng, seed);
    for (size_t i = 0; i < bytes / sizeof *words; i++)
        words[i] = (uint32_t)td_rng_next(&rng) & 0xbbffbbffu;
    cuda_device_upload(scene->device, to, words, bytes);
    wait_for(scene->device);
    free(words);
}

static void open_scene(struct scene *scene, enum cuda_type type, uint32_t rows, uint32_t columns)
{
    const size_t pieces = (size_t)((TOKENS_MAX + CUDA_WIDE_TILE - 1) / CUDA_WIDE_TILE) *
                          ((COLUMNS_MAX + CUDA_TILE_COLUMNS - 1) / CUDA_TILE_COLUMNS);
    size_t bytes = 0;

    *scene = (struct scene){.device = open_device()};
    scene->matrix = (struct cuda_matrix){.rows = rows, .columns = columns, .type = type};
    assert_true(cuda_packed_bytes(&scene->matrix, &bytes));
    scene->weights = taken(scene->device, bytes);
    scene->matrix.data = scene->weights;
    scene->x = taken(scene->device, TOKENS_MAX * COLUMNS_MAX * sizeof *scene->x);
    scene->bias = taken(scene->device, (ROWS_MAX + 2) * sizeof *scene->bias);
    scene->y = taken(scene->device, Y_BYTES);
    scene->multiplier = (struct cuda_multiplier){
        .device = scene->device,
        .arranged = taken(scene->device, pieces * CUDA_WIDE_PIECE),
        .totals = taken(scene->device, pieces * 2 * CUDA_WIDE_TILE * sizeof(float))};
    send_random(scene, scene->weights, bytes, type);
    send_random(scene, scene->x, TOKENS_MAX * COLUMNS_MAX * sizeof *scene->x, 100 + type);
    send_random(scene, scene->bias, ROWS_MAX * sizeof *scene->bias, 200 + type);
}

static void close_scene(struct scene *scene)
{
    cuda_device_give(scene->device, scene->weights);
    cuda_device_give(scene->device, scene->x);
    cuda_device_give(scene->device, scene->bias);
    cuda_device_give(scene->device, scene->y);
    cuda_device_give(scene->device, scene->multiplier.arranged);
    cuda_device_give(scene->device, scene->multiplier.totals);
    cuda_device_close(scene->device);
}

/* All of y, what the product does not write included. */
static void multiply(struct scene *scene, enum cuda_multiply_size size,
                     const struct cuda_product_args *args, uint8_t *y)
{
    const struct cuda_multiply_choice choice = {.size = size, .parts = 1};

    send_random(scene, scene->y, Y_BYTES, 7);
    cuda_multiply(&scene->multiplier, choice, args);
    cuda_device_download(scene->device, y, scene->y, Y_BYTES);
    wait_for(scene->device);
}

static void check(struct scene *scene, const struct cuda_product_args *args)
{
    static uint8_t few[Y_BYTES];
    static uint8_t wide[Y_BYTES];

    multiply(scene, CUDA_MULTIPLY_FEW, args, few);
    multiply(scene, CUDA_MULTIPLY_WIDE, args, wide);
    for (size_t i = 0; i < Y_BYTES; i += sizeof(uint32_t))
        if (memcmp(few + i, wide + i, sizeof(uint32_t)) != 0)
            fail_msg("type %u, %u rows, %u columns, %u tokens: row %zu of token %zu differs",
                     args->matrix.type, args->matrix.rows, args->matrix.columns, args->tokens,
                     i / sizeof(uint32_t) % args->stride, i / sizeof(uint32_t) / args->stride);
}

/* Runs of no step, of one and of two; rows and tokens of a block and a bit, and of far less than one. */
static void products_have_the_bits_of_other_kernels(void **state)
{
    static const struct {
        uint32_t rows;
        uint32_t columns;
        uint32_t tokens;
    } sizes[] = {{ROWS_MAX, COLUMNS_MAX, 130}, {8, 64, 1}, {70, 200, TOKENS_MAX}};

    (void)state;
    for (size_t i = 0; i < TYPES; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            struct scene scene;
            struct cuda_product_args args;

            open_scene(&scene, types[i], sizes[k].rows, sizes[k].columns);
            args = (struct cuda_product_args){.matrix = scene.matrix,
                                              .x = scene.x,
                                              .y = scene.y,
                                              .stride = STRIDE,
                                              .tokens = sizes[k].tokens};
            check(&scene, &args);
            close_scene(&scene);
        }
}

static void biases_sums_and_pairs_are_finished_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i += 3) {
        struct scene scene;
        struct cuda_product_args args;

        open_scene(&scene, types[i], 64, 136);
        args = (struct cuda_product_args){.matrix = scene.matrix,
                                          .x = scene.x,
                                          .bias = scene.bias,
                                          .y = scene.y + 1,
                                          .stride = STRIDE,
                                          .tokens = 33,
                                          .is_added = true};
        check(&scene, &args);
        args = (struct cuda_product_args){.matrix = scene.matrix,
                                          .x = scene.x,
                                          .gated = (uint16_t *)(void *)scene.y,
                                          .stride = STRIDE,
                                          .tokens = 33};
        args.matrix.is_paired = true;
        check(&scene, &args);
        close_scene(&scene);
    }
}

static void warpgroups_are_for_many_tokens_and_large_matrices(void **state)
{
    const struct cuda_matrix plain = {.rows = 4096, .columns = 4096, .type = CUDA_TYPE_BF16};
    const struct cuda_matrix blocks = {.rows = 4096, .columns = 4096, .type = CUDA_TYPE_Q4_K};
    struct cuda_multiplier multiplier = {.multiprocessors = 132, .is_wide = true};

    (void)state;
    assert_int_equal(cuda_multiply_choose(&multiplier, &plain, 512).size, CUDA_MULTIPLY_WIDE);
    assert_int_equal(cuda_multiply_choose(&multiplier, &plain, 256).size, CUDA_MULTIPLY_TILED);
    assert_int_equal(cuda_multiply_choose(&multiplier, &blocks, 256).size, CUDA_MULTIPLY_WIDE);
    assert_int_equal(cuda_multiply_choose(&multiplier, &blocks, 128).size, CUDA_MULTIPLY_TILED);
    assert_int_equal(cuda_multiply_choose(&multiplier, &plain, 64).size, CUDA_MULTIPLY_MANY);
    multiplier.is_wide = false;
    assert_int_equal(cuda_multiply_choose(&multiplier, &plain, 512).size, CUDA_MULTIPLY_TILED);
}

/* ------------------------------------------------------------------ the proof */

/* A model whose layers have weights of one type, and whose head has another. */
static bool prove(struct cuda_device *device, enum cuda_type type, enum cuda_type head)
{
    struct cuda_layer layer = {.qkv = {{.matrix = {.type = type}}},
                               .qkv_count = 1,
                               .attention_output = {.type = type},
                               .gate = {.type = type, .is_paired = true},
                               .down = {.type = type}};
    const struct cuda_weights weights = {.output = {.type = head}, .layer = &layer};
    struct td_error error = {0};
    bool is_same = false;

    if (cuda_wide_prove(device, &weights, 1, CUDA_WIDE_LIMIT_NS, &is_same, &error) != TD_OK)
        fail_msg("%s", error.text);
    return is_same;
}

static void every_type_is_proven(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct cuda_device *device = open_device();

        assert_true(prove(device, types[i], types[i]));
        cuda_device_close(device);
    }
}

/* Of the first type, of the second, and of what is not there. */
static void one_wrong_bit_is_found(void **state)
{
    (void)state;
    for (uint32_t wrong_at = 1; wrong_at <= 3; wrong_at++) {
        struct cuda_device *device = open_watched(wrong_at);

        assert_int_equal(prove(device, CUDA_TYPE_BF16, CUDA_TYPE_Q4_0), wrong_at == 3);
        assert_int_equal(watch.launches, wrong_at < 2 ? wrong_at : 2);
        cuda_device_close(device);
    }
}

static void a_proof_without_memory_is_an_error(void **state)
{
    struct cuda_device *device = open_watched(0);
    const struct cuda_weights weights = {.output = {.type = CUDA_TYPE_BF16}};
    struct td_error error = {0};
    bool is_same = false;

    (void)state;
    device->info.memory_bytes = 500000;
    assert_int_equal(cuda_wide_prove(device, &weights, 0, CUDA_WIDE_LIMIT_NS, &is_same, &error),
                     TD_NO_MEMORY);
    assert_false(is_same);
    cuda_device_close(device);
}

/* ------------------------------------------------------------------ the backend */

static struct model *make_model(enum model_type type, uint8_t **bytes_out)
{
    const struct model_shape shape = {.vocab = VOCAB,
                                      .hidden = 32,
                                      .ffn = 64,
                                      .layers = 2,
                                      .heads = 4,
                                      .kv_heads = 2,
                                      .head_dim = 8,
                                      .seed = 5,
                                      .type = type};

    return cuda_rig_shape(&shape, bytes_out);
}

/* Logits behind a prompt. Returns how many products went by warpgroups, the proof's not counted. */
static uint32_t run_model(enum model_type type, uint32_t wrong_at, enum cuda_warpgroups warpgroups,
                          float logits[VOCAB])
{
    const struct cuda_options options = {.outputs_max = 1, .warpgroups = warpgroups};
    uint32_t tokens[PROMPT];
    uint32_t proven;
    struct cuda_rig rig;
    const float *one;
    uint8_t *bytes;
    struct model *model = make_model(type, &bytes);

    cuda_rig_open(&rig, open_watched(wrong_at), model, &options);
    rig.bytes = bytes;
    proven = watch.launches;
    for (uint32_t i = 0; i < PROMPT; i++)
        tokens[i] = i * 7 % VOCAB;
    cpu_rig_feed(&rig.base, 0, tokens, 0, PROMPT, ENGINE_WANT_LOGITS, 1, &one);
    memcpy(logits, one, VOCAB * sizeof *logits);
    cuda_rig_close(&rig);
    return watch.launches - proven;
}

static void the_backend_uses_warpgroups_where_they_are_proven(void **state)
{
    static const enum model_type model_types[] = {MODEL_TYPE_BF16, MODEL_TYPE_Q8_0,
                                                  MODEL_TYPE_Q4_1};
    float expected[VOCAB];
    float logits[VOCAB];

    (void)state;
    for (size_t i = 0; i < sizeof model_types / sizeof model_types[0]; i++) {
        assert_int_equal(run_model(model_types[i], 0, CUDA_WARPGROUPS_OFF, expected), 0);
        assert_true(run_model(model_types[i], 0, CUDA_WARPGROUPS_AUTO, logits) >= 2 * 4);
        assert_memory_equal(logits, expected, sizeof logits);
        assert_int_equal(run_model(model_types[i], 1, CUDA_WARPGROUPS_AUTO, logits), 0);
        assert_memory_equal(logits, expected, sizeof logits);
    }
}

static void a_proof_that_never_ends_fails_the_opening_and_off_does_not_try(void **state)
{
    struct cuda_options options = {.block_count = 4, .outputs_max = 1, .wide_limit_ns = 1};
    struct engine_backend *backend = NULL;
    struct td_error error = {0};
    struct engine_kv kv;
    uint8_t *bytes;
    struct model *model = make_model(MODEL_TYPE_BF16, &bytes);
    struct cuda_device *device = open_stuck();

    (void)state;
    assert_int_equal(cuda_backend_open(model, device, &options, &kv, &backend, &error), TD_TIMEOUT);
    assert_null(backend);
    assert_non_null(strstr(error.text, "--gpu-warpgroups off"));
    assert_non_null(strstr(error.text, "hangs"));
    assert_true(stuck.hangs);
    assert_int_equal(cuda_device_wait(device, &error), TD_TIMEOUT);
    cuda_device_close(device);

    options.warpgroups = CUDA_WARPGROUPS_OFF;
    device = open_stuck();
    assert_int_equal(cuda_backend_open(model, device, &options, &kv, &backend, &error), TD_OK);
    assert_false(stuck.hangs);
    backend->ops->close(backend);
    cuda_device_close(device);
    model_close(model);
    free(bytes);
}

/* An argument chooses tests by their names: tests/gpu/run has slow tools run some. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_have_the_bits_of_other_kernels),
        cmocka_unit_test(biases_sums_and_pairs_are_finished_alike),
        cmocka_unit_test(warpgroups_are_for_many_tokens_and_large_matrices),
        cmocka_unit_test(every_type_is_proven),
        cmocka_unit_test(one_wrong_bit_is_found),
        cmocka_unit_test(a_proof_without_memory_is_an_error),
        cmocka_unit_test(the_backend_uses_warpgroups_where_they_are_proven),
        cmocka_unit_test(a_proof_that_never_ends_fails_the_opening_and_off_does_not_try),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
