/*
 * site_private.h: what the files of sites share. Not for use elsewhere.
 *
 *   site.c         the face: sites elsewhere, commands, waiting
 *   site_here.c    a runtime in this process, and what guards its slots
 *   site_memory.c  its pool
 */
#ifndef TANDEM_TESTS_KVTRANSFER_SITE_PRIVATE_H
#define TANDEM_TESTS_KVTRANSFER_SITE_PRIVATE_H

#include "tests/kvtransfer/site.h"

#define SITE_PATIENCE_MS 60000 /* what takes longer hangs */

enum site_op {
    SITE_OP_COMMAND = 1,
    SITE_OP_FILL,
    SITE_OP_DAMAGE,
    SITE_OP_CANARY,
    SITE_OP_STAT,
    SITE_OP_CLOSE
};

/* To a site: one packet. */
struct site_request {
    enum site_op op;
    enum kvt_command_kind command;
    uint64_t epoch;
    struct site_transfer transfer;
    uint32_t first; /* of SEND; the block of DAMAGE; the statistic of STAT */
    uint32_t count;
    size_t address_bytes;
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
};

/* From a site: one packet. */
struct site_reply {
    bool is_event;
    struct site_event event;
    uint64_t value; /* the answer, unless it is an event */
};

/* What a site elsewhere says first. */
struct site_hello {
    size_t address_bytes;
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
};

/* A transfer that comes in here: its contents are checked and its slots are guarded. */
struct site_guarded {
    struct site_transfer transfer;
    bool has_ended;
};

struct site {
    struct site_config config;
    struct site_hello hello;
    /* here */
    struct kvt_runtime *runtime;
    struct kvt_memory memory;
    int wake_fd;
    struct site_guarded incoming[SITE_TRANSFERS_MAX];
    size_t incoming_count;
    struct site_transfer outgoing[SITE_TRANSFERS_MAX];
    size_t outgoing_count;
    /* elsewhere */
    pid_t pid;
    int socket_fd; /* -1: here, or killed */
    /* both */
    struct site_event events[SITE_EVENTS_MAX];
    bool is_awaited[SITE_EVENTS_MAX]; /* peer events that a test has seen */
    size_t event_count;
};

struct site *site_here_open(const struct site_config *config);
size_t site_here_close(struct site *site);

/* Carries a request out; its answer, if it has one. */
uint64_t site_here_carry_out(struct site *site, const struct site_request *request);

/* Takes the oldest event; what it means for slots has been done when it returns. */
bool site_here_pop(struct site *site, struct site_event *event_out);

void site_record(struct site *site, const struct site_event *event);

/* ---- site_memory.c */

bool site_is_on_gpu(const struct site *site);
void site_memory_open(struct site *site);
void site_memory_close(struct site *site);

/* All SITE_BLOCK_BYTES of a slot. */
void site_slot_write(const struct site *site, uint32_t slot, const uint8_t *bytes);
void site_slot_read(const struct site *site, uint32_t slot, uint8_t *bytes);

#endif
