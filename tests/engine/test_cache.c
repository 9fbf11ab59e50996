/*
 * test_cache.c: packed weights kept in files: made once, shared, checked, made again when anything is
 * odd; processes that race, wait and die; and what `tandem cache` stands on.
 */
#include "tests/support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cpu/cache.h"
#include "engine/cpu/weights.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "tests/model/gguf_build.h"

#define RACERS 6
#define KILLS  24

/* A model, a folder of its own for each test, and what its weights are when they are packed alone. */
struct site {
    char folder[64];
    struct gguf_bytes file;
    struct model *model;
    struct td_u128 expected;
};

static struct td_u128 hash_of(const struct cpu_weights *weights)
{
    const uint8_t *content =
        weights->memory != NULL ? weights->memory : weights->map.bytes + CPU_CACHE_HEADER_BYTES;

    return td_hash128(content, weights->bytes);
}

static struct cpu_weights *open_weights(const struct site *site, const char *folder,
                                        uint64_t bytes_max)
{
    const struct cpu_weights_options options = {
        .threads = 2, .cache = folder, .cache_bytes_max = bytes_max};
    struct cpu_weights *weights = NULL;
    struct td_error error = {0};

    if (cpu_weights_open(site->model, &options, &weights, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_true(td_u128_equal(hash_of(weights), site->expected));
    assert_ptr_equal(weights->layer[0].q.data, weights->memory != NULL
                                                   ? weights->memory
                                                   : weights->map.bytes + CPU_CACHE_HEADER_BYTES);
    return weights;
}

/* Opens, sees to it that they are right, and says whether they are mapped from the cache. */
static bool is_cached(const struct site *site)
{
    struct cpu_weights *weights = open_weights(site, site->folder, 0);
    bool is_mapped = weights->memory == NULL;

    cpu_weights_close(weights);
    return is_mapped;
}

static int open_site(void **state)
{
    const struct model_shape shape = {.vocab = 600,
                                      .hidden = 256,
                                      .ffn = 768,
                                      .layers = 4,
                                      .heads = 4,
                                      .kv_heads = 2,
                                      .head_dim = 64,
                                      .type = MODEL_TYPE_Q8_0,
                                      .seed = 11};
    struct site *site = calloc(1, sizeof *site);
    struct cpu_weights_options alone = {.threads = 1};
    struct cpu_weights *weights = NULL;
    struct td_error error = {0};

    assert_non_null(site);
    snprintf(site->folder, sizeof site->folder, "/tmp/tandem-cache-XXXXXX");
    assert_non_null(mkdtemp(site->folder));
    site->model = gguf_build_open(&shape, &site->file);
    if (cpu_weights_open(site->model, &alone, &weights, &error) != TD_OK)
        fail_msg("%s", error.text);
    site->expected = hash_of(weights);
    cpu_weights_close(weights);
    *state = site;
    return 0;
}

/* Calls back with the path of each file of the folder. */
static uint32_t for_each_file(const char *folder, void (*call)(const char *path))
{
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    uint32_t count = 0;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        char path[512];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (call != NULL)
            call(path);
        count++;
    }
    closedir(stream);
    return count;
}

static void remove_file(const char *path)
{
    unlink(path);
}

static int close_site(void **state)
{
    struct site *site = *state;

    for_each_file(site->folder, remove_file);
    assert_int_equal(rmdir(site->folder), 0);
    model_close(site->model);
    free(site->file.bytes);
    free(site);
    return 0;
}

/* The path of the site's entry; valid until the next call. */
static const char *entry_path(const struct site *site)
{
    static char path[512];
    char digest[TD_U128_HEX_BYTES];

    snprintf(path, sizeof path, "%s/%s-%d.weights", site->folder,
             td_u128_hex(site->model->weights_digest, digest), CPU_PACK_VERSION);
    return path;
}

static ino_t inode_of(const char *path)
{
    struct stat about;

    assert_int_equal(stat(path, &about), 0);
    return about.st_ino;
}

/* ---- making and finding ---- */

static void weights_are_packed_once_and_mapped_from_then_on(void **state)
{
    struct site *site = *state;
    ino_t inode;

    assert_true(is_cached(site));
    assert_int_equal(for_each_file(site->folder, NULL), 1); /* no lock, no leftover */
    inode = inode_of(entry_path(site));
    assert_true(is_cached(site));
    assert_int_equal(inode_of(entry_path(site)), inode);
}

static void folders_are_made(void **state)
{
    struct site *site = *state;
    char inner[128];
    char outer[96];

    snprintf(outer, sizeof outer, "%s/a", site->folder);
    snprintf(inner, sizeof inner, "%s/b", outer);
    cpu_weights_close(open_weights(site, inner, 0));
    assert_int_equal(for_each_file(inner, remove_file), 1);
    assert_int_equal(rmdir(inner), 0);
    assert_int_equal(rmdir(outer), 0);
}

/* ---- what is odd is made again ---- */

static void flip_byte(const char *path, off_t offset)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

/* Made again, and then whole. */
static void assert_made_again(const struct site *site, ino_t before, const char *what)
{
    if (!is_cached(site) || inode_of(entry_path(site)) == before)
        fail_msg("%s: the entry was not made again", what);
}

static void a_damaged_entry_is_never_used(void **state)
{
    static const off_t offsets[] = {0, 8, 12, 20, 40, 60, 70, 100, CPU_CACHE_HEADER_BYTES, 100000};
    struct site *site = *state;

    assert_true(is_cached(site));
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        ino_t inode = inode_of(entry_path(site));
        int pin = open(entry_path(site), O_RDONLY); /* its inode is not given out again */

        flip_byte(entry_path(site), offsets[i]);
        assert_made_again(site, inode, "a flipped bit");
        close(pin);
    }
}

static void an_entry_of_another_length_is_never_used(void **state)
{
    static const off_t lengths[] = {0, 1, 100, CPU_CACHE_HEADER_BYTES, 50000, 1 << 24};
    struct site *site = *state;

    assert_true(is_cached(site));
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ino_t inode = inode_of(entry_path(site));
        int pin = open(entry_path(site), O_RDONLY);

        assert_int_equal(truncate(entry_path(site), lengths[i]), 0);
        assert_made_again(site, inode, "another length");
        close(pin);
    }
}

/* Entries that are whole, under names that they do not belong to. */
static void an_entry_of_something_else_is_never_used(void **state)
{
    struct site *site = *state;
    struct cpu_weights *weights = open_weights(site, NULL, 0);
    struct cpu_cache_entry wrong[3];
    struct td_error error = {0};
    struct cpu_team *team;
    ino_t inode;
    int pin;

    assert_int_equal(cpu_team_open(1, &team, &error), TD_OK);
    for (int i = 0; i < 3; i++) {
        char other[512];

        wrong[i] = (struct cpu_cache_entry){.folder = site->folder,
                                            .digest = site->model->weights_digest,
                                            .layout = CPU_PACK_VERSION,
                                            .bytes = weights->bytes,
                                            .model = "another"};
        if (i == 0)
            wrong[i].digest.lo ^= 1;
        if (i == 1)
            wrong[i].layout++;
        /* number 2 has the right name and another plan */
        assert_int_equal(cpu_cache_store(&wrong[i], weights->memory, UINT64_MAX, team, &error),
                         TD_OK);
        if (i < 2) {
            char digest[TD_U128_HEX_BYTES];

            snprintf(other, sizeof other, "%s/%s-%u.weights", site->folder,
                     td_u128_hex(wrong[i].digest, digest), wrong[i].layout);
            assert_int_equal(rename(other, entry_path(site)), 0);
        }
        inode = inode_of(entry_path(site));
        pin = open(entry_path(site), O_RDONLY);
        assert_made_again(site, inode, "an entry of something else");
        close(pin);
    }
    cpu_team_close(team);
    cpu_weights_close(weights);
}

/* Else the entry would be wrong for whoever has the file of before. */
static void weights_of_a_file_that_is_written_to_are_not_kept(void **state)
{
    struct site *site = *state;
    const struct cpu_weights_options options = {.threads = 2, .cache = site->folder};
    struct cpu_weights *weights = NULL;
    struct td_error error = {0};

    site->file.bytes[site->file.length - 1] ^= 1; /* the model is open, and has its digest */
    assert_int_equal(cpu_weights_open(site->model, &options, &weights, &error), TD_CORRUPT);
    assert_non_null(strstr(error.text, "changed while it was loaded"));
    assert_int_equal(for_each_file(site->folder, NULL), 0);
    site->file.bytes[site->file.length - 1] ^= 1;
    assert_true(is_cached(site));
}

/* Whoever may make a link in the folder need not own what it names. */
static void a_link_is_never_followed(void **state)
{
    struct site *site = *state;
    struct stat about;
    char elsewhere[512];
    ino_t inode;

    assert_true(is_cached(site));
    inode = inode_of(entry_path(site));
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", site->folder);
    assert_int_equal(rename(entry_path(site), elsewhere), 0);
    assert_int_equal(symlink(elsewhere, entry_path(site)), 0);
    assert_made_again(site, inode, "a link");
    assert_int_equal(lstat(entry_path(site), &about), 0);
    assert_true(S_ISREG(about.st_mode));
}

static void an_entry_of_another_user_is_never_used(void **state)
{
    struct site *site = *state;
    ino_t inode;
    int pin;

    if (geteuid() != 0) {
        print_message("only root can give a file to somebody else\n");
        skip();
    }
    assert_true(is_cached(site));
    inode = inode_of(entry_path(site));
    pin = open(entry_path(site), O_RDONLY);
    assert_int_equal(chown(entry_path(site), 12345, 12345), 0);
    assert_made_again(site, inode, "of another user");
    close(pin);
}

static void two_layouts_live_side_by_side(void **state)
{
    struct site *site = *state;
    struct cpu_weights *weights = open_weights(site, NULL, 0);
    struct cpu_cache_entry other = {.folder = site->folder,
                                    .digest = site->model->weights_digest,
                                    .layout = CPU_PACK_VERSION + 1,
                                    .bytes = weights->bytes,
                                    .model = "of the next version"};
    struct model_map map;
    struct td_error error = {0};
    struct cpu_team *team;

    assert_int_equal(cpu_team_open(1, &team, &error), TD_OK);
    assert_int_equal(cpu_cache_store(&other, weights->memory, UINT64_MAX, team, &error), TD_OK);
    assert_true(is_cached(site));
    assert_int_equal(for_each_file(site->folder, NULL), 2);
    assert_int_equal(cpu_cache_open(&other, team, &map, &error), TD_OK);
    model_map_close(&map);
    cpu_team_close(team);
    cpu_weights_close(weights);
}

/* ---- where there can be no cache ---- */

static void a_folder_that_cannot_be_made_leaves_them_in_memory(void **state)
{
    struct site *site = *state;
    char folder[128];
    struct cpu_weights *weights;

    assert_true(is_cached(site));
    snprintf(folder, sizeof folder, "%.100s/x", "/dev/null");
    weights = open_weights(site, folder, 0);
    assert_non_null(weights->memory);
    cpu_weights_close(weights);
}

/* Runs in a child, whose exit status says how it went; asserts of cmocka do not work there. */
static int run_child(int (*child)(const struct site *site), const struct site *site)
{
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child(site));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int open_in_child(const struct site *site)
{
    const struct cpu_weights_options options = {.threads = 2, .cache = site->folder};
    struct cpu_weights *weights = NULL;
    struct td_error error = {0};
    int status;

    if (cpu_weights_open(site->model, &options, &weights, &error) != TD_OK)
        return 2;
    status = !td_u128_equal(hash_of(weights), site->expected) ? 3 : weights->memory != NULL ? 1 : 0;
    cpu_weights_close(weights);
    return status;
}

/* As a full disk: no file may grow beyond 64 KiB. */
static int open_on_a_full_disk(const struct site *site)
{
    const struct rlimit limit = {.rlim_cur = 65536, .rlim_max = 65536};

    signal(SIGXFSZ, SIG_IGN);
    return setrlimit(RLIMIT_FSIZE, &limit) != 0 ? 4 : open_in_child(site);
}

static void a_full_disk_leaves_them_in_memory_and_nothing_behind(void **state)
{
    struct site *site = *state;

    assert_int_equal(run_child(open_on_a_full_disk, site), 1);
    assert_int_equal(for_each_file(site->folder, NULL), 0);
    assert_true(is_cached(site)); /* when there is room again */
}

static void the_entries_not_used_for_longest_make_room(void **state)
{
    struct site *site = *state;
    struct cpu_weights *weights = open_weights(site, NULL, 0);
    uint64_t bytes = weights->bytes + CPU_CACHE_HEADER_BYTES;
    struct cpu_cache_info *list;
    struct td_error error = {0};
    struct cpu_team *team;
    size_t count;

    assert_int_equal(cpu_team_open(1, &team, &error), TD_OK);
    for (uint32_t i = 0; i < 3; i++) {
        struct cpu_cache_entry entry = {.folder = site->folder,
                                        .digest = {.hi = 1, .lo = i},
                                        .layout = CPU_PACK_VERSION,
                                        .bytes = weights->bytes,
                                        .model = "old"};
        const struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
        char path[512];
        char digest[TD_U128_HEX_BYTES];

        assert_int_equal(cpu_cache_store(&entry, weights->memory, 3 * bytes, team, &error), TD_OK);
        snprintf(path, sizeof path, "%s/%s-%d.weights", site->folder,
                 td_u128_hex(entry.digest, digest), CPU_PACK_VERSION);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
    cpu_weights_close(weights);
    weights = open_weights(site, site->folder, 3 * bytes);
    assert_null(weights->memory);
    cpu_weights_close(weights);
    assert_int_equal(cpu_cache_list(site->folder, &list, &count, &error), TD_OK);
    assert_int_equal(count, 3);
    assert_true(td_u128_equal(list[0].digest, site->model->weights_digest)); /* used just now */
    assert_int_equal(list[1].digest.lo, 2);
    assert_int_equal(list[2].digest.lo, 1); /* number 0 had to go */
    free(list);
    for_each_file(site->folder, remove_file);
    weights = open_weights(site, site->folder, bytes - 1); /* larger than all of it may be */
    assert_non_null(weights->memory);
    cpu_weights_close(weights);
    assert_int_equal(for_each_file(site->folder, NULL), 0);
    cpu_team_close(team);
}

/* ---- other processes ---- */

static bool
    files_are_others; /* each time they are looked at, as in some file systems over a network */

int __real_fstat(int fd, struct stat *about);
int __wrap_fstat(int fd, struct stat *about);

int __wrap_fstat(int fd, struct stat *about)
{
    int rc = __real_fstat(fd, about);

    if (files_are_others)
        about->st_ino++;
    return rc;
}

static void a_lock_that_is_never_ones_own_is_given_up(void **state)
{
    struct site *site = *state;
    struct cpu_weights *weights;

    files_are_others = true;
    weights = open_weights(site, site->folder, 0);
    files_are_others = false;
    assert_non_null(weights->memory); /* packed without a cache */
    cpu_weights_close(weights);
}

static void racing_processes_make_it_once(void **state)
{
    struct site *site = *state;
    pid_t racers[RACERS];

    for (int i = 0; i < RACERS; i++) {
        racers[i] = fork();
        assert_true(racers[i] >= 0);
        if (racers[i] == 0)
            _exit(open_in_child(site));
    }
    for (int i = 0; i < RACERS; i++) {
        int status;

        assert_int_equal(waitpid(racers[i], &status, 0), racers[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0); /* all of them mapped it */
    }
    assert_int_equal(for_each_file(site->folder, NULL), 1);
}

/*
 * Whenever a maker is killed, the next one gets right weights. One that dies when all is done but for giving
 * back its lock leaves that, an empty file, which goes with the entry.
 */
static void a_killed_maker_leaves_nothing_that_is_used(void **state)
{
    struct site *site = *state;
    struct cpu_cache_info *list;
    struct td_error error = {0};
    struct td_rng rng;
    size_t count;

    td_rng_init(&rng, 5);
    for (int i = 0; i < KILLS; i++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            _exit(open_in_child(site));
        usleep((useconds_t)td_rng_below(&rng, 12000));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_true(is_cached(site));
        assert_int_equal(cpu_cache_list(site->folder, &list, &count, &error), TD_OK);
        assert_int_equal(count, 1);
        assert_false(list[0].is_leftover);
        assert_int_equal(cpu_cache_remove(site->folder, &list[0], &error), TD_OK);
        free(list);
        assert_int_equal(for_each_file(site->folder, NULL), 0);
    }
}

/* Dies as it writes: with the lock, and with half of an entry under the other name. */
static int die_while_writing(const struct site *site)
{
    const struct cpu_cache_entry entry = {
        .folder = site->folder, .digest = site->model->weights_digest, .layout = CPU_PACK_VERSION};
    struct cpu_cache_lock lock;
    struct td_error error = {0};
    char path[600];
    int fd;

    snprintf(path, sizeof path, "%s.tmp", entry_path(site));
    if (cpu_cache_lock(&entry, NULL, NULL, &lock, &error) != TD_OK)
        return 1;
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd < 0 || write(fd, "TDWEIGHT", 8) != 8)
        return 2;
    raise(SIGKILL);
    return 3;
}

static void what_a_dead_maker_left_is_cleaned_up(void **state)
{
    struct site *site = *state;

    assert_int_equal(run_child(die_while_writing, site), -SIGKILL);
    assert_int_equal(for_each_file(site->folder, NULL), 2); /* lock and leftover */
    assert_true(is_cached(site));
    assert_int_equal(for_each_file(site->folder, NULL), 1);
}

/* A process that holds the lock until it is told. */
struct holder {
    pid_t pid;
    int to;
    bool was_heard;
};

static void start_holder(const struct site *site, struct holder *holder)
{
    const struct cpu_cache_entry entry = {
        .folder = site->folder, .digest = site->model->weights_digest, .layout = CPU_PACK_VERSION};
    struct cpu_cache_lock lock;
    struct td_error error = {0};
    int to[2];
    int from[2];
    char byte;

    assert_int_equal(pipe(to), 0);
    assert_int_equal(pipe(from), 0);
    holder->pid = fork();
    assert_true(holder->pid >= 0);
    if (holder->pid == 0) {
        bool ok = cpu_cache_lock(&entry, NULL, NULL, &lock, &error) == TD_OK &&
                  write(from[1], "!", 1) == 1 && read(to[0], &byte, 1) == 1;

        cpu_cache_unlock(&lock);
        _exit(ok ? 0 : 1);
    }
    assert_int_equal(read(from[0], &byte, 1), 1);
    close(from[0]);
    close(from[1]);
    close(to[0]);
    holder->to = to[1];
}

static void end_holder(struct holder *holder)
{
    int status;

    assert_int_equal(write(holder->to, "!", 1), 1);
    close(holder->to);
    assert_int_equal(waitpid(holder->pid, &status, 0), holder->pid);
    assert_int_equal(status, 0);
}

static void hear_waiting(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct holder *holder = ctx;

    (void)done;
    (void)total;
    if (strstr(what, "waiting") == NULL || holder->was_heard)
        return;
    holder->was_heard = true;
    end_holder(holder);
}

static void others_wait_for_the_maker_and_say_so(void **state)
{
    struct site *site = *state;
    struct holder holder = {0};
    const struct cpu_weights_options options = {
        .threads = 1, .cache = site->folder, .progress = hear_waiting, .ctx = &holder};
    struct cpu_weights *weights = NULL;
    struct td_error error = {0};

    start_holder(site, &holder);
    assert_int_equal(cpu_weights_open(site->model, &options, &weights, &error), TD_OK);
    assert_true(holder.was_heard);
    assert_null(weights->memory);
    assert_true(td_u128_equal(hash_of(weights), site->expected));
    cpu_weights_close(weights);
    assert_int_equal(for_each_file(site->folder, NULL), 1);
}

/* ---- for people ---- */

static void entries_are_listed_and_removed(void **state)
{
    struct site *site = *state;
    struct cpu_cache_info *list;
    struct holder holder = {0};
    struct td_error error = {0};
    size_t count;
    char path[128];

    assert_int_equal(cpu_cache_list("/tmp/tandem-no-such-folder", &list, &count, &error), TD_OK);
    assert_int_equal(count, 0);
    assert_true(is_cached(site));
    snprintf(path, sizeof path, "%s/notes.txt", site->folder); /* not ours: passed over */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(cpu_cache_list(site->folder, &list, &count, &error), TD_OK);
    assert_int_equal(count, 1);
    assert_true(list[0].is_readable && !list[0].is_leftover);
    assert_string_equal(list[0].model, site->model->name);
    assert_true(td_u128_equal(list[0].digest, site->model->weights_digest));
    assert_int_equal(list[0].layout, CPU_PACK_VERSION);
    start_holder(site, &holder);
    assert_int_equal(cpu_cache_remove(site->folder, &list[0], &error), TD_STATE);
    end_holder(&holder);
    assert_int_equal(cpu_cache_remove(site->folder, &list[0], &error), TD_OK);
    assert_int_equal(for_each_file(site->folder, NULL), 1);
    free(list);
}

static void weights_in_use_survive_removal(void **state)
{
    struct site *site = *state;
    struct cpu_weights *weights = open_weights(site, site->folder, 0);

    for_each_file(site->folder, remove_file);
    assert_true(td_u128_equal(hash_of(weights), site->expected));
    cpu_weights_close(weights);
}

static void the_folder_follows_the_environment(void **state)
{
    char path[PATH_MAX];
    struct td_error error = {0};

    (void)state;
    setenv("XDG_CACHE_HOME", "/somewhere", 1);
    assert_int_equal(cpu_cache_folder(path, &error), TD_OK);
    assert_string_equal(path, "/somewhere/tandem/weights");
    setenv("XDG_CACHE_HOME", "relative", 1);
    setenv("HOME", "/home/me", 1);
    assert_int_equal(cpu_cache_folder(path, &error), TD_OK);
    assert_string_equal(path, "/home/me/.cache/tandem/weights");
    unsetenv("HOME");
    assert_int_equal(cpu_cache_folder(path, &error), TD_NOT_FOUND);
}

#define WITH_SITE(test) cmocka_unit_test_setup_teardown(test, open_site, close_site)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SITE(weights_are_packed_once_and_mapped_from_then_on),
        WITH_SITE(folders_are_made),
        WITH_SITE(a_damaged_entry_is_never_used),
        WITH_SITE(an_entry_of_another_length_is_never_used),
        WITH_SITE(an_entry_of_something_else_is_never_used),
        WITH_SITE(weights_of_a_file_that_is_written_to_are_not_kept),
        WITH_SITE(a_link_is_never_followed),
        WITH_SITE(an_entry_of_another_user_is_never_used),
        WITH_SITE(two_layouts_live_side_by_side),
        WITH_SITE(a_folder_that_cannot_be_made_leaves_them_in_memory),
        WITH_SITE(a_full_disk_leaves_them_in_memory_and_nothing_behind),
        WITH_SITE(the_entries_not_used_for_longest_make_room),
        WITH_SITE(a_lock_that_is_never_ones_own_is_given_up),
        WITH_SITE(racing_processes_make_it_once),
        WITH_SITE(a_killed_maker_leaves_nothing_that_is_used),
        WITH_SITE(what_a_dead_maker_left_is_cleaned_up),
        WITH_SITE(others_wait_for_the_maker_and_say_so),
        WITH_SITE(entries_are_listed_and_removed),
        WITH_SITE(weights_in_use_survive_removal),
        cmocka_unit_test(the_folder_follows_the_environment),
    };

    td_log_set_level(TD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
