/*
 * test_map.c: the map transport keeps the contract, and is not impressed by hostile neighbours.
 *
 * The neighbour of these tests is a process of the same user that talks to the transport's socket by
 * hand; others are turned away by their credentials.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtransfer/address.h"
#include "kvtransfer/map_private.h"
#include "lib/base/bytes.h"
#include "lib/base/random.h"
#include "tests/kvtransfer/contract.h"

#define PATIENCE_MS 60000
#define POOL_BYTES  65536

static void the_lane_is_the_mapping(void **state)
{
    struct contract *contract = *state;

    assert_string_equal(contract->sender_up.lanes, "map");
    assert_string_equal(contract->receiver_up.lanes, "map");
}

/* ------------------------------------------------------------------------------------- by hand */

/* The two parts of a map address: the token of its transport, and the host. */
static struct td_u128 token_of(const struct site *site, struct td_u128 *host_out)
{
    size_t length;
    const uint8_t *address = site_address(site, &length);
    struct td_reader reader;
    struct td_u128 token;
    const uint8_t *body;
    size_t body_bytes;

    assert_int_equal(kvt_address_unwrap("map", address, length, &body, &body_bytes), TD_OK);
    reader = td_reader_over(body, body_bytes);
    token = td_read_u128(&reader);
    *host_out = td_read_u128(&reader);
    return token;
}

static int stranger_connect(const struct site *site)
{
    struct td_u128 host;
    struct sockaddr_un name;
    socklen_t length = map_socket_name(token_of(site, &host), &name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, length), 0);
    return fd;
}

static void wait_readable(int fd)
{
    struct pollfd polled = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&polled, 1, PATIENCE_MS), 1);
}

/* The transport has hung up on us. */
static void assert_cut_off(int fd)
{
    uint8_t bytes[MAP_SHORT_BYTES];

    do
        wait_readable(fd);
    while (recv(fd, bytes, sizeof bytes, 0) > 0);
    close(fd);
}

static int make_pool(bool is_sealed, size_t bytes)
{
    int fd = memfd_create("stranger", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    if (is_sealed)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    return fd;
}

static size_t hello_to(const struct site *site, uint8_t out[static MAP_SHORT_BYTES])
{
    struct td_u128 host;
    struct map_hello hello = {
        .from = {.lo = 5}, .to = token_of(site, &host), .pool_bytes = POOL_BYTES};

    return map_hello_encode(&hello, out);
}

/* Says hello with that descriptor, or without one (-1), and is cut off for it. */
static void assert_hello_is_refused(const struct site *site, int passed)
{
    uint8_t bytes[MAP_SHORT_BYTES];
    size_t length = hello_to(site, bytes);
    int fd = stranger_connect(site);

    assert_int_equal(map_socket_send(fd, bytes, length, passed), TD_OK);
    if (passed >= 0)
        close(passed);
    assert_cut_off(fd);
}

static void assert_bytes_are_refused(const struct site *site, const uint8_t *bytes, size_t length)
{
    int fd = stranger_connect(site);

    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
    assert_cut_off(fd);
}

/* A stranger whose hello was accepted. */
static int stranger_greet(const struct site *site)
{
    uint8_t bytes[MAP_SHORT_BYTES];
    size_t length = hello_to(site, bytes);
    int pool = make_pool(true, POOL_BYTES);
    int fd = stranger_connect(site);

    assert_int_equal(map_socket_send(fd, bytes, length, pool), TD_OK);
    close(pool);
    wait_readable(fd);
    assert_int_equal(recv(fd, bytes, sizeof bytes, 0), 8);
    assert_int_equal(map_message_kind(bytes, 8), MAP_WELCOME);
    return fd;
}

/* Between the two sites everything is as before. */
static void assert_goes_on(struct contract *contract)
{
    struct site_transfer transfer = site_transfer_make(0, 8, 100);

    contract_begin(contract, &transfer);
    site_send(contract->sender, &transfer, CONTRACT_RECEIVER, 0, 8);
    contract_assert_landed(contract, &transfer);
}

/* ------------------------------------------------------------------------------- strange senders */

static void a_stranger_who_cannot_greet_is_cut_off(void **state)
{
    struct contract *contract = *state;
    const struct site *site = contract->receiver;
    uint8_t bytes[MAP_SHORT_BYTES];
    uint8_t *huge = calloc(1, MAP_MESSAGE_MAX + 1);
    size_t length = hello_to(site, bytes);
    int pipes[2];

    assert_non_null(huge);
    assert_bytes_are_refused(site, bytes, 1);
    assert_bytes_are_refused(site, bytes, length - 1);
    assert_bytes_are_refused(site, huge, MAP_MESSAGE_MAX + 1);
    free(huge);
    assert_hello_is_refused(site, -1);
    assert_hello_is_refused(site, make_pool(false, POOL_BYTES));
    assert_hello_is_refused(site, make_pool(true, POOL_BYTES - 1));
    assert_hello_is_refused(site, make_pool(true, 0));
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_hello_is_refused(site, pipes[0]);
    close(pipes[1]);
    assert_hello_is_refused(site, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    bytes[8] ^= 1;  /* from: whatever it likes */
    bytes[24] ^= 1; /* to: somebody else */
    assert_bytes_are_refused(site, bytes, length);
    assert_goes_on(contract);
}

/* A CHUNK with one piece of the stranger's pool; the header is nonsense. */
static void send_chunk(int fd, uint64_t length, uint8_t *header, size_t header_bytes)
{
    static uint8_t pool[POOL_BYTES];
    struct kvt_piece piece = {pool, (size_t)length};
    struct map_chunk_source source = {.number = 1,
                                      .header = header,
                                      .header_bytes = header_bytes,
                                      .pieces = &piece,
                                      .piece_count = 1,
                                      .pool = pool,
                                      .pool_bytes = SIZE_MAX / 2};
    uint8_t *message;
    size_t message_bytes;

    assert_int_equal(map_chunk_encode(&source, &message, &message_bytes), TD_OK);
    assert_int_equal(send(fd, message, message_bytes, MSG_NOSIGNAL), message_bytes);
    free(message);
}

static void a_stranger_whose_chunk_means_nothing_is_refused(void **state)
{
    struct contract *contract = *state;
    uint8_t header[100] = {1, 2, 3};
    uint8_t bytes[MAP_SHORT_BYTES];
    struct map_done done;
    ssize_t length;
    int fd = stranger_greet(contract->receiver);

    send_chunk(fd, POOL_BYTES, header, sizeof header);
    wait_readable(fd);
    length = recv(fd, bytes, sizeof bytes, 0);
    assert_true(length > 0 && map_done_decode(bytes, (size_t)length, &done));
    assert_true(done.is_refused && done.number == 1);
    assert_int_equal(site_stat(contract->receiver, KVT_STAT_REFUSED_MALFORMED), 1);
    close(fd);
    assert_goes_on(contract);
}

static void a_place_outside_the_pool_is_never_read(void **state)
{
    struct contract *contract = *state;
    uint8_t header[100] = {0};
    int fd = stranger_greet(contract->receiver);

    send_chunk(fd, POOL_BYTES + 1, header, sizeof header);
    assert_cut_off(fd);
    fd = stranger_greet(contract->receiver);
    send_chunk(fd, SIZE_MAX / 4, header, sizeof header);
    assert_cut_off(fd);
    assert_goes_on(contract);
}

/* Those who have greeted are kept; of those who have not, the oldest makes place. */
static void a_crowd_that_says_nothing_keeps_nobody_out(void **state)
{
    struct contract *contract = *state;
    int crowd[300];

    for (size_t i = 0; i < 300; i++)
        crowd[i] = stranger_connect(contract->receiver);
    assert_goes_on(contract);
    site_peer_drop(contract->sender, CONTRACT_RECEIVER);
    assert_int_equal(site_wait_peer(contract->sender, CONTRACT_RECEIVER).kind, KVT_PEER_LOST);
    assert_int_equal(site_wait_peer(contract->receiver, CONTRACT_SENDER).kind, KVT_PEER_LOST);
    contract_connect(contract);
    for (size_t i = 0; i < 300; i++)
        close(crowd[i]);
}

/* ----------------------------------------------------------------------------- strange receivers */

/* Listens where a peer would, and has the sender connect to it; returns the connection. */
static int stranger_listen(struct contract *contract, uint64_t epoch, int *pool_out)
{
    struct td_u128 token = td_random_u128();
    struct td_u128 host;
    struct sockaddr_un name;
    socklen_t length = map_socket_name(token, &name);
    uint8_t body[32];
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
    uint8_t bytes[MAP_SHORT_BYTES];
    struct td_writer writer = td_writer_over(body, sizeof body);
    size_t address_bytes;
    size_t hello_bytes;
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int fd;

    (void)token_of(contract->sender, &host);
    td_write_u128(&writer, token);
    td_write_u128(&writer, host);
    assert_int_equal(
        kvt_address_wrap("map", body, sizeof body, address, sizeof address, &address_bytes), TD_OK);
    assert_int_equal(bind(listener, (const struct sockaddr *)&name, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    site_peer_add_at(contract->sender, epoch, address, address_bytes);
    wait_readable(listener);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    close(listener);
    wait_readable(fd);
    assert_int_equal(map_socket_receive(fd, bytes, sizeof bytes, &hello_bytes, pool_out), TD_OK);
    assert_int_equal(map_message_kind(bytes, hello_bytes), MAP_HELLO);
    return fd;
}

static void a_peer_can_read_the_pool_and_nothing_more(void **state)
{
    struct contract *contract = *state;
    int pool;
    int fd = stranger_listen(contract, 9, &pool);
    size_t bytes = (size_t)SITE_SLOTS * SITE_BLOCK_BYTES;
    void *reading = mmap(NULL, bytes, PROT_READ, MAP_SHARED, pool, 0);

    assert_true(reading != MAP_FAILED);
    munmap(reading, bytes);
    assert_true(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, pool, 0) == MAP_FAILED);
    assert_true(ftruncate(pool, 0) != 0);
    assert_true(write(pool, "x", 1) < 0);
    close(pool);
    close(fd);
    assert_int_equal(site_wait_peer(contract->sender, 9).kind, KVT_PEER_LOST);
}

static void a_receiver_that_answers_nonsense_is_a_lost_peer(void **state)
{
    struct contract *contract = *state;
    uint8_t bytes[MAP_SHORT_BYTES];
    struct map_done done = {.number = 12345};
    size_t length;
    int pool;
    int fd = stranger_listen(contract, 9, &pool);

    close(pool);
    length = map_welcome_encode(bytes);
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
    assert_int_equal(site_wait_peer(contract->sender, 9).kind, KVT_PEER_UP);
    length = map_done_encode(&done, bytes); /* for what was never sent: no harm */
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
    length = map_welcome_encode(bytes); /* once is enough */
    assert_int_equal(send(fd, bytes, length, MSG_NOSIGNAL), length);
    assert_int_equal(site_wait_peer(contract->sender, 9).kind, KVT_PEER_LOST);
    close(fd);
    assert_goes_on(contract);
}

#define CASE(test) \
    cmocka_unit_test_prestate_setup_teardown(test, contract_setup, contract_teardown, &here)

int main(int argc, char **argv)
{
    static struct contract_case here = {.transport = SITE_MAP};
    const struct CMUnitTest tests[] = {
        CASE(the_lane_is_the_mapping),
        CASE(a_stranger_who_cannot_greet_is_cut_off),
        CASE(a_stranger_whose_chunk_means_nothing_is_refused),
        CASE(a_place_outside_the_pool_is_never_read),
        CASE(a_crowd_that_says_nothing_keeps_nobody_out),
        CASE(a_peer_can_read_the_pool_and_nothing_more),
        CASE(a_receiver_that_answers_nonsense_is_a_lost_peer),
    };

    if (argc > 1 && strcmp(argv[1], SITE_ARGUMENT) == 0)
        return site_serve();
    return contract_run(SITE_MAP, "map") + cmocka_run_group_tests(tests, NULL, NULL);
}
