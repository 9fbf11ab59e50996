/*
 * test_tls.c: a cluster's certificates: making them, checking them, taking up new ones, and calls
 * over mutual TLS by who may and who may not.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/net/certs.h"
#include "tests/net/rpc_support.h"
#include "tests/net/tls_support.h"

#define PATIENCE_MS 30000
#define LOOPBACK    "127.0.0.1:0"
#define DAY         86400L

/* A minted cluster of all roles, and a second one that it knows nothing of. */
struct clusters {
    char *ours;
    char *theirs;
    char *scratch;
};

static int mint(void **state)
{
    struct clusters *clusters = calloc(1, sizeof *clusters);

    clusters->ours = test_folder_make();
    clusters->theirs = test_folder_make();
    clusters->scratch = test_folder_make();
    assert_int_equal(net_certs_mint(clusters->ours, NET_ROLES_ALL, false, NULL), TD_OK);
    assert_int_equal(net_certs_mint(clusters->theirs, NET_ROLES_ALL, false, NULL), TD_OK);
    *state = clusters;
    return 0;
}

static int discard(void **state)
{
    struct clusters *clusters = *state;

    test_folder_remove(clusters->ours);
    test_folder_remove(clusters->theirs);
    test_folder_remove(clusters->scratch);
    free(clusters);
    return 0;
}

/* ---- making ---- */

static void check_mode(const char *path, mode_t mode)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, mode);
}

static void every_role_gets_a_folder_that_only_we_can_read(void **state)
{
    struct clusters *clusters = *state;
    struct net_loop *loop;

    check_mode(test_path(clusters->ours, "ca.key"), 0600);
    assert_int_equal(net_loop_open(&loop), TD_OK);
    for (int i = NET_ROLE_UNKNOWN + 1; i < NET_ROLE_COUNT; i++) {
        const char *folder = test_path(clusters->ours, net_role_name((enum net_role)i));
        struct td_error error = {0};
        struct net_tls *tls;

        check_mode(folder, 0700);
        check_mode(test_path(folder, "key.pem"), 0600);
        if (net_tls_open(loop, folder, &tls, &error) != TD_OK)
            fail_msg("%s", error.text);
        assert_int_equal(net_tls_role(tls), i);
        assert_int_equal(net_tls_generation(tls), 1);
        net_tls_close(tls);
    }
    net_loop_close(loop);
}

static char *contents(const char *folder, const char *name)
{
    return test_read_file(test_path(folder, name), &(size_t){0});
}

static void nothing_that_exists_is_overwritten(void **state)
{
    struct clusters *clusters = *state;
    char *folder = test_folder_make();
    struct td_error error = {0};
    char *authority;
    char *router;
    char *text;

    (void)clusters;
    assert_int_equal(net_certs_mint(folder, NET_ROLE_BIT(NET_ROLE_ROUTER), false, NULL), TD_OK);
    authority = contents(folder, "ca.key");
    router = contents(folder, "router/cert.pem");
    assert_int_equal(net_certs_mint(folder, NET_ROLES_ALL, false, &error), TD_STATE);
    assert_non_null(strstr(error.text, folder));
    assert_int_equal(net_certs_mint(folder, NET_ROLES_ALL, true, NULL), TD_OK);
    text = contents(folder, "ca.key");
    assert_string_equal(text, authority);
    free(text);
    text = contents(folder, "router/cert.pem");
    assert_string_equal(text, router);
    free(text);
    text = contents(folder, "decode/cert.pem"); /* the missing ones are there now */
    free(text);
    free(authority);
    free(router);
    test_folder_remove(folder);
}

static void what_cannot_be_written_is_named(void **state)
{
    struct clusters *clusters = *state;
    struct td_error error = {0};

    assert_int_equal(net_certs_mint("/nonexistent/folder", NET_ROLES_ALL, false, &error), TD_IO);
    assert_non_null(strstr(error.text, "/nonexistent/folder"));
    remove(test_path(clusters->ours, "ca.key"));
    assert_int_equal(net_certs_renew(clusters->ours, NET_ROLE_ROUTER, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "ca.key"));
}

/* ---- checking ---- */

/* Opens a folder that must be refused with this in the sentence. */
static void check_refused(const char *folder, const char *text)
{
    struct td_error error = {0};
    struct net_loop *loop;
    struct net_tls *tls;

    assert_int_equal(net_loop_open(&loop), TD_OK);
    if (net_tls_open(loop, folder, &tls, &error) == TD_OK)
        fail_msg("accepted: %s", text);
    if (strstr(error.text, text) == NULL || strstr(error.text, folder) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, text);
    net_loop_close(loop);
}

static void check_strange(struct clusters *clusters, long from, long until, const char *names,
                          const char *text)
{
    const struct strange strange = {from, until, names};

    test_make_strange(clusters->ours, clusters->scratch, &strange);
    check_refused(clusters->scratch, text);
}

static void certificates_that_are_no_good_are_refused_at_the_start(void **state)
{
    struct clusters *clusters = *state;
    const char *good = "URI:tandem://role/decode,DNS:tandem";
    char *role = strdup(test_path(clusters->ours, "decode"));

    check_strange(clusters, -2 * DAY, -DAY, good, "expired");
    check_strange(clusters, DAY, 2 * DAY, good, "not yet valid");
    check_strange(clusters, -DAY, DAY, "DNS:tandem", "exactly one role");
    check_strange(clusters, -DAY, DAY, "URI:tandem://role/emperor,DNS:tandem", "exactly one role");
    check_strange(clusters, -DAY, DAY, "URI:tandem://role/,DNS:tandem", "exactly one role");
    check_strange(clusters, -DAY, DAY,
                  "URI:tandem://role/decode,URI:tandem://role/router,DNS:tandem",
                  "exactly one role");
    check_strange(clusters, -DAY, DAY, "URI:tandem://role/decode,DNS:other", "DNS name 'tandem'");

    test_copy_file(role, clusters->scratch, "cert.pem"); /* with the key of another */
    check_refused(clusters->scratch, "does not fit");
    test_copy_file(role, clusters->scratch, "key.pem");
    test_copy_file(clusters->theirs, clusters->scratch, "ca.pem");
    check_refused(clusters->scratch, "not good under ca.pem");
    test_write_file(clusters->scratch, "ca.pem", "garbage");
    check_refused(clusters->scratch, "ca.pem has no certificate");
    test_write_file(clusters->scratch, "cert.pem", "garbage");
    check_refused(clusters->scratch, "cert.pem has no certificate");
    test_write_file(clusters->scratch, "cert.pem", "");
    check_refused(clusters->scratch, "cert.pem is empty");
    remove(test_path(clusters->scratch, "cert.pem"));
    check_refused(clusters->scratch, "cert.pem: No such file");
    free(role);
}

static void new_files_are_used_when_they_fit_together(void **state)
{
    struct clusters *clusters = *state;
    char *role = strdup(test_path(clusters->ours, "decode"));
    char *other = strdup(test_path(clusters->ours, "router"));
    struct net_loop *loop;
    struct net_tls *tls;

    assert_int_equal(net_loop_open(&loop), TD_OK);
    assert_int_equal(net_tls_open(loop, role, &tls, NULL), TD_OK);
    net_tls_refresh(tls);
    assert_int_equal(net_tls_generation(tls), 1); /* nothing is new */
    assert_int_equal(net_certs_renew(clusters->ours, NET_ROLE_DECODE, NULL), TD_OK);
    net_tls_refresh(tls);
    assert_int_equal(net_tls_generation(tls), 2);
    test_copy_file(other, role, "key.pem"); /* half of a change: the old ones stay */
    net_tls_refresh(tls);
    net_tls_refresh(tls);
    assert_int_equal(net_tls_generation(tls), 2);
    assert_int_equal(net_tls_role(tls), NET_ROLE_DECODE);
    test_copy_file(other, role, "cert.pem"); /* the other half */
    net_tls_refresh(tls);
    assert_int_equal(net_tls_generation(tls), 3);
    assert_int_equal(net_tls_role(tls), NET_ROLE_ROUTER);
    remove(test_path(role, "ca.pem"));
    net_tls_refresh(tls);
    assert_int_equal(net_tls_generation(tls), 3);
    net_tls_close(tls);
    net_loop_close(loop);
    free(role);
    free(other);
}

static bool has_second_generation(void *ctx)
{
    return net_tls_generation(ctx) == 2;
}

static void new_files_are_noticed_without_being_told(void **state)
{
    struct clusters *clusters = *state;
    struct world world;

    world_open(&world, NULL, test_path(clusters->ours, "decode"));
    assert_int_equal(net_certs_renew(clusters->ours, NET_ROLE_DECODE, NULL), TD_OK);
    world_run_until(&world, has_second_generation, world.tls);
    world_close(&world);
}

/* ---- calls ---- */

/* A process of another role, on the server's loop. Its calls go through `as`. */
struct peer {
    struct net_tls *tls;
    struct rpc *rpc;
    struct world as; /* loop, watchdog and channel of a client */
};

static void peer_open(struct peer *peer, struct world *server, const char *folder,
                      uint32_t expected_roles)
{
    const struct rpc_channel_config config = {.target = rpc_server_address(server->server),
                                              .expected_roles = expected_roles};
    struct td_error error = {0};

    *peer = (struct peer){0};
    if (folder != NULL && net_tls_open(server->loop, folder, &peer->tls, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(rpc_open(server->loop, peer->tls, &peer->rpc), TD_OK);
    peer->as = (struct world){.loop = server->loop};
    peer->as.watchdog = server->watchdog;
    assert_int_equal(rpc_channel_open(peer->rpc, &config, &peer->as.channel), TD_OK);
}

static void peer_close(struct peer *peer)
{
    rpc_close(peer->rpc);
    net_tls_close(peer->tls);
}

static td_status_t call(struct peer *peer, const char *path)
{
    struct answer answer;

    unary_start(&answer, &peer->as, path, 1, 100, PATIENCE_MS);
    unary_wait(&answer);
    return answer.status;
}

/* One call by somebody with this folder (NULL: without TLS). */
static td_status_t call_as(struct world *server, const char *folder, uint32_t expected_roles,
                           const char *path)
{
    struct peer peer;
    td_status_t status;

    peer_open(&peer, server, folder, expected_roles);
    status = call(&peer, path);
    peer_close(&peer);
    return status;
}

static void the_role_of_the_certificate_decides(void **state)
{
    struct clusters *clusters = *state;
    struct world server;

    world_open(&server, LOOPBACK, test_path(clusters->ours, "decode"));
    assert_int_equal(call_as(&server, test_path(clusters->ours, "router"), 0, ROUTER_PATH), TD_OK);
    assert_int_equal(server.last_role, NET_ROLE_ROUTER);
    assert_int_equal(call_as(&server, test_path(clusters->ours, "prefill"), 0, ECHO_PATH), TD_OK);
    assert_int_equal(server.last_role, NET_ROLE_PREFILL);
    assert_int_equal(call_as(&server, test_path(clusters->ours, "prefill"), 0, ROUTER_PATH),
                     TD_REFUSED);
    assert_int_equal(server.messages, 2); /* the refused one was not opened */
    world_close(&server);
}

static void a_client_may_insist_on_the_server_s_role(void **state)
{
    struct clusters *clusters = *state;
    const char *router = test_path(clusters->ours, "router");
    struct world server;

    world_open(&server, LOOPBACK, test_path(clusters->ours, "decode"));
    assert_int_equal(call_as(&server, router, NET_ROLES_WORKER, ECHO_PATH), TD_OK);
    assert_int_equal(call_as(&server, router, NET_ROLE_BIT(NET_ROLE_SCHEDULER), ECHO_PATH),
                     TD_PEER_LOST);
    assert_int_equal(server.messages, 1);
    world_close(&server);
}

static void strangers_do_not_get_in(void **state)
{
    struct clusters *clusters = *state;
    const struct strange expired = {-2 * DAY, -DAY, "URI:tandem://role/router,DNS:tandem"};
    struct world server;
    char serial[64];

    world_open(&server, LOOPBACK, test_path(clusters->ours, "decode"));
    assert_int_equal(call_as(&server, NULL, 0, ECHO_PATH), TD_PEER_LOST);
    assert_int_equal(call_as(&server, test_path(clusters->theirs, "router"), 0, ECHO_PATH),
                     TD_PEER_LOST);
    assert_false(test_tls_handshake(rpc_server_address(server.server), NULL, serial));
    assert_false(test_tls_handshake(rpc_server_address(server.server),
                                    test_path(clusters->theirs, "router"), serial));
    test_make_strange(clusters->ours, clusters->scratch, &expired);
    assert_false(test_tls_handshake(rpc_server_address(server.server), clusters->scratch, serial));
    assert_true(test_tls_handshake(rpc_server_address(server.server),
                                   test_path(clusters->ours, "router"), serial));
    assert_int_equal(server.messages, 0);
    world_close(&server);
}

struct foreign_call {
    const char *address;
    const char *folder;
    _Atomic int code; /* -1: not over */
};

static void *make_foreign_call(void *ctx)
{
    struct foreign_call *foreign = ctx;

    atomic_store(&foreign->code, test_grpc_call(foreign->address, foreign->folder, ECHO_PATH));
    return NULL;
}

static bool foreign_call_is_over(void *ctx)
{
    struct foreign_call *foreign = ctx;

    return atomic_load(&foreign->code) >= 0;
}

/* What gRPC itself gets with a certificate of these names. */
static int foreign_code(struct clusters *clusters, struct world *server, const char *names)
{
    const struct strange strange = {-DAY, DAY, names};
    struct foreign_call foreign = {rpc_server_address(server->server), clusters->scratch, -1};
    pthread_t thread;

    test_make_strange(clusters->ours, clusters->scratch, &strange);
    assert_int_equal(pthread_create(&thread, NULL, make_foreign_call, &foreign), 0);
    world_run_until(server, foreign_call_is_over, &foreign);
    pthread_join(thread, NULL);
    return atomic_load(&foreign.code);
}

static void a_certificate_without_exactly_one_role_may_call_nothing(void **state)
{
    enum { OK = 0, PERMISSION_DENIED = 7 }; /* gRPC's */
    struct clusters *clusters = *state;
    struct world server;

    world_open(&server, LOOPBACK, test_path(clusters->ours, "decode"));
    assert_int_equal(foreign_code(clusters, &server, "URI:tandem://role/router,DNS:tandem"), OK);
    assert_int_equal(server.last_role, NET_ROLE_ROUTER);
    assert_int_equal(foreign_code(clusters, &server, "DNS:tandem"), PERMISSION_DENIED);
    assert_int_equal(foreign_code(clusters, &server, "URI:tandem://role/unknown,DNS:tandem"),
                     PERMISSION_DENIED);
    assert_int_equal(foreign_code(clusters, &server,
                                  "URI:tandem://role/router,URI:tandem://role/operator,DNS:tandem"),
                     PERMISSION_DENIED);
    assert_int_equal(server.messages, 1);
    world_close(&server);
}

static void a_running_server_takes_up_new_certificates(void **state)
{
    struct clusters *clusters = *state;
    char *router = strdup(test_path(clusters->ours, "router"));
    char *decode = strdup(test_path(clusters->ours, "decode"));
    struct world server;
    struct peer peer;
    char before[64];
    char after[64];

    world_open(&server, LOOPBACK, decode);
    peer_open(&peer, &server, router, 0);
    assert_int_equal(call(&peer, ECHO_PATH), TD_OK);
    assert_true(test_tls_handshake(rpc_server_address(server.server), router, before));
    assert_string_equal(before, test_serial_of(decode));
    assert_int_equal(net_certs_renew(clusters->ours, NET_ROLE_DECODE, NULL), TD_OK);
    net_tls_refresh(server.tls);
    assert_int_equal(call(&peer, ECHO_PATH), TD_OK); /* the connection that is there goes on */
    assert_true(test_tls_handshake(rpc_server_address(server.server), router, after));
    assert_string_equal(after, test_serial_of(decode));
    assert_string_not_equal(after, before);
    peer_close(&peer);
    world_close(&server);
    free(router);
    free(decode);
}

static void a_running_client_takes_up_new_certificates(void **state)
{
    struct clusters *clusters = *state;
    char *prefill = strdup(test_path(clusters->ours, "prefill"));
    char *router = strdup(test_path(clusters->ours, "router"));
    struct world server;
    struct peer peer;

    world_open(&server, LOOPBACK, test_path(clusters->ours, "decode"));
    peer_open(&peer, &server, prefill, 0);
    assert_int_equal(call(&peer, ROUTER_PATH), TD_REFUSED);
    test_copy_file(router, prefill, "key.pem");
    test_copy_file(router, prefill, "cert.pem");
    net_tls_refresh(peer.tls);
    assert_int_equal(call(&peer, ROUTER_PATH), TD_OK); /* on a new connection */
    assert_int_equal(server.last_role, NET_ROLE_ROUTER);
    peer_close(&peer);
    world_close(&server);
    free(prefill);
    free(router);
}

static void ten_thousand_messages_go_both_ways_over_tls(void **state)
{
    struct clusters *clusters = *state;
    struct client client = {.send_count = 10000, .payload_bytes = 100};
    struct world server;
    struct peer peer;

    world_open(&server, LOOPBACK, test_path(clusters->ours, "decode"));
    peer_open(&peer, &server, test_path(clusters->ours, "router"), 0);
    client_start(&client, &peer.as, STREAM_PATH, 0);
    client_pump(&client);
    client_wait(&client);
    assert_int_equal(client.status, TD_OK);
    assert_int_equal(client.messages, 10000);
    assert_false(client.out_of_order);
    peer_close(&peer);
    world_close(&server);
}

static void a_unix_socket_needs_no_certificate(void **state)
{
    struct clusters *clusters = *state;
    struct world server;
    char address[128];

    snprintf(address, sizeof address, "unix:%s/socket", clusters->scratch);
    world_open(&server, address, test_path(clusters->ours, "decode"));
    assert_int_equal(call_as(&server, NULL, 0, ROUTER_PATH), TD_OK);
    assert_int_equal(call_as(&server, test_path(clusters->ours, "router"), 0, ROUTER_PATH), TD_OK);
    assert_int_equal(server.last_role, NET_ROLE_UNKNOWN);
    world_close(&server);
}

static void with_certificates_others_may_reach_it(void **state)
{
    struct clusters *clusters = *state;
    struct world server;

    world_open(&server, "0.0.0.0:0", test_path(clusters->ours, "decode"));
    world_close(&server);
}

#define WITH_CLUSTERS(test) cmocka_unit_test_setup_teardown(test, mint, discard)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CLUSTERS(every_role_gets_a_folder_that_only_we_can_read),
        WITH_CLUSTERS(nothing_that_exists_is_overwritten),
        WITH_CLUSTERS(what_cannot_be_written_is_named),
        WITH_CLUSTERS(certificates_that_are_no_good_are_refused_at_the_start),
        WITH_CLUSTERS(new_files_are_used_when_they_fit_together),
        WITH_CLUSTERS(new_files_are_noticed_without_being_told),
        WITH_CLUSTERS(the_role_of_the_certificate_decides),
        WITH_CLUSTERS(a_client_may_insist_on_the_server_s_role),
        WITH_CLUSTERS(strangers_do_not_get_in),
        WITH_CLUSTERS(a_certificate_without_exactly_one_role_may_call_nothing),
        WITH_CLUSTERS(a_running_server_takes_up_new_certificates),
        WITH_CLUSTERS(a_running_client_takes_up_new_certificates),
        WITH_CLUSTERS(ten_thousand_messages_go_both_ways_over_tls),
        WITH_CLUSTERS(a_unix_socket_needs_no_certificate),
        WITH_CLUSTERS(with_certificates_others_may_reach_it),
    };

    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
