/* fsm.c: stepping, checking and printing of state machines, see fsm.h. */
#include "lib/base/fsm.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/buf.h"

const struct td_fsm_cell *td_fsm_cell(const struct td_fsm *fsm, uint8_t state, uint8_t event)
{
    assert(state < fsm->state_count);
    assert(event < fsm->event_count);
    return &fsm->cells[state * fsm->event_count + event];
}

uint8_t td_fsm_step(const struct td_fsm *fsm, uint8_t *state, uint8_t event)
{
    const struct td_fsm_cell *cell = td_fsm_cell(fsm, *state, event);

    if (cell->action == TD_FSM_BUG || cell->action == TD_FSM_UNDEFINED) {
        fprintf(stderr, "state machine %s: event %s is impossible in state %s\n", fsm->name,
                fsm->events[event].name, fsm->states[*state].name);
        abort();
    }
    *state = cell->next;
    return cell->action;
}

bool td_fsm_is_terminal(const struct td_fsm *fsm, uint8_t state)
{
    assert(state < fsm->state_count);
    return strcmp(fsm->states[state].deadline, "none") == 0;
}

const char *td_fsm_action_name(const struct td_fsm *fsm, uint8_t action)
{
    if (action == TD_FSM_BUG)
        return "BUG";
    if (action == TD_FSM_IGNORE)
        return "IGNORE";
    assert(action >= TD_FSM_FIRST && action < TD_FSM_FIRST + fsm->action_count);
    return fsm->actions[action - TD_FSM_FIRST].name;
}

static const char *check_cell(const struct td_fsm *fsm, uint8_t state, uint8_t event)
{
    static char text[160];
    const struct td_fsm_cell *cell = td_fsm_cell(fsm, state, event);
    const char *fault = NULL;

    if (cell->action == TD_FSM_UNDEFINED)
        fault = "is not defined";
    else if (cell->action >= TD_FSM_FIRST + fsm->action_count)
        fault = "has an action that does not exist";
    else if (cell->next >= fsm->state_count)
        fault = "leads to a state that does not exist";
    else if (cell->action < TD_FSM_FIRST && cell->next != state)
        fault = "changes the state without an action";
    else if (cell->action >= TD_FSM_FIRST && td_fsm_is_terminal(fsm, state))
        fault = "acts in a terminal state";
    if (fault == NULL)
        return NULL;
    snprintf(text, sizeof text, "%s: cell %s x %s %s", fsm->name, fsm->states[state].name,
             fsm->events[event].name, fault);
    return text;
}

/* The states from which some cell leads into set, joined with set. */
static uint32_t predecessors(const struct td_fsm *fsm, uint32_t set)
{
    for (uint8_t s = 0; s < fsm->state_count; s++)
        for (uint8_t e = 0; e < fsm->event_count; e++)
            if (set >> td_fsm_cell(fsm, s, e)->next & 1)
                set |= UINT32_C(1) << s;
    return set;
}

static uint32_t successors(const struct td_fsm *fsm, uint32_t set)
{
    for (uint8_t s = 0; s < fsm->state_count; s++)
        for (uint8_t e = 0; e < fsm->event_count; e++)
            if (set >> s & 1)
                set |= UINT32_C(1) << td_fsm_cell(fsm, s, e)->next;
    return set;
}

/* Names the first state that is missing from set, or returns NULL if none is. */
static const char *first_missing(const struct td_fsm *fsm, uint32_t set, const char *fault)
{
    static char text[160];

    for (uint8_t s = 0; s < fsm->state_count; s++) {
        if (!(set >> s & 1)) {
            snprintf(text, sizeof text, "%s: state %s %s", fsm->name, fsm->states[s].name, fault);
            return text;
        }
    }
    return NULL;
}

static const char *check_reach(const struct td_fsm *fsm)
{
    const char *fault;
    uint32_t reached = 1;
    uint32_t ending = 0;

    for (uint8_t s = 0; s < fsm->state_count; s++)
        ending |= td_fsm_is_terminal(fsm, s) ? UINT32_C(1) << s : 0;
    for (uint8_t round = 0; round < fsm->state_count; round++) {
        reached = successors(fsm, reached);
        ending = predecessors(fsm, ending);
    }
    fault = first_missing(fsm, reached, "cannot be reached");
    return fault != NULL ? fault : first_missing(fsm, ending, "has no way to the end");
}

const char *td_fsm_check(const struct td_fsm *fsm)
{
    if (fsm->state_count == 0 || fsm->state_count > TD_FSM_STATES_MAX)
        return "the machine has no state, or too many";
    for (uint8_t s = 0; s < fsm->state_count; s++) {
        for (uint8_t e = 0; e < fsm->event_count; e++) {
            const char *fault = check_cell(fsm, s, e);

            if (fault != NULL)
                return fault;
        }
    }
    return check_reach(fsm);
}

static void print_names(const struct td_fsm_name *names, uint8_t count, const char *heading,
                        bool with_deadline, struct td_buf *out)
{
    td_buf_printf(out, "| %s |%s meaning |\n|---|%s---|\n", heading,
                  with_deadline ? " deadline |" : "", with_deadline ? "---|" : "");
    for (uint8_t i = 0; i < count; i++) {
        td_buf_printf(out, "| `%s` |", names[i].name);
        if (with_deadline)
            td_buf_printf(out, " %s |", names[i].deadline);
        td_buf_printf(out, " %s |\n", names[i].text);
    }
    td_buf_append_text(out, "\n");
}

static void print_cell(const struct td_fsm *fsm, uint8_t state, uint8_t event, struct td_buf *out)
{
    const struct td_fsm_cell *cell = td_fsm_cell(fsm, state, event);

    if (cell->action == TD_FSM_BUG)
        td_buf_append_text(out, " bug |");
    else if (cell->action == TD_FSM_IGNORE)
        td_buf_append_text(out, " – |");
    else if (cell->next == state)
        td_buf_printf(out, " %s |", td_fsm_action_name(fsm, cell->action));
    else
        td_buf_printf(out, " %s → **%s** |", td_fsm_action_name(fsm, cell->action),
                      fsm->states[cell->next].name);
}

/* Events are rows and states are columns: there are more events, and a page is taller than wide. */
static void print_cells(const struct td_fsm *fsm, struct td_buf *out)
{
    td_buf_append_text(out, "| event |");
    for (uint8_t s = 0; s < fsm->state_count; s++)
        td_buf_printf(out, " %s |", fsm->states[s].name);
    td_buf_append_text(out, "\n|---|");
    for (uint8_t s = 0; s < fsm->state_count; s++)
        td_buf_append_text(out, "---|");
    for (uint8_t e = 0; e < fsm->event_count; e++) {
        td_buf_printf(out, "\n| `%s` |", fsm->events[e].name);
        for (uint8_t s = 0; s < fsm->state_count; s++)
            print_cell(fsm, s, e, out);
    }
    td_buf_append_text(out, "\n\n");
}

static void print_reasons(const struct td_fsm *fsm, struct td_buf *out)
{
    for (uint8_t s = 0; s < fsm->state_count; s++) {
        for (uint8_t e = 0; e < fsm->event_count; e++) {
            const char *why = td_fsm_cell(fsm, s, e)->why;

            if (why != NULL && why[0] != '\0')
                td_buf_printf(out, "- `%s` on `%s`: %s\n", fsm->states[s].name, fsm->events[e].name,
                              why);
        }
    }
    td_buf_append_text(out, "\n");
}

void td_fsm_print_states(const struct td_fsm *fsm, struct td_buf *out)
{
    print_names(fsm->states, fsm->state_count, "state", true, out);
}

void td_fsm_print(const struct td_fsm *fsm, struct td_buf *out)
{
    td_buf_printf(out, "## %s\n\n%s\n\n", fsm->name, fsm->text);
    td_fsm_print_states(fsm, out);
    print_names(fsm->events, fsm->event_count, "event", false, out);
    print_names(fsm->actions, fsm->action_count, "action", false, out);
    print_cells(fsm, out);
    print_reasons(fsm, out);
}
