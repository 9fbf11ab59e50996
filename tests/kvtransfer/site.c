/* site.c: the face of sites, and those in a process of their own, see site.h. */
#include "tests/kvtransfer/site.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvtransfer/staged.h"
#include "lib/base/time.h"
#include "tests/kvtransfer/site_private.h"
#include "tests/support/support.h"

#define SITE_FD 3 /* of the control socket in a site elsewhere */

extern char **environ;

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
    switch (site->config.transport) {
    case SITE_MAP:
    case SITE_GPU_MAP: return "map";
    case SITE_GPU_MAPHOST: return KVT_MAPHOST;
    case SITE_GPU_UCXHOST: return KVT_UCXHOST;
    case SITE_GPU_NCCL: return KVT_NCCL;
    case SITE_UCX_SHM:
    case SITE_UCX_TCP:
    case SITE_UCX_AUTO:
    case SITE_GPU_UCX: break;
    }
    return "ucx";
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
    struct site_reply reply = {.is_event = true};
    uint64_t drained;

    (void)!read(site->wake_fd, &drained, sizeof drained);
    for (size_t i = 0; i < site->event_count; i++) { /* those that came while a push waited */
        reply.event = site->events[i];
        send_packet(fd, &reply, sizeof reply);
    }
    site->event_count = 0;
    while (site_here_pop(site, &reply.event))
        send_packet(fd, &reply, sizeof reply);
}

/* False: the test wants no more. */
static bool serve_request(struct site *site, int fd)
{
    struct site_request request;
    struct site_reply reply = {0};

    if (recv(fd, &request, sizeof request, 0) != (ssize_t)sizeof request ||
        request.op == SITE_OP_CLOSE)
        return false;
    reply.value = site_here_carry_out(site, &request);
    send_packet(fd, &reply, sizeof reply); /* a command is in the ring by now */
    return true;
}

int site_serve(void)
{
    struct site_config config;
    struct site *site;
    bool goes_on = true;
    struct site_reply reply = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (recv(SITE_FD, &config, sizeof config, 0) != (ssize_t)sizeof config)
        return 2;
    site = site_here_open(&config);
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
    reply.value = site_here_close(site);
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
    return config->is_elsewhere ? open_elsewhere(config) : site_here_open(config);
}

/* Waits for one packet; events are recorded. True: it was the answer. */
static bool take_packet(struct site *site, uint64_t *value_out)
{
    struct site_reply reply;
    struct pollfd polled = {.fd = site->socket_fd, .events = POLLIN};

    if (poll(&polled, 1, SITE_PATIENCE_MS) <= 0)
        fail_msg("a site elsewhere does not answer");
    if (recv(site->socket_fd, &reply, sizeof reply, 0) != (ssize_t)sizeof reply)
        fail_msg("a site elsewhere has gone");
    if (reply.is_event)
        site_record(site, &reply.event);
    else
        *value_out = reply.value;
    return !reply.is_event;
}

static uint64_t ask(struct site *site, const struct site_request *request)
{
    uint64_t value = 0;

    if (site->socket_fd < 0)
        return site_here_carry_out(site, request);
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
    struct site_request request = {.op = SITE_OP_CLOSE};
    size_t left = 0;

    if (!site->config.is_elsewhere)
        return site_here_close(site);
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
    struct site_request request = {
        .op = SITE_OP_COMMAND, .command = KVT_PEER_ADD, .epoch = epoch, .address_bytes = length};

    memcpy(request.address, address, length);
    ask(site, &request);
}

void site_peer_add(struct site *site, const struct site *peer)
{
    site_peer_add_at(site, peer->config.epoch, peer->hello.address, peer->hello.address_bytes);
}

void site_peer_drop(struct site *site, uint64_t epoch)
{
    ask(site,
        &(struct site_request){.op = SITE_OP_COMMAND, .command = KVT_PEER_DROP, .epoch = epoch});
}

static void command(struct site *site, enum kvt_command_kind kind,
                    const struct site_transfer *transfer, uint64_t epoch)
{
    ask(site, &(struct site_request){
                  .op = SITE_OP_COMMAND, .command = kind, .epoch = epoch, .transfer = *transfer});
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
    ask(site, &(struct site_request){.op = SITE_OP_COMMAND,
                                     .command = KVT_SEND,
                                     .epoch = epoch,
                                     .transfer = *transfer,
                                     .first = first,
                                     .count = count});
}

void site_fill(struct site *site, const struct site_transfer *transfer)
{
    ask(site, &(struct site_request){.op = SITE_OP_FILL, .transfer = *transfer});
}

void site_damage(struct site *site, const struct site_transfer *transfer, uint32_t block)
{
    ask(site, &(struct site_request){.op = SITE_OP_DAMAGE, .transfer = *transfer, .first = block});
}

bool site_canary_is_intact(struct site *site, const struct site_transfer *transfer)
{
    return ask(site, &(struct site_request){.op = SITE_OP_CANARY, .transfer = *transfer}) != 0;
}

uint64_t site_stat(struct site *site, enum kvt_stat stat)
{
    return ask(site, &(struct site_request){.op = SITE_OP_STAT, .first = (uint32_t)stat});
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

        while (site_here_pop(site, &event)) {
            site_record(site, &event);
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

bool site_is_turning(const struct site *site)
{
    return kvt_runtime_turn_started_ns(site->runtime) != 0;
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
