/*
 * certs.h: makes a cluster's certificates, for those who have no PKI of their own.
 *
 *     DIR/ca.pem DIR/ca.key                      the authority; ca.key can stay offline
 *     DIR/<role>/{ca.pem,cert.pem,key.pem}       what a process of this role gets (see tls.h)
 *
 * Keys are EC P-256, files are 0600, folders 0700. Nothing existing is ever overwritten but by
 * net_certs_renew. These calls touch the disk and compute keys: for a command line, not a server.
 */
#ifndef TANDEM_LIB_NET_CERTS_H
#define TANDEM_LIB_NET_CERTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/net/tls.h"

#define NET_CERTS_CA_DAYS   3650
#define NET_CERTS_ROLE_DAYS 397

/*
 * Makes an authority and one certificate for each role in the set of NET_ROLE_BITs. A folder that
 * has an authority already is refused (TD_STATE), unless add_missing: then it is used, and only
 * roles that are not there yet are made.
 */
td_status_t net_certs_mint(const char *folder, uint32_t roles, bool add_missing,
                           struct td_error *error) TD_MUST_USE;

/*
 * Replaces the key and the certificate of one role by new ones from the same authority. Running
 * processes take them up by themselves.
 */
td_status_t net_certs_renew(const char *folder, enum net_role role,
                            struct td_error *error) TD_MUST_USE;

#endif
