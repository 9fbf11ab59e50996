/* history_file.c: a chat in a file: the body of a request, which curl could send, see history.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/chat/history.h"

#define FILE_BYTES_MAX (8 * CHAT_BYTES_MAX) /* escapes make it longer */
#define READ_BYTES     ((size_t)65536)

/* Moves the new file to its place; a file that is there is replaced only if that is meant. */
static bool put_in_place(const char *temporary, const char *path, bool may_replace)
{
    if (!may_replace) { /* an empty file claims the name; not every file system can link */
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0)
            return false;
        close(fd);
    }
    return rename(temporary, path) == 0;
}

static bool write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        length -= (size_t)written;
    }
    return true;
}

td_status_t chat_history_save(const struct chat_history *history, const char *model,
                              const char *path, bool may_replace, struct td_error *error)
{
    char temporary[4096];
    struct td_buf text;
    int fd = -1;
    int reason = ENAMETOOLONG;
    bool good = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) < (int)sizeof temporary;

    td_buf_init(&text, FILE_BYTES_MAX);
    chat_history_write(history, model, false, &text);
    td_buf_append_char(&text, '\n');
    if (good) {
        fd = mkstemp(temporary); /* 0600: what is said in a chat is private */
        good = fd >= 0 && text.status == TD_OK && write_all(fd, text.data, text.length) &&
               fsync(fd) == 0 && put_in_place(temporary, path, may_replace);
        reason = text.status == TD_OK ? errno : ENOMEM;
    }
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && !good)
        unlink(temporary);
    td_buf_fini(&text);
    if (good)
        return TD_OK;
    if (reason == EEXIST)
        return td_fail(error, TD_STATE, "%.150s is there already: choose another name", path);
    return td_fail(error, TD_IO, "cannot write %.150s: %s", path, strerror(reason));
}

static td_status_t read_all(int fd, const char *path, struct td_buf *text, struct td_error *error)
{
    for (;;) {
        char *place = td_buf_reserve(text, READ_BYTES);
        ssize_t count;

        if (place == NULL)
            return td_fail(error, TD_LIMIT, "%.150s is too large for a chat", path);
        count = read(fd, place, READ_BYTES);
        if (count == 0)
            return TD_OK;
        if (count > 0)
            td_buf_commit(text, (size_t)count);
        else if (errno != EINTR)
            return td_fail(error, TD_IO, "cannot read %.150s: %s", path, strerror(errno));
    }
}

td_status_t chat_history_load(struct chat_history *history, const char *path,
                              struct td_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for ever */
    struct stat facts;
    struct td_buf text;
    td_status_t status;

    if (fd < 0)
        return td_fail(error, TD_NOT_FOUND, "cannot read %.150s: %s", path, strerror(errno));
    td_buf_init(&text, FILE_BYTES_MAX);
    if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode))
        status = td_fail(error, TD_INVALID, "%.150s is no file", path);
    else
        status = read_all(fd, path, &text, error);
    close(fd);
    if (status == TD_OK) {
        status = chat_history_read(history, text.data != NULL ? text.data : "", text.length, error);
        if (status != TD_OK)
            td_fail_wrap(error, "%.150s: ", path);
    }
    td_buf_fini(&text);
    return status;
}
