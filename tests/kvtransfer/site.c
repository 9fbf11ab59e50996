/* site.c: see site.h. */
#include "tests/kvtransfer/site.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "lib/base/time.h"
#include "tests/support/support.h"

#define SITE_FD          3     /* of the control socket in a site elsewhere */
#define SITE_PATIENCE_MS 60000 /* what takes longer hangs */
#define CANARY           0xc5
#define SCRIBBLE         0x3a

extern char **environ;

enum op { OP_COMMAND = 1, OP_FILL, OP_DAMAGE, OP_CANARY, OP_STAT, OP_CLOSE };

/* To a site: one packet. */
struct request {
    enum op op;
    enum kvt_command_kind command;
    uint64_t epoch;
    struct site_transfer transfer;
    uint32_t first; /* of SEND; the block of DAMAGE; the statistic of STAT */
    uint32_t count;
    size_t address_bytes;
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
};

/* From a site: one packet. */
struct reply {
    bool is_event;
    struct site_event event;
    uint64_t value; /* the answer, unless it is an event */
};

/* What a site elsewhere says first. */
struct hello {
    size_t address_bytes;
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
};

/* A transfer that comes in here: its contents are checked and its slots are guarded. */
struct guarded {
    struct site_transfer transfer;
    bool has_ended;
};

struct site {
    struct site_config config;
    struct hello hello;
    /* here */
    struct kvt_runtime *runtime;
    struct kvt_memory memory;
    int wake_fd;
    struct guarded incoming[SITE_TRANSFERS_MAX];
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

struct site_config site_config_default(enum site_transport transport, uint64_t epoch)
{
    return (struct site_config){.transport = transport,
                                .epoch = epoch,
                                .chunk_bytes = 4 * SITE_BLOCK_BYTES,
                                .window_bytes = 12 * SITE_BLOCK_BYTES,
                                .connect_ms = 60000,
                                .stop_ms = 300,
                                .cut_ms = 300,
                                .ring_capacity = 256};
}

enum site_transport site_kind(const struct site *site)
{
    return site->config.transport;
}

const char *site_transport_name(const struct site *site)
{
    return site->config.transport == SITE_MAP ? "map" : "ucx";
}

uint64_t site_epoch(const struct site *site)
{
    return site->config.epoch;
}

const uint8_t *site_address(const struct site *site, size_t *length_out)
{
    *length_out = site->hello.address_bytes;
    return site->hello.address;
}

/* ------------------------------------------------------------------------------------- transfers */

struct site_transfer site_transfer_make(uint32_t number, uint32_t block_count,
                                        uint32_t attachment_bytes)
{
    struct site_transfer transfer = {.id = {.hi = 0xabc, .lo = number + 1},
                                     .seed = 1000 + number,
                                     .block_count = block_count,
                                     .attachment_bytes = attachment_bytes,
                                     .out_base = number * 8 * 7,
                                     .in_base = (number * 8 + 256) * 7,
                                     .lifetime_ms = SITE_LIFETIME_MS};

    memset(transfer.mac_key, (int)(number % 251), sizeof transfer.mac_key);
    return transfer;
}

static uint32_t slot_of(uint32_t base, uint32_t index)
{
    return (base + index * 7) % SITE_SLOTS;
}

static struct td_u128 key_of(const struct site_transfer *transfer, uint32_t index)
{
    return (struct td_u128){.hi = transfer->seed, .lo = index + 1};
}

static void make_content(uint64_t seed, uint32_t index, uint8_t *out, size_t length)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + index;

    for (size_t i = 0; i < length; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(state >> 56);
    }
}

static struct td_u128 content_hash(const struct site_transfer *transfer, uint32_t index)
{
    uint8_t *content = malloc(SITE_BLOCK_BYTES);
    struct td_u128 hash;

    assert(content != NULL);
    make_content(transfer->seed, index, content, SITE_BLOCK_BYTES);
    hash = td_hash128(content, SITE_BLOCK_BYTES);
    free(content);
    return hash;
}

static void *make_attachment(const struct site_transfer *transfer)
{
    uint8_t *bytes = malloc(transfer->attachment_bytes);

    assert(bytes != NULL);
    make_content(transfer->seed, UINT32_MAX, bytes, transfer->attachment_bytes);
    return bytes;
}

static uint8_t *slot_bytes(const struct site *site, uint32_t slot)
{
    return site->memory.base + (size_t)slot * SITE_BLOCK_BYTES;
}

static void paint(const struct site *site, uint32_t base, uint32_t first, uint32_t count,
                  uint8_t color)
{
    for (uint32_t i = first; i < first + count; i++)
        memset(slot_bytes(site, slot_of(base, i)), color, SITE_BLOCK_BYTES);
}

/* ---------------------------------------------------------------------------------- events, here */

static bool attachment_is_right(const struct site_transfer *transfer, const struct kvt_event *event)
{
    void *right;
    bool is_right;

    if (event->landed.attachment_bytes != transfer->attachment_bytes)
        return false;
    if (transfer->attachment_bytes == 0)
        return event->landed.attachment == NULL;
    right = make_attachment(transfer);
    is_right = memcmp(right, event->landed.attachment, transfer->attachment_bytes) == 0;
    free(right);
    return is_right;
}

static bool landed_is_right(const struct site *site, const struct site_transfer *transfer,
                            const struct kvt_event *event)
{
    if (event->landed.hash_count != transfer->block_count)
        return false;
    for (uint32_t i = 0; i < transfer->block_count; i++) {
        struct td_u128 right = content_hash(transfer, i);
        struct td_u128 found =
            td_hash128(slot_bytes(site, slot_of(transfer->in_base, i)), SITE_BLOCK_BYTES);

        if (!td_u128_equal(found, right) || !td_u128_equal(event->landed.hashes[i], right))
            return false;
    }
    return attachment_is_right(transfer, event);
}

/* The slots are ours again: guard them. */
static void end_incoming(struct site *site, const struct kvt_event *event, bool *is_right_out)
{
    for (size_t i = 0; i < site->incoming_count; i++) {
        struct guarded *guarded = &site->incoming[i];
        const struct site_transfer *transfer = &guarded->transfer;

        if (!td_u128_equal(transfer->id, event->transfer) || guarded->has_ended)
            continue;
        guarded->has_ended = true;
        *is_right_out = event->kind == KVT_LANDED && landed_is_right(site, transfer, event);
        paint(site, transfer->in_base, 0, transfer->block_count, CANARY);
        return;
    }
}

/* Nobody reads these blocks any more: spoil them. */
static void end_outgoing(struct site *site, const struct kvt_event *event)
{
    for (size_t i = 0; i < site->outgoing_count; i++) {
        const struct site_transfer *transfer = &site->outgoing[i];

        if (!td_u128_equal(transfer->id, event->transfer))
            continue;
        if (event->kind == KVT_SENT)
            paint(site, transfer->out_base, event->sent.first, event->sent.count, SCRIBBLE);
        else
            paint(site, transfer->out_base, 0, transfer->block_count, SCRIBBLE);
        return;
    }
}

static struct site_event digest(struct site *site, const struct kvt_event *event)
{
    struct site_event digest = {.kind = event->kind,
                                .transfer = event->transfer,
                                .peer = event->peer,
                                .is_sender = event->is_sender,
                                .status = event->status};

    switch (event->kind) {
    case KVT_PEER_UP: memcpy(digest.lanes, event->peer_up.lanes, sizeof digest.lanes); break;
    case KVT_LANDED:
        digest.bytes = event->landed.bytes;
        end_incoming(site, event, &digest.is_right);
        break;
    case KVT_QUIESCED: end_incoming(site, event, &digest.is_right); break;
    case KVT_SENT:
        digest.first = event->sent.first;
        digest.count = event->sent.count;
        digest.bytes = event->sent.bytes;
        end_outgoing(site, event);
        break;
    case KVT_DRAINED: end_outgoing(site, event); break;
    case KVT_PEER_LOST:
    case KVT_ARRIVING:
    case KVT_FAILED:
    case KVT_QUARANTINED: break;
    }
    return digest;
}

static void record(struct site *site, const struct site_event *event)
{
    assert(site->event_count < SITE_EVENTS_MAX);
    site->events[site->event_count++] = *event;
}

static bool pop_here(struct site *site, struct site_event *event_out)
{
    struct kvt_event event;

    if (!kvt_runtime_pop(site->runtime, &event))
        return false;
    *event_out = digest(site, &event);
    kvt_event_fini(&event);
    return true;
}

/* -------------------------------------------------------------------------------- commands, here */

static struct kvt_block *blocks_of(const struct site_transfer *transfer, uint32_t base,
                                   uint32_t first, uint32_t count)
{
    struct kvt_block *blocks = count > 0 ? calloc(count, sizeof *blocks) : NULL;

    assert(count == 0 || blocks != NULL);
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = (struct kvt_block){.key = key_of(transfer, first + i),
                                       .hash = content_hash(transfer, first + i),
                                       .slot = slot_of(base, first + i)};
    return blocks;
}

static void fill_expect(struct site *site, const struct request *request,
                        struct kvt_command *command)
{
    const struct site_transfer *transfer = &request->transfer;

    assert(site->incoming_count < SITE_TRANSFERS_MAX);
    site->incoming[site->incoming_count++] = (struct guarded){.transfer = *transfer};
    memcpy(command->expect.mac_key, transfer->mac_key, sizeof command->expect.mac_key);
    command->expect.blocks = blocks_of(transfer, transfer->in_base, 0, transfer->block_count);
    command->expect.block_count = transfer->block_count;
    command->expect.attachment_bytes = transfer->attachment_bytes;
    command->expect.deadline_ns = td_now_ns() + transfer->lifetime_ms * TD_NS_PER_MS;
}

static void fill_offer(struct site *site, const struct request *request,
                       struct kvt_command *command)
{
    const struct site_transfer *transfer = &request->transfer;

    assert(site->outgoing_count < SITE_TRANSFERS_MAX);
    site->outgoing[site->outgoing_count++] = *transfer;
    memcpy(command->offer.mac_key, transfer->mac_key, sizeof command->offer.mac_key);
    command->offer.block_count = transfer->block_count;
    command->offer.attachment_bytes = transfer->attachment_bytes;
    command->offer.deadline_ns = td_now_ns() + transfer->lifetime_ms * TD_NS_PER_MS;
}

static void fill_send(const struct request *request, struct kvt_command *command)
{
    const struct site_transfer *transfer = &request->transfer;

    command->send.first = request->first;
    command->send.block_count = request->count;
    command->send.blocks = blocks_of(transfer, transfer->out_base, request->first, request->count);
    if (transfer->attachment_bytes > 0 &&
        request->first + request->count == transfer->block_count) {
        command->send.attachment = make_attachment(transfer);
        command->send.attachment_bytes = transfer->attachment_bytes;
    }
}

static void fill_peer_add(const struct site *site, const struct request *request,
                          struct kvt_command *command)
{
    snprintf(command->peer_add.transport, sizeof command->peer_add.transport, "%s",
             site_transport_name(site));
    command->peer_add.address = malloc(request->address_bytes + 1);
    assert(command->peer_add.address != NULL);
    memcpy(command->peer_add.address, request->address, request->address_bytes);
    command->peer_add.address_bytes = request->address_bytes;
}

/* A full ring empties by itself: the wake that the contract promises is waited for. */
static void push(struct site *site, const struct kvt_command *command)
{
    td_status_t status;

    while ((status = kvt_runtime_push(site->runtime, command)) == TD_LIMIT) {
        struct pollfd wake = {.fd = site->wake_fd, .events = POLLIN};
        struct site_event event;
        uint64_t drained;

        if (poll(&wake, 1, SITE_PATIENCE_MS) <= 0)
            fail_msg("no wake after a full command ring");
        (void)!read(site->wake_fd, &drained, sizeof drained);
        while (pop_here(site, &event))
            record(site, &event);
    }
    assert_int_equal(status, TD_OK);
}

static void command_here(struct site *site, const struct request *request)
{
    struct kvt_command command = {
        .kind = request->command, .transfer = request->transfer.id, .peer = request->epoch};

    switch (request->command) {
    case KVT_PEER_ADD: fill_peer_add(site, request, &command); break;
    case KVT_EXPECT: fill_expect(site, request, &command); break;
    case KVT_OFFER: fill_offer(site, request, &command); break;
    case KVT_SEND: fill_send(request, &command); break;
    case KVT_PEER_DROP:
    case KVT_ABANDON:
    case KVT_STOP: break;
    }
    push(site, &command);
}

static bool canary_is_intact(const struct site *site, const struct site_transfer *transfer)
{
    for (uint32_t i = 0; i < transfer->block_count; i++) {
        const uint8_t *bytes = slot_bytes(site, slot_of(transfer->in_base, i));

        for (size_t j = 0; j < SITE_BLOCK_BYTES; j++)
            if (bytes[j] != CANARY)
                return false;
    }
    return true;
}

static void fill_here(struct site *site, const struct site_transfer *transfer)
{
    for (uint32_t i = 0; i < transfer->block_count; i++)
        make_content(transfer->seed, i, slot_bytes(site, slot_of(transfer->out_base, i)),
                     SITE_BLOCK_BYTES);
}

/* Carries a request out here; its answer, if it has one. */
static uint64_t carry_out(struct site *site, const struct request *request)
{
    const struct site_transfer *transfer = &request->transfer;

    switch (request->op) {
    case OP_COMMAND: command_here(site, request); break;
    case OP_FILL: fill_here(site, transfer); break;
    case OP_DAMAGE:
        slot_bytes(site, slot_of(transfer->out_base, request->first))[SITE_BLOCK_BYTES / 2] ^= 4;
        break;
    case OP_CANARY: return canary_is_intact(site, transfer);
    case OP_STAT:
        return kvt_stats_get(kvt_runtime_stats(site->runtime), (enum kvt_stat)request->first);
    case OP_CLOSE: break;
    }
    return 0;
}

/* ------------------------------------------------------------------------ opening and closing here */

static void on_wake(void *impl)
{
    const struct site *site = impl;
    uint64_t one = 1;

    (void)!write(site->wake_fd, &one, sizeof one);
}

static void open_memory(struct site *site)
{
    site->memory.bytes = (size_t)SITE_SLOTS * SITE_BLOCK_BYTES;
    site->memory.fd = memfd_create("site", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert(site->memory.fd >= 0 && ftruncate(site->memory.fd, (off_t)site->memory.bytes) == 0);
    site->memory.base =
        mmap(NULL, site->memory.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, site->memory.fd, 0);
    assert(site->memory.base != MAP_FAILED);
}

static void open_runtime(struct site *site)
{
    const struct site_config *config = &site->config;
    struct kvt_runtime_config runtime = {.epoch = config->epoch,
                                         .memory = site->memory,
                                         .block_bytes = SITE_BLOCK_BYTES,
                                         .limits = kvt_limits_default(),
                                         .use_ucx = config->transport != SITE_MAP,
                                         .use_map = config->transport == SITE_MAP,
                                         .ucx = kvt_ucx_config_default(),
                                         .ring_capacity = config->ring_capacity,
                                         .wake = on_wake,
                                         .wake_impl = site};
    struct td_error error = {0};
    const uint8_t *address;

    runtime.ucx.shm = config->transport != SITE_UCX_TCP;
    runtime.ucx.tcp = config->transport != SITE_UCX_SHM;
    runtime.ucx.keepalive_ms = 200;
    runtime.limits.chunk_bytes = config->chunk_bytes;
    runtime.limits.window_bytes = config->window_bytes;
    runtime.limits.connect_ms = config->connect_ms;
    runtime.limits.stop_ms = config->stop_ms;
    runtime.limits.cut_ms = config->cut_ms;
    if (kvt_runtime_open(&runtime, &site->runtime, &error) != TD_OK) {
        fprintf(stderr, "a site cannot be opened: %s\n", error.text);
        abort();
    }
    if (kvt_runtime_address(site->runtime, site_transport_name(site), &address,
                            &site->hello.address_bytes) != TD_OK)
        abort();
    memcpy(site->hello.address, address, site->hello.address_bytes);
}

static struct site *open_here(const struct site_config *config)
{
    struct site *site = calloc(1, sizeof *site);

    assert(site != NULL);
    site->config = *config;
    site->socket_fd = -1;
    site->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(site->wake_fd >= 0);
    open_memory(site);
    open_runtime(site);
    return site;
}

static size_t close_here(struct site *site)
{
    size_t left = kvt_runtime_close(site->runtime);

    munmap(site->memory.base, site->memory.bytes);
    close(site->memory.fd);
    close(site->wake_fd);
    free(site);
    return left;
}

/* ------------------------------------------------------------------------------ a site elsewhere */

static void send_packet(int fd, const void *packet, size_t length)
{
    ssize_t sent;

    do
        sent = send(fd, packet, length, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent != (ssize_t)length)
        _exit(3); /* the test has gone */
}

static void serve_events(struct site *site, int fd)
{
    struct reply reply = {.is_event = true};
    uint64_t drained;

    (void)!read(site->wake_fd, &drained, sizeof drained);
    for (size_t i = 0; i < site->event_count; i++) { /* those that came while a push waited */
        reply.event = site->events[i];
        send_packet(fd, &reply, sizeof reply);
    }
    site->event_count = 0;
    while (pop_here(site, &reply.event))
        send_packet(fd, &reply, sizeof reply);
}

/* False: the test wants no more. */
static bool serve_request(struct site *site, int fd)
{
    struct request request;
    struct reply reply = {0};

    if (recv(fd, &request, sizeof request, 0) != (ssize_t)sizeof request || request.op == OP_CLOSE)
        return false;
    reply.value = carry_out(site, &request);
    send_packet(fd, &reply, sizeof reply); /* a command is in the ring by now */
    return true;
}

int site_serve(void)
{
    struct site_config config;
    struct site *site;
    bool goes_on = true;
    struct reply reply = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (recv(SITE_FD, &config, sizeof config, 0) != (ssize_t)sizeof config)
        return 2;
    site = open_here(&config);
    send_packet(SITE_FD, &site->hello, sizeof site->hello);
    while (goes_on) {
        struct pollfd polled[] = {{.fd = SITE_FD, .events = POLLIN},
                                  {.fd = site->wake_fd, .events = POLLIN}};

        if (poll(polled, 2, -1) < 0 && errno != EINTR)
            return 2;
        serve_events(site, SITE_FD);
        if (polled[0].revents != 0)
            goes_on = serve_request(site, SITE_FD);
    }
    reply.value = close_here(site);
    send_packet(SITE_FD, &reply, sizeof reply);
    return 0;
}

static struct site *open_elsewhere(const struct site_config *config)
{
    struct site *site = calloc(1, sizeof *site);
    char *arguments[] = {(char[]){"site"}, (char[]){SITE_ARGUMENT}, NULL};
    posix_spawn_file_actions_t actions;
    int pair[2];

    assert_non_null(site);
    site->config = *config;
    site->wake_fd = -1;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], SITE_FD);
    assert_int_equal(posix_spawn(&site->pid, "/proc/self/exe", &actions, NULL, arguments, environ),
                     0);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    site->socket_fd = pair[0];
    send_packet(site->socket_fd, config, sizeof *config);
    assert_int_equal(recv(site->socket_fd, &site->hello, sizeof site->hello, 0),
                     sizeof site->hello);
    return site;
}

struct site *site_open(const struct site_config *config)
{
    return config->is_elsewhere ? open_elsewhere(config) : open_here(config);
}

/* Waits for one packet; events are recorded. True: it was the answer. */
static bool take_packet(struct site *site, uint64_t *value_out)
{
    struct reply reply;
    struct pollfd polled = {.fd = site->socket_fd, .events = POLLIN};

    if (poll(&polled, 1, SITE_PATIENCE_MS) <= 0)
        fail_msg("a site elsewhere does not answer");
    if (recv(site->socket_fd, &reply, sizeof reply, 0) != (ssize_t)sizeof reply)
        fail_msg("a site elsewhere has gone");
    if (reply.is_event)
        record(site, &reply.event);
    else
        *value_out = reply.value;
    return !reply.is_event;
}

static uint64_t ask(struct site *site, const struct request *request)
{
    uint64_t value = 0;

    if (site->socket_fd < 0)
        return carry_out(site, request);
    send_packet(site->socket_fd, request, sizeof *request);
    while (!take_packet(site, &value))
        ;
    return value;
}

static void reap(struct site *site)
{
    int status;

    while (waitpid(site->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(site->socket_fd);
    site->socket_fd = -1;
    site->pid = 0;
}

size_t site_close(struct site *site)
{
    struct request request = {.op = OP_CLOSE};
    size_t left = 0;

    if (!site->config.is_elsewhere)
        return close_here(site);
    if (site->pid != 0) {
        site_thaw(site); /* a test that has failed may have left it frozen */
        left = ask(site, &request);
        reap(site);
    }
    free(site);
    return left;
}

void site_kill(struct site *site)
{
    kill(site->pid, SIGKILL);
    reap(site);
}

void site_freeze(struct site *site)
{
    int status;

    kill(site->pid, SIGSTOP);
    while (waitpid(site->pid, &status, WUNTRACED) < 0 && errno == EINTR)
        ;
}

void site_thaw(struct site *site)
{
    kill(site->pid, SIGCONT);
}

/* -------------------------------------------------------------------------------------- commands */

void site_peer_add_at(struct site *site, uint64_t epoch, const uint8_t *address, size_t length)
{
    struct request request = {
        .op = OP_COMMAND, .command = KVT_PEER_ADD, .epoch = epoch, .address_bytes = length};

    memcpy(request.address, address, length);
    ask(site, &request);
}

void site_peer_add(struct site *site, const struct site *peer)
{
    site_peer_add_at(site, peer->config.epoch, peer->hello.address, peer->hello.address_bytes);
}

void site_peer_drop(struct site *site, uint64_t epoch)
{
    ask(site, &(struct request){.op = OP_COMMAND, .command = KVT_PEER_DROP, .epoch = epoch});
}

static void command(struct site *site, enum kvt_command_kind kind,
                    const struct site_transfer *transfer, uint64_t epoch)
{
    ask(site, &(struct request){
                  .op = OP_COMMAND, .command = kind, .epoch = epoch, .transfer = *transfer});
}

void site_expect(struct site *site, const struct site_transfer *transfer, uint64_t epoch)
{
    command(site, KVT_EXPECT, transfer, epoch);
}

void site_abandon(struct site *site, const struct site_transfer *transfer)
{
    command(site, KVT_ABANDON, transfer, 0);
}

void site_offer(struct site *site, const struct site_transfer *transfer, uint64_t epoch)
{
    command(site, KVT_OFFER, transfer, epoch);
}

void site_stop(struct site *site, const struct site_transfer *transfer, uint64_t epoch)
{
    command(site, KVT_STOP, transfer, epoch);
}

void site_send(struct site *site, const struct site_transfer *transfer, uint64_t epoch,
               uint32_t first, uint32_t count)
{
    ask(site, &(struct request){.op = OP_COMMAND,
                                .command = KVT_SEND,
                                .epoch = epoch,
                                .transfer = *transfer,
                                .first = first,
                                .count = count});
}

void site_fill(struct site *site, const struct site_transfer *transfer)
{
    ask(site, &(struct request){.op = OP_FILL, .transfer = *transfer});
}

void site_damage(struct site *site, const struct site_transfer *transfer, uint32_t block)
{
    ask(site, &(struct request){.op = OP_DAMAGE, .transfer = *transfer, .first = block});
}

bool site_canary_is_intact(struct site *site, const struct site_transfer *transfer)
{
    return ask(site, &(struct request){.op = OP_CANARY, .transfer = *transfer}) != 0;
}

uint64_t site_stat(struct site *site, enum kvt_stat stat)
{
    return ask(site, &(struct request){.op = OP_STAT, .first = (uint32_t)stat});
}

/* --------------------------------------------------------------------------------------- waiting */

/* Takes in what is there, or waits for more. */
static void take_events(struct site *site, bool waits)
{
    struct pollfd polled = {.fd = site->socket_fd >= 0 ? site->socket_fd : site->wake_fd,
                            .events = POLLIN};
    struct site_event event;
    uint64_t ignored;

    if (site->socket_fd < 0) {
        bool any = false;

        while (pop_here(site, &event)) {
            record(site, &event);
            any = true;
        }
        if (any)
            return;
    }
    if (poll(&polled, 1, waits ? SITE_PATIENCE_MS : 0) <= 0) {
        if (waits)
            fail_msg("nothing happens at site %llx", (unsigned long long)site->config.epoch);
        return;
    }
    if (site->socket_fd >= 0)
        take_packet(site, &ignored);
    else
        (void)!read(site->wake_fd, &ignored, sizeof ignored);
}

static bool matches(const struct site_event *event, enum kvt_event_kind kind,
                    const struct site_transfer *transfer, bool is_sender)
{
    return event->kind == kind && event->is_sender == is_sender &&
           td_u128_equal(event->transfer, transfer->id);
}

size_t site_count(struct site *site, enum kvt_event_kind kind, const struct site_transfer *transfer,
                  bool is_sender)
{
    size_t count = 0;

    for (size_t i = 0; i < site->event_count; i++)
        count += matches(&site->events[i], kind, transfer, is_sender);
    return count;
}

struct site_event site_wait(struct site *site, enum kvt_event_kind kind,
                            const struct site_transfer *transfer, bool is_sender)
{
    for (size_t i = 0;; i++) {
        while (i == site->event_count)
            take_events(site, true);
        if (matches(&site->events[i], kind, transfer, is_sender))
            return site->events[i];
    }
}

struct site_event site_wait_end(struct site *site, const struct site_transfer *transfer,
                                bool is_sender)
{
    for (size_t i = 0;; i++) {
        while (i == site->event_count)
            take_events(site, true);
        for (enum kvt_event_kind kind = KVT_LANDED; kind <= KVT_QUARANTINED; kind++)
            if (kind != KVT_SENT && kind != KVT_FAILED &&
                matches(&site->events[i], kind, transfer, is_sender))
                return site->events[i];
    }
}

struct site_event site_wait_peer(struct site *site, uint64_t epoch)
{
    for (size_t i = 0;; i++) {
        const struct site_event *event = &site->events[i];

        while (i == site->event_count)
            take_events(site, true);
        if (event->peer != epoch || site->is_awaited[i] ||
            (event->kind != KVT_PEER_UP && event->kind != KVT_PEER_LOST))
            continue;
        site->is_awaited[i] = true;
        return *event;
    }
}

/* Statistics move without an event: ask again and again, a little apart. */
void site_wait_idle(struct site *site, enum kvt_stat gauge)
{
    uint64_t give_up_ns = td_now_ns() + SITE_PATIENCE_MS * TD_NS_PER_MS;

    while (site_stat(site, gauge) != 0) {
        take_events(site, false);
        if (td_now_ns() > give_up_ns)
            fail_msg("%s does not come to zero", kvt_stat_info(gauge)->name);
        usleep(1000);
    }
}

void site_wind_down(struct site *site)
{
    kvt_runtime_stop(site->runtime);
    while (!kvt_runtime_has_stopped(site->runtime))
        take_events(site, true);
    take_events(site, false);
}

size_t site_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}
