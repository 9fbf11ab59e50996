/*
 * test_early.c: early launches: kernels touch nothing that others write before they have waited for them, and the interpreter
 * sees it where one does.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cuda/forward.h"
#include "engine/cuda/interpreted/interpreter.h"
#include "engine/cuda/kernels/simt.h"
#include "tests/cuda/rig.h"

#define VOCAB  40
#define TOKENS 65 /* of a prompt: more than the kernels for few tokens take */

/* ------------------------------------------------------------------ the interpreter */

struct cell_args {
    uint32_t *mine;   /* guarded */
    uint32_t *weight; /* not */
};

#define THREADS 64

SIMT_KERNEL(waits_by_itself, THREADS, struct cell_args)
{
    args.mine[simt_thread()] = *args.weight;
}

SIMT_KERNEL_EARLY(waits_in_time, THREADS, 1, struct cell_args)
{
    uint32_t weight = *args.weight;

    simt_await_earlier();
    args.mine[simt_thread()] += weight;
}

SIMT_KERNEL_EARLY(reads_too_early, THREADS, 1, struct cell_args)
{
    uint32_t before = args.mine[simt_thread()];

    simt_await_earlier();
    args.mine[simt_thread()] = before + *args.weight;
}

/* Its first threads have long waited. */
SIMT_KERNEL_EARLY(writes_too_early, THREADS, 1, struct cell_args)
{
    if (simt_thread() == THREADS - 1)
        args.mine[0] = *args.weight;
    simt_await_earlier();
}

SIMT_KERNEL_EARLY(waits_in_part, THREADS, 1, struct cell_args)
{
    if (simt_warp() == 0)
        simt_await_earlier();
    else
        *args.weight = 0;
}

struct cells {
    struct cuda_device *device;
    struct cell_args args;
};

static uint32_t *take(struct cuda_device *device)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(device, 4096, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    memset(memory, 0, 4096);
    return memory;
}

static struct cells open_cells(void)
{
    struct cells cells = {.device = cuda_rig_device()};

    cells.args.mine = take(cells.device);
    cells.args.weight = take(cells.device);
    *cells.args.weight = 5;
    return cells;
}

static void close_cells(struct cells *cells)
{
    cuda_device_give(cells->device, cells->args.mine);
    cuda_device_give(cells->device, cells->args.weight);
    cuda_device_close(cells->device);
}

static void run_cells(const struct cells *cells, const char *name, void (*run)(const void *args))
{
    const struct interpreter_kernel kernel = {.run = run, .name = name, .threads = THREADS};
    struct td_error error = {0};

    assert_int_equal(interpreter_run(&kernel, (struct cuda_grid){2, 1, 1}, &cells->args, &error),
                     TD_OK);
}

static void kernels_that_wait_in_time_run(void **state)
{
    struct cells cells = open_cells();

    (void)state;
    interpreter_guard(cells.args.mine);
    run_cells(&cells, "waits_by_itself", interpret_kernel_waits_by_itself);
    run_cells(&cells, "waits_in_time", interpret_kernel_waits_in_time);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(cells.args.mine[i], 15);
    close_cells(&cells);
}

/* In a process of its own, which must end with a message that has these words. */
static void assert_ends(const char *name, void (*run)(const void *args), const char *words)
{
    struct cells cells = open_cells();
    char text[256] = {0};
    int ends[2];
    int status = 0;
    size_t length = 0;
    ssize_t got;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        interpreter_guard(cells.args.mine);
        run_cells(&cells, name, run);
        _exit(0);
    }
    close(ends[1]);
    while (length < sizeof text - 1 &&
           (got = read(ends[0], text + length, sizeof text - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) != 0);
    if (strstr(text, name) == NULL || strstr(text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", text, name, words);
    close_cells(&cells);
}

static void kernels_that_do_not_end_the_process_with_their_name(void **state)
{
    (void)state;
    assert_ends("reads_too_early", interpret_kernel_reads_too_early, "before it has waited");
    assert_ends("writes_too_early", interpret_kernel_writes_too_early, "before it has waited");
    assert_ends("waits_in_part", interpret_kernel_waits_in_part, "without waiting");
}

/* ------------------------------------------------------------------ the backend */

static void open_model(struct cuda_rig *rig, enum model_type type, bool is_guarded)
{
    static const struct model_shape shape = {.vocab = VOCAB,
                                             .hidden = 32,
                                             .ffn = 64,
                                             .layers = 2,
                                             .heads = 4,
                                             .kv_heads = 2,
                                             .head_dim = 8,
                                             .seed = 5};
    const struct cuda_options options = {.outputs_max = 1, .is_without_early = !is_guarded};
    const struct cuda_backend *backend;
    struct model_shape ours = shape;
    struct model *model;
    uint8_t *bytes;

    ours.type = type;
    model = cuda_rig_shape(&ours, &bytes);
    cuda_rig_open(rig, cuda_rig_device(), model, &options);
    rig->bytes = bytes;
    assert_int_equal(rig->device->launches_early, is_guarded);
    if (!is_guarded)
        return;
    backend = (const struct cuda_backend *)(const void *)rig->base.backend;
    interpreter_guard(backend->workspace_memory);
    interpreter_guard(backend->pool.base);
}

/* Prompts of several sizes, a token each behind them: every kind of product and attention. */
static void run_model(enum model_type type, bool is_guarded, float logits[][VOCAB])
{
    static const uint32_t prompts[] = {1, 12, 40, TOKENS};
    uint32_t tokens[TOKENS + 1];
    struct cuda_rig rig;
    const float *one;

    for (uint32_t i = 0; i <= TOKENS; i++)
        tokens[i] = i * 7 % VOCAB;
    open_model(&rig, type, is_guarded);
    for (uint32_t i = 0; i < 4; i++) {
        cpu_rig_feed(&rig.base, 0, tokens, 0, prompts[i], ENGINE_WANT_LOGITS, 1, &one);
        cpu_rig_feed(&rig.base, 0, tokens, prompts[i], prompts[i] + 1, ENGINE_WANT_LOGITS, 1, &one);
        memcpy(logits[i], one, sizeof logits[i]);
    }
    cuda_rig_close(&rig);
}

static void steps_touch_nothing_before_they_have_waited(void **state)
{
    static const enum model_type types[] = {MODEL_TYPE_BF16, MODEL_TYPE_Q8_0, MODEL_TYPE_Q4_1};
    static float guarded[4][VOCAB];
    static float plain[4][VOCAB];

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        run_model(types[i], true, guarded);
        run_model(types[i], false, plain);
        assert_memory_equal(guarded, plain, sizeof plain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_that_wait_in_time_run),
        cmocka_unit_test(kernels_that_do_not_end_the_process_with_their_name),
        cmocka_unit_test(steps_touch_nothing_before_they_have_waited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
