/* test_fsm.c: stepping, and td_fsm_check against broken tables. */
#include "lib/base/buf.h"
#include "lib/base/fsm.h"
#include "tests/support/support.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOOR_STATES(X, P)                    \
    X(P, OPEN, open_ms, "one can walk in")   \
    X(P, CLOSED, closed_ms, "one can knock") \
    X(P, GONE, none, "there is no door")
#define DOOR_EVENTS(X, P)         \
    X(P, PUSH, "somebody pushes") \
    X(P, FIRE, "it burns")
#define DOOR_ACTIONS(X, P)       \
    X(P, SWING, "move the door") \
    X(P, CRUMBLE, "fall to ashes")
#define DOOR_CELLS(X, P)                           \
    X(P, OPEN, PUSH, CLOSED, SWING, "")            \
    X(P, OPEN, FIRE, GONE, CRUMBLE, "")            \
    X(P, CLOSED, PUSH, CLOSED, IGNORE, "locked")   \
    X(P, CLOSED, FIRE, GONE, CRUMBLE, "")          \
    X(P, GONE, PUSH, GONE, IGNORE, "late visitor") \
    X(P, GONE, FIRE, GONE, BUG, "")

TD_FSM_DECLARE(door, DOOR);
TD_FSM_DEFINE(door, DOOR, "A door.");

#define CELLS (DOOR_STATE_COUNT * DOOR_EVENT_COUNT)

/* The door with one cell replaced. */
struct broken {
    struct td_fsm fsm;
    struct td_fsm_cell cells[CELLS];
};

static const char *check_with(struct broken *broken, int state, int event, struct td_fsm_cell cell)
{
    broken->fsm = door_fsm;
    for (int i = 0; i < CELLS; i++)
        broken->cells[i] = door_fsm.cells[i];
    broken->cells[state * DOOR_EVENT_COUNT + event] = cell;
    broken->fsm.cells = broken->cells;
    return td_fsm_check(&broken->fsm);
}

#define assert_fault(words, ...)                                  \
    do {                                                          \
        const char *fault = check_with(&broken, __VA_ARGS__);     \
                                                                  \
        assert_non_null(fault);                                   \
        if (strstr(fault, words) == NULL)                         \
            fail_msg("'%s' does not contain '%s'", fault, words); \
    } while (0)

static void steps_follow_the_table(void **state)
{
    uint8_t door = DOOR_OPEN;

    (void)state;
    assert_null(td_fsm_check(&door_fsm));
    assert_int_equal(td_fsm_step(&door_fsm, &door, DOOR_ON_PUSH), DOOR_DO_SWING);
    assert_int_equal(door, DOOR_CLOSED);
    assert_int_equal(td_fsm_step(&door_fsm, &door, DOOR_ON_PUSH), TD_FSM_IGNORE);
    assert_int_equal(door, DOOR_CLOSED);
    assert_int_equal(td_fsm_step(&door_fsm, &door, DOOR_ON_FIRE), DOOR_DO_CRUMBLE);
    assert_int_equal(door, DOOR_GONE);
    assert_true(td_fsm_is_terminal(&door_fsm, door));
    assert_false(td_fsm_is_terminal(&door_fsm, DOOR_OPEN));
    assert_string_equal(td_fsm_action_name(&door_fsm, DOOR_DO_CRUMBLE), "CRUMBLE");
    assert_string_equal(td_fsm_action_name(&door_fsm, TD_FSM_IGNORE), "IGNORE");
    assert_string_equal(td_fsm_action_name(&door_fsm, TD_FSM_BUG), "BUG");
}

static void an_impossible_event_ends_the_process_and_says_which(void **state)
{
    char text[200] = "";
    int ends[2];
    int status;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        uint8_t door = DOOR_GONE;
        struct rlimit none = {0, 0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        td_fsm_step(&door_fsm, &door, DOOR_ON_FIRE);
        _exit(0);
    }
    close(ends[1]);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_string_equal(text, "state machine door: event FIRE is impossible in state GONE\n");
}

static void broken_cells_are_found_and_named(void **state)
{
    struct broken broken;

    (void)state;
    assert_fault("OPEN x PUSH is not defined", DOOR_OPEN, DOOR_ON_PUSH, (struct td_fsm_cell){0});
    assert_fault("CLOSED x PUSH changes the state without an action", DOOR_CLOSED, DOOR_ON_PUSH,
                 (struct td_fsm_cell){DOOR_OPEN, TD_FSM_IGNORE, ""});
    assert_fault("GONE x FIRE changes the state without an action", DOOR_GONE, DOOR_ON_FIRE,
                 (struct td_fsm_cell){DOOR_OPEN, TD_FSM_BUG, ""});
    assert_fault("GONE x PUSH acts in a terminal state", DOOR_GONE, DOOR_ON_PUSH,
                 (struct td_fsm_cell){DOOR_GONE, DOOR_DO_SWING, ""});
    assert_fault("OPEN x FIRE leads to a state that does not exist", DOOR_OPEN, DOOR_ON_FIRE,
                 (struct td_fsm_cell){DOOR_STATE_COUNT, DOOR_DO_SWING, ""});
    assert_fault("OPEN x FIRE has an action that does not exist", DOOR_OPEN, DOOR_ON_FIRE,
                 (struct td_fsm_cell){DOOR_GONE, DOOR_DO_COUNT, ""});
}

static void unreachable_states_and_dead_ends_are_found_and_named(void **state)
{
    struct broken broken;

    (void)state;
    assert_fault("state CLOSED cannot be reached", DOOR_OPEN, DOOR_ON_PUSH,
                 (struct td_fsm_cell){DOOR_OPEN, TD_FSM_IGNORE, ""});
    assert_fault("state CLOSED has no way to the end", DOOR_CLOSED, DOOR_ON_FIRE,
                 (struct td_fsm_cell){DOOR_CLOSED, TD_FSM_BUG, ""});
}

static void a_machine_without_states_or_with_too_many_is_refused(void **state)
{
    struct td_fsm fsm = door_fsm;

    (void)state;
    fsm.state_count = 0;
    assert_non_null(td_fsm_check(&fsm));
    fsm.state_count = TD_FSM_STATES_MAX + 1;
    assert_non_null(td_fsm_check(&fsm));
}

static void printing_shows_states_events_and_reasons(void **state)
{
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 1 << 16);
    td_fsm_print(&door_fsm, &out);
    assert_int_equal(out.status, TD_OK);
    assert_non_null(strstr(out.data, "## door\n\nA door.\n"));
    assert_non_null(strstr(out.data, "| `GONE` | none | there is no door |"));
    assert_non_null(strstr(out.data, "| `PUSH` | SWING → **CLOSED** | – | – |"));
    assert_non_null(strstr(out.data, "| `FIRE` | CRUMBLE → **GONE** | CRUMBLE → **GONE** | bug |"));
    assert_non_null(strstr(out.data, "- `CLOSED` on `PUSH`: locked\n"));
    td_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_follow_the_table),
        cmocka_unit_test(an_impossible_event_ends_the_process_and_says_which),
        cmocka_unit_test(broken_cells_are_found_and_named),
        cmocka_unit_test(unreachable_states_and_dead_ends_are_found_and_named),
        cmocka_unit_test(a_machine_without_states_or_with_too_many_is_refused),
        cmocka_unit_test(printing_shows_states_events_and_reasons),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
