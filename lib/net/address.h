/*
 * address.h: listening addresses as people write them, and the rule for those beyond this host.
 *
 * "127.0.0.1:8000", "[::1]:8000", "localhost:8000", "0.0.0.0:0" (port 0: the kernel chooses) and,
 * for RPC, "unix:/run/tandem/decode.sock". A host is never left out: whoever wants all
 * interfaces says so.
 */
#ifndef TANDEM_LIB_NET_ADDRESS_H
#define TANDEM_LIB_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

#define NET_HOST_BYTES_MAX    256
#define NET_ADDRESS_BYTES_MAX 280

/*
 * Splits "host:port" or "[v6]:port"; the host comes without brackets. TD_INVALID with a sentence
 * that quotes the address.
 */
td_status_t net_address_split(const char *address, char host_out[static NET_HOST_BYTES_MAX],
                              uint16_t *port_out, struct td_error *error) TD_MUST_USE;

/* Writes "host:port", with brackets if the host is an IPv6 literal. */
void net_address_join(const char *host, uint16_t port, char out[static NET_ADDRESS_BYTES_MAX]);

bool net_address_is_unix(const char *address);

/*
 * The rule "closed by default": an RPC listener that others can reach needs certificates or an
 * explicit --insecure. TD_REFUSED with a sentence that says what to do.
 */
td_status_t net_listen_check(const char *address, bool has_certificates, bool insecure,
                             struct td_error *error) TD_MUST_USE;

/*
 * Opens a listening TCP socket, non-blocking and close-on-exec, and writes its real address.
 * reuse_port lets several sockets share the port (SO_REUSEPORT): otherwise a port in use is TD_IO.
 */
td_status_t net_listen(const char *address, bool reuse_port, int *fd_out,
                       char real_out[static NET_ADDRESS_BYTES_MAX],
                       struct td_error *error) TD_MUST_USE;

#endif
