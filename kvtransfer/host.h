/*
 * host.h: which host this process runs on, as far as same-host transports care.
 */
#ifndef TANDEM_KVTRANSFER_HOST_H
#define TANDEM_KVTRANSFER_HOST_H

#include "lib/base/status.h"
#include "lib/base/u128.h"

/*
 * Equal for two processes if and only if they run under the same boot of the same kernel and in the
 * same network namespace, which is what abstract sockets reach. TD_UNSUPPORTED without /proc.
 */
td_status_t kvt_host_identity(struct td_u128 *identity_out, struct td_error *error) TD_MUST_USE;

#endif
