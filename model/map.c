/* map.c: the mapping of a model file and the SIGBUS handler; see map.h. */
#include "model/map.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXIT_FILE_SHRANK 74 /* EX_IOERR of sysexits.h */

/* A model may have many parts; what does not fit dies of SIGBUS without our message. */
#define RANGES_MAX 1024

struct range {
    _Atomic uintptr_t start; /* 0: free */
    _Atomic uintptr_t end;
};

static struct range ranges[RANGES_MAX];
static struct sigaction previous_action;

static void register_range(const struct model_map *map)
{
    for (int i = 0; i < RANGES_MAX; i++) {
        uintptr_t expected = 0;

        if (atomic_compare_exchange_strong(&ranges[i].start, &expected, (uintptr_t)map->bytes)) {
            atomic_store(&ranges[i].end, (uintptr_t)map->bytes + map->length);
            return;
        }
    }
}

static void forget_range(const struct model_map *map)
{
    for (int i = 0; i < RANGES_MAX; i++) {
        if (atomic_load(&ranges[i].start) == (uintptr_t)map->bytes) {
            atomic_store(&ranges[i].end, 0);
            atomic_store(&ranges[i].start, 0);
            return;
        }
    }
}

td_status_t model_map_file(int fd, const char *path, struct model_map *map_out,
                           struct td_error *error)
{
    struct stat about;
    void *bytes;

    if (fstat(fd, &about) != 0)
        return td_fail(error, TD_IO, "cannot measure %s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode) || about.st_size <= 0)
        return td_fail(error, TD_INVALID, "%s is %s", path,
                       S_ISREG(about.st_mode) ? "empty" : "no regular file");
    bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return td_fail(error, TD_IO, "cannot map %s: %s", path, strerror(errno));
    *map_out = (struct model_map){.bytes = bytes, .length = (size_t)about.st_size};
    register_range(map_out);
    return TD_OK;
}

td_status_t model_map_open(const char *path, struct model_map *map_out, struct td_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO is refused, not waited for */
    td_status_t status;

    if (fd < 0)
        return td_fail(error, TD_IO, "cannot open %s: %s", path, strerror(errno));
    status = model_map_file(fd, path, map_out, error);
    close(fd);
    return status;
}

void model_map_close(struct model_map *map)
{
    if (map->bytes == NULL)
        return;
    forget_range(map);
    munmap((void *)(uintptr_t)map->bytes, map->length);
    *map = (struct model_map){0};
}

/* Only what is safe in a signal handler: atomics, write, _exit, sigaction. */
static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    static const char message[] =
        "tandem: the model file was truncated or its storage failed while it was in use; "
        "replace model files by renaming, never in place\n";
    uintptr_t address = (uintptr_t)info->si_addr;

    (void)context;
    for (int i = 0; i < RANGES_MAX; i++) {
        if (address >= atomic_load(&ranges[i].start) && address < atomic_load(&ranges[i].end)) {
            ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);

            (void)written;
            _exit(EXIT_FILE_SHRANK);
        }
    }
    /* Not ours: back to what was there; a fault repeats on return, a sent signal is sent again. */
    sigaction(SIGBUS, &previous_action, NULL);
    if (info->si_code <= 0)
        raise(signal_number);
}

td_status_t model_map_install_sigbus(struct td_error *error)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &previous_action) != 0)
        return td_fail(error, TD_IO, "cannot install the SIGBUS handler: %s", strerror(errno));
    return TD_OK;
}
