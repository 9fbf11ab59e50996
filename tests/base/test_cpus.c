/* test_cpus.c: how CPUs are counted, by affinity and control groups, and divided. */
#include "lib/base/cpus.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/support.h"

static void cpus_are_shared_evenly_and_everybody_gets_one(void **state)
{
    (void)state;
    assert_int_equal(td_cpus_share(8, 2, 0), 4);
    assert_int_equal(td_cpus_share(5, 2, 0), 3);
    assert_int_equal(td_cpus_share(5, 2, 1), 2);
    assert_int_equal(td_cpus_share(2, 3, 2), 1);
    assert_true(td_cpus_usable() >= 1);
}

/* ---- control groups, in a made-up root ---- */

struct root {
    char path[64];
};

static void run(const char *command, const char *root)
{
    char line[512];

    snprintf(line, sizeof line, "cd '%s' && %s", root, command);
    assert_int_equal(system(line), 0);
}

static struct root make_root(const char *cgroup_file)
{
    struct root root = {"/tmp/tandem-cgroup-XXXXXX"};
    char command[256];

    assert_non_null(mkdtemp(root.path));
    run("mkdir -p proc/self sys/fs/cgroup", root.path);
    snprintf(command, sizeof command, "printf '%s' > proc/self/cgroup", cgroup_file);
    run(command, root.path);
    return root;
}

static void remove_root(const struct root *root)
{
    char line[128];

    snprintf(line, sizeof line, "rm -rf '%s'", root->path);
    assert_int_equal(system(line), 0);
}

static void the_tightest_quota_above_the_process_counts(void **state)
{
    struct root root = make_root("0::/pod/box\\n");

    (void)state;
    assert_int_equal(td_cpus_quota(root.path), 0);
    run("mkdir -p sys/fs/cgroup/pod/box", root.path);
    run("echo 'max 100000' > sys/fs/cgroup/pod/box/cpu.max", root.path);
    assert_int_equal(td_cpus_quota(root.path), 0);
    run("echo '250000 100000' > sys/fs/cgroup/pod/cpu.max", root.path);
    assert_int_equal(td_cpus_quota(root.path), 3);
    run("echo '50000 100000' > sys/fs/cgroup/pod/box/cpu.max", root.path);
    assert_int_equal(td_cpus_quota(root.path), 1);
    remove_root(&root);
}

static void the_first_version_of_control_groups_counts_too(void **state)
{
    struct root root = make_root("7:memory:/box\\n4:cpu,cpuacct:/box\\n");

    (void)state;
    run("mkdir -p sys/fs/cgroup/cpu/box sys/fs/cgroup/memory/box", root.path);
    run("echo -1 > sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", root.path);
    run("echo 100000 > sys/fs/cgroup/cpu/box/cpu.cfs_period_us", root.path);
    assert_int_equal(td_cpus_quota(root.path), 0);
    run("echo 400000 > sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", root.path);
    assert_int_equal(td_cpus_quota(root.path), 4);
    remove_root(&root);
}

static void files_that_make_no_sense_set_no_quota(void **state)
{
    struct root root = make_root("nonsense\\n0::/\\n:::\\n");

    (void)state;
    run("echo '-5 0' > sys/fs/cgroup/cpu.max", root.path);
    assert_int_equal(td_cpus_quota(root.path), 0);
    run("echo '200000 100000' > sys/fs/cgroup/cpu.max", root.path);
    assert_int_equal(td_cpus_quota(root.path), 2);
    remove_root(&root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cpus_are_shared_evenly_and_everybody_gets_one),
        cmocka_unit_test(the_tightest_quota_above_the_process_counts),
        cmocka_unit_test(the_first_version_of_control_groups_counts_too),
        cmocka_unit_test(files_that_make_no_sense_set_no_quota),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
