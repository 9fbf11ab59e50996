/*
 * staged_private.h: what the files of the staged transports share. Not for use elsewhere.
 *
 *   staged.c       the transport
 *   staged_room.c  the memory of the host that copies go through
 */
#ifndef TANDEM_KVTRANSFER_STAGED_PRIVATE_H
#define TANDEM_KVTRANSFER_STAGED_PRIVATE_H

#include "kvtransfer/memory.h"
#include "kvtransfer/staged.h"
#include "lib/base/list.h"

/* Where an operation's bytes are while they are in the host's memory. */
struct staged_place {
    uint8_t *base; /* NULL: nothing was taken */
    size_t slot;   /* STAGED_HEAP: from the heap */
    size_t bytes;
};

#define STAGED_HEAP SIZE_MAX

/* Pinned memory in slots of one chunk each, behind a memfd that a peer may map. */
struct staged_room {
    struct kvt_device *device;
    uint8_t *base;
    int fd;
    bool is_pinned;
    size_t slot_bytes;
    size_t slot_count;
    size_t *free_slots; /* a stack of free_count */
    size_t free_count;
    size_t heap_bytes; /* taken from the heap */
};

td_status_t staged_room_open(struct staged_room *room, struct kvt_device *device, size_t slot_bytes,
                             size_t bytes, struct td_error *error) TD_MUST_USE;
void staged_room_close(struct staged_room *room); /* zeros: nothing */

/*
 * Whether there is a slot for somebody who has one already. The last quarter is for those who have none: what a frozen
 * peer has comes back late, or never.
 */
bool staged_room_has_spare(const struct staged_room *room);

/* A slot for so many bytes; false: none is free. 0 bytes need none. */
bool staged_room_take(struct staged_room *room, size_t bytes, struct staged_place *place_out);

/* A spare one, else from the heap: what has arrived cannot wait. False: too much is there already. */
bool staged_room_take_any(struct staged_room *room, size_t bytes, struct staged_place *place_out);
void staged_room_give(struct staged_room *room, struct staged_place *place);

/* A send or a receive: lives from its call to its report, in one of the lists of struct staged. */
struct staged_operation {
    struct td_list in_list;
    struct staged *staged;
    void *tag;
    bool is_send;
    bool is_canceled;              /* its endpoint was closed while it was copied */
    struct kvt_endpoint *endpoint; /* sends; NULL: disconnected */
    struct kvt_mark *mark;         /* the end of its copies; NULL: none run */
    struct staged_place place;
    size_t staged_bytes;
    td_status_t status;
    size_t header_bytes;
    size_t piece_count;
    struct kvt_piece pieces[]; /* then the header */
};

struct staged {
    struct kvt_transport base; /* first: see transport.h */
    struct kvt_transport *inner;
    struct kvt_memory memory;
    struct kvt_queue *queue;
    struct staged_room room;
    int epoll_fd;
    struct td_list waiting;  /* sends that found no slot */
    struct td_list filling;  /* sends that are copied to the host */
    struct td_list passed;   /* what the inner transport has */
    struct td_list emptying; /* receives that are copied to the device */
    struct td_list ended;
};

/* Whether a piece is in the pool: attachments are in the host's memory already. */
static inline bool staged_is_ours(const struct staged *staged, const struct kvt_piece *piece)
{
    return kvt_memory_contains(&staged->memory, piece->base, piece->length);
}

#endif
