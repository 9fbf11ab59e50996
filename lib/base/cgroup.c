/* cgroup.c: see cgroup.h. */
#include "lib/base/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A control group's folder below /sys/fs/cgroup, and how far up it may be followed. */
struct place {
    char path[PATH_MAX];
    size_t top; /* length of the part that belongs to the mount */
};

/* Whether the comma-separated list has the word. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);

    while (*list != '\0') {
        size_t item = strcspn(list, ",");

        if (item == length && memcmp(list, word, length) == 0)
            return true;
        list += item + (list[item] == ',');
    }
    return false;
}

/* A line "number:controllers:/path" as a place; false if it does not speak of the controller. */
static bool find_place(const char *root, const char *controller, char *line,
                       struct place *place_out)
{
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    bool is_v2;
    int top;

    if (path == NULL)
        return false;
    *path++ = '\0';
    controllers++;
    path[strcspn(path, "\n")] = '\0';
    is_v2 = controllers[0] == '\0';
    if (!is_v2 && !has_word(controllers, controller))
        return false;
    if (strcmp(path, "/") == 0)
        path++; /* the mount itself */
    top = snprintf(place_out->path, sizeof place_out->path, "%s/sys/fs/cgroup%s%s", root,
                   is_v2 ? "" : "/", is_v2 ? "" : controller);
    place_out->top = (size_t)top;
    if ((size_t)top + strlen(path) >= sizeof place_out->path)
        return false;
    strcpy(place_out->path + top, path);
    return true;
}

static void visit_upwards(struct place *place, td_cgroup_fn visit, void *ctx)
{
    for (;;) {
        char *slash = strrchr(place->path + place->top, '/');

        visit(ctx, place->path);
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

void td_cgroup_walk(const char *root, const char *controller, td_cgroup_fn visit, void *ctx)
{
    char line[PATH_MAX + 64];
    struct place place;
    FILE *file;

    snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    file = fopen(line, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        if (find_place(root, controller, line, &place))
            visit_upwards(&place, visit, ctx);
    fclose(file);
}
