/* starting.c: see starting.h. */
#include "cli/starting.h"

#include <stdio.h>

#include "lib/base/list.h"

#define REDRAW_MS 200

static double share(const struct cli_starting_member *member)
{
    return (double)member->done / (double)member->total;
}

/* The one that has the most before it; NULL: nobody reports. */
static const struct cli_starting_member *slowest(const struct cli_starting *starting)
{
    const struct cli_starting_member *found = NULL;

    for (size_t i = 0; i < CLI_CHILDREN_MAX; i++) {
        const struct cli_starting_member *member = &starting->members[i];

        if (member->total != 0 && (found == NULL || share(member) < share(found)))
            found = member;
    }
    return found;
}

static void draw(struct cli_starting *starting)
{
    const struct cli_starting_member *member = slowest(starting);

    if (member == NULL)
        td_progress_rename(&starting->progress, starting->idle);
    td_progress_update(&starting->progress, member != NULL ? member->done : 0,
                       member != NULL ? member->total : 0);
}

static void on_timer(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    draw(td_container_of(timer, struct cli_starting, timer));
    net_timer_set_in(timer, REDRAW_MS);
}

void cli_starting_init(struct cli_starting *starting, struct net_loop *loop, const char *program,
                       const char *what)
{
    *starting = (struct cli_starting){.members = {{0}}};
    snprintf(starting->idle, sizeof starting->idle, "%s", what);
    td_progress_begin(&starting->progress, program, what);
    net_timer_init(&starting->timer, loop, on_timer);
    net_timer_set_in(&starting->timer, REDRAW_MS);
}

void cli_starting_report(struct cli_starting *starting, size_t i, const char *name,
                         const struct cli_starting_member *amount, const char *what)
{
    char text[TD_PROGRESS_WHAT_BYTES];

    starting->members[i] = *amount;
    if (&starting->members[i] != slowest(starting))
        return;
    snprintf(text, sizeof text, "%.30s: %.60s", name, what);
    td_progress_rename(&starting->progress, text);
}

void cli_starting_forget(struct cli_starting *starting, size_t i)
{
    starting->members[i] = (struct cli_starting_member){0};
}

void cli_starting_hide(struct cli_starting *starting)
{
    td_progress_hide(&starting->progress);
}

void cli_starting_fini(struct cli_starting *starting)
{
    if (!net_timer_armed(&starting->timer))
        return;
    net_timer_cancel(&starting->timer);
    td_progress_hide(&starting->progress);
}
