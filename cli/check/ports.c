/* ports.c: whether the addresses are free, and who has them if not, see parts.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/check/parts.h"
#include "lib/net/address.h"

#define AREA         "network"
#define LISTENING    0x0a /* a socket's state in /proc/net/tcp */
#define INODES_MAX   16
#define PATH_BYTES   4096
#define UNIX_LENGTH  5 /* of "unix:" */
#define HOLDER_BYTES 128

/* ---- who has a port ---- */

/* Sockets of this network namespace that listen on a port. */
static uint32_t find_sockets(const char *file_name, uint16_t port, unsigned long *inodes,
                             uint32_t count)
{
    FILE *file = fopen(file_name, "re");
    char line[512];

    while (file != NULL && count < INODES_MAX && fgets(line, sizeof line, file) != NULL) {
        unsigned local_port;
        unsigned state;
        unsigned long inode;

        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu",
                   &local_port, &state, &inode) == 3 &&
            local_port == port && state == LISTENING)
            inodes[count++] = inode;
    }
    if (file != NULL)
        fclose(file);
    return count;
}

static bool has_socket(const char *process, const unsigned long *inodes, uint32_t count)
{
    char folder_name[64];
    DIR *folder;
    const struct dirent *entry;
    bool found = false;

    snprintf(folder_name, sizeof folder_name, "/proc/%.20s/fd", process);
    folder = opendir(folder_name);
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL) {
        char target[64];
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof target - 1);
        unsigned long inode;

        target[length > 0 ? length : 0] = '\0';
        if (sscanf(target, "socket:[%lu]", &inode) == 1)
            for (uint32_t i = 0; i < count; i++)
                found |= inode == inodes[i];
    }
    if (folder != NULL)
        closedir(folder);
    return found;
}

static void read_command(const char *process, char *out, size_t size)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%.20s/comm", process);
    file = fopen(path, "re");
    if (file == NULL || fgets(out, (int)size, file) == NULL)
        snprintf(out, size, "?");
    out[strcspn(out, "\n")] = '\0';
    if (file != NULL)
        fclose(file);
}

/* "process 4711 (tandem-router)", or what can be said instead. */
static void find_holder(uint16_t port, char out[static HOLDER_BYTES])
{
    unsigned long inodes[INODES_MAX];
    uint32_t count = find_sockets("/proc/net/tcp", port, inodes, 0);
    DIR *processes;
    const struct dirent *entry;

    count = find_sockets("/proc/net/tcp6", port, inodes, count);
    snprintf(out, HOLDER_BYTES, "%s",
             count > 0 ? "a process that this user may not look at"
                       : "no listener: an old connection may still be closing");
    processes = count > 0 ? opendir("/proc") : NULL;
    while (processes != NULL && (entry = readdir(processes)) != NULL) {
        char command[32];

        if (!isdigit((unsigned char)entry->d_name[0]) || !has_socket(entry->d_name, inodes, count))
            continue;
        read_command(entry->d_name, command, sizeof command);
        snprintf(out, HOLDER_BYTES, "process %.20s (%s)", entry->d_name, command);
        break;
    }
    if (processes != NULL)
        closedir(processes);
}

/* ---- addresses ---- */

static void look_at_tcp(struct check_row *row, const char *address, const char *flag)
{
    char host[NET_HOST_BYTES_MAX];
    char real[NET_ADDRESS_BYTES_MAX];
    char holder[HOLDER_BYTES];
    struct td_error error = {0};
    uint16_t port = 0;
    int fd = -1;

    if (net_address_split(address, host, &port, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "write it as HOST:PORT or unix:/PATH");
        return;
    }
    if (net_listen(address, false, &fd, real, &error) == TD_OK) {
        close(fd);
        check_figure(row, "%s is free", port != 0 ? address : real);
        return;
    }
    check_figure(row, "%s", error.text);
    if (strstr(error.text, strerror(EADDRINUSE)) != NULL) {
        find_holder(port, holder);
        check_figure(row, "%s is taken by %s", address, holder);
        check_mark(row, CHECK_PROBLEM, "stop it, or choose another port with %s", flag);
    } else if (strstr(error.text, strerror(EACCES)) != NULL) {
        check_mark(row, CHECK_PROBLEM,
                   "ports below 1024 want CAP_NET_BIND_SERVICE: choose another "
                   "with %s",
                   flag);
    } else {
        check_mark(row, CHECK_PROBLEM, "name an address of this host with %s", flag);
    }
}

static void look_at_unix(struct check_row *row, const char *address)
{
    const char *path = address + UNIX_LENGTH;
    struct sockaddr_un name;
    char folder[PATH_BYTES];
    char *slash;

    snprintf(folder, sizeof folder, "%s", path);
    slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder ? 1 : 0] = '\0';
    else
        snprintf(folder, sizeof folder, ".");
    check_figure(row, "%.200s can be made", path);
    if (strlen(path) >= sizeof name.sun_path) {
        check_figure(row, "%.100s...: longer than a socket's name can be", path);
        check_mark(row, CHECK_PROBLEM, "at most %zu bytes: choose a shorter folder",
                   sizeof name.sun_path - 1);
    } else if (access(folder, W_OK | X_OK) != 0) {
        check_figure(row, "%.200s: %s", folder, strerror(errno));
        check_mark(row, CHECK_PROBLEM, "make the folder, or let this user write there");
    }
}

void check_ports(struct check_table *table, const struct cli_check_options *options)
{
    char address[NET_ADDRESS_BYTES_MAX];

    if (strlen(options->cluster.host) < NET_HOST_BYTES_MAX) {
        net_address_join(options->cluster.host, (uint16_t)options->cluster.port, address);
        look_at_tcp(check_add(table, AREA, "API port"), address, "--port");
    }
    for (size_t i = 0; i < options->listen.count; i++) {
        struct check_row *row = check_add(table, AREA, "address");

        if (net_address_is_unix(options->listen.items[i]))
            look_at_unix(row, options->listen.items[i]);
        else
            look_at_tcp(row, options->listen.items[i], "--listen");
    }
}
