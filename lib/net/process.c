/*
 * process.c: starting, watching and ending child processes, see process.h.
 *
 * We fork by hand because libuv offers no parent-death signal. Between fork and exec only
 * async-signal-safe calls are made. The end is seen through a pidfd, so that no SIGCHLD handler
 * has to be shared with anybody. Failures between fork and exec come back through a pipe that
 * exec closes.
 */
#include "lib/net/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/net/loop.h"

#define READY_FD          3 /* in the child */
#define KILL_WAIT_MS      5000
#define SIGNALS_TO_RESET  31
#define LINES_READ_AT_END 64

extern char **environ;

struct net_process {
    pid_t pid;
    int pidfd;
    int ready_fd;
    bool ended;
    struct net_poll *exit_poll;
    struct net_poll *ready_poll;
    struct net_process_options options; /* callbacks only; argv and environment are not kept */
    bool busy;                          /* in one of our event handlers: do not free */
    bool closed;                        /* net_process_close was called meanwhile */
    size_t line_length;
    char line[NET_READY_LINE_MAX + 1];
};

/* What the child needs, prepared before the fork. */
struct launch {
    const struct net_process_options *options;
    char program[PATH_MAX];
    char **environment;
    int stdin_fd; /* /dev/null or the caller's */
    int ready_fd; /* child's end */
    int error_fd; /* child's end: errno of what failed */
    pid_t parent;
};

/* ---- lines from the child ---- */

static void take_byte(struct net_process *process, char byte)
{
    if (byte != '\n') {
        if (process->line_length < NET_READY_LINE_MAX)
            process->line[process->line_length++] = byte;
        return;
    }
    process->line[process->line_length] = '\0';
    process->line_length = 0;
    if (process->options.on_line != NULL)
        process->options.on_line(process->options.ctx, process->line);
}

static void stop_reading(struct net_process *process)
{
    net_poll_close(process->ready_poll);
    process->ready_poll = NULL;
    if (process->ready_fd >= 0)
        close(process->ready_fd);
    process->ready_fd = -1;
}

/* Reads once. False if there is nothing more now, or a callback has closed the process. */
static bool read_lines(struct net_process *process)
{
    char bytes[1024];
    ssize_t got;

    if (process->ready_fd < 0)
        return false;
    got = read(process->ready_fd, bytes, sizeof bytes);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        stop_reading(process);
    for (ssize_t i = 0; i < got && !process->closed; i++)
        take_byte(process, bytes[i]);
    return got > 0 && !process->closed;
}

static void leave(struct net_process *process)
{
    process->busy = false;
    if (process->closed)
        free(process);
}

static void ready_event(void *ctx, unsigned events)
{
    struct net_process *process = ctx;

    process->busy = true;
    if (events & NET_BROKEN)
        stop_reading(process);
    else
        read_lines(process);
    leave(process);
}

/* ---- the end of the child ---- */

static bool reap(struct net_process *process, int options, siginfo_t *info)
{
    *info = (siginfo_t){0};
    if (waitid(P_PID, (id_t)process->pid, info, WEXITED | options) != 0 || info->si_pid == 0)
        return false;
    process->ended = true;
    return true;
}

static void report_exit(struct net_process *process, const siginfo_t *info)
{
    int code = info->si_code == CLD_EXITED ? info->si_status : -1;

    stop_reading(process);
    net_poll_close(process->exit_poll);
    process->exit_poll = NULL;
    if (process->options.on_exit != NULL)
        process->options.on_exit(process->options.ctx, code, code < 0 ? info->si_status : 0);
}

static void exit_event(void *ctx, unsigned events)
{
    struct net_process *process = ctx;
    siginfo_t info;

    (void)events;
    process->busy = true;
    /* what it said last comes before its end; bounded, in case a grandchild holds the pipe */
    for (int i = 0; i < LINES_READ_AT_END && read_lines(process); i++)
        continue;
    if (!process->closed && reap(process, WNOHANG, &info))
        report_exit(process, &info);
    leave(process);
}

/* ---- between fork and exec: async-signal-safe calls only ---- */

static void child_fail(int error_fd)
{
    int error = errno;
    ssize_t written = write(error_fd, &error, sizeof error);

    (void)written; /* nobody else to tell */
    _exit(127);
}

static void child_reset_signals(void)
{
    sigset_t none;

    for (int number = 1; number <= SIGNALS_TO_RESET; number++)
        signal(number, SIG_DFL); /* fails for SIGKILL and SIGSTOP, as it should */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int child_move(int fd, int target)
{
    if (fd != target)
        return dup2(fd, target); /* the copy survives exec */
    return fcntl(fd, F_SETFD, 0);
}

static void child_exec(const struct launch *launch)
{
    const struct net_process_options *options = launch->options;
    int low[4] = {launch->stdin_fd, options->stdout_fd, options->stderr_fd, launch->ready_fd};
    int error_fd = fcntl(launch->error_fd, F_DUPFD_CLOEXEC, 10); /* out of the way as well */
    char *const *argv;

    if (error_fd < 0)
        _exit(127);
    if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        child_fail(error_fd);
    if (getppid() != launch->parent)
        _exit(127); /* the parent died before the line above */
    child_reset_signals();
    /* copies out of the way first: a source may itself be one of the targets 0 to 3 */
    for (int i = 0; i < 4; i++)
        if (low[i] >= 0 && low[i] != i && (low[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 10)) < 0)
            child_fail(error_fd);
    for (int i = 0; i < 4; i++)
        if (low[i] >= 0 && child_move(low[i], i) < 0)
            child_fail(error_fd);
    close_range(READY_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC); /* whatever some library left open */
    memcpy(&argv, &options->argv, sizeof argv);          /* execve takes pointers to non-const */
    execve(launch->program, argv, launch->environment);
    child_fail(error_fd);
}

/* ---- preparation ---- */

static td_status_t find_program(const char *name, char out[static PATH_MAX], struct td_error *error)
{
    const char *path = getenv("PATH");

    if (strchr(name, '/') != NULL) {
        if (snprintf(out, PATH_MAX, "%s", name) < PATH_MAX)
            return TD_OK;
        return td_fail(error, TD_INVALID, "the program's path is too long");
    }
    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");

        if (length < PATH_MAX &&
            snprintf(out, PATH_MAX, "%.*s/%s", (int)length, path, name) < PATH_MAX &&
            access(out, X_OK) == 0)
            return TD_OK;
        path += length + (path[length] == ':');
    }
    return td_fail(error, TD_NOT_FOUND, "no program '%.200s' in PATH", name);
}

static bool names_equal(const char *a, const char *b)
{
    size_t length = strcspn(a, "=");

    return length == strcspn(b, "=") && memcmp(a, b, length) == 0;
}

static bool is_overridden(const char *entry, const char *const *added)
{
    for (size_t i = 0; added != NULL && added[i] != NULL; i++)
        if (names_equal(entry, added[i]))
            return true;
    return names_equal(entry, NET_READY_VARIABLE "=");
}

static size_t count_entries(const char *const *entries)
{
    size_t count = 0;

    while (entries != NULL && entries[count] != NULL)
        count++;
    return count;
}

/* The number of the ready pipe, the added entries, then ours without what they override. */
static char **make_environment(const char *const *added)
{
    static char ready_entry[32];
    size_t added_count = count_entries(added);
    size_t ours_count = count_entries((const char *const *)environ);
    char **entries = calloc(added_count + ours_count + 2, sizeof *entries);
    size_t count = 0;

    if (entries == NULL)
        return NULL;
    snprintf(ready_entry, sizeof ready_entry, "%s=%d", NET_READY_VARIABLE, READY_FD);
    entries[count++] = ready_entry;
    if (added_count > 0)
        memcpy(&entries[count], added, added_count * sizeof *entries); /* const away, for execve */
    count += added_count;
    for (size_t i = 0; i < ours_count; i++)
        if (!is_overridden(environ[i], added))
            entries[count++] = environ[i];
    return entries;
}

/* Forks. *pid_out is the child in the parent; does not return in the child. */
static td_status_t fork_child(const struct launch *launch, pid_t *pid_out)
{
    sigset_t all;
    sigset_t before;
    pid_t pid;

    /* no handler of ours may run in the child before its signals are reset */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = fork();
    if (pid == 0)
        child_exec(launch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return TD_IO;
    *pid_out = pid;
    return TD_OK;
}

/* Waits for exec to succeed (the pipe closes) or fail (an errno comes). */
static int exec_errno(int error_fd)
{
    int error = 0;
    ssize_t got;

    do
        got = read(error_fd, &error, sizeof error);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof error ? error : 0;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* Starts the program and fills pid; the child's ends of the pipes are closed again. */
static td_status_t launch_child(struct net_process *process, struct launch *launch,
                                struct td_error *error)
{
    int error_pipe[2];
    siginfo_t info;
    int failed;

    if (pipe2(error_pipe, O_CLOEXEC) != 0)
        return td_fail(error, TD_IO, "cannot make a pipe: %s", strerror(errno));
    launch->error_fd = error_pipe[1];
    launch->parent = getpid();
    if (fork_child(launch, &process->pid) != TD_OK) {
        close(error_pipe[0]);
        close(error_pipe[1]);
        return td_fail(error, TD_IO, "cannot fork: %s", strerror(errno));
    }
    close(error_pipe[1]);
    failed = exec_errno(error_pipe[0]);
    close(error_pipe[0]);
    if (failed == 0)
        return TD_OK;
    reap(process, 0, &info);
    return td_fail(error, failed == ENOENT ? TD_NOT_FOUND : TD_IO, "cannot execute %.150s: %s",
                   launch->program, strerror(failed));
}

static td_status_t watch_child(struct net_loop *loop, struct net_process *process)
{
    process->pidfd = pidfd_open(process->pid, 0);
    if (process->pidfd < 0)
        return TD_IO;
    fcntl(process->ready_fd, F_SETFL, O_NONBLOCK);
    if (net_poll_open(loop, process->pidfd, exit_event, process, &process->exit_poll) != TD_OK ||
        net_poll_open(loop, process->ready_fd, ready_event, process, &process->ready_poll) != TD_OK)
        return TD_NO_MEMORY;
    net_poll_set(process->exit_poll, NET_READABLE);
    net_poll_set(process->ready_poll, NET_READABLE);
    return TD_OK;
}

static td_status_t prepare(struct net_process *process, struct launch *launch, int *null_fd,
                           struct td_error *error)
{
    td_status_t status = find_program(launch->options->argv[0], launch->program, error);
    int ready_pipe[2];

    if (status != TD_OK)
        return status;
    launch->environment = make_environment(launch->options->environment);
    if (launch->environment == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the environment of a child");
    if (launch->options->stdin_fd < 0) {
        *null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        launch->stdin_fd = *null_fd;
    }
    if (launch->stdin_fd < 0 || pipe2(ready_pipe, O_CLOEXEC) != 0)
        return td_fail(error, TD_IO, "cannot open descriptors for a child: %s", strerror(errno));
    process->ready_fd = ready_pipe[0];
    launch->ready_fd = ready_pipe[1];
    return TD_OK;
}

td_status_t net_process_spawn(struct net_loop *loop, const struct net_process_options *options,
                              struct net_process **process_out, struct td_error *error)
{
    struct launch launch = {.options = options, .stdin_fd = options->stdin_fd, .ready_fd = -1};
    struct net_process *process = calloc(1, sizeof *process);
    int null_fd = -1;
    td_status_t status;

    if (process == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a child");
    process->pidfd = process->ready_fd = -1;
    process->ended = true; /* nothing to kill yet */
    process->options = *options;
    process->options.argv = NULL;
    process->options.environment = NULL;
    status = prepare(process, &launch, &null_fd, error);
    if (status == TD_OK)
        status = launch_child(process, &launch, error);
    if (status == TD_OK) {
        process->ended = false;
        status = watch_child(loop, process);
        if (status != TD_OK)
            td_fail(error, status, "cannot watch child %d: %s", (int)process->pid, strerror(errno));
    }
    close_if_open(null_fd);
    close_if_open(launch.ready_fd);
    free(launch.environment);
    if (status != TD_OK)
        net_process_close(process);
    else
        *process_out = process;
    return status;
}

void net_process_signal(struct net_process *process, int signal_number)
{
    if (!process->ended)
        kill(process->pid, signal_number); /* not reaped yet, so the pid is still its own */
}

pid_t net_process_pid(const struct net_process *process)
{
    return process->pid;
}

/* SIGKILL to the whole group, then a bounded wait: a process in the kernel's hands may not go. */
static void kill_and_reap(struct net_process *process)
{
    struct pollfd ended = {.fd = process->pidfd, .events = POLLIN};
    siginfo_t info;

    kill(-process->pid, SIGKILL);
    kill(process->pid, SIGKILL);
    if (process->pidfd >= 0 && poll(&ended, 1, KILL_WAIT_MS) == 0)
        td_log(TD_LOG_ERROR, "net", "child %d does not die after SIGKILL", (int)process->pid);
    reap(process, WNOHANG, &info);
}

void net_process_close(struct net_process *process)
{
    if (process == NULL)
        return;
    if (!process->ended)
        kill_and_reap(process);
    stop_reading(process);
    net_poll_close(process->exit_poll);
    close_if_open(process->pidfd);
    process->closed = true;
    if (!process->busy)
        free(process);
}

td_status_t net_ready_report(const char *line)
{
    const char *variable = getenv(NET_READY_VARIABLE);
    char text[NET_READY_LINE_MAX + 2];
    int length;

    if (variable == NULL || strcmp(variable, "3") != 0)
        return TD_NOT_FOUND;
    assert(strchr(line, '\n') == NULL);
    fcntl(READY_FD, F_SETFD, FD_CLOEXEC); /* not for grandchildren */
    length = snprintf(text, sizeof text, "%.*s\n", NET_READY_LINE_MAX, line);
    /* shorter than PIPE_BUF, so it is written whole or not at all */
    return write(READY_FD, text, (size_t)length) == length ? TD_OK : TD_IO;
}
