/*
 * list.h: intrusive doubly linked lists with a sentinel head.
 *
 * A node that is in no list points to itself, so removing it twice is harmless.
 */
#ifndef TANDEM_LIB_BASE_LIST_H
#define TANDEM_LIB_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct td_list {
    struct td_list *next;
    struct td_list *prev;
};

/* The object that contains member at pointer. */
#define td_container_of(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

static inline void td_list_init(struct td_list *node)
{
    node->next = node;
    node->prev = node;
}

static inline bool td_list_empty(const struct td_list *head)
{
    return head->next == head;
}

static inline void td_list_insert_between(struct td_list *node, struct td_list *prev,
                                          struct td_list *next)
{
    node->prev = prev;
    node->next = next;
    prev->next = node;
    next->prev = node;
}

static inline void td_list_push_back(struct td_list *head, struct td_list *node)
{
    td_list_insert_between(node, head->prev, head);
}

static inline void td_list_push_front(struct td_list *head, struct td_list *node)
{
    td_list_insert_between(node, head, head->next);
}

static inline void td_list_remove(struct td_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    td_list_init(node);
}

/* First node, or NULL if the list is empty. */
static inline struct td_list *td_list_first(const struct td_list *head)
{
    return td_list_empty(head) ? NULL : head->next;
}

/* Last node, or NULL if the list is empty. */
static inline struct td_list *td_list_last(const struct td_list *head)
{
    return td_list_empty(head) ? NULL : head->prev;
}

/* Iterates; the body may remove the current node (and no other). */
#define td_list_for_each(node, head)                                                     \
    for (struct td_list *node = (head)->next, *node##_next = node->next; node != (head); \
         node = node##_next, node##_next = node->next)

#endif
