/* test_containers.c: maps and lists against simple models, with random operations. */
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/base/random.h"
#include "tests/support/support.h"

#define KEYS 600

/* Few distinct keys with many equal homes, so that probing and shifting back are exercised. */
static struct td_u128 key_of(uint64_t number)
{
    return (struct td_u128){.hi = number % 3, .lo = number};
}

static void check_iteration(const struct td_map *map, void *const *model)
{
    bool seen[KEYS] = {false};
    size_t cursor = 0;
    size_t count = 0;
    void *value;

    while ((value = td_map_next(map, &cursor)) != NULL) {
        size_t number = (size_t)((uintptr_t)value - 1) % KEYS;

        assert_ptr_equal(model[number], value);
        assert_false(seen[number]);
        seen[number] = true;
        count++;
    }
    assert_int_equal(count, map->count);
}

static void run_map_against_model(uint64_t seed)
{
    void *model[KEYS] = {NULL};
    size_t count = 0;
    struct td_map map;
    struct td_rng rng;

    td_rng_init(&rng, seed);
    td_map_init(&map, KEYS / 2);
    for (int step = 0; step < 20000; step++) {
        size_t number = (size_t)td_rng_below(&rng, step % 7000 < 3500 ? KEYS : KEYS / 8);
        void *value = (void *)(number + 1 + KEYS * (size_t)td_rng_below(&rng, 100));

        if (td_rng_below(&rng, 2) == 0) {
            td_status_t expected = model[number] != NULL ? TD_STATE
                                   : count >= KEYS / 2   ? TD_LIMIT
                                                         : TD_OK;

            assert_int_equal(td_map_insert(&map, key_of(number), value), expected);
            if (expected == TD_OK) {
                model[number] = value;
                count++;
            }
        } else {
            assert_ptr_equal(td_map_remove(&map, key_of(number)), model[number]);
            count -= model[number] != NULL;
            model[number] = NULL;
        }
        assert_int_equal(map.count, count);
        for (size_t i = 0; i < KEYS; i += 17)
            assert_ptr_equal(td_map_find(&map, key_of(i)), model[i]);
        if (step % 1000 == 0)
            check_iteration(&map, model);
    }
    td_map_fini(&map);
}

static void a_map_behaves_like_an_array_of_values(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++)
        run_map_against_model(seed);
}

static void an_empty_map_has_nothing(void **state)
{
    struct td_map map;
    size_t cursor = 0;

    (void)state;
    td_map_init(&map, 10);
    assert_null(td_map_find(&map, key_of(1)));
    assert_null(td_map_remove(&map, key_of(1)));
    assert_null(td_map_next(&map, &cursor));
    td_map_fini(&map);
}

struct item {
    int number;
    struct td_list node;
};

static void assert_numbers(const struct td_list *head, const int *numbers, size_t count)
{
    size_t i = 0;

    td_list_for_each(node, head)
    {
        assert_true(i < count);
        assert_int_equal(td_container_of(node, struct item, node)->number, numbers[i]);
        i++;
    }
    assert_int_equal(i, count);
}

static void a_list_keeps_its_order(void **state)
{
    struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
    struct td_list head;

    (void)state;
    td_list_init(&head);
    assert_true(td_list_empty(&head));
    assert_null(td_list_first(&head));
    assert_null(td_list_last(&head));
    td_list_push_back(&head, &items[1].node);
    td_list_push_back(&head, &items[2].node);
    td_list_push_front(&head, &items[0].node);
    td_list_push_back(&head, &items[3].node);
    assert_numbers(&head, (const int[]){0, 1, 2, 3}, 4);
    assert_ptr_equal(td_list_first(&head), &items[0].node);
    assert_ptr_equal(td_list_last(&head), &items[3].node);
    td_list_remove(&items[2].node);
    td_list_remove(&items[2].node); /* harmless */
    assert_numbers(&head, (const int[]){0, 1, 3}, 3);
}

static void the_current_node_may_go_while_iterating(void **state)
{
    struct item items[5];
    struct td_list head;

    (void)state;
    td_list_init(&head);
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        td_list_push_back(&head, &items[i].node);
    }
    td_list_for_each(node, &head)
    {
        if (td_container_of(node, struct item, node)->number % 2 == 0)
            td_list_remove(node);
    }
    assert_numbers(&head, (const int[]){1, 3}, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_behaves_like_an_array_of_values),
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(a_list_keeps_its_order),
        cmocka_unit_test(the_current_node_may_go_while_iterating),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
