/*
 * map_copy.c: copying what the inlets of the map transport have received, see map_private.h.
 *
 * The processor copies a piece of bounded size in each turn. A device is given all copies at once and tells by its
 * queue when it has done them; until then its reads of the peer's pool are under way, so neither the receive nor the
 * connection of such a copy ends before it.
 */
#include <string.h>
#include <unistd.h>

#include "kvtransfer/map_private.h"

#define MAP_COPY_PER_TURN ((size_t)1 << 20) /* a fifth of a millisecond: commands get their turn */

/* ---------------------------------------------------------------------------------- the processor */

/* Copies up to budget bytes; returns how many. At the end of the lists the copy has ended. */
static size_t copy_some(struct map_operation *copy, size_t budget)
{
    size_t copied = 0;

    while (copied < budget && copy->from_index < copy->from_count &&
           copy->to_index < copy->to_count) {
        struct kvt_piece *from = &copy->from[copy->from_index];
        struct kvt_piece *to = &copy->to[copy->to_index];
        size_t length = from->length < to->length ? from->length : to->length;

        if (length > budget - copied)
            length = budget - copied;
        memcpy(to->base, from->base, length);
        from->base = (uint8_t *)from->base + length;
        to->base = (uint8_t *)to->base + length;
        from->length -= length;
        to->length -= length;
        copied += length;
        copy->from_index += from->length == 0;
        copy->to_index += to->length == 0;
    }
    return copied;
}

static size_t inlet_copy(struct map_inlet *inlet, size_t budget)
{
    size_t left = budget;
    struct td_list *node;

    while (left > 0 && inlet->socket.fd >= 0 && (node = td_list_first(&inlet->copies)) != NULL) {
        struct map_operation *copy = td_container_of(node, struct map_operation, in_list);
        uint64_t number = copy->number;

        left -= copy_some(copy, left);
        if (copy->from_index < copy->from_count && copy->to_index < copy->to_count)
            break; /* the budget is spent */
        inlet->copy_count--;
        map_operation_end(copy, TD_OK);
        map_inlet_answer(inlet, number, false);
    }
    if (inlet->socket.fd >= 0)
        map_inlet_watch(inlet);
    return budget - left;
}

static bool copy_by_processor(struct map_transport *transport)
{
    size_t left = MAP_COPY_PER_TURN;

    td_list_for_each(node, &transport->inlets)
    {
        struct map_inlet *inlet = td_container_of(node, struct map_inlet, in_transport);

        if (inlet->copy_count == 0)
            continue;
        left -= inlet_copy(inlet, left);
        if (left > 0)
            continue;
        if (inlet->socket.fd >= 0) { /* whoever used the budget up goes last in the next turn */
            td_list_remove(&inlet->in_transport);
            td_list_push_back(&transport->inlets, &inlet->in_transport);
        }
        return true;
    }
    return left < MAP_COPY_PER_TURN;
}

/* --------------------------------------------------------------------------------------- a device */

/* What lies in neither pool came inside the message, or is an attachment: both are in ordinary memory. */
static td_status_t copy_piece(const struct map_operation *copy, void *to, const void *from,
                              size_t length)
{
    const struct map_inlet *inlet = copy->inlet;
    const struct kvt_memory *ours = &copy->transport->memory;
    struct kvt_memory theirs = {.base = inlet->pool, .bytes = inlet->pool_bytes};

    if (length == 0)
        return TD_OK;
    if (kvt_memory_contains(ours, to, length) || kvt_memory_contains(&theirs, from, length))
        return ours->device->ops->copy(copy->transport->queue, to, from, length);
    memcpy(to, from, length);
    return TD_OK;
}

static td_status_t copy_pieces(struct map_operation *copy)
{
    td_status_t status = TD_OK;

    while (status == TD_OK && copy->from_index < copy->from_count &&
           copy->to_index < copy->to_count) {
        struct kvt_piece *from = &copy->from[copy->from_index];
        struct kvt_piece *to = &copy->to[copy->to_index];
        size_t length = from->length < to->length ? from->length : to->length;

        status = copy_piece(copy, to->base, from->base, length);
        from->base = (uint8_t *)from->base + length;
        to->base = (uint8_t *)to->base + length;
        from->length -= length;
        to->length -= length;
        copy->from_index += from->length == 0;
        copy->to_index += to->length == 0;
    }
    return status;
}

/* The copy has ended, or could not begin: the core learns of it, and so does the peer. */
static void device_copy_end(struct map_operation *copy, td_status_t status)
{
    struct map_inlet *inlet = copy->inlet;
    uint64_t number = copy->number;

    inlet->copy_count--;
    map_operation_end(copy, status);
    if (inlet->socket.fd >= 0)
        map_inlet_answer(inlet, number, status != TD_OK);
    if (inlet->socket.fd >= 0)
        map_inlet_watch(inlet);
}

static bool begin_copies(struct map_inlet *inlet)
{
    struct map_transport *transport = inlet->transport;
    const struct kvt_device_ops *device = transport->memory.device->ops;
    bool any = false;

    td_list_for_each(node, &inlet->copies)
    {
        struct map_operation *copy = td_container_of(node, struct map_operation, in_list);
        td_status_t status;

        if (copy->mark != NULL)
            continue;
        any = true;
        status = copy_pieces(copy);
        if (status == TD_OK)
            status = device->mark(transport->queue, &copy->mark);
        if (status == TD_OK)
            continue;
        device->drain(transport->queue); /* what was queued of it must not write any more */
        device_copy_end(copy, status);
        if (inlet->socket.fd < 0)
            break; /* the answer has ended the inlet */
    }
    return any;
}

/* Copies end in the order in which they were begun. */
static bool end_copies(struct map_inlet *inlet)
{
    struct map_transport *transport = inlet->transport;
    bool is_ending = inlet->ending_fd >= 0;
    struct td_list *node;
    bool any = false;

    while ((node = td_list_first(&inlet->copies)) != NULL) {
        struct map_operation *copy = td_container_of(node, struct map_operation, in_list);
        td_status_t status;

        if (copy->mark == NULL)
            break;
        status = transport->memory.device->ops->poll(transport->queue, copy->mark);
        if (status == TD_AGAIN)
            break;
        copy->mark = NULL;
        any = true;
        device_copy_end(copy, is_ending ? copy->status : status);
        if (!is_ending && inlet->socket.fd < 0)
            break;
    }
    return any;
}

static bool copy_by_device(struct map_transport *transport)
{
    bool any = false;

    kvt_queue_woken(transport->queue);
    td_list_for_each(node, &transport->inlets)
    {
        struct map_inlet *inlet = td_container_of(node, struct map_inlet, in_transport);

        any = end_copies(inlet) || any;
        if (inlet->socket.fd >= 0)
            any = begin_copies(inlet) || any;
    }
    td_list_for_each(node, &transport->ending)
    {
        struct map_inlet *inlet = td_container_of(node, struct map_inlet, in_transport);

        any = end_copies(inlet) || any;
        if (inlet->copy_count > 0)
            continue;
        td_list_remove(node);
        td_list_push_back(&transport->dead_inlets, node);
    }
    return any;
}

/* ------------------------------------------------------------------------------------------- both */

bool map_inlets_copy(struct map_transport *transport)
{
    return transport->queue != NULL ? copy_by_device(transport) : copy_by_processor(transport);
}

/* A copy that no device has begun yet. */
static bool has_work(const struct map_inlet *inlet)
{
    td_list_for_each(node, &inlet->copies)
    {
        if (td_container_of(node, struct map_operation, in_list)->mark == NULL)
            return true;
    }
    return false;
}

bool map_inlets_have_work(const struct map_transport *transport)
{
    td_list_for_each(node, &transport->inlets)
    {
        if (has_work(td_container_of(node, struct map_inlet, in_transport)))
            return true;
    }
    return false;
}
