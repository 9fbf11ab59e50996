/* value.c: building values, see value.h. */
#include "lib/text/value.h"

#include <assert.h>
#include <string.h>

#include "lib/text/string.h"

#define ITEMS_MIN 4

struct text_builder text_builder_in(struct td_arena *arena)
{
    return (struct text_builder){.arena = arena, .status = TD_OK};
}

struct text_value text_value_undefined(void)
{
    return (struct text_value){.kind = TEXT_UNDEFINED, .string = NULL};
}

struct text_value text_value_none(void)
{
    return (struct text_value){.kind = TEXT_NONE};
}

struct text_value text_value_bool(bool boolean)
{
    return (struct text_value){.kind = TEXT_BOOL, .boolean = boolean};
}

struct text_value text_value_int(int64_t integer)
{
    return (struct text_value){.kind = TEXT_INT, .integer = integer};
}

struct text_value text_value_float(double number)
{
    return (struct text_value){.kind = TEXT_FLOAT, .number = number};
}

void *text_builder_alloc(struct text_builder *builder, size_t count, size_t size)
{
    void *memory = NULL;

    if (builder->status == TD_OK)
        memory = td_arena_array(builder->arena, count, size);
    if (memory == NULL)
        builder->status = TD_LIMIT;
    return memory;
}

struct text_value text_value_string(struct text_builder *builder, struct td_span bytes)
{
    return text_value_of(text_string_over(builder, bytes, false));
}

struct text_value text_value_word(struct text_builder *builder, const char *word)
{
    assert(strspn(word, "abcdefghijklmnopqrstuvwxyz_") == strlen(word));
    return text_value_of(text_string_over(builder, td_span_of(word), true));
}

struct text_value text_value_list(struct text_builder *builder)
{
    struct text_list *list = text_builder_alloc(builder, 1, sizeof *list);

    if (list == NULL)
        return text_value_undefined();
    return (struct text_value){.kind = TEXT_LIST, .list = list};
}

struct text_value text_value_dict(struct text_builder *builder)
{
    struct text_dict *dict = text_builder_alloc(builder, 1, sizeof *dict);

    if (dict == NULL)
        return text_value_undefined();
    return (struct text_value){.kind = TEXT_DICT, .dict = dict};
}

/* Room for one more element: the array moves to one of twice the size. */
static void *grow(struct text_builder *builder, void *elements, uint32_t count, uint32_t *capacity,
                  size_t size)
{
    uint32_t bigger = *capacity == 0 ? ITEMS_MIN : *capacity;
    void *moved;

    if (count < *capacity)
        return elements;
    if (*capacity > 0 && __builtin_mul_overflow(*capacity, 2U, &bigger)) {
        builder->status = TD_LIMIT;
        return NULL;
    }
    moved = text_builder_alloc(builder, bigger, size);
    if (moved == NULL)
        return NULL;
    if (count > 0)
        memcpy(moved, elements, count * size);
    *capacity = bigger;
    return moved;
}

void text_list_append(struct text_builder *builder, struct text_value list, struct text_value item)
{
    struct text_value *items;

    if (builder->status != TD_OK)
        return;
    assert(list.kind == TEXT_LIST);
    items = grow(builder, list.list->items, list.list->count, &list.list->capacity, sizeof *items);
    if (items == NULL)
        return;
    list.list->items = items;
    items[list.list->count++] = item;
}

void text_dict_append(struct text_builder *builder, struct text_dict *dict,
                      const struct text_string *key, struct text_value value)
{
    struct text_entry *entries;

    if (builder->status != TD_OK)
        return;
    entries = grow(builder, dict->entries, dict->count, &dict->capacity, sizeof *entries);
    if (entries == NULL)
        return;
    dict->entries = entries;
    entries[dict->count++] = (struct text_entry){key, value};
}

void text_dict_add(struct text_builder *builder, struct text_value dict, struct td_span key,
                   struct text_value value)
{
    const struct text_string *name = text_string_over(builder, key, false);

    if (builder->status != TD_OK)
        return;
    assert(dict.kind == TEXT_DICT);
    text_dict_append(builder, dict.dict, name, value);
}

struct text_entry *text_dict_find(const struct text_dict *dict, struct td_span key)
{
    for (uint32_t i = 0; i < dict->count; i++)
        if (td_span_equal(text_string_span(dict->entries[i].key), key))
            return &dict->entries[i];
    return NULL;
}
