/* certs.c: `tandem certs`: the certificates of a cluster, for those who have no PKI of their own. */
#include <stdio.h>

#include "cli/command.h"
#include "cli/tables.h"
#include "lib/net/certs.h"
#include "lib/net/program.h"

#define OPTIONS struct cli_certs_options

static const struct td_flag certs_flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, renew), .name = "renew", .value = "ROLE",
     .help = "Replaces key and certificate of this role (router, scheduler, prefill, decode or "
             "operator); running processes take them up by themselves."},
    {TD_FLAG_AS_BOOL(OPTIONS, add_missing), .name = "add-missing",
     .help = "Uses the authority that is in DIR already and makes the roles that are not there."},
};

static const char examples[] =
    "  tandem certs /etc/tandem/certs\n"
    "  tandem-decode model.gguf --listen 0.0.0.0:7202 --certs /etc/tandem/certs/decode\n"
    "  tandem certs /etc/tandem/certs --renew decode\n";

static td_status_t carry_out(const char *folder, const OPTIONS *options, struct td_error *error)
{
    enum net_role role;

    if (options->renew == NULL)
        return net_certs_mint(folder, NET_ROLES_ALL, options->add_missing, error);
    role = net_role_parse(options->renew);
    if (role == NET_ROLE_UNKNOWN)
        return td_fail(error, TD_INVALID,
                       "--renew: no role '%.40s'; there are router, scheduler, prefill, decode and "
                       "operator",
                       options->renew);
    return net_certs_renew(folder, role, error);
}

static int report(const char *folder, const OPTIONS *options, td_status_t status,
                  const struct td_error *error)
{
    if (status != TD_OK) {
        fprintf(stderr, "tandem certs: %s\n", error->text);
        return status == TD_INVALID ? NET_EXIT_USAGE : NET_EXIT_FAILURE;
    }
    if (options->renew != NULL)
        printf("renewed %s/%s\n", folder, options->renew);
    else
        printf("made %s/ca.pem and folders for router, scheduler, prefill, decode and operator;\n"
               "give each process its own with --certs, and keep %s/ca.key offline\n",
               folder, folder);
    return NET_EXIT_OK;
}

struct td_flag_table cli_certs_table(struct cli_certs_options *options)
{
    return (struct td_flag_table){.group = "Certificates",
                                  .flags = certs_flags,
                                  .count = sizeof certs_flags / sizeof certs_flags[0],
                                  .options = options};
}

int cli_certs(int argc, char **argv)
{
    OPTIONS options = {0};
    const struct td_flag_table table = cli_certs_table(&options);
    const struct td_flags flags = {
        .program = "tandem certs",
        .summary = "Makes a certificate authority and one certificate for each role, for mutual "
                   "TLS between\nprocesses on several hosts. Nothing that exists is overwritten "
                   "but by --renew.",
        .usage = "DIR [flags]",
        .purpose = "makes the certificates of a cluster",
        .about =
            "Give each host the folder of its own role only, and keep ca.key offline. The role is "
            "in the certificate: what a peer may do depends on it, not on an address. A "
            "certificate is good for 397 days, the authority for ten years; `tandem check --certs "
            "DIR` says how long is left.\n\n"
            "Any other PKI will do as well: a certificate names its role as the URI "
            "tandem://role/ROLE, and the cluster as the DNS name tandem.",
        .see_also = "tandem(1), tandem-check(1), tandem-scheduler(1)",
        .examples = examples,
        .tables = &table,
        .table_count = 1,
    };
    struct td_flags_result result = {0};
    struct td_error error = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (exit_status < 0 && result.positionals.count != 1) {
        fprintf(stderr, "tandem certs: one folder is wanted: tandem certs DIR\n");
        exit_status = NET_EXIT_USAGE;
    }
    if (exit_status < 0) {
        const char *folder = result.positionals.items[0];

        exit_status = report(folder, &options, carry_out(folder, &options, &error), &error);
    }
    td_arena_fini(&arena);
    return exit_status;
}
