/* progress.c: see progress.h. */
#include "lib/base/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/time.h"

#define FIRST_NS    TD_NS_PER_SEC
#define REDRAW_NS   (100 * TD_NS_PER_MS)
#define LINE_NS     (5 * TD_NS_PER_SEC)
#define BAR_CELLS   20
#define COLUMNS_MAX 79

static void write_all(const struct td_progress *progress, const char *text)
{
    size_t length = strlen(text);

    while (length > 0) {
        ssize_t written = write(progress->fd, text, length);

        if (written <= 0)
            return; /* nobody left to tell */
        text += written;
        length -= (size_t)written;
    }
}

static bool draws_in_place(int fd)
{
    const char *terminal = getenv("TERM");

    return isatty(fd) && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

void td_progress_begin_at(struct td_progress *progress, const char *program, const char *what,
                          uint64_t now_ns)
{
    *progress = (struct td_progress){
        .program = program,
        .fd = STDERR_FILENO,
        .is_terminal = draws_in_place(STDERR_FILENO),
        .started_ns = now_ns,
        .next_ns = now_ns + FIRST_NS,
    };
    td_progress_rename(progress, what);
}

void td_progress_begin(struct td_progress *progress, const char *program, const char *what)
{
    td_progress_begin_at(progress, program, what, td_now_ns());
}

void td_progress_rename(struct td_progress *progress, const char *what)
{
    snprintf(progress->what, sizeof progress->what, "%s", what);
}

/* Thousandths that are done; 0 to 1000. done may be beyond total: what grows while it is read. */
static unsigned thousandths(uint64_t done, uint64_t total)
{
    return done >= total ? 1000 : (unsigned)((double)done * 1000.0 / (double)total);
}

static void write_bar(char out[static BAR_CELLS + 3], unsigned share)
{
    unsigned full = share * BAR_CELLS / 1000;

    out[0] = '[';
    memset(out + 1, '#', full);
    memset(out + 1 + full, '-', BAR_CELLS - full);
    out[BAR_CELLS + 1] = ']';
    out[BAR_CELLS + 2] = '\0';
}

/* " 45 %, 15 s left" */
static void write_amount(char *out, size_t size, unsigned share, double elapsed_s)
{
    double rest_s = share > 0 ? elapsed_s * (1000 - share) / share : 0.0;

    if (share > 0 && elapsed_s >= 2.0)
        snprintf(out, size, "%3u %%, %.0f s left", share / 10, rest_s);
    else
        snprintf(out, size, "%3u %%", share / 10);
}

void td_progress_line(const struct td_progress *progress, uint64_t done, uint64_t total,
                      uint64_t now_ns, char out[static TD_PROGRESS_LINE_BYTES])
{
    double elapsed_s = (double)(now_ns - progress->started_ns) / 1e9;
    char amount[64];
    char bar[BAR_CELLS + 3] = "";
    int room;

    if (total == 0) {
        snprintf(amount, sizeof amount, "%.0f s", elapsed_s);
    } else {
        write_amount(amount, sizeof amount, thousandths(done, total), elapsed_s);
        if (progress->is_terminal)
            write_bar(bar, thousandths(done, total));
    }
    room = COLUMNS_MAX - (int)(strlen(amount) + strlen(bar) + 2); /* what is named is cut first */
    snprintf(out, TD_PROGRESS_LINE_BYTES, "%.40s: %s", progress->program, progress->what);
    if (strlen(out) > (size_t)room)
        out[room] = '\0';
    snprintf(out + strlen(out), TD_PROGRESS_LINE_BYTES - strlen(out), "%s%s %s",
             bar[0] != '\0' ? " " : "", bar, amount);
}

void td_progress_update_at(struct td_progress *progress, uint64_t done, uint64_t total,
                           uint64_t now_ns)
{
    char line[TD_PROGRESS_LINE_BYTES];
    char text[TD_PROGRESS_LINE_BYTES + 8];

    if (now_ns < progress->next_ns)
        return;
    td_progress_line(progress, done, total, now_ns, line);
    if (progress->is_terminal)
        snprintf(text, sizeof text, "\r%s\033[K\r", line);
    else
        snprintf(text, sizeof text, "%s\n", line);
    write_all(progress, text);
    progress->is_drawn = progress->is_terminal;
    progress->next_ns = now_ns + (progress->is_terminal ? REDRAW_NS : LINE_NS);
}

void td_progress_update(struct td_progress *progress, uint64_t done, uint64_t total)
{
    td_progress_update_at(progress, done, total, td_now_ns());
}

void td_progress_hide(struct td_progress *progress)
{
    if (progress->is_drawn)
        write_all(progress, "\r\033[K");
    progress->is_drawn = false;
}
