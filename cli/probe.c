/* probe.c: see probe.h. */
#include "cli/probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/progress.h"
#include "lib/base/time.h"

#define LOOK_EVERY_MS 10
#define SAID_READ     4096

void *cli_probe_share(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory != MAP_FAILED ? memory : NULL;
}

void cli_probe_unshare(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}

/*
 * The new process's life. It is its own group, so that what it starts can be ended with it; but not if it
 * writes to the terminal, which may stop all but the group in the foreground.
 */
static void live(const struct cli_probe *probe, int stderr_fd, pid_t parent)
{
    int status;

    if (!probe->is_shown)
        setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* the parent died before the line above */
    if (stderr_fd >= 0)
        dup2(stderr_fd, STDERR_FILENO);
    status = probe->run(probe->ctx);
    fflush(NULL);
    _exit(status);
}

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

/* Whether it has ended; it is not reaped yet. */
static bool has_ended(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid;
}

/* Waits until it has ended, killing it at the deadline; its wait status. */
static int await(const struct cli_probe *probe, pid_t pid, bool *timed_out)
{
    uint64_t deadline_ns = td_now_ns() + probe->deadline_ms * TD_NS_PER_MS;
    struct td_progress progress;
    int status = 0;

    td_progress_begin(&progress, probe->program, probe->what);
    while (!has_ended(pid)) {
        if (td_now_ns() >= deadline_ns && !*timed_out) {
            *timed_out = true;
            kill(-pid, SIGKILL);
            kill(pid, SIGKILL); /* it may not have come to make its group */
        }
        td_progress_update(&progress, 0, 0);
        pause_ms(LOOK_EVERY_MS);
    }
    td_progress_hide(&progress);
    kill(-pid, SIGKILL); /* what it has started and left; the number is still its own */
    waitpid(pid, &status, 0);
    return status;
}

/* The last line of a file. */
static void read_said(int fd, char out[static CLI_PROBE_SAID_BYTES])
{
    char text[SAID_READ + 1];
    off_t end = lseek(fd, 0, SEEK_END);
    ssize_t length = pread(fd, text, SAID_READ, end > SAID_READ ? end - SAID_READ : 0);
    const char *line;

    while (length > 0 && text[length - 1] == '\n')
        length--;
    text[length > 0 ? length : 0] = '\0';
    line = strrchr(text, '\n');
    snprintf(out, CLI_PROBE_SAID_BYTES, "%.*s", CLI_PROBE_SAID_BYTES - 1,
             line != NULL ? line + 1 : text);
}

td_status_t cli_probe_run(const struct cli_probe *probe, struct cli_probe_end *end_out,
                          struct td_error *error)
{
    struct cli_probe_end end = {.exit_status = -1};
    int said_fd = probe->is_shown ? -1 : memfd_create("tandem-said", MFD_CLOEXEC);
    pid_t parent = getpid();
    pid_t pid;
    int status;

    fflush(NULL); /* nothing is written twice */
    pid = fork();
    if (pid < 0) {
        if (said_fd >= 0)
            close(said_fd);
        return td_fail(error, TD_EXHAUSTED, "no process can be started: %s", strerror(errno));
    }
    if (pid == 0)
        live(probe, said_fd, parent);
    status = await(probe, pid, &end.timed_out);
    if (WIFEXITED(status))
        end.exit_status = WEXITSTATUS(status);
    else if (WIFSIGNALED(status))
        end.signal = WTERMSIG(status);
    if (said_fd >= 0) {
        read_said(said_fd, end.said);
        close(said_fd);
    }
    *end_out = end;
    return TD_OK;
}

void cli_probe_describe(const struct cli_probe *probe, const struct cli_probe_end *end, char *out,
                        size_t size)
{
    out[0] = '\0';
    if (end->timed_out)
        snprintf(out, size, "took longer than %.0f s", (double)probe->deadline_ms / 1e3);
    else if (end->signal != 0)
        snprintf(out, size, "was ended by signal %d (%s)%s%s", end->signal, strsignal(end->signal),
                 end->said[0] != '\0' ? ": " : "", end->said);
}
