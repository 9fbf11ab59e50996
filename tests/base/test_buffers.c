/* test_buffers.c: td_buf, td_arena, readers and writers, spans. */
#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/bytes.h"
#include "lib/base/random.h"
#include "lib/base/span.h"
#include "tests/support/support.h"

#include <stdlib.h>

static void a_buffer_takes_its_maximum_and_not_one_byte_more(void **state)
{
    struct td_buf buf;

    (void)state;
    td_buf_init(&buf, 100);
    for (int i = 0; i < 10; i++)
        td_buf_append(&buf, "0123456789", 10);
    assert_int_equal(buf.status, TD_OK);
    assert_int_equal(buf.length, 100);
    assert_int_equal(buf.data[100], '\0');
    td_buf_append_char(&buf, 'x');
    assert_int_equal(buf.status, TD_LIMIT);
    assert_int_equal(buf.length, 100);
    td_buf_fini(&buf);
}

static void a_failure_of_a_buffer_sticks_until_it_is_cleared(void **state)
{
    struct td_buf buf;
    size_t length = 77;

    (void)state;
    td_buf_init(&buf, 4);
    td_buf_append_text(&buf, "12345");
    td_buf_append_text(&buf, "1");
    assert_int_equal(buf.status, TD_LIMIT);
    assert_int_equal(buf.length, 0);
    assert_null(td_buf_take(&buf, &length));
    assert_int_equal(length, 77);
    td_buf_clear(&buf);
    td_buf_append_text(&buf, "1234");
    assert_int_equal(buf.status, TD_OK);
    assert_string_equal(buf.data, "1234");
    td_buf_fini(&buf);
}

static void lengths_near_the_end_of_the_type_are_refused(void **state)
{
    struct td_buf buf;

    (void)state;
    td_buf_init(&buf, SIZE_MAX);
    td_buf_append_text(&buf, "abc");
    assert_null(td_buf_reserve(&buf, SIZE_MAX));
    assert_int_equal(buf.status, TD_LIMIT);
    td_buf_clear(&buf);
    assert_null(td_buf_reserve(&buf, SIZE_MAX - 3));
    assert_int_equal(buf.status, TD_LIMIT);
    td_buf_fini(&buf);
}

static void printing_works_below_and_above_the_small_buffer(void **state)
{
    struct td_buf buf;

    (void)state;
    for (int width = 250; width < 260; width++) {
        td_buf_init(&buf, 1000);
        td_buf_printf(&buf, "%*d", width, 7);
        assert_int_equal(buf.length, width);
        assert_int_equal(buf.data[width - 1], '7');
        assert_int_equal(buf.data[width], '\0');
        td_buf_fini(&buf);
    }
}

static void consuming_keeps_the_rest(void **state)
{
    struct td_buf buf;

    (void)state;
    td_buf_init(&buf, 100);
    td_buf_consume(&buf, 5); /* of nothing */
    td_buf_append_text(&buf, "hello world");
    td_buf_consume(&buf, 6);
    assert_string_equal(buf.data, "world");
    td_buf_consume(&buf, 99);
    assert_int_equal(buf.length, 0);
    assert_string_equal(buf.data, "");
    td_buf_fini(&buf);
}

static void taking_moves_the_content_out(void **state)
{
    struct td_buf buf;
    size_t length;
    char *data;

    (void)state;
    td_buf_init(&buf, 100);
    data = td_buf_take(&buf, &length); /* an empty text is a text */
    assert_string_equal(data, "");
    assert_int_equal(length, 0);
    free(data);
    td_buf_append_text(&buf, "abc");
    data = td_buf_take(&buf, &length);
    assert_string_equal(data, "abc");
    assert_int_equal(length, 3);
    assert_int_equal(buf.length, 0);
    free(data);
    td_buf_fini(&buf);
}

static void an_arena_gives_aligned_zeroed_memory_up_to_its_maximum(void **state)
{
    struct td_arena arena;
    size_t given = 0;
    unsigned char *piece;

    (void)state;
    td_arena_init(&arena, 1 << 20);
    for (size_t i = 1; (piece = td_arena_alloc(&arena, i * 37 % 40000)) != NULL; i++) {
        assert_int_equal((uintptr_t)piece % _Alignof(max_align_t), 0);
        for (size_t j = 0; j < i * 37 % 40000; j++)
            assert_int_equal(piece[j], 0);
        memset(piece, 0xff, i * 37 % 40000); /* the next piece must not lie in here */
        given += i * 37 % 40000;
    }
    assert_int_equal(arena.status, TD_LIMIT);
    assert_true(given > (1 << 20) - 40000 - 64 * 64);
    assert_true(arena.used <= 1 << 20);
    td_arena_fini(&arena);
    assert_int_equal(arena.status, TD_OK);
    assert_non_null(td_arena_alloc(&arena, 1 << 20));
    assert_null(td_arena_alloc(&arena, 1));
    td_arena_fini(&arena);
}

static void pieces_of_an_arena_do_not_overlap(void **state)
{
    struct {
        unsigned char *bytes;
        size_t length;
    } pieces[500];
    struct td_arena arena;
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 5);
    td_arena_init(&arena, SIZE_MAX);
    for (size_t i = 0; i < 500; i++) {
        pieces[i].length = (size_t)td_rng_below(&rng, i % 10 == 0 ? 50000 : 300);
        pieces[i].bytes = td_arena_alloc_unset(&arena, pieces[i].length);
        assert_non_null(pieces[i].bytes);
        memset(pieces[i].bytes, (int)(i % 251), pieces[i].length);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t j = 0; j < pieces[i].length; j++)
            assert_int_equal(pieces[i].bytes[j], i % 251);
    td_arena_fini(&arena);
}

static void an_arena_refuses_sizes_that_overflow(void **state)
{
    struct td_arena arena;

    (void)state;
    td_arena_init(&arena, SIZE_MAX);
    assert_null(td_arena_alloc(&arena, SIZE_MAX));
    assert_null(td_arena_alloc(&arena, SIZE_MAX - 40)); /* the chunk's header does not fit */
    assert_null(td_arena_array(&arena, SIZE_MAX / 2, 3));
    assert_null(td_arena_text(&arena, "", SIZE_MAX));
    assert_string_equal(td_arena_text(&arena, "abcdef", 3), "abc");
    assert_string_equal(td_arena_text(&arena, NULL, 0), "");
    td_arena_fini(&arena);
}

static void a_reader_never_passes_its_end(void **state)
{
    const uint8_t bytes[] = {1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9};

    (void)state;
    for (size_t length = 0; length <= sizeof bytes; length++) {
        struct td_reader reader = td_reader_over(bytes, length);
        uint8_t a = td_read_u8(&reader);
        uint16_t b = td_read_u16(&reader);
        uint32_t c = td_read_u32(&reader);
        uint64_t d = td_read_u64(&reader);

        assert_int_equal(reader.ok, length >= 15);
        assert_int_equal(a, length >= 1 ? 1 : 0);
        assert_int_equal(b, length >= 3 ? 2 : 0);
        assert_int_equal(c, length >= 7 ? 3 : 0);
        assert_int_equal(d, length >= 15 ? 4 : 0);
    }
}

static void a_reader_that_failed_stays_failed(void **state)
{
    const uint8_t bytes[] = {1, 2, 3};
    struct td_reader reader = td_reader_over(bytes, sizeof bytes);

    (void)state;
    assert_null(td_read_bytes(&reader, 4));
    assert_false(reader.ok);
    assert_int_equal(td_read_u8(&reader), 0);
    assert_null(td_read_bytes(&reader, 0));
    assert_int_equal(td_reader_left(&reader), 3);
}

static void readers_and_writers_over_nothing_work(void **state)
{
    struct td_reader reader = td_reader_over(NULL, 0);
    struct td_writer writer = td_writer_over(NULL, 0);

    (void)state;
    (void)td_read_bytes(&reader, 0);
    assert_true(reader.ok);
    td_write_bytes(&writer, NULL, 0);
    assert_true(writer.ok);
    td_write_u8(&writer, 1);
    assert_false(writer.ok);
    assert_int_equal(td_read_u8(&reader), 0);
    assert_false(reader.ok);
}

static void what_a_writer_writes_a_reader_reads(void **state)
{
    uint8_t bytes[47];
    struct td_writer writer = td_writer_over(bytes, sizeof bytes);
    struct td_reader reader = td_reader_over(bytes, sizeof bytes);
    struct td_u128 id = {.hi = UINT64_C(0x0123456789abcdef), .lo = UINT64_C(0xfedcba9876543210)};
    float f = 1.5F;

    (void)state;
    td_write_u8(&writer, 0xab);
    td_write_u16(&writer, 0xcdef);
    td_write_u32(&writer, UINT32_MAX - 1);
    td_write_u64(&writer, UINT64_MAX - 2);
    td_write_u128(&writer, id);
    td_write_bytes(&writer, &f, sizeof f);
    td_write_bytes(&writer, "twelve bytes", 12);
    assert_true(writer.ok);
    td_write_u8(&writer, 0);
    assert_false(writer.ok);
    assert_int_equal(td_read_u8(&reader), 0xab);
    assert_int_equal(td_read_u16(&reader), 0xcdef);
    assert_int_equal(td_read_u32(&reader), UINT32_MAX - 1);
    assert_int_equal(td_read_u64(&reader), UINT64_MAX - 2);
    assert_true(td_u128_equal(td_read_u128(&reader), id));
    assert_true(td_read_f32(&reader) == 1.5F);
    assert_memory_equal(td_read_bytes(&reader, 12), "twelve bytes", 12);
    assert_true(reader.ok);
    assert_int_equal(bytes[1], 0xef); /* little-endian */
}

static void adding_sizes_notices_overflow(void **state)
{
    size_t total = 10;

    (void)state;
    assert_true(td_size_add(&total, 3, 4));
    assert_int_equal(total, 22);
    assert_false(td_size_add(&total, SIZE_MAX / 2, 3));
    assert_false(td_size_add(&total, 1, SIZE_MAX - 21));
    assert_int_equal(total, 22);
    assert_true(td_size_add(&total, 1, SIZE_MAX - 22));
}

static void spans_compare_by_content(void **state)
{
    (void)state;
    assert_true(td_span_is(td_span_over("abcdef", 3), "abc"));
    assert_false(td_span_is(td_span_over("abcdef", 3), "abcd"));
    assert_false(td_span_is(td_span_over("abc", 3), "abd"));
    assert_true(td_span_equal(td_span_over(NULL, 0), td_span_of("")));
    assert_false(td_span_is(td_span_over("a\0b", 3), "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_takes_its_maximum_and_not_one_byte_more),
        cmocka_unit_test(a_failure_of_a_buffer_sticks_until_it_is_cleared),
        cmocka_unit_test(lengths_near_the_end_of_the_type_are_refused),
        cmocka_unit_test(printing_works_below_and_above_the_small_buffer),
        cmocka_unit_test(consuming_keeps_the_rest),
        cmocka_unit_test(taking_moves_the_content_out),
        cmocka_unit_test(an_arena_gives_aligned_zeroed_memory_up_to_its_maximum),
        cmocka_unit_test(pieces_of_an_arena_do_not_overlap),
        cmocka_unit_test(an_arena_refuses_sizes_that_overflow),
        cmocka_unit_test(a_reader_never_passes_its_end),
        cmocka_unit_test(a_reader_that_failed_stays_failed),
        cmocka_unit_test(readers_and_writers_over_nothing_work),
        cmocka_unit_test(what_a_writer_writes_a_reader_reads),
        cmocka_unit_test(adding_sizes_notices_overflow),
        cmocka_unit_test(spans_compare_by_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
