/*
 * test_protocol_page.c: the tables of docs/protocol.md are those of the code (see tests/support/page.h),
 * every table is complete, and every deadline that a state names is explained.
 */
#include <stdio.h>
#include <string.h>

#include "engine/sequence.h"
#include "front/exchange.h"
#include "kvtransfer/core.h"
#include "kvtransfer/incoming.h"
#include "kvtransfer/outgoing.h"
#include "kvtransfer/peer.h"
#include "router/core.h"
#include "router/journey.h"
#include "scheduler/config.h"
#include "scheduler/feed.h"
#include "scheduler/fleet.h"
#include "tests/support/page.h"
#include "tests/support/support.h"
#include "worker/export.h"
#include "worker/import.h"
#include "worker/pairs.h"
#include "worker/request.h"
#include "worker/types.h"

#define MACHINES(X) \
    X(exchange)     \
    X(journey)      \
    X(request)      \
    X(sequence)     \
    X(import)       \
    X(pair)         \
    X(export)       \
    X(kvt_peer)     \
    X(kvt_incoming) \
    X(kvt_outgoing) \
    X(sched_worker) \
    X(sched_feed)

#define X(name)                                  \
    static void print_##name(struct td_buf *out) \
    {                                            \
        td_fsm_print(&name##_fsm, out);          \
    }
MACHINES(X)
#undef X

static const struct td_fsm *const machines[] = {
#define X(name) &name##_fsm,
    MACHINES(X)
#undef X
};

/* --- deadlines --- */

static void row(struct td_buf *out, const char *where, const char *name, uint32_t ms,
                const char *text)
{
    td_buf_printf(out, "| %s | `%s` | %g s | %s |\n", where, name, (double)ms / 1000.0, text);
}

static void print_configured(struct td_buf *out)
{
    const uint32_t ms = 1;
    const uint32_t s = 1000 * ms;
    struct kvt_limits kvt = kvt_limits_default();
    struct sched_config scheduler = sched_config_default();

#define X(name, flag, count, unit, text) row(out, "router", #name, (count)*unit, text);
    ROUTER_TIMES_MAP(X)
#undef X
#define X(name, flag, count, unit, text) row(out, "worker", #name, (count)*unit, text);
    WORKER_TIMES_MAP(X)
#undef X
    row(out, "transfers", "connect_ms", kvt.connect_ms,
        "a transport must have reached its peer; in a worker within 3/4 of `pair_ms` as well, and "
        "with NCCL "
        "within that alone");
    row(out, "transfers", "stop_ms", kvt.stop_ms,
        "what is in flight must have ended after a failure; then the connection is cut");
    row(out, "transfers", "cut_ms", kvt.cut_ms,
        "what is in flight must have ended after the cut; then the blocks are quarantined");
    row(out, "scheduler", "stale_ms", scheduler.stale_ms, "a worker may be silent");
    row(out, "scheduler", "gone_ms", scheduler.gone_ms, "a silent worker is kept in the fleet");
    row(out, "scheduler", "grace_ms", scheduler.grace_ms, "a worker without a stream is kept");
    row(out, "scheduler", "answer_ms", scheduler.answer_ms,
        "a snapshot that was asked for must come, part by part");
    row(out, "scheduler", "retry_ms", scheduler.retry_ms,
        "before a snapshot is asked for again; doubles up to `retry_max_ms`");
}

/* Deadlines that are no number of their own. */
static const struct {
    const char *name;
    const char *text;
} derived[] = {
    {"transfer", "the transfer core's `stop_ms` and `cut_ms` together: it always answers"},
    {"engine_step", "the engine answers at the end of the present step at the latest"},
    {"remaining_ms", "what is left of the request's own deadline, set by its Start"},
    {"import", "the import's own deadlines, which are shorter"},
    {"lease_ms", "the lease of the ask, renewed by the asker"},
    {"deadline", "what the owner gave with EXPECT or OFFER; for OFFER the lease bounds it"},
    {"keepalive", "the transport's own watch over the connection"},
    {"worker", "the life of the worker that it belongs to"},
    {"work", "a bounded amount of computing for a bounded input"},
    {"backend", "the journey's or the request's deadline behind it"},
    {"stall", "a client that takes nothing is cut off after the front's write deadline"},
};

static void print_deadlines(struct td_buf *out)
{
    td_buf_append_text(out, "| of | name | default | within which |\n|---|---|---|---|\n");
    print_configured(out);
    td_buf_append_text(out, "\n| name | what bounds it |\n|---|---|\n");
    for (size_t i = 0; i < sizeof derived / sizeof derived[0]; i++)
        td_buf_printf(out, "| `%s` | %s |\n", derived[i].name, derived[i].text);
}

/* --- tests --- */

static void the_page_s_tables_are_the_code_s(void **state)
{
    static const struct test_page_block blocks[] = {
#define X(name) {#name, print_##name},
        MACHINES(X)
#undef X
            {"deadlines", print_deadlines}};

    (void)state;
    test_page_check("docs/protocol.md", blocks, sizeof blocks / sizeof blocks[0]);
}

static void every_table_is_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        const char *fault = td_fsm_check(machines[i]);

        if (fault != NULL)
            fail_msg("%s", fault);
    }
}

static void every_deadline_is_explained(void **state)
{
    struct td_buf text;

    (void)state;
    td_buf_init(&text, 1 << 20);
    print_deadlines(&text);
    for (size_t i = 0; i < sizeof machines / sizeof machines[0]; i++) {
        for (uint8_t s = 0; s < machines[i]->state_count; s++) {
            const char *deadline = machines[i]->states[s].deadline;
            char wanted[64];

            snprintf(wanted, sizeof wanted, "`%s`", deadline);
            if (!td_fsm_is_terminal(machines[i], s) && strstr(text.data, wanted) == NULL)
                fail_msg("%s: nothing is said about %s", machines[i]->name, deadline);
        }
    }
    td_buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_is_complete),
        cmocka_unit_test(every_deadline_is_explained),
        cmocka_unit_test(the_page_s_tables_are_the_code_s),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
