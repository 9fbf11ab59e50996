/*
 * tls.h: the certificates of this process, for mutual TLS on RPC links.
 *
 * A folder holds ca.pem (whom to trust), cert.pem and key.pem (who we are), as certs.h or any other
 * PKI makes them. A certificate says its role in a subject alternative name of kind URI,
 * "tandem://role/decode", and carries the DNS name "tandem", which stands for the cluster: what a
 * peer may do depends on its role, not on its address.
 *
 * The files are looked at every second. When they have changed and fit together, new connections use
 * the new ones; files that do not fit are reported once and the old ones stay in use.
 */
#ifndef TANDEM_LIB_NET_TLS_H
#define TANDEM_LIB_NET_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/status.h"

struct net_loop;
struct net_tls;

#define NET_ROLE_MAP(X)       \
    X(UNKNOWN, "unknown")     \
    X(ROUTER, "router")       \
    X(SCHEDULER, "scheduler") \
    X(PREFILL, "prefill")     \
    X(DECODE, "decode")       \
    X(OPERATOR, "operator")

/* What a peer may be. UNKNOWN: it has shown no certificate (a link without TLS). */
enum net_role {
#define X(name, text) NET_ROLE_##name,
    NET_ROLE_MAP(X)
#undef X
        NET_ROLE_COUNT
};

#define NET_ROLE_BIT(role) (1u << (role))
#define NET_ROLES_ALL      (((1u << NET_ROLE_COUNT) - 1) & ~NET_ROLE_BIT(NET_ROLE_UNKNOWN))
#define NET_ROLES_WORKER   (NET_ROLE_BIT(NET_ROLE_PREFILL) | NET_ROLE_BIT(NET_ROLE_DECODE))

/* "decode" and so on. */
const char *net_role_name(enum net_role role);

/* The role of this name; UNKNOWN for anything else. */
enum net_role net_role_parse(const char *name);

/* The DNS name that every certificate of a cluster carries. */
#define NET_TLS_CLUSTER_NAME "tandem"

/*
 * Reads and checks the folder: the certificate is in date, fits the key, is signed by the CA and
 * has a role and the cluster's name. The error names the file. Loop thread.
 */
td_status_t net_tls_open(struct net_loop *loop, const char *folder, struct net_tls **tls_out,
                         struct td_error *error) TD_MUST_USE;

/* What a folder says, as far as it can be read; 0 and UNKNOWN stand for what cannot. */
struct net_tls_facts {
    enum net_role role;
    int64_t begins; /* of the certificate, in Unix seconds */
    int64_t ends;
    int64_t authority_ends; /* of the first certificate in ca.pem */
    bool key_is_private;    /* nobody but its owner may read key.pem */
};

/*
 * Looks at a folder as net_tls_open does, and keeps nothing. The facts are filled in any case; the status
 * and the error are those of net_tls_open. Any thread.
 */
td_status_t net_tls_look(const char *folder, struct net_tls_facts *facts_out,
                         struct td_error *error) TD_MUST_USE;

/* After every rpc that uses it. NULL is allowed. */
void net_tls_close(struct net_tls *tls);

/* Our own role. */
enum net_role net_tls_role(const struct net_tls *tls);

/* Rises whenever new files are in use; starts with 1. */
uint64_t net_tls_generation(const struct net_tls *tls);

/* Looks at the files now instead of within a second. */
void net_tls_refresh(struct net_tls *tls);

#endif
