/* test_unpack.c: what messages from outside cost, and what is made of bytes that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tandem.pb-c.h"
#include "proto/unpack.h"

#define ARENA_BYTES_MAX ((size_t)1 << 20)
#define WORKERS_TAG     0x12 /* field 2 of FleetUpdate, a message */

static void a_message_survives_the_way(void **state)
{
    Td__TextRequest request = TD__TEXT_REQUEST__INIT;
    const Td__TextRequest *read;
    struct td_arena arena;
    uint8_t bytes[64];
    size_t length;

    (void)state;
    request.text_id_hi = 7;
    request.text_id_lo = 9;
    length = td__text_request__pack(&request, bytes);
    td_arena_init(&arena, ARENA_BYTES_MAX);
    read = proto_unpack(&arena, &td__text_request__descriptor, bytes, length);
    assert_non_null(read);
    assert_int_equal(read->text_id_hi, 7);
    assert_int_equal(read->text_id_lo, 9);
    td_arena_fini(&arena);
}

static void what_is_cut_short_is_no_message(void **state)
{
    static const uint8_t bytes[] = {WORKERS_TAG, 5, 0};
    struct td_arena arena;

    (void)state;
    td_arena_init(&arena, ARENA_BYTES_MAX);
    assert_null(proto_unpack(&arena, &td__fleet_update__descriptor, bytes, sizeof bytes));
    assert_int_equal(arena.status, TD_OK); /* not for lack of room */
    td_arena_fini(&arena);
}

static void a_million_empty_objects_cost_no_more_than_the_arena_has(void **state)
{
    const size_t length = (size_t)2 << 20;
    uint8_t *bytes = calloc(length, 1);
    struct td_arena arena;

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < length; i += 2)
        bytes[i] = WORKERS_TAG; /* and a length of 0 */
    td_arena_init(&arena, ARENA_BYTES_MAX);
    assert_null(proto_unpack(&arena, &td__fleet_update__descriptor, bytes, length));
    assert_int_equal(arena.status, TD_LIMIT);
    assert_true(arena.used <= ARENA_BYTES_MAX);
    td_arena_fini(&arena);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_survives_the_way),
        cmocka_unit_test(what_is_cut_short_is_no_message),
        cmocka_unit_test(a_million_empty_objects_cost_no_more_than_the_arena_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
