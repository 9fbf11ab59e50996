/*
 * address.h: the envelope around a transport's address blob.
 *
 *   magic u32, version u16, body_bytes u16, transport name 8 bytes, digest u128, body
 *
 * Addresses travel between workers over RPC. The envelope bounds a blob and refuses one that was cut,
 * corrupted or meant for another transport before its body reaches a library that trusts it. It
 * proves nothing about who wrote it: that is the RPC link's work.
 */
#ifndef TANDEM_KVTRANSFER_ADDRESS_H
#define TANDEM_KVTRANSFER_ADDRESS_H

#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/status.h"

#define KVT_ADDRESS_NAME_BYTES     8
#define KVT_ADDRESS_ENVELOPE_BYTES 32
#define KVT_ADDRESS_BODY_MAX       (KVT_ADDRESS_BYTES_MAX - KVT_ADDRESS_ENVELOPE_BYTES)

/* Wraps a body. name has at most 7 characters. TD_LIMIT: it does not fit into capacity. */
td_status_t kvt_address_wrap(const char *name, const uint8_t *body, size_t body_bytes, uint8_t *out,
                             size_t capacity, size_t *length_out) TD_MUST_USE;

/*
 * Checks an envelope from outside and gives its body, which points into bytes.
 * TD_INVALID: no envelope, or cut; TD_UNSUPPORTED: another version or transport; TD_CORRUPT: digest.
 */
td_status_t kvt_address_unwrap(const char *name, const uint8_t *bytes, size_t length,
                               const uint8_t **body_out, size_t *body_bytes_out) TD_MUST_USE;

#endif
