/* rpc_convert.c: statuses, messages and credentials between our types and gRPC's. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/net/rpc_internal.h"

/* ---- statuses ---- */

/* Of several rows with the same gRPC status the first is what it becomes on arrival. */
static const struct {
    td_status_t status;
    grpc_status_code code;
} statuses[] = {
    {TD_OK, GRPC_STATUS_OK},
    {TD_CANCELED, GRPC_STATUS_CANCELLED},
    {TD_INVALID, GRPC_STATUS_INVALID_ARGUMENT},
    {TD_TIMEOUT, GRPC_STATUS_DEADLINE_EXCEEDED},
    {TD_NOT_FOUND, GRPC_STATUS_NOT_FOUND},
    {TD_REFUSED, GRPC_STATUS_PERMISSION_DENIED},
    {TD_REFUSED, GRPC_STATUS_UNAUTHENTICATED},
    {TD_LIMIT, GRPC_STATUS_RESOURCE_EXHAUSTED},
    {TD_EXHAUSTED, GRPC_STATUS_RESOURCE_EXHAUSTED},
    {TD_STATE, GRPC_STATUS_FAILED_PRECONDITION},
    {TD_STALE, GRPC_STATUS_ABORTED},
    {TD_UNSUPPORTED, GRPC_STATUS_UNIMPLEMENTED},
    {TD_PEER_LOST, GRPC_STATUS_UNAVAILABLE},
    {TD_CORRUPT, GRPC_STATUS_DATA_LOSS},
    {TD_INTERNAL, GRPC_STATUS_INTERNAL},
};

td_status_t rpc_status_from_grpc(grpc_status_code code)
{
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (statuses[i].code == code)
            return statuses[i].status;
    return TD_INTERNAL;
}

grpc_status_code rpc_status_to_grpc(td_status_t status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (statuses[i].status == status)
            return statuses[i].code;
    return GRPC_STATUS_INTERNAL;
}

void rpc_copy_detail(grpc_slice detail, char out[static RPC_DETAIL_BYTES])
{
    size_t length = GRPC_SLICE_LENGTH(detail);

    if (length >= RPC_DETAIL_BYTES)
        length = RPC_DETAIL_BYTES - 1;
    memcpy(out, GRPC_SLICE_START_PTR(detail), length);
    out[length] = '\0';
}

/* ---- messages ---- */

grpc_byte_buffer *rpc_pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    grpc_byte_buffer *buffer;

    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

bool rpc_flatten(grpc_byte_buffer *buffer, struct rpc_bytes *out)
{
    grpc_byte_buffer_reader reader;
    grpc_slice *first;

    if (!grpc_byte_buffer_reader_init(&reader, buffer))
        return false;
    /* a message in one slice, which is usual, is not copied */
    if (grpc_byte_buffer_reader_peek(&reader, &first) &&
        GRPC_SLICE_LENGTH(*first) == grpc_byte_buffer_length(buffer)) {
        out->slice = grpc_slice_ref(*first);
    } else {
        grpc_byte_buffer_reader_destroy(&reader);
        if (!grpc_byte_buffer_reader_init(&reader, buffer))
            return false;
        out->slice = grpc_byte_buffer_reader_readall(&reader);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    out->bytes = GRPC_SLICE_START_PTR(out->slice);
    out->length = GRPC_SLICE_LENGTH(out->slice);
    return true;
}

/* ---- who the peer is ---- */

enum net_role rpc_peer_role(grpc_call *call)
{
    grpc_auth_context *context = grpc_call_auth_context(call);
    grpc_auth_property_iterator properties;
    const grpc_auth_property *property;
    enum net_role found = NET_ROLE_UNKNOWN;
    int count = 0;

    if (context == NULL)
        return NET_ROLE_UNKNOWN;
    properties = grpc_auth_context_find_properties_by_name(context, GRPC_PEER_URI_PROPERTY_NAME);
    while ((property = grpc_auth_property_iterator_next(&properties)) != NULL) {
        enum net_role role = net_role_of_uri(property->value, property->value_length);

        if (role != NET_ROLE_UNKNOWN) {
            found = role;
            count++;
        }
    }
    grpc_auth_context_release(context);
    return count == 1 ? found : NET_ROLE_UNKNOWN;
}

/* ---- credentials ---- */

/* gRPC's thread: the chain has been verified; is it somebody we meant to talk to? */
static int check_server_role(const char *target, const char *peer_pem, void *ctx)
{
    uint32_t expected = (uint32_t)(uintptr_t)ctx;
    enum net_role role = net_role_of_pem(peer_pem);

    (void)target;
    if (expected & NET_ROLE_BIT(role))
        return 0;
    td_log(TD_LOG_WARN, "rpc", "refused a server whose certificate has the role %s",
           net_role_name(role));
    return 1;
}

grpc_channel_credentials *rpc_channel_credentials(struct net_tls *tls, uint32_t expected_roles)
{
    uintptr_t expected = expected_roles != 0 ? expected_roles : NET_ROLES_ALL;
    const grpc_ssl_verify_peer_options verify = {
        .verify_peer_callback = check_server_role,
        .verify_peer_callback_userdata = (void *)expected,
    };
    struct net_tls_files *files;
    grpc_ssl_pem_key_cert_pair pair;
    grpc_channel_credentials *credentials;

    if (tls == NULL)
        return grpc_insecure_credentials_create();
    files = net_tls_files_acquire(tls);
    pair = (grpc_ssl_pem_key_cert_pair){.private_key = files->key, .cert_chain = files->cert};
    credentials = grpc_ssl_credentials_create_ex(files->ca, &pair, &verify, NULL);
    net_tls_files_release(files);
    return credentials;
}

/* gRPC's thread, before each handshake, one at a time per listener. */
static grpc_ssl_certificate_config_reload_status fetch_certificates(
    void *ctx, grpc_ssl_server_certificate_config **config_out)
{
    struct rpc_server *server = ctx;
    struct net_tls_files *files = net_tls_files_acquire(server->rpc->tls);
    grpc_ssl_pem_key_cert_pair pair = {.private_key = files->key, .cert_chain = files->cert};
    bool changed = files->generation != server->fetched_generation;

    if (changed) {
        *config_out = grpc_ssl_server_certificate_config_create(files->ca, &pair, 1);
        server->fetched_generation = files->generation;
    }
    net_tls_files_release(files);
    return changed ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW
                   : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
}

grpc_server_credentials *rpc_server_credentials(struct rpc_server *server)
{
    if (!server->has_tls)
        return grpc_insecure_server_credentials_create();
    return grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, fetch_certificates,
            server));
}
