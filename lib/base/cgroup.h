/*
 * cgroup.h: the control groups around this process, as folders with files that say its limits.
 *
 * Both versions: in v2 one tree has all controllers, in v1 each controller has a tree of its own.
 */
#ifndef TANDEM_LIB_BASE_CGROUP_H
#define TANDEM_LIB_BASE_CGROUP_H

/* One group's folder. Which files it has depends on the version; some groups have none. */
typedef void (*td_cgroup_fn)(void *ctx, const char *folder);

/*
 * Calls visit for each group around this process that a controller ("cpu", "memory") may limit, from
 * the innermost to the mount. A limit further out holds as well. root is where the files
 * /proc/self/cgroup and /sys/fs/cgroup are looked for: "" outside of tests.
 */
void td_cgroup_walk(const char *root, const char *controller, td_cgroup_fn visit, void *ctx);

#endif
