/*
 * link.c: the Announce streams: registering, and what workers say afterwards.
 */
#include <stdlib.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "scheduler/internal.h"

/* --- streams ------------------------------------------------------------------------------- */

void sched_link_free(struct sched_link *link)
{
    struct sched_core *core = link->core;

    td_timer_cancel(&core->timers, &link->deadline);
    td_list_remove(&link->node);
    core->link_count--;
    free(link);
}

void sched_link_close(struct sched_link *link, td_status_t status, const char *reason)
{
    struct sched_core *core = link->core;
    void *handle = link->handle;

    sched_link_free(link);
    core->env.link_close(core->env.impl, handle, status, reason);
}

/* The stream is no more; its worker may come back on another. */
static void lose_worker(struct sched_core *core, struct sched_worker *worker, uint64_t now_ns)
{
    worker->link = NULL;
    sched_feed_detach(&worker->feed);
    sched_worker_step(core, worker, SCHED_WORKER_ON_LOSE, now_ns);
}

/* Ends a stream that broke the rules. */
static void punish(struct sched_link *link, const struct td_error *error, uint64_t now_ns)
{
    struct sched_core *core = link->core;
    struct sched_worker *worker = link->worker;

    core->stats.violations++;
    td_log(TD_LOG_WARN, "core", "stream of worker closed: %s target %s", error->text,
           worker != NULL ? worker->identity.rpc_target : "(not registered)");
    sched_link_close(link, error->status, error->text);
    if (worker != NULL)
        lose_worker(core, worker, now_ns);
}

static void on_register_deadline(struct td_timer *timer, uint64_t now_ns)
{
    struct sched_link *link = td_container_of(timer, struct sched_link, deadline);
    struct td_error error = {0};

    (void)td_fail(&error, TD_TIMEOUT, "no registration within %u ms",
                  link->core->config.register_ms);
    punish(link, &error, now_ns);
}

td_status_t sched_link_open(struct sched_core *core, void *handle, Td__Role certified,
                            uint64_t now_ns, struct sched_link **link_out)
{
    struct sched_link *link;

    if (core->link_count >= SCHED_LINKS_MAX)
        return TD_LIMIT;
    link = calloc(1, sizeof *link);
    if (link == NULL)
        return TD_NO_MEMORY;
    link->core = core;
    link->handle = handle;
    link->certified = certified;
    td_timer_init(&link->deadline, on_register_deadline);
    td_timer_set(&core->timers, &link->deadline, now_ns + core->config.register_ms * TD_NS_PER_MS);
    td_list_push_back(&core->links, &link->node);
    core->link_count++;
    *link_out = link;
    return TD_OK;
}

void sched_link_closed(struct sched_link *link, uint64_t now_ns)
{
    struct sched_core *core = link->core;
    struct sched_worker *worker = link->worker;

    sched_link_free(link);
    if (worker != NULL)
        lose_worker(core, worker, now_ns);
    sched_core_settle(core, now_ns);
}

/* --- registering --------------------------------------------------------------------------- */

static void on_worker_deadline(struct td_timer *timer, uint64_t now_ns)
{
    struct sched_worker *worker = td_container_of(timer, struct sched_worker, deadline);

    sched_worker_step(worker->core, worker, SCHED_WORKER_ON_SILENCE, now_ns);
}

/* The same process on a new stream. */
static void come_back(struct sched_core *core, struct sched_worker *worker, uint64_t now_ns)
{
    if (worker->link != NULL) {
        struct sched_link *older = worker->link;

        worker->link = NULL;
        sched_feed_detach(&worker->feed);
        sched_link_close(older, TD_STALE, "registered again on another stream");
    }
    sched_worker_step(core, worker, SCHED_WORKER_ON_RETURN, now_ns);
}

/*
 * Two live processes that advertise one target would push each other out for ever: the newer one stays.
 * The older one may come back when the newer one has left.
 */
static td_status_t check_not_replaced(const struct sched_core *core,
                                      const struct sched_identity *identity, struct td_error *error)
{
    if (sched_fleet_at(&core->fleet, identity->rpc_target) == NULL)
        return TD_OK;
    for (uint32_t i = 0; i < SCHED_REPLACED_MAX; i++)
        if (core->replaced[i] == identity->epoch)
            return td_fail(error, TD_REFUSED,
                           "registration: rpc_target %s is a newer process's; do two workers "
                           "advertise the same address?",
                           identity->rpc_target);
    return TD_OK;
}

static void remember_replaced(struct sched_core *core, uint64_t epoch)
{
    core->replaced[core->replaced_next] = epoch;
    core->replaced_next = (core->replaced_next + 1) % SCHED_REPLACED_MAX;
}

/*
 * Nothing is wrong with any of them, but whoever started them will wonder why no KV crosses. One line, however
 * many they are: in a mixed fleet that restarts there would be one for each pair.
 */
static void warn_of_unlike(const struct sched_fleet *fleet, const struct sched_identity *identity)
{
    const struct sched_identity *first = NULL;
    uint32_t count = 0;

    sched_fleet_for_each(other, fleet)
    {
        if (!sched_identity_is_unlike(identity, &other->identity))
            continue;
        first = first != NULL ? first : &other->identity;
        count++;
    }
    if (count > 0)
        td_log(TD_LOG_WARN, "core",
               "workers of one model that cannot exchange KV, as their content_id differs: "
               "target %s numerics %s others %u first %s first_numerics %s",
               identity->rpc_target, identity->numerics, count, first->rpc_target, first->numerics);
}

static td_status_t join(struct sched_core *core, struct sched_identity *identity, uint64_t now_ns,
                        struct sched_worker **worker_out, struct td_error *error)
{
    struct sched_worker *before = sched_fleet_at(&core->fleet, identity->rpc_target);
    struct sched_worker *worker;
    td_status_t status = check_not_replaced(core, identity, error);

    if (status != TD_OK)
        return status;

    if (before != NULL) {
        core->stats.replaced++;
        remember_replaced(core, before->identity.epoch);
        sched_worker_step(core, before, SCHED_WORKER_ON_REPLACE, now_ns);
    }
    status = sched_fleet_add(&core->fleet, identity, &worker);
    if (status != TD_OK)
        return td_fail(error, status, "registration: %s", td_status_text(status));
    worker->core = core;
    warn_of_unlike(&core->fleet, &worker->identity);
    sched_feed_init(&worker->feed, &core->feeds, worker->identity.block_count);
    td_timer_init(&worker->deadline, on_worker_deadline);
    td_timer_set(&core->timers, &worker->deadline, now_ns + core->config.stale_ms * TD_NS_PER_MS);
    sched_watch_changed(core, now_ns);
    *worker_out = worker;
    return TD_OK;
}

static td_status_t enroll(struct sched_link *link, const Td__Registration *registration,
                          uint64_t now_ns, struct td_error *error)
{
    struct sched_core *core = link->core;
    struct sched_identity identity;
    struct sched_worker *worker;
    td_status_t status;

    if (link->worker != NULL)
        return td_fail(error, TD_INVALID, "registration: a second one on this stream");
    status = sched_identity_read(registration, link->certified, &identity, error);
    if (status != TD_OK)
        return status;
    status = sched_fleet_check(&core->fleet, &identity, error);
    if (status != TD_OK)
        goto free_identity;
    worker = sched_fleet_find(&core->fleet, identity.epoch);
    if (worker != NULL)
        come_back(core, worker, now_ns);
    else
        status = join(core, &identity, now_ns, &worker, error);
    if (status != TD_OK)
        goto free_identity;
    core->stats.registrations++;
    td_timer_cancel(&core->timers, &link->deadline);
    link->worker = worker;
    worker->link = link;
    link->welcome_owed = true;
    core->env.link_ready(core->env.impl, link->handle);
    sched_feed_attach(&worker->feed, now_ns);
free_identity:
    sched_identity_fini(&identity);
    return status;
}

/* --- messages ------------------------------------------------------------------------------ */

static void on_load(struct sched_link *link, const Td__LoadReport *report, uint64_t now_ns)
{
    struct sched_core *core = link->core;
    struct sched_worker *worker = link->worker;
    enum sched_worker_event event = report->ready ? SCHED_WORKER_ON_READY : SCHED_WORKER_ON_UNREADY;

    if (!sched_worker_report(worker, report)) {
        core->stats.reports_old++;
        return;
    }
    core->stats.reports++;
    /* placing does this too, but when nothing is placed any more, what is shown must still become true */
    sched_guess_expire(&worker->guesses, now_ns, core->config.guess_ms * TD_NS_PER_MS);
    sched_feed_report(&worker->feed, report, now_ns);
    sched_worker_step(core, worker, worker->draining ? SCHED_WORKER_ON_DRAIN : event, now_ns);
}

static td_status_t on_message(struct sched_link *link, const Td__AnnounceIn *message,
                              uint64_t now_ns, struct td_error *error)
{
    if (message->kind_case == TD__ANNOUNCE_IN__KIND_REGISTRATION)
        return enroll(link, message->registration, now_ns, error);
    if (message->kind_case == TD__ANNOUNCE_IN__KIND__NOT_SET) {
        link->core->stats.unknown_kinds++;
        return TD_OK;
    }
    if (link->worker == NULL)
        return td_fail(error, TD_INVALID, "the first message must be a registration");
    switch (message->kind_case) {
    case TD__ANNOUNCE_IN__KIND_EVENTS:
        return sched_feed_events(&link->worker->feed, message->events, now_ns, error);
    case TD__ANNOUNCE_IN__KIND_SNAPSHOT:
        return sched_feed_snapshot(&link->worker->feed, message->snapshot, now_ns, error);
    case TD__ANNOUNCE_IN__KIND_LOAD: on_load(link, message->load, now_ns); return TD_OK;
    case TD__ANNOUNCE_IN__KIND_DRAINING:
        link->worker->draining = true;
        sched_worker_step(link->core, link->worker, SCHED_WORKER_ON_DRAIN, now_ns);
        return TD_OK;
    default: link->core->stats.unknown_kinds++; return TD_OK;
    }
}

void sched_link_message(struct sched_link *link, const Td__AnnounceIn *message, uint64_t now_ns)
{
    struct sched_core *core = link->core;
    struct td_error error = {0};

    if (on_message(link, message, now_ns, &error) != TD_OK)
        punish(link, &error, now_ns);
    sched_core_settle(core, now_ns);
}

void sched_link_ask(struct sched_feed *feed)
{
    struct sched_worker *worker = td_container_of(feed, struct sched_worker, feed);

    worker->link->snapshot_owed = true;
    worker->core->env.link_ready(worker->core->env.impl, worker->link->handle);
}

const Td__AnnounceOut *sched_link_next(struct sched_link *link)
{
    struct sched_core *core = link->core;

    td__announce_out__init(&core->out);
    if (link->welcome_owed) {
        link->welcome_owed = false;
        td__welcome__init(&core->welcome);
        core->welcome.version = link->worker->identity.version;
        core->welcome.scheduler_epoch = core->config.epoch;
        core->welcome.load_interval_ms = core->config.load_interval_ms;
        core->out.kind_case = TD__ANNOUNCE_OUT__KIND_WELCOME;
        core->out.welcome = &core->welcome;
        return &core->out;
    }
    if (link->snapshot_owed) {
        link->snapshot_owed = false;
        td__snapshot_request__init(&core->snapshot_request);
        core->out.kind_case = TD__ANNOUNCE_OUT__KIND_SNAPSHOT_REQUEST;
        core->out.snapshot_request = &core->snapshot_request;
        return &core->out;
    }
    return NULL;
}
