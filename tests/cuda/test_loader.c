/*
 * test_loader.c: weights on their way to the device: everything arrives where it belongs, whatever the buffers hold, in
 * the order in which it was asked for. The device here is ordinary memory whose copies happen late: when they are waited for.
 */
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

#include "engine/cuda/loader.h"
#include "lib/base/random.h"

/* ------------------------------------------------------------------ a device that is late */

struct copy {
    void *to;
    const void *from;
    size_t bytes;
};

struct late {
    struct cuda_device base;
    struct copy copies[8192];
    uint32_t queued;
    uint32_t done;
    uint32_t marks[CUDA_MARKS];
    const uint8_t *failing_place; /* copies to it fail */
    uint32_t buffers;
    uint32_t buffers_max;
};

static td_status_t late_take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                                  struct td_error *error)
{
    struct late *late = (struct late *)device;

    if (late->buffers == late->buffers_max)
        return td_fail(error, TD_NO_MEMORY, "no pinned memory");
    *memory_out = malloc(bytes);
    assert_non_null(*memory_out);
    late->buffers++;
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
    late->buffers_max = CUDA_LOADER_BUFFERS;
    return late;
}

/* ------------------------------------------------------------------ tests */

enum { COPIES = 9, PLACE_BYTES = 16 << 10 };

static const size_t sizes[COPIES] = {700, 256, 1, 2, 3000, 255, 257, 4096, 31};

/* Copies of random bytes into places of their own, whose neighbors stay as they are. */
static void check_copies(const struct cuda_loader_options *options, uint32_t buffers_max)
{
    static uint8_t place[PLACE_BYTES];
    static uint8_t expected[PLACE_BYTES];
    uint8_t *sources[COPIES];
    struct late *late = late_new();
    struct cuda_loader *loader = NULL;
    struct td_rng rng;
    size_t at = 5;

    td_rng_init(&rng, 3);
    memset(place, 0xee, sizeof place);
    memset(expected, 0xee, sizeof expected);
    late->buffers_max = buffers_max;
    assert_int_equal(cuda_loader_open(&late->base, options, &loader, NULL), TD_OK);
    for (uint32_t i = 0; i < COPIES; i++) {
        sources[i] = malloc(sizes[i]);
        assert_non_null(sources[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            expected[at + k] = sources[i][k] = (uint8_t)td_rng_below(&rng, 256);
        cuda_loader_copy(loader, place + at, sources[i], sizes[i]);
        memset(sources[i], 0, sizes[i]); /* it has been read */
        at += sizes[i] + i;
    }
    assert_true(at <= sizeof place);
    cuda_loader_close(loader);
    assert_memory_equal(place, expected, sizeof place);
    assert_int_equal(late->buffers, 0);
    for (uint32_t i = 0; i < COPIES; i++)
        free(sources[i]);
    free(late);
}

static void everything_arrives_whatever_the_sizes(void **state)
{
    static const struct cuda_loader_options options[] = {
        {0},
        {.buffer_bytes = 7, .slice_bytes = 2, .helpers_max = 3},
        {.buffer_bytes = 256, .slice_bytes = 100, .helpers_max = 7},
        {.buffer_bytes = 1000, .slice_bytes = 1, .helpers_max = 2},
        {.buffer_bytes = 4096, .slice_bytes = 64, .helpers_max = UINT32_MAX},
        {.total_bytes = 100, .slice_bytes = 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        check_copies(&options[i], CUDA_LOADER_BUFFERS);
    check_copies(&options[2], 2);
}

static void what_is_copied_keeps_its_place_among_what_is_queued(void **state)
{
    const struct cuda_loader_options options = {.buffer_bytes = 4, .slice_bytes = 1};
    struct late *late = late_new();
    struct cuda_loader *loader = NULL;
    uint8_t staging[8];
    uint8_t kept[2][8];

    (void)state;
    assert_int_equal(cuda_loader_open(&late->base, &options, &loader, NULL), TD_OK);
    cuda_loader_copy(loader, staging, "abcdefgh", 8);
    cuda_device_upload(&late->base, kept[0], staging, 8); /* as a kernel would read it */
    cuda_loader_copy(loader, staging, "ijklmnop", 8);
    cuda_device_upload(&late->base, kept[1], staging, 8);
    cuda_loader_close(loader);
    assert_memory_equal(kept, "abcdefghijklmnop", 16);
    free(late);
}

/* What was told last, and whether it ever fell or passed the whole. */
struct heard {
    uint64_t done;
    uint32_t calls;
    bool is_wrong;
};

static void hear(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct heard *heard = ctx;

    heard->is_wrong |= strcmp(what, "copying weights") != 0 || done < heard->done || done > total;
    heard->done = done;
    heard->calls++;
}

static void who_asks_is_told_how_far_it_is(void **state)
{
    static uint8_t place[64];
    static const uint8_t source[64] = {1};
    struct heard heard = {0};
    const struct cuda_loader_options options = {
        .total_bytes = 96, .buffer_bytes = 8, .progress = {.tell = hear, .ctx = &heard}};
    struct late *late = late_new();
    struct cuda_loader *loader = NULL;

    (void)state;
    assert_int_equal(cuda_loader_open(&late->base, &options, &loader, NULL), TD_OK);
    cuda_loader_copy(loader, place, source, sizeof place);
    assert_int_equal(heard.done, 64);
    cuda_loader_copy(loader, place, source, sizeof place); /* more than was foretold */
    assert_int_equal(heard.done, 96);
    assert_int_equal(heard.calls, 16);
    assert_false(heard.is_wrong);
    cuda_loader_close(loader);
    free(late);
}

static void a_copy_that_fails_ends_it(void **state)
{
    static uint8_t place[64];
    static const uint8_t source[64] = {1};
    const struct cuda_loader_options options = {.buffer_bytes = 8, .helpers_max = 1};
    struct td_error error = {0};
    struct late *late = late_new();
    struct cuda_loader *loader = NULL;

    (void)state;
    late->failing_place = place + 16;
    assert_int_equal(cuda_loader_open(&late->base, &options, &loader, &error), TD_OK);
    cuda_loader_copy(loader, place, source, sizeof place);
    cuda_loader_copy(loader, place, source, sizeof place);
    cuda_loader_close(loader);
    assert_int_equal(cuda_device_wait(&late->base, &error), TD_PEER_LOST);
    assert_string_equal(error.text, "the bus is gone");
    assert_in_range(late->queued, 3, 8); /* as far as its buffers reached */
    assert_int_equal(late->buffers, 0);
    free(late);
}

static void one_buffer_is_too_few(void **state)
{
    const struct cuda_loader_options options = {0};
    struct td_error error = {0};
    struct late *late = late_new();
    struct cuda_loader *loader = NULL;

    (void)state;
    late->buffers_max = 1;
    assert_int_equal(cuda_loader_open(&late->base, &options, &loader, &error), TD_NO_MEMORY);
    assert_string_equal(error.text, "no pinned memory");
    assert_int_equal(late->buffers, 0);
    free(late);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives_whatever_the_sizes),
        cmocka_unit_test(what_is_copied_keeps_its_place_among_what_is_queued),
        cmocka_unit_test(who_asks_is_told_how_far_it_is),
        cmocka_unit_test(a_copy_that_fails_ends_it),
        cmocka_unit_test(one_buffer_is_too_few),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
