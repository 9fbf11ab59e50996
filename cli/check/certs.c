/* certs.c: whether certificates are those of their roles, and for how long, see parts.h. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "cli/check/parts.h"
#include "lib/base/time.h"
#include "lib/net/tls.h"

#define AREA      "network"
#define DAY_S     86400
#define SOON_DAYS 30

static int64_t days_until(int64_t seconds)
{
    return (seconds - td_unix_seconds()) / DAY_S;
}

/* "../certs/decode" -> "decode" */
static const char *last_word(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static void judge(struct check_row *row, const char *folder, const struct net_tls_facts *facts)
{
    enum net_role named = net_role_parse(last_word(folder));

    check_figure(row, "role %s, good for %" PRIi64 " days", net_role_name(facts->role),
                 days_until(facts->ends));
    check_value(row, "days_left", (double)days_until(facts->ends));
    if (named != NET_ROLE_UNKNOWN && named != facts->role)
        check_mark(
            row, CHECK_PROBLEM,
            "the folder is named %s, the certificate says %s: peers would refuse it; put the right "
            "files there",
            net_role_name(named), net_role_name(facts->role));
    else if (days_until(facts->ends) < SOON_DAYS)
        check_mark(row, CHECK_NOTE, "soon: tandem certs DIR --renew %s",
                   net_role_name(facts->role));
    else if (facts->authority_ends != 0 && days_until(facts->authority_ends) < SOON_DAYS)
        check_mark(row, CHECK_NOTE,
                   "the authority ends in %" PRIi64 " days: make a new one in a new folder",
                   days_until(facts->authority_ends));
    else if (!facts->key_is_private)
        check_mark(row, CHECK_NOTE, "others may read the key: chmod 600 %.150s/key.pem", folder);
}

static void look_at_role(struct check_table *table, const char *folder)
{
    struct net_tls_facts facts;
    struct td_error error = {0};
    struct check_row *row;
    char what[CHECK_WHAT_BYTES];

    snprintf(what, sizeof what, "certs %.40s", last_word(folder));
    row = check_add(table, AREA, what);
    if (net_tls_look(folder, &facts, &error) == TD_OK) {
        judge(row, folder, &facts);
        return;
    }
    check_figure(row, "%s", error.text);
    if (facts.ends != 0 && facts.ends <= td_unix_seconds())
        check_mark(row, CHECK_PROBLEM, "expired %" PRIi64 " days ago: tandem certs DIR --renew %s",
                   -days_until(facts.ends), net_role_name(facts.role));
    else if (facts.begins > td_unix_seconds())
        check_mark(row, CHECK_PROBLEM,
                   "not good before %" PRIi64 " days from now: is the clock "
                   "right?",
                   days_until(facts.begins) + 1);
    else
        check_mark(row, CHECK_PROBLEM,
                   "put files there that belong together: `tandem certs` makes "
                   "them");
}

static bool has_file(const char *folder, const char *name)
{
    char path[PATH_MAX];

    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           access(path, F_OK) == 0;
}

/* The folder of all roles, as `tandem certs` makes it. */
static uint32_t look_at_all(struct check_table *table, const char *folder)
{
    uint32_t found = 0;

    for (int role = NET_ROLE_UNKNOWN + 1; role < NET_ROLE_COUNT; role++) {
        const char *name = net_role_name((enum net_role)role);
        char path[PATH_MAX];

        if (has_file(folder, name) &&
            snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path) {
            look_at_role(table, path);
            found++;
        }
    }
    return found;
}

void check_certs(struct check_table *table, const char *folder)
{
    struct check_row *row;
    char path[PATH_MAX];
    size_t length;

    if (folder == NULL) {
        row = check_add(table, AREA, "certificates");
        check_figure(row, "none named: RPC stays on this host; --certs DIR looks at some");
        return;
    }
    snprintf(path, sizeof path, "%s", folder);
    for (length = strlen(path); length > 1 && path[length - 1] == '/'; length--)
        path[length - 1] = '\0';
    if (has_file(path, "cert.pem")) {
        look_at_role(table, path);
    } else if (look_at_all(table, path) == 0) {
        row = check_add(table, AREA, "certificates");
        check_figure(row, "%.200s has neither cert.pem nor a role's folder%s%s", path,
                     access(path, R_OK | X_OK) != 0 ? ": " : "",
                     access(path, R_OK | X_OK) != 0 ? strerror(errno) : "");
        check_mark(row, CHECK_PROBLEM, "tandem certs %.200s makes them", path);
    }
}
