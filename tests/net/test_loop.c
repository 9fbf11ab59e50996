/* test_loop.c: the event loop: timers, deferred calls, wake-ups, signals, descriptors, jobs. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/time.h"
#include "tests/net/net_support.h"

struct note {
    struct net_loop *loop;
    struct net_timer timers[3];
    struct net_defer defer;
    int order[16];
    int count;
    int stop_at;
    uint64_t due_ns;
};

static void note(struct note *notes, int what)
{
    notes->order[notes->count++] = what;
    if (notes->count == notes->stop_at)
        net_loop_stop(notes->loop);
}

static void open_notes(struct note *notes, int stop_at)
{
    *notes = (struct note){.stop_at = stop_at};
    assert_int_equal(net_loop_open(&notes->loop), TD_OK);
}

static void timer_0(struct net_timer *timer, uint64_t now_ns)
{
    struct note *notes = td_container_of(timer, struct note, timers[0]);

    assert_true(now_ns >= notes->due_ns);
    note(notes, 0);
}

static void timer_1(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    note(td_container_of(timer, struct note, timers[1]), 1);
}

static void timer_2_rearms(struct net_timer *timer, uint64_t now_ns)
{
    struct note *notes = td_container_of(timer, struct note, timers[2]);

    note(notes, 2);
    if (notes->count < notes->stop_at)
        net_timer_set(timer, now_ns + TD_NS_PER_MS);
}

static void timers_fire_in_order_and_never_early(void **state)
{
    struct note notes;
    uint64_t now = td_now_ns();

    (void)state;
    open_notes(&notes, 2);
    net_timer_init(&notes.timers[0], notes.loop, timer_0);
    net_timer_init(&notes.timers[1], notes.loop, timer_1);
    notes.due_ns = now + 5300000; /* between two of libuv's milliseconds */
    net_timer_set(&notes.timers[1], now + 20 * TD_NS_PER_MS);
    net_timer_set(&notes.timers[0], now + 60 * TD_NS_PER_SEC);
    net_timer_set(&notes.timers[0], notes.due_ns); /* moved */
    net_loop_run(notes.loop);
    assert_int_equal(notes.order[0], 0);
    assert_int_equal(notes.order[1], 1);
    assert_false(net_timer_armed(&notes.timers[0]));
    net_loop_close(notes.loop);
}

static void a_canceled_timer_does_not_fire(void **state)
{
    struct note notes;

    (void)state;
    open_notes(&notes, 1);
    net_timer_init(&notes.timers[0], notes.loop, timer_0);
    net_timer_init(&notes.timers[1], notes.loop, timer_1);
    net_timer_set_in(&notes.timers[0], 0);
    net_timer_set_in(&notes.timers[1], 1);
    net_timer_cancel(&notes.timers[0]);
    net_timer_set(&notes.timers[0], TD_TIME_NEVER);
    net_loop_run(notes.loop);
    assert_int_equal(notes.order[0], 1);
    net_loop_close(notes.loop);
}

static void a_timer_may_set_itself_again(void **state)
{
    struct note notes;

    (void)state;
    open_notes(&notes, 4);
    net_timer_init(&notes.timers[2], notes.loop, timer_2_rearms);
    net_timer_set_in(&notes.timers[2], 0);
    net_loop_run(notes.loop);
    assert_int_equal(notes.count, 4);
    net_loop_close(notes.loop);
}

static void deferred(struct net_defer *defer)
{
    struct note *notes = td_container_of(defer, struct note, defer);

    note(notes, 7);
    if (notes->count < notes->stop_at)
        net_defer_post(notes->loop, defer); /* for the next turn, which must not sleep */
}

static void post_twice(struct net_timer *timer, uint64_t now_ns)
{
    struct note *notes = td_container_of(timer, struct note, timers[0]);

    (void)now_ns;
    net_defer_post(notes->loop, &notes->defer);
    net_defer_post(notes->loop, &notes->defer);
    note(notes, 6);
}

static void deferred_calls_run_once_after_what_posted_them(void **state)
{
    struct note notes;

    (void)state;
    open_notes(&notes, 2);
    net_timer_init(&notes.timers[0], notes.loop, post_twice);
    net_defer_init(&notes.defer, deferred);
    net_timer_set_in(&notes.timers[0], 0);
    net_loop_run(notes.loop);
    assert_int_equal(notes.order[0], 6);
    assert_int_equal(notes.order[1], 7);
    net_loop_close(notes.loop);
}

static void a_deferred_call_may_post_itself_without_starving_the_loop(void **state)
{
    struct note notes;

    (void)state;
    open_notes(&notes, 10);
    net_timer_init(&notes.timers[1], notes.loop, timer_1);
    net_defer_init(&notes.defer, deferred);
    net_defer_post(notes.loop, &notes.defer);
    net_timer_set_in(&notes.timers[1], 0);
    net_loop_run(notes.loop);
    assert_int_equal(notes.count, 10);
    net_defer_cancel(&notes.defer);
    net_timer_cancel(&notes.timers[1]);
    net_loop_close(notes.loop);
}

#define WAKES 20000

struct counter {
    struct net_loop *loop;
    struct net_wake *wake;
    _Atomic int sent;
    int seen;
};

static void count_wakes(void *ctx)
{
    struct counter *counter = ctx;

    counter->seen = counter->sent;
    if (counter->seen == WAKES)
        net_loop_stop(counter->loop);
}

static void *send_wakes(void *ctx)
{
    struct counter *counter = ctx;

    for (int i = 0; i < WAKES; i++) {
        counter->sent++;
        net_wake_send(counter->wake);
    }
    return NULL;
}

static void wake_ups_from_another_thread_lose_nothing(void **state)
{
    struct counter counter = {0};
    pthread_t thread;

    (void)state;
    assert_int_equal(net_loop_open(&counter.loop), TD_OK);
    assert_int_equal(net_wake_open(counter.loop, count_wakes, &counter, &counter.wake), TD_OK);
    assert_int_equal(pthread_create(&thread, NULL, send_wakes, &counter), 0);
    net_loop_run(counter.loop); /* ends only if the last one arrives */
    pthread_join(thread, NULL);
    net_wake_close(counter.wake);
    net_loop_close(counter.loop);
}

static void stop(void *ctx)
{
    net_loop_stop(ctx);
}

static void signals_arrive_on_the_loop(void **state)
{
    struct net_loop *loop;
    struct net_signal *handle;

    (void)state;
    assert_int_equal(net_loop_open(&loop), TD_OK);
    assert_int_equal(net_signal_open(loop, SIGUSR1, stop, loop, &handle), TD_OK);
    kill(getpid(), SIGUSR1);
    net_loop_run(loop);
    net_signal_close(handle);
    raise(SIGUSR1); /* does not kill */
    assert_int_equal(net_signal_open(loop, SIGKILL, stop, loop, &handle), TD_INVALID);
    net_loop_close(loop);
}

struct watched {
    struct net_loop *loop;
    struct net_poll *poll;
    int fds[2];
    unsigned events;
    bool close_inside;
};

static void watched_event(void *ctx, unsigned events)
{
    struct watched *watched = ctx;

    watched->events |= events;
    if (watched->close_inside)
        net_poll_close(watched->poll);
    net_loop_stop(watched->loop);
}

static void descriptors_report_reading_writing_and_hanging_up(void **state)
{
    struct watched watched = {0};
    char byte = 'x';

    (void)state;
    assert_int_equal(net_loop_open(&watched.loop), TD_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, watched.fds), 0);
    assert_int_equal(
        net_poll_open(watched.loop, watched.fds[0], watched_event, &watched, &watched.poll), TD_OK);
    net_poll_set(watched.poll, NET_WRITABLE);
    net_loop_run(watched.loop);
    assert_int_equal(watched.events, NET_WRITABLE);
    watched.events = 0;
    net_poll_set(watched.poll, NET_READABLE | NET_HANGUP);
    assert_int_equal(write(watched.fds[1], &byte, 1), 1);
    net_loop_run(watched.loop);
    assert_int_equal(watched.events, NET_READABLE);
    watched.events = 0;
    net_poll_set(watched.poll, NET_HANGUP); /* unread bytes do not hide the end */
    shutdown(watched.fds[1], SHUT_WR);
    watched.close_inside = true;
    net_loop_run(watched.loop);
    assert_true(watched.events & NET_HANGUP);
    close(watched.fds[0]);
    close(watched.fds[1]);
    net_loop_close(watched.loop);
}

struct job_state {
    struct net_loop *loop;
    struct test_event may_run;
    _Atomic int ran;
    int done_count;
    td_status_t status;
};

static void job_run(void *ctx)
{
    struct job_state *job = ctx;

    test_event_wait(&job->may_run);
    job->ran++;
}

static void job_done(void *ctx, td_status_t status)
{
    struct job_state *job = ctx;

    job->done_count++;
    job->status = status;
    net_loop_stop(job->loop);
}

static const struct net_job waiting_job = {.run = job_run, .done = job_done};

static void a_job_runs_elsewhere_and_completes_on_the_loop(void **state)
{
    struct job_state job = {0};
    struct net_work *work;

    (void)state;
    test_event_init(&job.may_run);
    test_event_post(&job.may_run);
    assert_int_equal(net_loop_open(&job.loop), TD_OK);
    assert_int_equal(net_work_start(job.loop, &waiting_job, &job, &work), TD_OK);
    net_loop_run(job.loop);
    assert_int_equal(job.ran, 1);
    assert_int_equal(job.done_count, 1);
    assert_int_equal(job.status, TD_OK);
    net_loop_close(job.loop);
    test_event_fini(&job.may_run);
}

static void a_canceled_job_still_completes_once(void **state)
{
    struct job_state job = {0};
    struct net_work *work;

    (void)state;
    test_event_init(&job.may_run);
    assert_int_equal(net_loop_open(&job.loop), TD_OK);
    assert_int_equal(net_work_start(job.loop, &waiting_job, &job, &work), TD_OK);
    net_work_cancel(work);
    test_event_post(&job.may_run); /* in case it runs already */
    net_loop_run(job.loop);
    assert_int_equal(job.done_count, 1);
    assert_int_equal(job.status, TD_CANCELED);
    net_loop_close(job.loop);
    test_event_fini(&job.may_run);
}

static void closing_the_loop_waits_for_running_jobs(void **state)
{
    struct job_state job = {0};
    struct net_work *work;

    (void)state;
    test_event_init(&job.may_run);
    assert_int_equal(net_loop_open(&job.loop), TD_OK);
    for (int i = 0; i < 8; i++) { /* more than the pool has threads: some run, some wait */
        test_event_post(&job.may_run);
        assert_int_equal(net_work_start(job.loop, &waiting_job, &job, &work), TD_OK);
    }
    net_loop_close(job.loop);
    assert_int_equal(job.done_count, 8);
    assert_int_equal(job.status, TD_CANCELED);
    test_event_fini(&job.may_run);
}

static void opening_and_closing_leaves_no_descriptor(void **state)
{
    int before = test_open_descriptors();

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct net_loop *loop;
        struct net_wake *wake;
        struct net_signal *handle;

        assert_int_equal(net_loop_open(&loop), TD_OK);
        assert_int_equal(net_wake_open(loop, stop, loop, &wake), TD_OK);
        assert_int_equal(net_signal_open(loop, SIGUSR2, stop, loop, &handle), TD_OK);
        net_signal_close(handle);
        net_wake_close(wake);
        net_loop_close(loop);
    }
    assert_true(test_open_descriptors() <= before + 2); /* libuv's own pipe for signals */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_order_and_never_early),
        cmocka_unit_test(a_canceled_timer_does_not_fire),
        cmocka_unit_test(a_timer_may_set_itself_again),
        cmocka_unit_test(deferred_calls_run_once_after_what_posted_them),
        cmocka_unit_test(a_deferred_call_may_post_itself_without_starving_the_loop),
        cmocka_unit_test(wake_ups_from_another_thread_lose_nothing),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(descriptors_report_reading_writing_and_hanging_up),
        cmocka_unit_test(a_job_runs_elsewhere_and_completes_on_the_loop),
        cmocka_unit_test(a_canceled_job_still_completes_once),
        cmocka_unit_test(closing_the_loop_waits_for_running_jobs),
        cmocka_unit_test(opening_and_closing_leaves_no_descriptor),
    };

    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
