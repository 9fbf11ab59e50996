/*
 * test_nccl_wire.c: the NCCL transport from below the core: pieces whose borders differ at the two ends, strangers and
 * peers that do not keep to the protocol, and closing while NCCL hangs.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvtransfer/address.h"
#include "kvtransfer/nccl_private.h"
#include "tests/kvtransfer/gpu_pool.h"
#include "tests/kvtransfer/nccl_double.h"
#include "tests/support/support.h"

#define POOL_BYTES  ((size_t)1 << 20)
#define PATIENCE_MS 60000

/* ------------------------------------------------------------------------- a transport without a core */

/* One that is connected to itself: both ends of a pair. */
struct scene {
    struct kvt_memory memory;
    struct kvt_transport *transport;
    struct kvt_endpoint *endpoint;
    const struct kvt_piece *landing; /* of the next arrival */
    size_t landing_count;
    td_status_t accepted; /* what receive has said */
    bool is_connected;
    bool is_lost;
    int sent_count;
    int received_count;
    td_status_t sent;
    td_status_t received;
};

static void on_connected(void *impl, struct kvt_transport *transport, struct kvt_endpoint *endpoint)
{
    (void)transport;
    (void)endpoint;
    ((struct scene *)impl)->is_connected = true;
}

static void on_arrived(void *impl, struct kvt_transport *transport, const uint8_t *header,
                       size_t header_bytes, uint64_t payload_bytes, struct kvt_arrival *arrival)
{
    struct scene *scene = impl;

    (void)payload_bytes;
    assert_int_equal(header_bytes, 6);
    assert_memory_equal(header, "header", 6);
    scene->accepted =
        transport->ops->receive(transport, arrival, scene->landing, scene->landing_count, scene);
}

static void on_received(void *impl, struct kvt_transport *transport, void *tag, td_status_t status)
{
    struct scene *scene = impl;

    (void)transport;
    assert_ptr_equal(tag, scene);
    scene->received_count++;
    scene->received = status;
}

static void on_sent(void *impl, struct kvt_transport *transport, void *tag, td_status_t status)
{
    struct scene *scene = impl;

    (void)transport;
    assert_ptr_equal(tag, scene);
    scene->sent_count++;
    scene->sent = status;
}

static void on_lost(void *impl, struct kvt_transport *transport, struct kvt_endpoint *endpoint,
                    td_status_t status)
{
    (void)transport;
    (void)endpoint;
    (void)status;
    ((struct scene *)impl)->is_lost = true;
}

static void turn(struct scene *scene)
{
    const struct kvt_transport_ops *ops = scene->transport->ops;
    struct pollfd polled = {.fd = ops->descriptor(scene->transport), .events = POLLIN};
    int poll_ms = kvt_device_poll_ms(scene->memory.device);

    if (ops->progress(scene->transport) || ops->arm(scene->transport) == TD_AGAIN)
        return;
    if (poll(&polled, 1, poll_ms >= 0 ? poll_ms : PATIENCE_MS) == 0 && poll_ms < 0)
        fail_msg("nothing happens");
}

#define TURN_UNTIL(scene, condition) \
    while (!(condition))             \
    turn(scene)

static void open_scene(struct scene *scene, uint32_t close_ms)
{
    struct kvt_nccl_config config = {
        .library = nccl_double_path(), .interface = "lo", .close_ms = close_ms};
    struct td_error error = {0};

    memset(scene, 0, sizeof *scene);
    gpu_pool_open(POOL_BYTES, &scene->memory);
    if (kvt_nccl_open(&scene->memory, &config, &scene->transport, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_string_equal(scene->transport->library, "nccl 2.32.3");
    scene->transport->sink = (struct kvt_transport_sink){.impl = scene,
                                                         .connected = on_connected,
                                                         .arrived = on_arrived,
                                                         .received = on_received,
                                                         .sent = on_sent,
                                                         .lost = on_lost};
}

static void connect_to(struct scene *scene, const uint8_t *address, size_t length)
{
    assert_int_equal(
        scene->transport->ops->connect(scene->transport, address, length, scene, &scene->endpoint),
        TD_OK);
}

static void connect_to_itself(struct scene *scene)
{
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
    size_t length;

    assert_int_equal(
        scene->transport->ops->address(scene->transport, address, sizeof address, &length), TD_OK);
    connect_to(scene, address, length);
    TURN_UNTIL(scene, scene->is_connected);
}

static void close_scene(struct scene *scene)
{
    scene->transport->ops->close(scene->transport);
    gpu_pool_close(&scene->memory);
}

static void send_pieces(struct scene *scene, const struct kvt_piece *pieces, size_t count)
{
    scene->sent_count = 0;
    scene->received_count = 0;
    assert_int_equal(scene->transport->ops->send(scene->transport, scene->endpoint,
                                                 (const uint8_t *)"header", 6, pieces, count,
                                                 scene),
                     TD_OK);
}

/* ------------------------------------------------------------------------------------------- pieces */

static void fill(const struct kvt_piece *piece, uint8_t seed)
{
    uint8_t *bytes = malloc(piece->length);

    for (size_t i = 0; i < piece->length; i++)
        bytes[i] = (uint8_t)(seed + i % 251);
    gpu_pool_write(piece->base, bytes, piece->length);
    free(bytes);
}

static void assert_equal_on_gpu(const void *a, const void *b, size_t length)
{
    uint8_t *left = malloc(length);
    uint8_t *right = malloc(length);

    gpu_pool_read(left, a, length);
    gpu_pool_read(right, b, length);
    assert_memory_equal(left, right, length);
    free(left);
    free(right);
}

static void pieces_may_have_other_borders_at_the_receiver(void **state)
{
    struct scene scene;
    char attachment[] = "attachment";
    char landed[sizeof attachment] = {0};

    (void)state;
    open_scene(&scene, 0);
    connect_to_itself(&scene);
    {
        uint8_t *pool = scene.memory.base;
        struct kvt_piece from[] = {
            {pool, 100000}, {pool + 200000, 50000}, {attachment, sizeof attachment}};
        struct kvt_piece to[] = {{pool + 300000, 1},
                                 {pool + 400000, 99998},
                                 {pool + 600000, 50001},
                                 {landed, sizeof landed}};

        fill(&from[0], 1);
        fill(&from[1], 77);
        scene.landing = to;
        scene.landing_count = 4;
        send_pieces(&scene, from, 3);
        TURN_UNTIL(&scene, scene.sent_count == 1 && scene.received_count == 1);
        assert_int_equal(scene.sent, TD_OK);
        assert_int_equal(scene.received, TD_OK);
        assert_string_equal(landed, attachment);
        assert_equal_on_gpu(to[0].base, from[0].base, 1);
        assert_equal_on_gpu(to[1].base, pool + 1, 99998);
        assert_equal_on_gpu(to[2].base, pool + 99999, 1);
        assert_equal_on_gpu(pool + 600001, from[1].base, 50000);
    }
    close_scene(&scene);
    assert_int_equal(nccl_double()->communicators(), 0);
}

/* What does not fit is refused, and the connection goes on. */
static void pieces_that_do_not_fit_are_refused(void **state)
{
    struct scene scene;
    char attachment[10] = "attachment";
    static uint8_t ordinary[10];

    (void)state;
    open_scene(&scene, 0);
    connect_to_itself(&scene);
    {
        uint8_t *pool = scene.memory.base;
        struct kvt_piece from[] = {{pool, 1000}, {attachment, sizeof attachment}};
        struct kvt_piece shorter[] = {{pool + 5000, 1000}, {ordinary, 9}};
        struct kvt_piece longer[] = {{pool + 5000, 1001}, {ordinary, 10}};
        struct kvt_piece elsewhere[] = {{pool + 5000, 1010}};
        const struct kvt_piece *const lists[] = {shorter, longer, elsewhere};
        const size_t counts[] = {2, 2, 1};
        struct kvt_piece empty = {pool, 0};

        for (size_t i = 0; i < 3; i++) {
            scene.landing = lists[i];
            scene.landing_count = counts[i];
            send_pieces(&scene, from, 2);
            TURN_UNTIL(&scene, scene.sent_count == 1);
            assert_int_equal(scene.sent, TD_REFUSED);
            assert_true(scene.accepted == TD_INVALID || scene.accepted == TD_UNSUPPORTED);
            assert_int_equal(scene.received_count, 0);
        }
        assert_int_equal(
            scene.transport->ops->send(scene.transport, scene.endpoint, NULL, 0, &empty, 1, &scene),
            TD_LIMIT);
        scene.landing = from;
        scene.landing_count = 1;
        send_pieces(&scene, from, 1);
        TURN_UNTIL(&scene, scene.sent_count == 1 && scene.received_count == 1);
        assert_int_equal(scene.received, TD_OK);
    }
    close_scene(&scene);
}

static void stretches_that_are_not_the_senders_pieces_are_found_out(void **state)
{
    static uint8_t pool[100];
    static const struct {
        size_t lengths[3];
        size_t count;
        bool is_right;
    } tries[] = {{{60, 40}, 2, true},       {{30, 30, 40}, 3, true}, {{60, 20, 20}, 3, true},
                 {{100}, 1, false},         {{60}, 1, false},        {{60, 40, 1}, 3, false},
                 {{50, 20, 30}, 3, false},  {{60, 41}, 2, false},    {{0}, 0, false},
                 {{SIZE_MAX, 61}, 2, false}};
    const struct kvt_piece ours[] = {{pool, 60}, {pool + 60, 40}};

    (void)state;
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        struct kvt_piece cuts[3] = {
            {pool, tries[i].lengths[0]}, {pool, tries[i].lengths[1]}, {pool, tries[i].lengths[2]}};
        struct nccl_packet packet;
        struct nccl_accept accept;
        struct nccl_cuts agreed;

        assert_int_equal(nccl_accept_encode(1, cuts, tries[i].count, &packet), TD_OK);
        assert_true(nccl_accept_decode(packet.bytes + NCCL_FRAME_BYTES,
                                       packet.length - NCCL_FRAME_BYTES, &accept));
        assert_int_equal(nccl_cuts_for_send(&accept, ours, 2, &agreed) == TD_OK, tries[i].is_right);
        free(packet.bytes);
    }
}

/* ---------------------------------------------------------------------------------------- strangers */

static struct nccl_address address_of(struct scene *scene)
{
    return td_container_of(scene->transport, struct nccl_transport, base)->address;
}

static int reach(struct scene *scene)
{
    struct nccl_address address = address_of(scene);
    int fd = socket(address.places[0].at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, &address.places[0].at.any, address.places[0].length), 0);
    return fd;
}

static void assert_cut_off(struct scene *scene, int fd)
{
    char byte;
    ssize_t count;

    while ((count = recv(fd, &byte, 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        turn(scene);
    assert_true(count <= 0); /* no answer */
    close(fd);
}

static struct nccl_packet good_hello(struct scene *scene)
{
    struct nccl_address ours = address_of(scene);
    struct nccl_hello hello = {.from = {.lo = 1}, .to = ours.token, .version = ours.version};
    struct nccl_packet packet;

    assert_int_equal(nccl_hello_encode(&hello, &packet), TD_OK);
    return packet;
}

/* Every damage to a greeting, everything else in its place, and garbage. */
static void strangers_are_cut_off(void **state)
{
    static const size_t damaged[] = {
        0, 4, 8, NCCL_FRAME_BYTES + 16, NCCL_FRAME_BYTES + 31, NCCL_FRAME_BYTES + 32};
    struct scene scene;
    struct nccl_packet packets[3];
    struct kvt_piece piece = {(char[]){"x"}, 1};
    struct nccl_chunk_source source = {
        .header = (const uint8_t *)"h", .header_bytes = 1, .pieces = &piece, .piece_count = 1};
    uint8_t garbage[64];
    int fd;

    (void)state;
    open_scene(&scene, 0);
    source.pool = &scene.memory;
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        struct nccl_packet hello = good_hello(&scene);

        hello.bytes[damaged[i]] ^= 1;
        fd = reach(&scene);
        assert_int_equal(send(fd, hello.bytes, hello.length, 0), hello.length);
        free(hello.bytes);
        assert_cut_off(&scene, fd);
    }
    assert_int_equal(nccl_ready_encode(&packets[0]), TD_OK);
    assert_int_equal(nccl_refuse_encode(1, &packets[1]), TD_OK);
    assert_int_equal(nccl_chunk_encode(&source, &packets[2]), TD_OK);
    for (size_t i = 0; i < 3; i++) {
        fd = reach(&scene);
        assert_int_equal(send(fd, packets[i].bytes, packets[i].length, 0), packets[i].length);
        free(packets[i].bytes);
        assert_cut_off(&scene, fd);
    }
    memset(garbage, 0xff, sizeof garbage);
    fd = reach(&scene);
    assert_int_equal(send(fd, garbage, sizeof garbage, 0), sizeof garbage);
    assert_cut_off(&scene, fd);
    assert_int_equal(nccl_double()->communicators(), 0);
    connect_to_itself(&scene);
    close_scene(&scene);
}

/* More than there is room for say nothing; a peer gets in all the same. */
static void silent_strangers_make_room_for_a_peer(void **state)
{
    enum { STRANGERS = 300 };
    struct scene scene;
    int fds[STRANGERS];

    (void)state;
    open_scene(&scene, 0);
    for (size_t i = 0; i < STRANGERS; i++) {
        fds[i] = reach(&scene);
        while (scene.transport->ops->progress(scene.transport))
            ;
    }
    connect_to_itself(&scene);
    for (size_t i = 0; i < STRANGERS; i++)
        close(fds[i]);
    close_scene(&scene);
}

/* A greeting whose sender never joins, and sends chunks before it was let in. */
static void a_chunk_before_the_ranks_have_joined_is_a_breach(void **state)
{
    struct scene scene;
    struct kvt_piece piece = {(char[]){"x"}, 1};
    struct nccl_chunk_source source = {
        .header = (const uint8_t *)"h", .header_bytes = 1, .pieces = &piece, .piece_count = 1};
    struct nccl_packet hello;
    struct nccl_packet chunk;
    int fd;

    (void)state;
    open_scene(&scene, 0);
    source.pool = &scene.memory;
    nccl_double()->hold_joins(true);
    hello = good_hello(&scene);
    assert_int_equal(nccl_chunk_encode(&source, &chunk), TD_OK);
    fd = reach(&scene);
    assert_int_equal(send(fd, hello.bytes, hello.length, 0), hello.length);
    assert_int_equal(send(fd, chunk.bytes, chunk.length, 0), chunk.length);
    assert_cut_off(&scene, fd);
    nccl_double()->hold_joins(false);
    free(hello.bytes);
    free(chunk.bytes);
    close_scene(&scene);
    assert_int_equal(nccl_double()->communicators(), 0);
}

/* --------------------------------------------------------------------------------------- bad peers */

/* A listener of the test's that passes for a transport. */
static int open_bad_peer(struct scene *scene, uint8_t *address_out, size_t *length_out)
{
    struct nccl_address address = address_of(scene);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.token.lo ^= 1;
    address.place_count = 1;
    memset(&address.places[0], 0, sizeof address.places[0]);
    address.places[0].at.v4.sin_family = AF_INET;
    address.places[0].at.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.places[0].length = sizeof address.places[0].at.v4;
    assert_int_equal(bind(fd, &address.places[0].at.any, address.places[0].length), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, &address.places[0].at.any, &address.places[0].length), 0);
    assert_int_equal(nccl_address_encode(&address, address_out, KVT_ADDRESS_BYTES_MAX, length_out),
                     TD_OK);
    return fd;
}

static struct nccl_packet bad_answer(size_t which)
{
    struct kvt_piece cut = {NULL, 7};
    struct nccl_packet packet;

    switch (which) {
    case 0: assert_int_equal(nccl_accept_encode(1, &cut, 1, &packet), TD_OK); break;
    case 1: assert_int_equal(nccl_refuse_encode(1, &packet), TD_OK); break;
    default: packet = (struct nccl_packet){calloc(1, NCCL_FRAME_BYTES), NCCL_FRAME_BYTES};
    }
    return packet;
}

/* Answers to what was not asked, and garbage, after a greeting that was right. */
static void a_receiver_that_breaks_the_protocol_is_lost(void **state)
{
    for (size_t which = 0; which < 3; which++) {
        uint8_t address[KVT_ADDRESS_BYTES_MAX];
        uint8_t hello[NCCL_FRAME_BYTES + NCCL_HELLO_BYTES];
        struct nccl_packet answer = bad_answer(which);
        struct scene scene;
        size_t length;
        int listener;
        int fd;

        (void)state;
        open_scene(&scene, 0);
        listener = open_bad_peer(&scene, address, &length);
        connect_to(&scene, address, length);
        fd = accept(listener, NULL, NULL);
        TURN_UNTIL(&scene,
                   recv(fd, hello, sizeof hello, MSG_PEEK | MSG_DONTWAIT) == (ssize_t)sizeof hello);
        assert_int_equal(send(fd, answer.bytes, answer.length, 0), answer.length);
        TURN_UNTIL(&scene, scene.is_lost);
        assert_false(scene.is_connected);
        scene.transport->ops->disconnect(scene.transport, scene.endpoint, true);
        close(fd);
        close(listener);
        free(answer.bytes);
        close_scene(&scene);
    }
    assert_int_equal(nccl_double()->communicators(), 0);
}

/* The blob of a peer with another library, which NCCL would not join. */
static void another_version_of_nccl_is_not_connected_to(void **state)
{
    uint8_t bytes[KVT_ADDRESS_BYTES_MAX];
    struct nccl_address address;
    struct scene scene;
    size_t length;

    (void)state;
    open_scene(&scene, 0);
    address = address_of(&scene);
    address.version = 22900;
    assert_int_equal(nccl_address_encode(&address, bytes, sizeof bytes, &length), TD_OK);
    assert_int_equal(
        scene.transport->ops->connect(scene.transport, bytes, length, &scene, &scene.endpoint),
        TD_UNSUPPORTED);
    close_scene(&scene);
}

/* --------------------------------------------------------------------------------- opening, closing */

static void what_cannot_be_opened_is_said(void **state)
{
    struct kvt_memory ordinary = {.fd = -1};
    struct kvt_memory memory;
    struct kvt_nccl_config config = {.library = nccl_double_path(), .interface = "nowhere0,lo2"};
    struct kvt_transport *transport;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(kvt_nccl_open(&ordinary, &config, &transport, &error), TD_INVALID);
    gpu_pool_open(POOL_BYTES, &memory);
    assert_int_equal(kvt_nccl_open(&memory, &config, &transport, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "nowhere0,lo2"));
    gpu_pool_close(&memory);
}

/* The queue of an endpoint that has gone, as its GPU has: the driver's thread may write to it for as long as it likes. */
static void assert_nobody_listens_to(struct scene *scene, int queue)
{
    const struct kvt_transport_ops *ops = scene->transport->ops;
    struct pollfd polled = {.fd = ops->descriptor(scene->transport), .events = POLLIN};
    uint64_t one = 1;

    assert_int_equal(write(queue, &one, sizeof one), sizeof one);
    assert_int_equal(poll(&polled, 1, 0), 0);
    assert_false(ops->progress(scene->transport));
}

/* What is in the streams never runs, and the driver calls nobody: the failure is found by looking. */
static void a_gpu_that_has_failed_ends_both_ends(void **state)
{
    struct scene scene;
    struct kvt_piece source;
    struct kvt_piece landing;
    struct nccl_transport *transport;
    int queue;

    (void)state;
    open_scene(&scene, 0);
    source = (struct kvt_piece){scene.memory.base, 8192};
    landing = (struct kvt_piece){(uint8_t *)scene.memory.base + POOL_BYTES / 2, 8192};
    connect_to_itself(&scene);
    scene.landing = &landing;
    scene.landing_count = 1;
    gpu_pool_double()->hold(true);
    send_pieces(&scene, &source, 1);
    TURN_UNTIL(&scene, scene.memory.device->mark_count == 2); /* both are in their streams */
    gpu_pool_double()->break_call("copy engine", 719, 0);
    gpu_pool_double()->hold(false);
    TURN_UNTIL(&scene, scene.sent_count == 1 && scene.received_count == 1 && scene.is_lost);
    assert_int_not_equal(scene.sent, TD_OK);
    assert_int_not_equal(scene.received, TD_OK);
    assert_int_equal(scene.memory.device->mark_count, 0);
    transport = td_container_of(scene.transport, struct nccl_transport, base);
    queue = td_container_of(scene.endpoint, struct nccl_endpoint, base)->link.woken.fd;
    scene.transport->ops->disconnect(scene.transport, scene.endpoint, true);
    while (!td_list_empty(&transport->ending))
        scene.transport->ops->progress(scene.transport);
    assert_nobody_listens_to(&scene, queue);
    close_scene(&scene);
    gpu_pool_double()->heal();
}

/* Of the next calls of bind in this program, as the linker gives them to us. */
static int binds_to_fail;

int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    if (binds_to_fail == 0)
        return __real_bind(fd, address, length);
    binds_to_fail--;
    errno = EADDRNOTAVAIL;
    return -1;
}

static void an_address_that_cannot_be_bound_is_left_out(void **state)
{
    struct scene scene;
    struct kvt_nccl_config config = {.library = nccl_double_path(), .interface = "lo"};
    struct kvt_transport *transport;
    struct td_error error = {0};
    size_t place_count;

    (void)state;
    open_scene(&scene, 0);
    place_count =
        td_container_of(scene.transport, struct nccl_transport, base)->address.place_count;
    binds_to_fail = (int)place_count;
    assert_int_equal(kvt_nccl_open(&scene.memory, &config, &transport, &error), TD_IO);
    assert_int_equal(binds_to_fail, 0);
    assert_non_null(strstr(error.text, "listening"));
    close_scene(&scene);
    if (place_count < 2)
        return;
    binds_to_fail = 1;
    open_scene(&scene, 0);
    assert_int_equal(binds_to_fail, 0);
    assert_int_equal(
        td_container_of(scene.transport, struct nccl_transport, base)->address.place_count,
        place_count - 1);
    connect_to_itself(&scene);
    close_scene(&scene);
}

/* NCCL does not come back from an abort: closing does, and says so, and what hangs harms nobody later. */
static void closing_does_not_wait_for_ever(void **state)
{
    struct scene scene;

    (void)state;
    open_scene(&scene, 20);
    connect_to_itself(&scene);
    assert_int_equal(nccl_double()->communicators(), 2);
    nccl_double()->hold_aborts(true);
    close_scene(&scene);
    nccl_double()->hold_aborts(false);
    while (nccl_double()->communicators() > 0)
        usleep(1000);
}

static void an_old_library_is_refused(void **state)
{
    const struct nccl_library *library;
    struct td_error error = {0};

    (void)state;
    nccl_double()->set_version(21708);
    assert_int_equal(nccl_library_load(nccl_double_path(), &library, &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "21708 is too old"));
    nccl_double()->set_version(23203);
    nccl_double()->break_call("ncclGetVersion", 2, 0);
    assert_int_equal(nccl_library_load(nccl_double_path(), &library, &error), TD_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_library_is_refused), /* first: a library is loaded once */
        cmocka_unit_test(pieces_may_have_other_borders_at_the_receiver),
        cmocka_unit_test(pieces_that_do_not_fit_are_refused),
        cmocka_unit_test(stretches_that_are_not_the_senders_pieces_are_found_out),
        cmocka_unit_test(strangers_are_cut_off),
        cmocka_unit_test(silent_strangers_make_room_for_a_peer),
        cmocka_unit_test(a_chunk_before_the_ranks_have_joined_is_a_breach),
        cmocka_unit_test(a_receiver_that_breaks_the_protocol_is_lost),
        cmocka_unit_test(another_version_of_nccl_is_not_connected_to),
        cmocka_unit_test(what_cannot_be_opened_is_said),
        cmocka_unit_test(an_address_that_cannot_be_bound_is_left_out),
        cmocka_unit_test(closing_does_not_wait_for_ever),
        cmocka_unit_test(a_gpu_that_has_failed_ends_both_ends), /* last: its threads stay */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
