/* tls_internal.h: what the RPC files and certs.c need of certificates. Shows no OpenSSL type. */
#ifndef TANDEM_LIB_NET_TLS_INTERNAL_H
#define TANDEM_LIB_NET_TLS_INTERNAL_H

#include <stdatomic.h>

#include "lib/net/tls.h"

#define NET_ROLE_URI_PREFIX "tandem://role/"

/* One consistent set of files, in memory. Immutable; shared between threads by reference. */
struct net_tls_files {
    _Atomic unsigned references;
    uint64_t generation;
    enum net_role role;
    char *ca;
    char *cert;
    char *key;
};

/* The present set, with a reference for the caller. Any thread. */
struct net_tls_files *net_tls_files_acquire(struct net_tls *tls);
void net_tls_files_release(struct net_tls_files *files);

/* The role in a URI "tandem://role/decode"; UNKNOWN if it is something else. */
enum net_role net_role_of_uri(const char *uri, size_t length);

/* The role of the first certificate in a PEM text; UNKNOWN if it has none, or several. Any thread. */
enum net_role net_role_of_pem(const char *pem);

#endif
