/* child.c: the table of a supervised process and what its actions do, see child.h. */
#include "cli/child.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/say.h"
#include "lib/base/list.h"
#include "lib/net/program.h"

#define HURRY_MS     500 /* between the second SIGTERM and SIGKILL */
#define REASON_BYTES (CLI_FAILURE_BYTES + 128)

TD_FSM_DEFINE(child, CHILD, "One supervised process of a cluster on this host.");

static void handle(struct cli_child *child, enum child_event event, const char *detail);

/* ---- the process ---- */

/* What follows a word at the beginning of a line, "" if nothing does; NULL: it is another word. */
static const char *behind_word(const char *line, const char *word)
{
    size_t length = strlen(word);

    if (strncmp(line, word, length) != 0 || (line[length] != ' ' && line[length] != '\0'))
        return NULL;
    return line[length] == ' ' ? line + length + 1 : "";
}

/* "DONE TOTAL WHAT". */
static void take_progress(struct cli_child *child, const char *text)
{
    char *rest;
    uint64_t done = strtoull(text, &rest, 10);
    uint64_t total = strtoull(rest, &rest, 10);

    if (child->config.on_progress != NULL && *rest == ' ')
        child->config.on_progress(child->config.ctx, child, rest + 1, done, total);
}

static void on_line(void *ctx, const char *line)
{
    struct cli_child *child = ctx;
    const char *text;

    if ((text = behind_word(line, "ready")) != NULL)
        handle(child, CHILD_ON_READY, text);
    else if ((text = behind_word(line, "failed")) != NULL)
        snprintf(child->failure, sizeof child->failure, "%s", text);
    else if ((text = behind_word(line, "progress")) != NULL)
        take_progress(child, text);
}

static void on_exit_of_child(void *ctx, int exit_code, int signal_number)
{
    struct cli_child *child = ctx;
    char how[REASON_BYTES];

    net_process_close(child->process);
    child->process = NULL;
    if (child->failure[0] != '\0')
        snprintf(how, sizeof how, "cannot start: %s", child->failure);
    else if (exit_code == NET_EXIT_LOST)
        snprintf(how, sizeof how, "lost what it computes with (status %d)", exit_code);
    else if (exit_code >= 0)
        snprintf(how, sizeof how, "ended with status %d", exit_code);
    else
        snprintf(how, sizeof how, "was ended by signal %d (%s)", signal_number,
                 strsignal(signal_number));
    /* SIGTERM ends a process that has not come to handle it yet: that is no failure */
    if (child->state == CHILD_STOPPING && (exit_code == 0 || signal_number == SIGTERM))
        handle(child, CHILD_ON_EXIT, NULL);
    else
        handle(child, CHILD_ON_EXIT, how);
}

static td_status_t spawn(struct cli_child *child, struct td_error *error)
{
    const struct net_process_options options = {
        .argv = child->config.argv,
        .stdin_fd = -1,
        .stdout_fd = child->config.stdout_fd,
        .stderr_fd = -1,
        .ctx = child,
        .on_line = on_line,
        .on_exit = on_exit_of_child,
    };
    td_status_t status;

    child->failure[0] = '\0';
    status = net_process_spawn(child->config.loop, &options, &child->process, error);
    if (status == TD_OK)
        net_timer_set_in(&child->timer, child->config.times.start_ms);
    return status;
}

/* ---- actions ---- */

static void announce(struct cli_child *child, const char *address)
{
    net_timer_set_in(&child->timer, child->config.times.calm_ms);
    child->config.on_ready(child->config.ctx, child, address);
}

static void give_up(struct cli_child *child, const char *how)
{
    char reason[REASON_BYTES];

    if (how != NULL) {
        net_timer_cancel(&child->timer);
        snprintf(reason, sizeof reason, "%s %s%s", child->config.name, how,
                 child->failure[0] != '\0' ? "" : " before it was ready");
    } else {
        snprintf(reason, sizeof reason, "%s was not ready after %" PRIu64 " s", child->config.name,
                 child->config.times.start_ms / 1000);
        net_process_signal(child->process, SIGTERM);
        net_timer_set_in(&child->timer, child->config.times.drain_ms);
    }
    child->config.on_failed(child->config.ctx, child, reason);
}

static void back_off(struct cli_child *child, const char *how)
{
    uint64_t pause_ms = child->back_off_ms;

    cli_say("%s %s; starting it again in %.2f s", child->config.name, how, (double)pause_ms / 1e3);
    net_timer_set_in(&child->timer, pause_ms);
    child->back_off_ms = 2 * pause_ms < child->config.times.back_off_max_ms
                             ? 2 * pause_ms
                             : child->config.times.back_off_max_ms;
}

static void spawn_again(struct cli_child *child)
{
    struct td_error error = {0};

    child->restarts++;
    if (spawn(child, &error) != TD_OK)
        handle(child, CHILD_ON_EXIT, error.text);
}

static void terminate(struct cli_child *child)
{
    net_process_signal(child->process, SIGTERM);
    net_timer_set_in(&child->timer, child->config.times.drain_ms);
}

static void kill_now(struct cli_child *child)
{
    cli_say("%s does not end; killing it", child->config.name);
    child->was_killed = true;
    net_process_signal(child->process, SIGKILL);
}

/* how is NULL if all went well, or there was no process any more. */
static void finish(struct cli_child *child, const char *how)
{
    net_timer_cancel(&child->timer);
    if (how != NULL && !child->was_killed) {
        if (child->failure[0] ==
            '\0') /* else the whole ends because one cannot start: said already */
            cli_say("%s %s while it was finishing", child->config.name, how);
        child->ended_badly = true;
    }
    child->config.on_ended(child->config.ctx, child);
}

static void handle(struct cli_child *child, enum child_event event, const char *detail)
{
    switch (td_fsm_step(&child_fsm, &child->state, (uint8_t)event)) {
    case CHILD_DO_ANNOUNCE: announce(child, detail); break;
    case CHILD_DO_GIVE_UP: give_up(child, detail); break;
    case CHILD_DO_BACK_OFF: back_off(child, detail); break;
    case CHILD_DO_SPAWN: spawn_again(child); break;
    case CHILD_DO_CALM: child->back_off_ms = child->config.times.back_off_first_ms; break;
    case CHILD_DO_TERMINATE: terminate(child); break;
    case CHILD_DO_KILL: kill_now(child); break;
    case CHILD_DO_FINISH: finish(child, detail); break;
    default: break;
    }
}

/* ---- for the supervisor ---- */

static void on_timer(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    handle(td_container_of(timer, struct cli_child, timer), CHILD_ON_DUE, NULL);
}

td_status_t cli_child_init(struct cli_child *child, const struct cli_child_config *config,
                           struct td_error *error)
{
    *child = (struct cli_child){
        .config = *config,
        .state = CHILD_STARTING,
        .back_off_ms = config->times.back_off_first_ms,
    };
    net_timer_init(&child->timer, config->loop, on_timer);
    return spawn(child, error);
}

void cli_child_stop(struct cli_child *child)
{
    handle(child, CHILD_ON_STOP, NULL);
}

void cli_child_hurry(struct cli_child *child)
{
    if (child->process == NULL)
        return;
    net_process_signal(child->process, SIGTERM);
    net_timer_set_in(&child->timer, HURRY_MS);
}

pid_t cli_child_pid(const struct cli_child *child)
{
    return child->process != NULL ? net_process_pid(child->process) : -1;
}

bool cli_child_has_ended(const struct cli_child *child)
{
    return child->state == CHILD_ENDED;
}

void cli_child_fini(struct cli_child *child)
{
    net_timer_cancel(&child->timer);
    net_process_close(child->process);
    child->process = NULL;
}
