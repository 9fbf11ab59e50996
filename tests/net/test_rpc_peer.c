/*
 * test_rpc_peer.c: calls to a process that is killed, frozen or started again. The server is this
 * program itself in a child process.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/time.h"
#include "lib/net/process.h"
#include "tests/net/rpc_support.h"

#define PATIENCE_MS 30000
#define SELF        "/proc/self/exe"

static int serve(const char *address)
{
    char line[NET_READY_LINE_MAX];
    struct world world;

    world_open(&world, address, NULL);
    snprintf(line, sizeof line, "ready %s", rpc_server_address(world.server));
    if (net_ready_report(line) != TD_OK)
        return 99;
    net_loop_run(world.loop);
    return 98;
}

struct child {
    struct world *world;
    struct net_process *process;
    char address[128];
};

static void on_line(void *ctx, const char *line)
{
    struct child *child = ctx;

    assert_int_equal(sscanf(line, "ready %127s", child->address), 1);
    net_loop_stop(child->world->loop);
}

static void start_server(struct child *child, struct world *world, const char *address)
{
    const char *const argv[] = {SELF, "serve", address, NULL};
    const struct net_process_options options = {.argv = argv,
                                                .stdin_fd = -1,
                                                .stdout_fd = -1,
                                                .stderr_fd = -1,
                                                .ctx = child,
                                                .on_line = on_line};

    *child = (struct child){.world = world};
    assert_int_equal(net_process_spawn(world->loop, &options, &child->process, NULL), TD_OK);
    world_run(world);
}

static bool has_message(void *ctx)
{
    struct client *client = ctx;

    return client->messages > 0;
}

/* A client with a call that the server has answered once and keeps open. */
static void open_stream(struct client *client, struct world *world)
{
    *client = (struct client){.payload_bytes = 10};
    client_start(client, world, STREAM_PATH, 0);
    assert_int_equal(client_send(client, 0, 10), TD_OK);
    world_run_until(world, has_message, client);
}

static void a_killed_peer_is_lost_at_once(void **state)
{
    char socket_address[64];
    const char *addresses[] = {"127.0.0.1:0", socket_address};
    struct world world;
    struct client client;
    struct answer answer;
    struct child child;

    (void)state;
    snprintf(socket_address, sizeof socket_address, "unix:/tmp/tandem-test-%d", (int)getpid());
    for (size_t i = 0; i < 2; i++) {
        world_open(&world, NULL, NULL);
        start_server(&child, &world, addresses[i]);
        world_connect(&world, child.address);
        open_stream(&client, &world);
        net_process_signal(child.process, SIGKILL);
        client_wait(&client);
        assert_int_equal(client.status, TD_PEER_LOST);
        assert_true(client.detail[0] != '\0');
        unary_start(&answer, &world, ECHO_PATH, 1, 1, PATIENCE_MS);
        unary_wait(&answer);
        assert_int_equal(answer.status, TD_PEER_LOST);
        net_process_close(child.process);
        world_close(&world);
    }
    remove(socket_address + strlen("unix:"));
}

static void a_frozen_peer_is_noticed(void **state)
{
    struct world world;
    struct client client;
    struct child child;

    (void)state;
    world_open(&world, NULL, NULL);
    start_server(&child, &world, "127.0.0.1:0");
    world_connect(&world, child.address);
    open_stream(&client, &world);
    net_process_signal(child.process, SIGSTOP);
    client_wait(&client); /* without a deadline: by the pings alone */
    assert_int_equal(client.status, TD_PEER_LOST);
    net_process_close(child.process);
    world_close(&world);
}

static void a_peer_that_starts_again_is_found_again(void **state)
{
    struct world world;
    struct client client;
    struct answer answer = {.status = TD_INTERNAL};
    struct child first;
    struct child second;
    uint64_t until_ns;

    (void)state;
    world_open(&world, NULL, NULL);
    start_server(&first, &world, "127.0.0.1:0");
    world_connect(&world, first.address);
    open_stream(&client, &world);
    net_process_close(first.process);
    client_wait(&client);
    start_server(&second, &world, first.address);
    until_ns = td_now_ns() + TEST_WAIT_SECONDS * TD_NS_PER_SEC;
    while (answer.status != TD_OK && td_now_ns() < until_ns) {
        unary_start(&answer, &world, ECHO_PATH, 5, 10, PATIENCE_MS); /* fails fast meanwhile */
        unary_wait(&answer);
    }
    assert_int_equal(answer.status, TD_OK);
    net_process_close(second.process);
    world_close(&world);
}

/* The server's side of the same: its client is killed. */
static int call_and_wait(const char *address)
{
    struct client client = {.payload_bytes = 10};
    struct world world;

    world_open(&world, NULL, NULL);
    world_connect(&world, address);
    client_start(&client, &world, SILENT_PATH, 0);
    if (client_send(&client, 0, 10) != TD_OK)
        return 99;
    client_wait(&client);
    return 98;
}

static bool has_no_call(void *ctx)
{
    struct world *world = ctx;

    return world->calls_open == 0;
}

static void a_killed_client_ends_its_calls(void **state)
{
    const char *argv[] = {SELF, "call", NULL, NULL};
    struct net_process_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    struct net_process *process;
    struct world world;

    (void)state;
    world_open(&world, "127.0.0.1:0", NULL);
    argv[2] = rpc_server_address(world.server);
    world.stop_on_message = true;
    assert_int_equal(net_process_spawn(world.loop, &options, &process, NULL), TD_OK);
    world_run(&world);
    assert_int_equal(world.calls_open, 1);
    net_process_close(process);
    world_run_until(&world, has_no_call, &world);
    assert_int_equal(world.closes, 1);
    assert_int_not_equal(world.close_status, TD_OK);
    world_close(&world);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_peer_is_lost_at_once),
        cmocka_unit_test(a_frozen_peer_is_noticed),
        cmocka_unit_test(a_peer_that_starts_again_is_found_again),
        cmocka_unit_test(a_killed_client_ends_its_calls),
    };

    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2]);
    if (argc == 3 && strcmp(argv[1], "call") == 0)
        return call_and_wait(argv[2]);
    return cmocka_run_group_tests_name("rpc_peer", tests, NULL, NULL);
}
