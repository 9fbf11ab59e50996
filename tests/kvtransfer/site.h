/*
 * site.h: a transfer runtime with a pool of its own, in this process or in another, under one face.
 *
 * Tests of the real transports drive two sites. A site elsewhere is this program, started again with
 * SITE_ARGUMENT, that carries out what comes over a socket pair; it can be killed and frozen. What a
 * transfer carries follows from its seed, so both ends know the right contents without talking.
 *
 * Every site is hard on its transport: blocks are overwritten the moment the core says that nobody
 * reads them (SENT, DRAINED), and slots filled with a canary when nobody writes to them any more
 * (LANDED, QUIESCED), so a touch that comes too late shows.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_SITE_H
#define TANDEM_TESTS_KVTRANSFER_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvtransfer/runtime.h"

#define SITE_ARGUMENT      "--site"
#define SITE_SLOTS         512
#define SITE_BLOCK_BYTES   65536
#define SITE_TRANSFERS_MAX 512
#define SITE_EVENTS_MAX    4096
#define SITE_LIFETIME_MS   600000 /* of a transfer: no test waits for it unless it says so */

enum site_transport {
    SITE_MAP = 1,
    SITE_UCX_SHM,
    SITE_UCX_TCP,
    SITE_UCX_AUTO,
    /* with a pool in the memory of a GPU, or what passes for one */
    SITE_GPU_MAP,
    SITE_GPU_MAPHOST,
    SITE_GPU_UCXHOST,
    SITE_GPU_UCX, /* of a program that links cuda_ucx.c */
    SITE_GPU_NCCL,
};

struct site_config {
    enum site_transport transport;
    uint64_t epoch;
    bool is_elsewhere; /* a process of its own */
    uint32_t chunk_bytes;
    uint32_t window_bytes;
    uint32_t connect_ms;
    uint32_t stop_ms;
    uint32_t cut_ms;
    uint32_t ring_capacity;
};

/* Small chunks, short limits for stopping: who minds sets longer ones. */
struct site_config site_config_default(enum site_transport transport, uint64_t epoch);

/* A transfer as both ends know it. Slots are (base + 7 * i) modulo SITE_SLOTS. */
struct site_transfer {
    struct td_u128 id;
    uint8_t mac_key[TD_MAC_KEY_BYTES];
    uint64_t seed;
    uint32_t block_count;
    uint32_t attachment_bytes;
    uint32_t out_base;
    uint32_t in_base;
    uint32_t lifetime_ms;
};

/*
 * number makes the transfer unique and places its slots: block i lies 8 * number + i strides on, and half
 * a pool further at the receiver.
 */
struct site_transfer site_transfer_make(uint32_t number, uint32_t block_count,
                                        uint32_t attachment_bytes);

struct site_event {
    enum kvt_event_kind kind;
    struct td_u128 transfer;
    uint64_t peer;
    bool is_sender;
    td_status_t status;
    bool is_right; /* LANDED: blocks, hashes and attachment are those of the transfer */
    uint64_t bytes;
    uint32_t first;
    uint32_t count;
    char lanes[KVT_LANES_TEXT_BYTES];
};

struct site;

/* Fails the test if the site cannot be opened. */
struct site *site_open(const struct site_config *config);

/* Closes the runtime and ends the process, if it still lives; returns what was left in quarantine. */
size_t site_close(struct site *site);

/* What main does when the first argument is SITE_ARGUMENT. */
int site_serve(void);

uint64_t site_epoch(const struct site *site);
enum site_transport site_kind(const struct site *site);
const char *site_transport_name(const struct site *site);
const uint8_t *site_address(const struct site *site, size_t *length_out);

/* Of sites elsewhere. */
void site_kill(struct site *site);
void site_freeze(struct site *site);
void site_thaw(struct site *site);

/* Commands. epoch is the peer's. */
void site_peer_add(struct site *site, const struct site *peer);
void site_peer_add_at(struct site *site, uint64_t epoch, const uint8_t *address, size_t length);
void site_peer_drop(struct site *site, uint64_t epoch);
void site_expect(struct site *site, const struct site_transfer *transfer, uint64_t epoch);
void site_abandon(struct site *site, const struct site_transfer *transfer);
void site_offer(struct site *site, const struct site_transfer *transfer, uint64_t epoch);
/* Sends [first, first + count), with the attachment if that is the end and the transfer has one. */
void site_send(struct site *site, const struct site_transfer *transfer, uint64_t epoch,
               uint32_t first, uint32_t count);
void site_stop(struct site *site, const struct site_transfer *transfer, uint64_t epoch);

/* Writes the right contents into the sender's slots. */
void site_fill(struct site *site, const struct site_transfer *transfer);
/* Damages one block of the sender, behind the back of its hash. */
void site_damage(struct site *site, const struct site_transfer *transfer, uint32_t block);
/* Whether the slots of an incoming transfer that has ended hold their canary still. */
bool site_canary_is_intact(struct site *site, const struct site_transfer *transfer);

uint64_t site_stat(struct site *site, enum kvt_stat stat);

/* How many events of the kind there were for the transfer, so far. */
size_t site_count(struct site *site, enum kvt_event_kind kind, const struct site_transfer *transfer,
                  bool is_sender);

/* Waits for the event of a transfer, with a bound that only a hang reaches; that fails the test. */
struct site_event site_wait(struct site *site, enum kvt_event_kind kind,
                            const struct site_transfer *transfer, bool is_sender);

/* The last event of the transfer at this site: LANDED, QUIESCED, DRAINED or QUARANTINED. */
struct site_event site_wait_end(struct site *site, const struct site_transfer *transfer,
                                bool is_sender);

/* The next PEER_UP or PEER_LOST of that epoch that nobody has waited for yet. */
struct site_event site_wait_peer(struct site *site, uint64_t epoch);

/* Waits until a gauge is zero. */
void site_wait_idle(struct site *site, enum kvt_stat gauge);

/* Of a site here: whether its transfer thread is awake. */
bool site_is_turning(const struct site *site);

/* Of a site here: stops its runtime and takes its events until that is over. */
void site_wind_down(struct site *site);

/* Open descriptors of this process. */
size_t site_descriptors(void);

#endif
