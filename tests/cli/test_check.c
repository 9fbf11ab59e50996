/* test_check.c: the rows of `tandem check`: limits of control groups, ports, certificates, the table. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/check/parts.h"
#include "cli/memory.h"
#include "cli/probe.h"
#include "engine/cuda/gpu/gpu.h"
#include "lib/net/certs.h"
#include "tests/net/tls_support.h"
#include "tests/support/support.h"

#define DAY_S 86400L

static struct check_table table;

static bool no_processes; /* no probe can be started */

td_status_t __real_cli_probe_run(const struct cli_probe *probe, struct cli_probe_end *end_out,
                                 struct td_error *error);
td_status_t __wrap_cli_probe_run(const struct cli_probe *probe, struct cli_probe_end *end_out,
                                 struct td_error *error);

td_status_t __wrap_cli_probe_run(const struct cli_probe *probe, struct cli_probe_end *end_out,
                                 struct td_error *error)
{
    return no_processes ? td_fail(error, TD_EXHAUSTED, "no process can be started")
                        : __real_cli_probe_run(probe, end_out, error);
}

static int clear(void **state)
{
    (void)state;
    table.count = 0;
    return 0;
}

/* The only row whose name begins so. */
static const struct check_row *find(const char *what)
{
    const struct check_row *found = NULL;

    for (uint32_t i = 0; i < table.count; i++)
        if (strncmp(table.rows[i].what, what, strlen(what)) == 0) {
            assert_null(found);
            found = &table.rows[i];
        }
    if (found == NULL)
        fail_msg("no row %s", what);
    return found;
}

static void assert_row(const char *what, enum check_result result, const char *figure,
                       const char *advice)
{
    const struct check_row *row = find(what);

    if (row->result != result || strstr(row->figure, figure) == NULL ||
        strstr(row->advice, advice) == NULL)
        fail_msg("%s: result %d figure '%s' advice '%s'", what, (int)row->result, row->figure,
                 row->advice);
}

/* ---- memory and control groups ---- */

static void write_file(const char *root, const char *name, const char *text)
{
    char command[512];

    snprintf(command, sizeof command, "cd %s && mkdir -p $(dirname %s) && printf '%%s' '%s' > %s",
             root, name, text, name);
    assert_int_equal(system(command), 0);
}

static char *make_root(const char *cgroup)
{
    char *root = test_folder_make();

    write_file(root, "proc/self/cgroup", cgroup);
    write_file(
        root, "proc/meminfo",
        "MemTotal:       1000000 kB\nMemFree:         100000 kB\nMemAvailable:    500000 kB\n");
    return root;
}

static void memory_is_what_the_host_has_without_limits(void **state)
{
    char *root = make_root("0::/a\n");
    struct cli_memory memory;

    (void)state;
    write_file(root, "sys/fs/cgroup/a/memory.max", "max\n");
    memory = cli_memory_look(root);
    assert_int_equal(memory.total, 1024000000);
    assert_int_equal(memory.available, 512000000);
    assert_true(memory.limit == UINT64_MAX);
    assert_int_equal(cli_memory_free(&memory), 512000000);
    test_folder_remove(root);
}

static void the_tightest_group_limits_memory(void **state)
{
    char *root = make_root("0::/a/b\n");
    struct cli_memory memory;

    (void)state;
    write_file(root, "sys/fs/cgroup/a/memory.max", "400000000\n");
    write_file(root, "sys/fs/cgroup/a/memory.current", "390000000\n");
    write_file(root, "sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 90000000\n");
    write_file(root, "sys/fs/cgroup/a/b/memory.max", "300000000\n");
    write_file(root, "sys/fs/cgroup/a/b/memory.current", "100000000\n");
    memory = cli_memory_look(root);
    assert_int_equal(memory.limit, 300000000);
    assert_int_equal(memory.below, 100000000); /* of the outer one: 400 - (390 - 90) */
    assert_int_equal(cli_memory_free(&memory), 100000000);
    test_folder_remove(root);
}

static void version_1_of_control_groups_limits_memory_too(void **state)
{
    char *root = make_root("3:cpuset:/\n2:cpu,memory:/box\n");
    struct cli_memory memory;

    (void)state;
    write_file(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write_file(root, "sys/fs/cgroup/memory/box/memory.limit_in_bytes", "200000000\n");
    write_file(root, "sys/fs/cgroup/memory/box/memory.usage_in_bytes", "250000000\n");
    memory = cli_memory_look(root);
    assert_int_equal(memory.limit, 200000000);
    assert_int_equal(memory.below, 0);
    test_folder_remove(root);
}

static void the_machine_is_described_by_its_limits(void **state)
{
    char *root = make_root("0::/\n");
    struct cli_check_options options = {.cluster = {.prefill = 40, .decode = 40}};

    (void)state;
    write_file(root, "sys/fs/cgroup/memory.max", "100000000\n");
    write_file(root, "sys/fs/cgroup/memory.current", "60000000\n");
    write_file(root, "sys/fs/cgroup/cpu.max", "100000 100000\n");
    check_machine(&table, &options, root);
    assert_row("memory", CHECK_OK, "a control group allows 100.0 MB, of which 40.0 MB are left",
               "");
    assert_row("cores", CHECK_NOTE, "1 usable", "80 workers share them");
    assert_row("cores", CHECK_NOTE, "a quota of 1", "--prefill 0 --decode 1");
    test_folder_remove(root);
}

static void an_unknown_set_of_kernels_is_a_problem(void **state)
{
    struct cli_check_options options = {.cluster = {.decode = 1}};

    (void)state;
    setenv("TANDEM_CPU", "abacus", 1);
    check_machine(&table, &options, "");
    assert_row("processor", CHECK_PROBLEM, "it can run the kernels reference", "abacus");
    setenv("TANDEM_CPU", "reference", 1);
    table.count = 0;
    check_machine(&table, &options, "");
    assert_row("processor", CHECK_NOTE, "kernels reference", "unset TANDEM_CPU");
    unsetenv("TANDEM_CPU");
}

static void the_folder_for_sockets_is_left_as_it_was(void **state)
{
    struct cli_check_options options = {.cluster = {.decode = 1}};
    char *root = test_folder_make();

    (void)state;
    setenv("XDG_RUNTIME_DIR", root, 1);
    check_machine(&table, &options, "");
    assert_row("socket folder", CHECK_OK, root, "");
    assert_int_equal(rmdir(root), 0); /* it is empty again */
    unsetenv("XDG_RUNTIME_DIR");
    free(root);
}

/* ---- ports ---- */

/* A socket that listens on a port of the kernel's choice. */
static int take_port(uint16_t *port_out)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    *port_out = ntohs(address.sin_port);
    return fd;
}

static void a_port_that_is_taken_names_its_holder(void **state)
{
    struct cli_check_options options = {.cluster = {.host = "127.0.0.1"}};
    char holder[64];
    uint16_t port;
    int fd = take_port(&port);

    (void)state;
    options.cluster.port = port;
    snprintf(holder, sizeof holder, "taken by process %d (test_check)", (int)getpid());
    check_ports(&table, &options);
    assert_row("API port", CHECK_PROBLEM, holder, "--port");
    close(fd);
    table.count = 0;
    check_ports(&table, &options);
    assert_row("API port", CHECK_OK, "is free", "");
}

static void addresses_that_cannot_be_listened_on_say_why(void **state)
{
    static const struct {
        const char *address;
        enum check_result result;
        const char *figure;
        const char *advice;
    } cases[] = {
        {"127.0.0.1:0", CHECK_OK, "is free", ""},
        {"127.0.0.1", CHECK_PROBLEM, "has no port", "HOST:PORT"},
        {"192.0.2.1:7000", CHECK_PROBLEM, "192.0.2.1:7000", "an address of this host"},
        {"unix:/tmp/x.sock", CHECK_OK, "can be made", ""},
        {"unix:/nowhere/x.sock", CHECK_PROBLEM, "/nowhere: No such file", "make the folder"},
        {"unix:/tmp/"
         "123456789012345678901234567890123456789012345678901234567890123456789012345678901"
         "23456789012345678901234567890.sock",
         CHECK_PROBLEM, "longer than", "shorter folder"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *items[] = {cases[i].address};
        struct cli_check_options options = {.cluster = {.host = "127.0.0.1"},
                                            .listen = {(char *const *)(uintptr_t)items, 1}};

        table.count = 0;
        check_ports(&table, &options);
        assert_row("address", cases[i].result, cases[i].figure, cases[i].advice);
    }
}

/* ---- certificates ---- */

static char *make_certs(void)
{
    char *folder = test_folder_make();
    struct td_error error = {0};

    assert_int_equal(net_certs_mint(folder, NET_ROLES_ALL, false, &error), TD_OK);
    return folder;
}

static void all_roles_of_a_folder_are_looked_at(void **state)
{
    char *folder = make_certs();

    (void)state;
    check_certs(&table, folder);
    assert_int_equal(table.count, 5);
    assert_row("certs decode", CHECK_OK, "role decode, good for 39", "");
    assert_row("certs operator", CHECK_OK, "role operator", "");
    table.count = 0;
    check_certs(&table, test_path(folder, "router/"));
    assert_int_equal(table.count, 1);
    assert_row("certs router", CHECK_OK, "role router", "");
    test_folder_remove(folder);
}

/* Certificates that the authority signed, but that are wrong. */
static void certificates_that_are_wrong_say_what_to_do(void **state)
{
    static const struct {
        struct strange strange;
        enum check_result result;
        const char *figure;
        const char *advice;
    } cases[] = {
        {{-10 * DAY_S, -3 * DAY_S, "URI:tandem://role/decode,DNS:tandem"},
         CHECK_PROBLEM,
         "certificate has expired",
         "expired 3 days ago: tandem certs DIR --renew"},
        {{10 * DAY_S, 20 * DAY_S, "URI:tandem://role/decode,DNS:tandem"},
         CHECK_PROBLEM,
         "not yet valid",
         "is the clock right"},
        {{-DAY_S, 5 * DAY_S + 60, "URI:tandem://role/decode,DNS:tandem"},
         CHECK_NOTE,
         "good for 5 days",
         "--renew decode"},
        {{-DAY_S, 99 * DAY_S, "URI:tandem://role/prefill,DNS:tandem"},
         CHECK_PROBLEM,
         "role prefill",
         "is named decode"},
        {{-DAY_S, 99 * DAY_S, "DNS:tandem"}, CHECK_PROBLEM, "exactly one role", "tandem certs"},
    };
    char *folder = make_certs();
    char decode[256];

    (void)state;
    snprintf(decode, sizeof decode, "%s", test_path(folder, "decode")); /* see test_path */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        table.count = 0;
        test_make_strange(folder, decode, &cases[i].strange);
        check_certs(&table, decode);
        assert_row("certs decode", cases[i].result, cases[i].figure, cases[i].advice);
    }
    test_folder_remove(folder);
}

static void a_key_that_others_may_read_is_a_note(void **state)
{
    char *folder = make_certs();

    (void)state;
    assert_int_equal(chmod(test_path(folder, "router/key.pem"), 0644), 0);
    check_certs(&table, test_path(folder, "router"));
    assert_row("certs router", CHECK_NOTE, "role router", "chmod 600");
    test_folder_remove(folder);
}

static void files_that_do_not_belong_together_are_a_problem(void **state)
{
    char *folder = make_certs();

    (void)state;
    test_copy_file(test_path(folder, "router"), test_path(folder, "decode"), "key.pem");
    check_certs(&table, test_path(folder, "decode"));
    assert_row("certs decode", CHECK_PROBLEM, "key.pem does not fit", "tandem certs");
    test_folder_remove(folder);
}

static void a_folder_without_certificates_is_a_problem_and_none_at_all_is_not(void **state)
{
    char *folder = test_folder_make();

    (void)state;
    check_certs(&table, folder);
    assert_row("certificates", CHECK_PROBLEM, "neither cert.pem nor", "tandem certs");
    table.count = 0;
    check_certs(&table, "/nowhere/at/all");
    assert_row("certificates", CHECK_PROBLEM, "No such file", "tandem certs");
    table.count = 0;
    check_certs(&table, NULL);
    assert_row("certificates", CHECK_OK, "none named", "");
    test_folder_remove(folder);
}

/* ---- the table ---- */

static void a_table_is_text_and_json(void **state)
{
    struct check_row *row = check_add(&table, "machine", "cores");
    struct td_buf out;

    (void)state;
    check_figure(row, "%d usable", 2);
    check_value(row, "usable", 2.0);
    row = check_add(&table, "network", "API port");
    check_figure(row, "taken");
    check_mark(row, CHECK_PROBLEM, "stop %s", "it");
    assert_int_equal(check_count(&table, CHECK_PROBLEM), 1);
    td_buf_init(&out, 4096);
    check_print(&table, 0, &out);
    assert_string_equal(out.data, "This machine\n"
                                  "  ok       cores               2 usable\n"
                                  "\nPorts and certificates\n"
                                  "  problem  API port            taken\n"
                                  "                               -> stop it\n");
    td_buf_clear(&out);
    check_write_json(&table, &out);
    assert_string_equal(
        out.data,
        "{\"ok\":false,\"problems\":1,\"notes\":0,\"checks\":["
        "{\"area\":\"machine\",\"what\":\"cores\",\"result\":\"ok\",\"figure\":\"2 usable\","
        "\"advice\":null,\"values\":{\"usable\":2.0}},"
        "{\"area\":\"network\",\"what\":\"API port\",\"result\":\"problem\",\"figure\":\"taken\","
        "\"advice\":\"stop it\",\"values\":{}}]}");
    td_buf_fini(&out);
}

static void a_table_that_is_full_keeps_the_last_row(void **state)
{
    (void)state;
    for (int i = 0; i < CHECK_ROWS_MAX + 5; i++) {
        struct check_row *row = check_add(&table, "machine", "row");

        check_figure(row, "%d", i);
    }
    assert_int_equal(table.count, CHECK_ROWS_MAX);
    assert_string_equal(table.rows[CHECK_ROWS_MAX - 1].figure, "100");
}

/* A GPU that is missing matters to those who want one. */
static void gpus_are_described_and_missed_only_with_the_flag(void **state)
{
    struct cli_check_options options = {.cluster = {.prefill = 1, .decode = 1}};
    struct td_error error = {0};
    uint32_t count = 0;
    bool is_usable = gpu_count(&count, &error) == TD_OK && count > 0;

    (void)state;
    check_gpu(&table, &options);
    assert_true(table.count >= 1);
    assert_string_equal(table.rows[0].area, "gpu");
    assert_string_equal(table.rows[0].what, "CUDA");
    assert_int_equal(check_count(&table, CHECK_PROBLEM), 0);
    if (is_usable)
        return; /* what else uses it is not ours to say */
    table.count = 0;
    options.cluster.gpu = true;
    check_gpu(&table, &options);
    assert_int_equal(check_count(&table, CHECK_PROBLEM), 1);
    assert_non_null(strstr(table.rows[table.count - 1].advice, "leave --gpu out"));
}

/* A look that cannot be had is a GPU that nobody has seen. */
static void gpus_that_cannot_be_looked_for_are_missed_with_the_flag(void **state)
{
    struct cli_check_options options = {.cluster = {.prefill = 1, .decode = 1}};

    (void)state;
    no_processes = true;
    check_gpu(&table, &options);
    assert_row("driver", CHECK_OK, "no process", "");
    table.count = 0;
    options.cluster.gpu = true;
    check_gpu(&table, &options);
    no_processes = false;
    assert_row("driver", CHECK_PROBLEM, "no process", "leave --gpu out");
}

/* The rows for how KV gets from GPU to GPU; driver: a double, or a file that is none. */
static void check_ways(const char *driver, bool gpu)
{
    const struct cli_check_options options = {.cluster = {.prefill = 1, .decode = 1, .gpu = gpu}};

    table.count = 0;
    check_gpu_ways(&table, &options, driver);
}

/* Two processes, one of which reads the other's memory by its handle: done, over the double of the driver. */
static void cuda_ipc_is_tried_between_two_processes(void **state)
{
    (void)state;
    check_ways(STUB_DRIVER_PATH, false);
    assert_row("CUDA IPC", CHECK_OK, "read 1 MiB of another's", "");
    setenv("STUB_DRIVER_BREAKS", "cuIpcOpenMemHandle_v2", 1);
    check_ways(STUB_DRIVER_PATH, false);
    assert_row("CUDA IPC", CHECK_NOTE, "cuIpcOpenMemHandle of the peer's pool", "--ipc=host");
    setenv("STUB_DRIVER_BREAKS", "cuMemAlloc_v2", 1);
    check_ways(STUB_DRIVER_PATH, false);
    assert_row("CUDA IPC", CHECK_NOTE, "cuMemAlloc", "");
    unsetenv("STUB_DRIVER_BREAKS");
    check_ways("/nowhere/libcuda.so", false);
    assert_row("CUDA IPC", CHECK_NOTE, "there is no NVIDIA driver", "");
}

static void what_ucx_can_is_said_and_advised_upon_for_gpus(void **state)
{
    (void)state;
    check_ways(NULL, false);
    assert_row("UCX", CHECK_OK, "lanes here: ", "");
    assert_non_null(strstr(find("UCX")->figure, "tcp/lo"));
    assert_int_equal(find("UCX")->value_count, 2);
    assert_row("CUDA IPC", CHECK_OK, "not tried", "");
    check_ways(STUB_DRIVER_PATH, true);
    if (find("UCX")->values[0].value == 0)
        assert_row("UCX", CHECK_NOTE, "for GPUs", "scripts/setup --ucx");
}

static void ways_that_cannot_be_looked_for_are_said_so(void **state)
{
    (void)state;
    no_processes = true;
    check_ways(STUB_DRIVER_PATH, true);
    no_processes = false;
    assert_row("CUDA IPC", CHECK_OK, "no process", "");
    assert_row("UCX", CHECK_OK, "no process", "");
    assert_row("NCCL", CHECK_OK, "no process", "");
}

/* The tiny model, for two workers on a GPU of this size; 0: none was found. */
static void check_model_on_gpu(double memory_bytes, uint64_t kv_bytes)
{
    const struct cli_check_options options = {
        .cluster = {.prefill = 1, .decode = 1, .gpu = true, .kv_bytes = kv_bytes}};

    table.count = 0;
    if (memory_bytes > 0)
        check_value(check_add(&table, "gpu", "GPU 0"), "memory_bytes", memory_bytes);
    check_model(&table, test_data_path("tiny-llama/model.gguf"), &options);
    assert_row("generation", CHECK_OK, "not tried with --gpu", "");
    assert_row("tokenizer", CHECK_OK, "and back", "");
}

static void a_model_for_a_gpu_is_compared_with_the_memory_of_the_gpu(void **state)
{
    (void)state;
    check_model_on_gpu(64e6, 0);
    assert_row("memory", CHECK_OK, "its share of the GPU is 28.8 MB", "");
    check_model_on_gpu(1e6, 0);
    assert_row("memory", CHECK_PROBLEM, "its share of the GPU is", "fewer workers");
    check_model_on_gpu(64e6, 32000000);
    assert_row("memory", CHECK_PROBLEM, "KV 32.0 MB", "less --kv-bytes");
    check_model_on_gpu(0, 0);
    assert_row("memory", CHECK_OK, "its share of the GPU is not known", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_is_what_the_host_has_without_limits, clear),
        cmocka_unit_test_setup(the_tightest_group_limits_memory, clear),
        cmocka_unit_test_setup(version_1_of_control_groups_limits_memory_too, clear),
        cmocka_unit_test_setup(gpus_are_described_and_missed_only_with_the_flag, clear),
        cmocka_unit_test_setup(gpus_that_cannot_be_looked_for_are_missed_with_the_flag, clear),
        cmocka_unit_test_setup(cuda_ipc_is_tried_between_two_processes, clear),
        cmocka_unit_test_setup(what_ucx_can_is_said_and_advised_upon_for_gpus, clear),
        cmocka_unit_test_setup(ways_that_cannot_be_looked_for_are_said_so, clear),
        cmocka_unit_test_setup(a_model_for_a_gpu_is_compared_with_the_memory_of_the_gpu, clear),
        cmocka_unit_test_setup(the_machine_is_described_by_its_limits, clear),
        cmocka_unit_test_setup(an_unknown_set_of_kernels_is_a_problem, clear),
        cmocka_unit_test_setup(the_folder_for_sockets_is_left_as_it_was, clear),
        cmocka_unit_test_setup(a_port_that_is_taken_names_its_holder, clear),
        cmocka_unit_test_setup(addresses_that_cannot_be_listened_on_say_why, clear),
        cmocka_unit_test_setup(all_roles_of_a_folder_are_looked_at, clear),
        cmocka_unit_test_setup(certificates_that_are_wrong_say_what_to_do, clear),
        cmocka_unit_test_setup(a_key_that_others_may_read_is_a_note, clear),
        cmocka_unit_test_setup(files_that_do_not_belong_together_are_a_problem, clear),
        cmocka_unit_test_setup(a_folder_without_certificates_is_a_problem_and_none_at_all_is_not,
                               clear),
        cmocka_unit_test_setup(a_table_is_text_and_json, clear),
        cmocka_unit_test_setup(a_table_that_is_full_keeps_the_last_row, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
