/* test_rpc.c: calls over real gRPC on loopback and unix sockets: messages, ends, limits, cancels. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/net/rpc_support.h"

#define PATIENCE_MS 30000
#define LOOPBACK    "127.0.0.1:0"

static void open_connected(struct world *world)
{
    world_open(world, LOOPBACK, NULL);
    world_connect(world, NULL);
}

/* ---- messages ---- */

static void a_unary_call_brings_the_answer(void **state)
{
    struct world world;
    struct answer answer;

    (void)state;
    open_connected(&world);
    unary_start(&answer, &world, ECHO_PATH, 7, 1000, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_OK);
    assert_int_equal(answer.number, 7);
    assert_int_equal(answer.bytes, 1000);
    assert_true(answer.content_is_right);
    assert_int_equal(world.last_role, NET_ROLE_UNKNOWN);
    assert_non_null(strstr(world.last_peer, "127.0.0.1"));
    world_close(&world);
}

static void messages_of_all_sizes_arrive_whole(void **state)
{
    static const size_t sizes[] = {0, 1, 16383, 16384, 100000, 900000};
    struct world world;
    struct answer answer;

    (void)state;
    open_connected(&world);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unary_start(&answer, &world, ECHO_PATH, i, sizes[i], PATIENCE_MS);
        unary_wait(&answer);
        assert_int_equal(answer.status, TD_OK);
        assert_int_equal(answer.bytes, sizes[i]);
        assert_true(answer.content_is_right);
    }
    world_close(&world);
}

#define IN_FLIGHT 100

static bool all_answered(void *ctx)
{
    const struct answer *answers = ctx;

    for (int i = 0; i < IN_FLIGHT; i++)
        if (answers[i].count == 0)
            return false;
    return true;
}

static void many_unary_calls_at_once_get_their_own_answers(void **state)
{
    struct world world;
    struct answer *answers = calloc(IN_FLIGHT, sizeof *answers);

    (void)state;
    open_connected(&world);
    for (uint64_t i = 0; i < IN_FLIGHT; i++)
        unary_start(&answers[i], &world, ECHO_PATH, i, 100 * i, PATIENCE_MS);
    while (!all_answered(answers))
        world_run(&world);
    for (uint64_t i = 0; i < IN_FLIGHT; i++) {
        assert_int_equal(answers[i].status, TD_OK);
        assert_int_equal(answers[i].number, i);
        assert_true(answers[i].content_is_right);
    }
    free(answers);
    world_close(&world);
}

static void stream_ten_thousand(const char *address)
{
    struct world world;
    struct client client = {.send_count = 10000, .payload_bytes = 64};

    world_open(&world, address, NULL);
    world_connect(&world, NULL);
    client_start(&client, &world, STREAM_PATH, 0);
    client_pump(&client);
    client_wait(&client);
    assert_int_equal(client.status, TD_OK);
    assert_int_equal(client.messages, 10000);
    assert_false(client.out_of_order);
    assert_int_equal(world.half_closes, 1);
    assert_int_equal(world.closes, 0); /* the server itself ended the call */
    world_close(&world);
}

static void ten_thousand_messages_go_both_ways_in_order_over_tcp(void **state)
{
    (void)state;
    stream_ten_thousand(LOOPBACK);
}

static void ten_thousand_messages_go_both_ways_in_order_over_a_unix_socket(void **state)
{
    (void)state;
    stream_ten_thousand("unix:/tmp/tandem-test-rpc.sock");
}

static void a_second_message_waits_for_the_first_to_leave(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, STREAM_PATH, PATIENCE_MS);
    assert_true(rpc_call_writable(client.call));
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    assert_false(rpc_call_writable(client.call));
    assert_int_equal(client_send(&client, 1, 10), TD_AGAIN);
    rpc_call_send_close(client.call); /* waits for the message on its way */
    assert_int_equal(client_send(&client, 1, 10), TD_STATE);
    client_wait(&client);
    assert_int_equal(client.status, TD_OK);
    assert_int_equal(client.messages, 1);
    world_close(&world);
}

/* ---- ends ---- */

static void the_server_s_status_and_detail_arrive(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, REFUSE_PATH, PATIENCE_MS);
    client_wait(&client);
    assert_int_equal(client.status, TD_LIMIT); /* shares a gRPC status with TD_EXHAUSTED */
    assert_string_equal(client.detail, "busy");
    world_close(&world);
}

static void an_unknown_method_is_unsupported(void **state)
{
    struct world world;
    struct client client = {0};
    struct answer answer;

    (void)state;
    open_connected(&world);
    client_start(&client, &world, MISSING_PATH, PATIENCE_MS);
    client_wait(&client);
    assert_int_equal(client.status, TD_UNSUPPORTED);
    unary_start(&answer, &world, MISSING_PATH, 0, 10, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_UNSUPPORTED);
    world_close(&world);
}

static void a_unary_method_wants_a_message(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, ECHO_PATH, PATIENCE_MS);
    rpc_call_send_close(client.call);
    client_wait(&client);
    assert_int_equal(client.status, TD_INVALID);
    assert_int_equal(world.closes, 1);
    assert_int_equal(world.close_status, TD_INVALID);
    world_close(&world);
}

static void a_message_over_the_method_s_limit_is_refused(void **state)
{
    struct world world;
    struct answer answer;

    (void)state;
    open_connected(&world);
    unary_start(&answer, &world, SMALL_PATH, 1, SMALL_BYTES_MAX - 100, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_OK);
    unary_start(&answer, &world, SMALL_PATH, 1, SMALL_BYTES_MAX + 1, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_LIMIT);
    assert_int_equal(world.messages, 1);
    unary_start(&answer, &world, ECHO_PATH, 1, STREAM_BYTES_MAX + 1, PATIENCE_MS);
    unary_wait(&answer); /* over the limit of the whole server: gRPC refuses it */
    assert_int_equal(answer.status, TD_LIMIT);
    assert_int_equal(world.messages, 1);
    world_close(&world);
}

static void a_message_over_the_channel_s_limit_is_refused(void **state)
{
    struct rpc_channel_config config = {.message_bytes_max = PUSH_BYTES};
    struct world world;
    struct client client = {0};

    (void)state;
    world_open(&world, LOOPBACK, NULL);
    config.target = rpc_server_address(world.server);
    assert_int_equal(rpc_channel_open(world.rpc, &config, &world.channel), TD_OK);
    client_start(&client, &world, PUSH_PATH, PATIENCE_MS);
    assert_int_equal(client_send(&client, 5, 0), TD_OK);
    client_wait(&client);
    assert_int_equal(client.status, TD_LIMIT);
    assert_int_equal(client.messages, 0);
    world_close(&world);
}

/* ---- deadlines ---- */

static void a_deadline_ends_a_call_on_both_sides(void **state)
{
    struct world world;
    struct client client = {0};
    struct answer answer;

    (void)state;
    open_connected(&world);
    client_start(&client, &world, SILENT_PATH, 50);
    client_wait(&client);
    assert_int_equal(client.status, TD_TIMEOUT);
    world.stop_on_close = true;
    while (world.calls_open > 0)
        world_run(&world);
    assert_int_equal(world.closes, 1);
    unary_start(&answer, &world, SILENT_PATH, 1, 1, 50);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_TIMEOUT);
    world_close(&world);
}

/* ---- cancels ---- */

static bool server_is_free(void *ctx)
{
    const struct world *world = ctx;

    return world->calls_open == 0 && world->closes > 0;
}

static void the_client_cancels_before_anything_is_connected(void **state)
{
    struct world world;
    struct client client = {0};
    struct answer answer;

    (void)state;
    open_connected(&world);
    client_start(&client, &world, STREAM_PATH, 0);
    rpc_call_cancel(client.call);
    unary_start(&answer, &world, SILENT_PATH, 1, 1, PATIENCE_MS);
    rpc_unary_cancel(answer.unary);
    unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS); /* something to wait for */
    unary_wait(&answer);
    assert_int_equal(client.closes, 0);
    world_close(&world);
    assert_int_equal(client.closes, 0);
}

static void the_client_cancels_with_a_message_on_its_way(void **state)
{
    struct world world;
    struct client client = {0};
    struct answer answer;

    (void)state;
    open_connected(&world);
    unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
    unary_wait(&answer);
    client_start(&client, &world, SILENT_PATH, 0);
    assert_int_equal(client_send(&client, 0, 500000), TD_OK);
    rpc_call_cancel(client.call);
    unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(client.closes, 0);
    assert_int_equal(client.writables, 0);
    world_close(&world);
}

static void the_client_cancels_while_the_server_is_silent(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, SILENT_PATH, 0);
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    world.stop_on_message = true;
    world_run(&world);
    assert_int_equal(world.calls_open, 1);
    rpc_call_cancel(client.call);
    world_run_until(&world, server_is_free, &world);
    assert_int_equal(world.close_status, TD_CANCELED);
    assert_int_equal(client.closes, 0);
    world_close(&world);
}

static void the_client_cancels_inside_a_callback(void **state)
{
    struct world world;
    struct client client = {.cancel_on_message = true, .stop_on_message = true};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, PUSH_PATH, 0);
    assert_int_equal(client_send(&client, 1000, 0), TD_OK);
    world_run(&world);
    assert_int_equal(client.messages, 1);
    world_run_until(&world, server_is_free, &world);
    assert_int_equal(client.messages, 1);
    assert_int_equal(client.closes, 0);
    world_close(&world);
}

static void the_client_cancels_after_its_half_close(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, SILENT_PATH, 0);
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    rpc_call_send_close(client.call);
    world.stop_on_message = true;
    world_run(&world);
    rpc_call_cancel(client.call);
    world_run_until(&world, server_is_free, &world);
    world_close(&world);
}

static void the_server_cancels(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, CANCEL_PATH, PATIENCE_MS);
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    client_wait(&client);
    assert_int_equal(client.status, TD_CANCELED);
    assert_int_equal(world.closes, 0); /* it had let go */
    world_close(&world);
}

static void a_canceled_unary_call_is_never_answered(void **state)
{
    struct world world;
    struct answer canceled;
    struct answer other;

    (void)state;
    open_connected(&world);
    unary_start(&canceled, &world, SILENT_PATH, 1, 1, PATIENCE_MS);
    world.stop_on_message = true;
    world_run(&world);
    rpc_unary_cancel(canceled.unary);
    world_run_until(&world, server_is_free, &world);
    unary_start(&other, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
    unary_wait(&other);
    assert_int_equal(canceled.count, 0);
    world_close(&world);
}

/* ---- back-pressure ---- */

struct progress {
    const struct world *world;
    int pushed;
    int looks;
};

static bool sender_is_stuck(void *ctx)
{
    struct progress *progress = ctx;

    if (progress->pushed != progress->world->pushed)
        progress->looks = 0;
    progress->pushed = progress->world->pushed;
    return ++progress->looks > 100;
}

static void a_paused_reader_holds_the_sender_back(void **state)
{
    const uint64_t pushed = 20000; /* 320 MB in all */
    struct world world;
    struct client client = {.pause_on_message = true, .stop_on_message = true};
    struct progress progress = {.world = &world};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, PUSH_PATH, 0);
    assert_int_equal(client_send(&client, pushed, 0), TD_OK);
    world_run(&world);
    world_run_until(&world, sender_is_stuck, &progress);
    assert_int_equal(client.messages, 1);
    assert_true(world.pushed < 2000); /* what the windows and sockets of both ends hold */
    client.pause_on_message = client.stop_on_message = false;
    rpc_call_resume(client.call);
    client_wait(&client);
    assert_int_equal(client.status, TD_OK);
    assert_string_equal(client.detail, "all pushed");
    assert_int_equal(client.messages, pushed);
    assert_false(client.out_of_order);
    world_close(&world);
}

/* ---- closing ---- */

static void nobody_there_is_peer_lost_at_once(void **state)
{
    struct world world;
    struct client client = {0};
    struct answer answer;

    (void)state;
    world_open(&world, NULL, NULL);
    world_connect(&world, "127.0.0.1:1");
    client_start(&client, &world, STREAM_PATH, 0);
    client_wait(&client);
    assert_int_equal(client.status, TD_PEER_LOST);
    unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_PEER_LOST);
    world_close(&world);
}

static bool descriptors_are_back(void *ctx)
{
    return test_open_descriptors() <= *(const int *)ctx;
}

/* Over a unix socket, where gRPC connects so fast that a close comes in the middle of it. */
static void channels_closed_while_they_connect_leave_no_descriptor(void **state)
{
    struct world world;
    int before;

    (void)state;
    world_open(&world, "unix:/tmp/tandem-test-rpc.sock", NULL);
    before = test_open_descriptors();
    for (int i = 0; i < 40; i++) {
        struct client client = {0};

        world_connect(&world, NULL);
        client_start(&client, &world, SILENT_PATH, 0);
        rpc_call_cancel(client.call);
        rpc_channel_close(world.channel);
        world.channel = NULL;
    }
    world_run_until(&world, descriptors_are_back, &before);
    world_close(&world);
}

static void closing_the_channel_tells_every_user_once(void **state)
{
    struct world world;
    struct client client = {0};
    struct answer answer;

    (void)state;
    open_connected(&world);
    client_start(&client, &world, SILENT_PATH, 0);
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    unary_start(&answer, &world, SILENT_PATH, 1, 1, PATIENCE_MS);
    world.stop_on_message = true;
    while (world.messages < 2)
        world_run(&world);
    rpc_channel_close(world.channel);
    assert_int_equal(client.closes, 1);
    assert_int_equal(client.status, TD_CANCELED);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.status, TD_CANCELED);
    world_run_until(&world, server_is_free, &world);
    world_close(&world);
    assert_int_equal(client.closes, 1);
}

static void closing_the_server_tells_every_user_once(void **state)
{
    struct world world;
    struct client client = {0};

    (void)state;
    open_connected(&world);
    client_start(&client, &world, SILENT_PATH, 0);
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    world.stop_on_message = true;
    world_run(&world);
    rpc_server_close(world.server);
    assert_int_equal(world.calls_open, 0);
    assert_int_equal(world.closes, 1);
    client_wait(&client);
    assert_true(client.status == TD_CANCELED || client.status == TD_PEER_LOST);
    world_close(&world);
}

static void closing_everything_with_calls_in_flight_is_clean(void **state)
{
    struct world world;
    struct client clients[20] = {0};

    (void)state;
    open_connected(&world);
    for (int i = 0; i < 20; i++) {
        client_start(&clients[i], &world, i % 2 ? SILENT_PATH : PUSH_PATH, 0);
        assert_int_equal(client_send(&clients[i], 100000, 10), TD_OK);
    }
    world.stop_on_message = true;
    while (world.messages < 10)
        world_run(&world);
    world_close(&world); /* also checks that the server's side is empty */
    for (int i = 0; i < 20; i++)
        assert_int_equal(clients[i].closes, 1);
}

static void set_flag(void *ctx)
{
    *(bool *)ctx = true;
}

static bool flag_is_set(void *ctx)
{
    return *(bool *)ctx;
}

static void draining_lets_calls_finish_and_takes_no_more(void **state)
{
    struct world world;
    struct client client = {.stop_on_message = true};
    struct answer answer;
    bool drained = false;

    (void)state;
    open_connected(&world);
    client_start(&client, &world, STREAM_PATH, 0);
    assert_int_equal(client_send(&client, 0, 10), TD_OK);
    world_run(&world);
    rpc_server_drain(world.server, set_flag, &drained);
    while (!rpc_call_writable(client.call)) /* the call that is there goes on */
        world_run(&world);
    assert_int_equal(client_send(&client, 1, 10), TD_OK);
    world_run(&world);
    assert_int_equal(client.messages, 2);
    unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_PEER_LOST);
    assert_false(drained);
    rpc_call_send_close(client.call);
    client_wait(&client);
    assert_int_equal(client.status, TD_OK);
    world_run_until(&world, flag_is_set, &drained);
    world_close(&world);
}

static void a_server_that_comes_back_is_found_again(void **state)
{
    struct world world;
    struct world other;
    struct answer answer;
    char address[128];

    (void)state;
    world_open(&world, LOOPBACK, NULL);
    snprintf(address, sizeof address, "%s", rpc_server_address(world.server));
    world_open(&other, NULL, NULL);
    world_connect(&other, address);
    world_close(&world);
    unary_start(&answer, &other, ECHO_PATH, 1, 1, PATIENCE_MS);
    unary_wait(&answer);
    assert_int_equal(answer.status, TD_PEER_LOST);
    world_close(&other);
    world_open(&world, address, NULL);
    world_connect(&world, NULL);
    do {
        unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
        unary_wait(&answer);
    } while (answer.status == TD_PEER_LOST);
    assert_int_equal(answer.status, TD_OK);
    world_close(&world);
}

/* ---- listening ---- */

static td_status_t try_to_listen(struct world *world, const char *address, bool insecure,
                                 struct td_error *error)
{
    const struct rpc_server_config config = {.address = address,
                                             .insecure = insecure,
                                             .methods = world_methods,
                                             .method_count = world_method_count,
                                             .ctx = world};
    struct rpc_server *server;
    td_status_t status = rpc_server_open(world->rpc, &config, &server, error);

    if (status == TD_OK)
        rpc_server_close(server);
    return status;
}

static void listening_beyond_this_host_needs_certificates_or_a_word(void **state)
{
    struct world world;
    struct td_error error = {0};

    (void)state;
    world_open(&world, NULL, NULL);
    assert_int_equal(try_to_listen(&world, "0.0.0.0:0", false, &error), TD_REFUSED);
    assert_non_null(strstr(error.text, "--certs"));
    assert_non_null(strstr(error.text, "--insecure"));
    assert_int_equal(try_to_listen(&world, "[::]:0", false, &error), TD_REFUSED);
    assert_int_equal(try_to_listen(&world, "0.0.0.0:0", true, &error), TD_OK);
    assert_int_equal(try_to_listen(&world, "localhost:0", false, &error), TD_OK);
    world_close(&world);
}

static void a_bad_or_used_address_is_an_error_that_names_it(void **state)
{
    struct world world;
    struct td_error error = {0};

    (void)state;
    world_open(&world, LOOPBACK, NULL);
    assert_int_equal(try_to_listen(&world, rpc_server_address(world.server), false, &error), TD_IO);
    assert_non_null(strstr(error.text, rpc_server_address(world.server)));
    assert_int_equal(try_to_listen(&world, "127.0.0.1", false, &error), TD_INVALID);
    assert_int_equal(try_to_listen(&world, "127.0.0.1:70000", false, &error), TD_INVALID);
    assert_int_equal(try_to_listen(&world, ":80", false, &error), TD_INVALID);
    assert_int_equal(try_to_listen(&world, "unix:", false, &error), TD_INVALID);
    world_close(&world);
}

static void make_stale_socket(const char *path)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    unlink(path);
    memcpy(name.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    assert_int_equal(listen(fd, 1), 0);
    close(fd);
}

static void only_a_dead_process_s_socket_is_removed(void **state)
{
    const char *path = "/tmp/tandem-test-stale.sock";
    const char *address = "unix:/tmp/tandem-test-stale.sock";
    struct world world;
    struct world other;
    struct stat status;
    struct td_error error = {0};
    FILE *file;

    (void)state;
    make_stale_socket(path);
    world_open(&world, address, NULL);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    world_open(&other, NULL, NULL);
    assert_int_equal(try_to_listen(&other, address, false, &error), TD_IO); /* it lives */
    world_close(&world);
    unlink(path);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(try_to_listen(&other, address, false, &error), TD_IO); /* no socket */
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
    world_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unary_call_brings_the_answer),
        cmocka_unit_test(messages_of_all_sizes_arrive_whole),
        cmocka_unit_test(many_unary_calls_at_once_get_their_own_answers),
        cmocka_unit_test(ten_thousand_messages_go_both_ways_in_order_over_tcp),
        cmocka_unit_test(ten_thousand_messages_go_both_ways_in_order_over_a_unix_socket),
        cmocka_unit_test(a_second_message_waits_for_the_first_to_leave),
        cmocka_unit_test(the_server_s_status_and_detail_arrive),
        cmocka_unit_test(an_unknown_method_is_unsupported),
        cmocka_unit_test(a_unary_method_wants_a_message),
        cmocka_unit_test(a_message_over_the_method_s_limit_is_refused),
        cmocka_unit_test(a_message_over_the_channel_s_limit_is_refused),
        cmocka_unit_test(a_deadline_ends_a_call_on_both_sides),
        cmocka_unit_test(the_client_cancels_before_anything_is_connected),
        cmocka_unit_test(the_client_cancels_with_a_message_on_its_way),
        cmocka_unit_test(the_client_cancels_while_the_server_is_silent),
        cmocka_unit_test(the_client_cancels_inside_a_callback),
        cmocka_unit_test(the_client_cancels_after_its_half_close),
        cmocka_unit_test(the_server_cancels),
        cmocka_unit_test(a_canceled_unary_call_is_never_answered),
        cmocka_unit_test(a_paused_reader_holds_the_sender_back),
        cmocka_unit_test(nobody_there_is_peer_lost_at_once),
        cmocka_unit_test(channels_closed_while_they_connect_leave_no_descriptor),
        cmocka_unit_test(closing_the_channel_tells_every_user_once),
        cmocka_unit_test(closing_the_server_tells_every_user_once),
        cmocka_unit_test(closing_everything_with_calls_in_flight_is_clean),
        cmocka_unit_test(draining_lets_calls_finish_and_takes_no_more),
        cmocka_unit_test(a_server_that_comes_back_is_found_again),
        cmocka_unit_test(listening_beyond_this_host_needs_certificates_or_a_word),
        cmocka_unit_test(a_bad_or_used_address_is_an_error_that_names_it),
        cmocka_unit_test(only_a_dead_process_s_socket_is_removed),
    };

    return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
