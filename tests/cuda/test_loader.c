/*
 * test_loader.c: weights on their way to the device: everything arrives where it belongs, whatever the buffers hold, and what
 * fails is named. The device here is ordinary memory whose copies happen late: when they are waited for.
 */
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

#include "engine/cuda/loader.h"
#include "engine/cuda/plan.h"
#include "lib/base/random.h"

#define PIECES     9
#define PLACE_SIZE (64 * CUDA_ALIGNMENT)

/* ------------------------------------------------------------------ a device that is late */

struct copy {
    void *to;
    const void *from;
    size_t bytes;
};

struct late {
    struct cuda_device base;
    struct copy copies[4096];
    uint32_t queued;
    uint32_t done;
    uint32_t marks[CUDA_MARKS];
    const uint8_t *failing_place; /* copies to it fail */
    uint32_t buffers;
    uint32_t buffers_max;
    uint32_t buffers_most;
};

static td_status_t late_take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                                  struct td_error *error)
{
    struct late *late = (struct late *)device;

    if (late->buffers == late->buffers_max)
        return td_fail(error, TD_NO_MEMORY, "no pinned memory");
    *memory_out = malloc(bytes);
    assert_non_null(*memory_out);
    if (++late->buffers > late->buffers_most)
        late->buffers_most = late->buffers;
    return TD_OK;
}

static void late_give_host(struct cuda_device *device, void *memory)
{
    ((struct late *)device)->buffers--;
    free(memory);
}

static td_status_t late_upload(struct cuda_device *device, void *to, const void *from, size_t bytes,
                               struct td_error *error)
{
    struct late *late = (struct late *)device;

    (void)error;
    assert_true(late->queued < sizeof late->copies / sizeof late->copies[0]);
    late->copies[late->queued++] = (struct copy){.to = to, .from = from, .bytes = bytes};
    return TD_OK;
}

static td_status_t catch_up(struct late *late, uint32_t until, struct td_error *error)
{
    for (; late->done < until; late->done++) {
        const struct copy *copy = &late->copies[late->done];

        if (copy->to == late->failing_place)
            return td_fail(error, TD_PEER_LOST, "the bus is gone");
        memcpy(copy->to, copy->from, copy->bytes);
    }
    return TD_OK;
}

static td_status_t late_mark(struct cuda_device *device, uint32_t mark, struct td_error *error)
{
    struct late *late = (struct late *)device;

    (void)error;
    late->marks[mark] = late->queued;
    return TD_OK;
}

static td_status_t late_wait_mark(struct cuda_device *device, uint32_t mark, struct td_error *error)
{
    struct late *late = (struct late *)device;

    return catch_up(late, late->marks[mark], error);
}

static td_status_t late_wait(struct cuda_device *device, struct td_error *error)
{
    struct late *late = (struct late *)device;

    return catch_up(late, late->queued, error);
}

static const struct cuda_device_ops late_ops = {.take_host = late_take_host,
                                                .give_host = late_give_host,
                                                .upload = late_upload,
                                                .wait = late_wait,
                                                .mark = late_mark,
                                                .wait_mark = late_wait_mark};

static struct late *late_new(void)
{
    struct late *late = calloc(1, sizeof *late);

    assert_non_null(late);
    late->base.ops = &late_ops;
    late->buffers_max = CUDA_LOAD_BUFFERS_MAX;
    return late;
}

/* ------------------------------------------------------------------ pieces */

/* Tensors side by side as weights.c puts them, but for a hole before the sixth. */
struct tensors {
    uint8_t *place;
    uint8_t *bytes[PIECES];
    struct cuda_load_piece pieces[PIECES];
};

static const size_t sizes[PIECES] = {700, 256, 1, 2, 3000, 255, 257, 4096, 31};

static void make_tensors(struct tensors *tensors)
{
    struct td_rng rng;
    size_t at = 0;

    td_rng_init(&rng, 3);
    tensors->place = malloc(PLACE_SIZE);
    assert_non_null(tensors->place);
    memset(tensors->place, 0xee, PLACE_SIZE);
    for (uint32_t i = 0; i < PIECES; i++) {
        if (i == 5)
            at += CUDA_ALIGNMENT;
        tensors->bytes[i] = malloc(sizes[i] + 1);
        assert_non_null(tensors->bytes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            tensors->bytes[i][k] = (uint8_t)td_rng_below(&rng, 256);
        tensors->pieces[i] = (struct cuda_load_piece){.to = tensors->place + at,
                                                      .from = tensors->bytes[i],
                                                      .bytes = sizes[i],
                                                      .name = i == 4 ? "gate" : "up",
                                                      .layer = i == 0 ? CUDA_LOAD_NO_LAYER : i};
        at += (sizes[i] + CUDA_ALIGNMENT - 1) / CUDA_ALIGNMENT * CUDA_ALIGNMENT;
    }
    assert_true(at <= PLACE_SIZE);
}

static void assert_arrived(const struct tensors *tensors)
{
    const uint8_t *hole = tensors->pieces[5].to - CUDA_ALIGNMENT;

    for (uint32_t i = 0; i < PIECES; i++)
        assert_memory_equal(tensors->pieces[i].to, tensors->bytes[i], sizes[i]);
    for (uint32_t i = 0; i < CUDA_ALIGNMENT; i++)
        assert_int_equal(hole[i], 0xee); /* where something else lies */
}

static void free_tensors(struct tensors *tensors)
{
    for (uint32_t i = 0; i < PIECES; i++)
        free(tensors->bytes[i]);
    free(tensors->place);
}

/* ------------------------------------------------------------------ tests */

static void everything_arrives_whatever_the_buffers_hold(void **state)
{
    static const size_t buffer_bytes[] = {3, 64, 255, 256, 1000, 4096, PLACE_SIZE, 0};

    (void)state;
    for (size_t i = 0; i < sizeof buffer_bytes / sizeof buffer_bytes[0]; i++) {
        struct late *late = late_new();
        struct tensors tensors;

        make_tensors(&tensors);
        assert_int_equal(cuda_load(&late->base, tensors.pieces, PIECES, buffer_bytes[i], NULL),
                         TD_OK);
        assert_arrived(&tensors);
        assert_int_equal(late->buffers, 0);
        free_tensors(&tensors);
        free(late);
    }
}

static void what_lies_side_by_side_travels_in_one_copy(void **state)
{
    struct late *late = late_new();
    struct tensors tensors;

    (void)state;
    make_tensors(&tensors);
    assert_int_equal(cuda_load(&late->base, tensors.pieces, PIECES, 0, NULL), TD_OK);
    assert_int_equal(late->queued, 2); /* before the hole and behind it */
    assert_arrived(&tensors);
    free_tensors(&tensors);
    free(late);
}

static void a_copy_that_fails_is_named_and_ends_it(void **state)
{
    struct td_error error = {0};
    struct late *late = late_new();
    struct tensors tensors;

    (void)state;
    make_tensors(&tensors);
    late->failing_place = tensors.pieces[4].to + 256;
    assert_int_equal(cuda_load(&late->base, tensors.pieces, PIECES, 256, &error), TD_PEER_LOST);
    assert_string_equal(error.text, "weights gate of layer 4: the bus is gone");
    assert_int_equal(late->buffers, 0);
    free_tensors(&tensors);
    free(late);
}

static void few_buffers_do_and_one_does_not(void **state)
{
    struct td_error error = {0};
    struct late *late = late_new();
    struct tensors tensors;

    (void)state;
    make_tensors(&tensors);
    late->buffers_max = 2;
    assert_int_equal(cuda_load(&late->base, tensors.pieces, PIECES, 100, &error), TD_OK);
    assert_arrived(&tensors);
    assert_int_equal(late->buffers_most, 2);
    late->buffers_max = 1;
    assert_int_equal(cuda_load(&late->base, tensors.pieces, PIECES, 100, &error), TD_NO_MEMORY);
    assert_string_equal(error.text, "no pinned memory");
    assert_int_equal(late->buffers, 0);
    free_tensors(&tensors);
    free(late);
}

static void nothing_to_load_is_no_error(void **state)
{
    struct late *late = late_new();

    (void)state;
    assert_int_equal(cuda_load(&late->base, NULL, 0, 0, NULL), TD_OK);
    assert_int_equal(late->queued, 0);
    assert_int_equal(late->buffers_most, 0);
    free(late);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_whatever_the_buffers_hold),
        cmocka_unit_test(what_lies_side_by_side_travels_in_one_copy),
        cmocka_unit_test(a_copy_that_fails_is_named_and_ends_it),
        cmocka_unit_test(few_buffers_do_and_one_does_not),
        cmocka_unit_test(nothing_to_load_is_no_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
