/* staged_room.c: the host's memory that copies go through, see staged_private.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvtransfer/staged_private.h"
#include "lib/base/log.h"

#define SLOTS_MIN 2
#define SLOTS_MAX 4096
#define HEAP_BYTES_MAX \
    ((size_t)1 << 30) /* peers bound what they have on the way; this bounds their number */

/* Slots begin on pages. */
static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

static td_status_t open_memory(struct staged_room *room, struct td_error *error)
{
    size_t bytes = room->slot_bytes * room->slot_count;
    void *base;

    room->fd = memfd_create("tandem-staging", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (room->fd < 0 || ftruncate(room->fd, (off_t)bytes) != 0)
        return td_fail(error, TD_NO_MEMORY, "%zu bytes of staging memory: %s", bytes,
                       strerror(errno));
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, room->fd, 0);
    if (base == MAP_FAILED)
        return td_fail(error, TD_NO_MEMORY, "%zu bytes of staging memory: %s", bytes,
                       strerror(errno));
    room->base = base;
    return TD_OK;
}

/* Works without, at a fraction of the speed. */
static void pin(struct staged_room *room)
{
    struct td_error error = {0};
    td_status_t status = room->device->ops->pin(room->device, room->base,
                                                room->slot_bytes * room->slot_count, &error);

    room->is_pinned = status == TD_OK;
    if (!room->is_pinned)
        td_log(TD_LOG_WARN, "kvtransfer", "staging memory is not pinned, copies will be slow: %s",
               error.text);
}

td_status_t staged_room_open(struct staged_room *room, struct kvt_device *device, size_t slot_bytes,
                             size_t bytes, struct td_error *error)
{
    td_status_t status;

    if (slot_bytes > SIZE_MAX / 2 / SLOTS_MAX)
        return td_fail(error, TD_INVALID, "chunks of %zu bytes are too large to be staged",
                       slot_bytes);
    *room = (struct staged_room){.device = device, .fd = -1, .slot_bytes = whole_pages(slot_bytes)};
    room->slot_count = bytes / room->slot_bytes;
    if (room->slot_count < SLOTS_MIN)
        room->slot_count = SLOTS_MIN;
    if (room->slot_count > SLOTS_MAX)
        room->slot_count = SLOTS_MAX;
    room->free_slots = calloc(room->slot_count, sizeof *room->free_slots);
    if (room->free_slots == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for staging");
    status = open_memory(room, error);
    if (status != TD_OK)
        return status;
    while (room->free_count < room->slot_count) {
        room->free_slots[room->free_count] = room->slot_count - 1 - room->free_count;
        room->free_count++;
    }
    pin(room);
    return TD_OK;
}

void staged_room_close(struct staged_room *room)
{
    if (room->device == NULL)
        return;
    if (room->is_pinned)
        room->device->ops->unpin(room->device, room->base);
    if (room->base != NULL)
        munmap(room->base, room->slot_bytes * room->slot_count);
    if (room->fd >= 0)
        close(room->fd);
    free(room->free_slots);
}

bool staged_room_has_spare(const struct staged_room *room)
{
    return room->free_count > room->slot_count / 4;
}

bool staged_room_take(struct staged_room *room, size_t bytes, struct staged_place *place_out)
{
    *place_out = (struct staged_place){0};
    if (bytes == 0)
        return true;
    if (bytes > room->slot_bytes || room->free_count == 0)
        return false;
    place_out->slot = room->free_slots[--room->free_count];
    place_out->base = room->base + place_out->slot * room->slot_bytes;
    place_out->bytes = bytes;
    return true;
}

bool staged_room_take_any(struct staged_room *room, size_t bytes, struct staged_place *place_out)
{
    uint8_t *base;

    if ((bytes == 0 || staged_room_has_spare(room)) && staged_room_take(room, bytes, place_out))
        return true;
    if (bytes > HEAP_BYTES_MAX - room->heap_bytes)
        return false;
    base = malloc(bytes);
    if (base == NULL)
        return false;
    room->heap_bytes += bytes;
    *place_out = (struct staged_place){.base = base, .slot = STAGED_HEAP, .bytes = bytes};
    return true;
}

void staged_room_give(struct staged_room *room, struct staged_place *place)
{
    if (place->base == NULL)
        return;
    if (place->slot == STAGED_HEAP) {
        room->heap_bytes -= place->bytes;
        free(place->base);
    } else {
        room->free_slots[room->free_count++] = place->slot;
    }
    *place = (struct staged_place){0};
}
