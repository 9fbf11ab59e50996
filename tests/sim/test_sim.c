/*
 * test_sim.c: the simulator itself: it repeats itself byte for byte, its seeds differ, its faults happen,
 * and its oracles bite. An oracle that never speaks proves nothing: each break of sim.h must be
 * noticed within a few seeds, by an oracle or by an assertion of a core.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/log.h"
#include "sim/sim.h"

#define BREAK_SEEDS 100

static struct sim_report report;

static struct sim_options options_of(uint64_t seed, const char *faults)
{
    struct sim_options options = sim_options_default();

    options.seed = seed;
    assert_int_equal(sim_faults_parse(faults, &options.faults, NULL), TD_OK);
    return options;
}

static void equal_seeds_give_equal_runs(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct sim_options options = options_of(seed, "all");
        struct td_u128 first;
        void *shift = malloc(seed * 4096); /* addresses differ between the runs */

        sim_run(&options, &report);
        assert_true(report.passed);
        first = report.trace_hash;
        free(shift);
        sim_run(&options, &report);
        assert_true(td_u128_equal(report.trace_hash, first));
    }
}

static void different_seeds_give_different_runs(void **state)
{
    struct sim_options options = options_of(1, "none");
    struct td_u128 first;

    (void)state;
    sim_run(&options, &report);
    first = report.trace_hash;
    options.seed = 2;
    sim_run(&options, &report);
    assert_false(td_u128_equal(report.trace_hash, first));
}

static void without_faults_every_request_is_answered(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct sim_options options = options_of(seed, "none");

        sim_run(&options, &report);
        assert_true(report.passed);
        assert_int_equal(report.figures.answered, report.figures.requests);
        assert_true(report.figures.imports_landed > 0);
        assert_int_equal(report.figures.imports_fallback, 0);
        assert_int_equal(report.figures.retries, 0);
    }
}

static void add(struct sim_figures *total, const struct sim_figures *figures)
{
#define X(name, help) total->name += figures->name;
    SIM_FIGURES_MAP(X)
#undef X
}

/* Were one of them 0, the faults would not reach what they are for. */
static void the_faults_reach_everything(void **state)
{
    struct sim_figures total = {0};

    (void)state;
    for (uint64_t seed = 100; seed < 160; seed++) {
        struct sim_options options = options_of(seed, "all");

        sim_run(&options, &report);
        assert_true(report.passed);
        add(&total, &report.figures);
    }
#define X(name, help)    \
    if (total.name == 0) \
        fail_msg("no %s: %s", #name, help);
    SIM_FIGURES_MAP(X)
#undef X
}

/* A broken cluster may also run into an assertion, so each run has a process of its own. */
static bool is_noticed(const struct sim_options *options)
{
    pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        sim_run(options, &report);
        _exit(report.passed ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void every_break_is_noticed(void **state)
{
    (void)state;
    for (unsigned what = SIM_BREAK_NONE + 1; what < SIM_BREAK_COUNT; what++) {
        bool noticed = false;

        for (uint64_t seed = 1; seed <= BREAK_SEEDS && !noticed; seed++) {
            struct sim_options options = options_of(seed, "all");

            options.break_what = (enum sim_break)what;
            noticed = is_noticed(&options);
        }
        if (!noticed)
            fail_msg("break %u of sim.h goes unnoticed", what);
    }
}

static void names_are_checked(void **state)
{
    struct td_error error = {0};
    enum sim_break what;
    uint32_t faults;

    (void)state;
    assert_int_equal(sim_faults_parse("crash,delay", &faults, &error), TD_OK);
    assert_int_equal(faults, 1u << SIM_FAULT_CRASH | 1u << SIM_FAULT_DELAY);
    assert_int_equal(sim_faults_parse("all", &faults, &error), TD_OK);
    assert_int_equal(faults, SIM_FAULTS_ALL);
    assert_int_equal(sim_faults_parse("none", &faults, &error), TD_OK);
    assert_int_equal(faults, 0);
    assert_int_equal(sim_faults_parse("crash,fire", &faults, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "fire"));
    assert_int_equal(sim_break_parse("swap-slots", &what, &error), TD_OK);
    assert_int_equal(what, SIM_BREAK_SWAP_SLOTS);
    assert_int_equal(sim_break_parse("swap", &what, &error), TD_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_seeds_give_equal_runs),
        cmocka_unit_test(different_seeds_give_different_runs),
        cmocka_unit_test(without_faults_every_request_is_answered),
        cmocka_unit_test(the_faults_reach_everything),
        cmocka_unit_test(every_break_is_noticed),
        cmocka_unit_test(names_are_checked),
    };

    td_log_set_level((enum td_log_level) - 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
