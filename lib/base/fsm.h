/*
 * fsm.h: state machines as tables: states x events, with a defined result in each cell.
 *
 * Every protocol object (journey, request, sequence, import, export, transfer) is driven by one
 * struct td_fsm. A cell names the next state and the action; there is no cell without a meaning:
 * "cannot happen here" is the action BUG (an assertion), "late or repeated, harmless" is IGNORE.
 * Each state names the deadline that bounds the stay in it. docs/protocol.md is printed from these
 * tables, and tests walk all cells.
 *
 * How a module declares one, with X-macros in its header (P is passed through):
 *
 *     #define IMPORT_STATES(X, P)  X(P, RESERVING, reserve_ms, "blocks were asked of the engine") ...
 *     #define IMPORT_EVENTS(X, P)  X(P, RESERVED, "the engine reserved the blocks") ...
 *     #define IMPORT_ACTIONS(X, P) X(P, PAIR, "open the pair with the candidate") ...
 *     #define IMPORT_CELLS(X, P)   X(P, RESERVING, RESERVED, PAIRING, PAIR, "why, or empty") ...
 *     TD_FSM_DECLARE(import, IMPORT);   enums IMPORT_RESERVING, IMPORT_ON_RESERVED, IMPORT_DO_PAIR
 * and in its source:
 *     TD_FSM_DEFINE(import, IMPORT, "One KV import of a decode worker.");
 *
 * The first state is the initial one. A state's deadline is the name of the limit that bounds the
 * stay in it; "none" means that the state is terminal. The actions BUG and IGNORE exist in every
 * machine.
 */
#ifndef TANDEM_LIB_BASE_FSM_H
#define TANDEM_LIB_BASE_FSM_H

#include <stdbool.h>
#include <stdint.h>

struct td_buf;

#define TD_FSM_UNDEFINED 0 /* a cell that nobody filled: refused by td_fsm_check */
#define TD_FSM_BUG       1 /* this event in this state is a programming error */
#define TD_FSM_IGNORE    2 /* harmless; the state does not change */
#define TD_FSM_FIRST     3 /* the module's first own action */

#define TD_FSM_STATES_MAX 32

struct td_fsm_name {
    const char *name;
    const char *deadline; /* states: the limit that bounds it, or "none" */
    const char *text;
};

struct td_fsm_cell {
    uint8_t next;
    uint8_t action;
    const char *why;
};

struct td_fsm {
    const char *name;
    const char *text;
    const struct td_fsm_name *states;
    const struct td_fsm_name *events;
    const struct td_fsm_name *actions; /* without the three common ones */
    const struct td_fsm_cell *cells;   /* [state * event_count + event] */
    uint8_t state_count;
    uint8_t event_count;
    uint8_t action_count;
};

/*
 * Moves *state by event and returns the action to carry out. On TD_FSM_IGNORE the state is
 * unchanged. An UNDEFINED or BUG cell aborts the process with the names of state and event.
 */
uint8_t td_fsm_step(const struct td_fsm *fsm, uint8_t *state, uint8_t event);

/* The cell without moving, for tests and for the document. */
const struct td_fsm_cell *td_fsm_cell(const struct td_fsm *fsm, uint8_t state, uint8_t event);

/* Whether the state is terminal: its deadline is "none". */
bool td_fsm_is_terminal(const struct td_fsm *fsm, uint8_t state);

const char *td_fsm_action_name(const struct td_fsm *fsm, uint8_t action);

/*
 * Checks the table: every cell filled with a state and an action that exist; IGNORE and BUG keep the
 * state; every state reachable from the first; from every state a terminal one is reachable;
 * terminal states only IGNORE or BUG.
 * Returns NULL if all is well, else a sentence in static memory (tests print it).
 */
const char *td_fsm_check(const struct td_fsm *fsm);

/* Appends the states, what bounds the stay in each, and what they mean, as a Markdown table. */
void td_fsm_print_states(const struct td_fsm *fsm, struct td_buf *out);

/* Appends the machine as a Markdown section: states, events, actions, cells, and why. */
void td_fsm_print(const struct td_fsm *fsm, struct td_buf *out);

#define TD_FSM_STATE_ENUM(P, name, deadline, text)    P##_##name,
#define TD_FSM_EVENT_ENUM(P, name, text)              P##_ON_##name,
#define TD_FSM_ACTION_ENUM(P, name, text)             P##_DO_##name,
#define TD_FSM_STATE_NAME(P, state, deadline_, text_) {#state, #deadline_, text_},
#define TD_FSM_EVENT_NAME(P, event, text_)            {#event, "", text_},
#define TD_FSM_ACTION_NAME(P, action, text_)          {#action, "", text_},
#define TD_FSM_CELL(P, state, event, next, action, why) \
    [P##_##state * P##_EVENT_COUNT + P##_ON_##event] = {P##_##next, P##_DO_##action, why},

#define TD_FSM_DECLARE(lower, UPPER)                                                    \
    enum lower##_state{UPPER##_STATES(TD_FSM_STATE_ENUM, UPPER) UPPER##_STATE_COUNT};   \
    enum lower##_event{UPPER##_EVENTS(TD_FSM_EVENT_ENUM, UPPER) UPPER##_EVENT_COUNT};   \
    enum lower##_action{UPPER##_DO_BUG = TD_FSM_BUG, UPPER##_DO_IGNORE = TD_FSM_IGNORE, \
                        UPPER##_ACTIONS(TD_FSM_ACTION_ENUM, UPPER) UPPER##_DO_COUNT};   \
    extern const struct td_fsm lower##_fsm

#define TD_FSM_DEFINE(lower, UPPER, text_)                                                         \
    static const struct td_fsm_name lower##_fsm_states[] = {                                       \
        UPPER##_STATES(TD_FSM_STATE_NAME, UPPER)};                                                 \
    static const struct td_fsm_name lower##_fsm_events[] = {                                       \
        UPPER##_EVENTS(TD_FSM_EVENT_NAME, UPPER)};                                                 \
    static const struct td_fsm_name lower##_fsm_actions[] = {                                      \
        UPPER##_ACTIONS(TD_FSM_ACTION_NAME, UPPER)};                                               \
    static const struct td_fsm_cell lower##_fsm_cells[UPPER##_STATE_COUNT * UPPER##_EVENT_COUNT] = \
        {UPPER##_CELLS(TD_FSM_CELL, UPPER)};                                                       \
    const struct td_fsm lower##_fsm = {                                                            \
        .name = #lower,                                                                            \
        .text = text_,                                                                             \
        .states = lower##_fsm_states,                                                              \
        .events = lower##_fsm_events,                                                              \
        .actions = lower##_fsm_actions,                                                            \
        .cells = lower##_fsm_cells,                                                                \
        .state_count = UPPER##_STATE_COUNT,                                                        \
        .event_count = UPPER##_EVENT_COUNT,                                                        \
        .action_count = UPPER##_DO_COUNT - TD_FSM_FIRST,                                           \
    }

#endif
