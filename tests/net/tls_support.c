/* tls_support.c: see tls_support.h. */
#include "tests/net/tls_support.h"

#include <ftw.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/net/net_support.h"

char *test_folder_make(void)
{
    char name[] = "/tmp/tandem-test-XXXXXX";

    assert_non_null(mkdtemp(name));
    return strdup(name);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

void test_folder_remove(char *folder)
{
    assert_int_equal(nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(folder);
}

const char *test_path(const char *folder, const char *name)
{
    static char paths[4][4096];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

void test_write_file(const char *folder, const char *name, const char *text)
{
    FILE *file = fopen(test_path(folder, name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void test_copy_file(const char *from_folder, const char *to_folder, const char *name)
{
    char *text = test_read_file(test_path(from_folder, name), &(size_t){0});

    test_write_file(to_folder, name, text);
    free(text);
}

/* ---- strange certificates ---- */

static X509 *read_certificate(const char *path)
{
    FILE *file = fopen(path, "r");
    X509 *certificate;

    assert_non_null(file);
    certificate = PEM_read_X509(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(certificate);
    return certificate;
}

static EVP_PKEY *read_key(const char *path)
{
    FILE *file = fopen(path, "r");
    EVP_PKEY *key;

    assert_non_null(file);
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    assert_non_null(key);
    return key;
}

static X509 *make_certificate(EVP_PKEY *key, X509 *authority, EVP_PKEY *authority_key,
                              const struct strange *strange)
{
    X509 *certificate = X509_new();
    X509_EXTENSION *names;
    X509V3_CTX context;

    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 4711);
    X509_gmtime_adj(X509_getm_notBefore(certificate), strange->from_seconds);
    X509_gmtime_adj(X509_getm_notAfter(certificate), strange->until_seconds);
    X509_set_pubkey(certificate, key);
    X509_set_issuer_name(certificate, X509_get_subject_name(authority));
    X509V3_set_ctx(&context, authority, certificate, NULL, NULL, 0);
    names = X509V3_EXT_conf_nid(NULL, &context, NID_subject_alt_name, strange->names);
    assert_non_null(names);
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
    assert_true(X509_sign(certificate, authority_key, EVP_sha256()) > 0);
    return certificate;
}

void test_make_strange(const char *cluster, const char *to, const struct strange *strange)
{
    X509 *authority = read_certificate(test_path(cluster, "ca.pem"));
    EVP_PKEY *authority_key = read_key(test_path(cluster, "ca.key"));
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(key, authority, authority_key, strange);
    FILE *file;

    mkdir(to, 0700);
    file = fopen(test_path(to, "cert.pem"), "w");
    assert_int_equal(PEM_write_X509(file, certificate), 1);
    fclose(file);
    file = fopen(test_path(to, "key.pem"), "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    test_copy_file(cluster, to, "ca.pem");
    X509_free(certificate);
    X509_free(authority);
    EVP_PKEY_free(key);
    EVP_PKEY_free(authority_key);
}

/* ---- serial numbers ---- */

static void write_serial(X509 *certificate, char out[static 64])
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get_serialNumber(certificate), NULL);
    char *text = BN_bn2hex(number);

    snprintf(out, 64, "%s", text);
    OPENSSL_free(text);
    BN_free(number);
}

const char *test_serial_of(const char *folder)
{
    static char serial[64];
    X509 *certificate = read_certificate(test_path(folder, "cert.pem"));

    write_serial(certificate, serial);
    X509_free(certificate);
    return serial;
}

/* ---- a client ---- */

static SSL_CTX *make_context(const char *folder)
{
    static const unsigned char h2[] = "\x02h2";
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    assert_non_null(context);
    SSL_CTX_set_alpn_protos(context, h2, sizeof h2 - 1);
    if (folder != NULL) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(context, test_path(folder, "cert.pem")),
                         1);
        assert_int_equal(
            SSL_CTX_use_PrivateKey_file(context, test_path(folder, "key.pem"), SSL_FILETYPE_PEM),
            1);
    }
    return context;
}

bool test_tls_handshake(const char *address, const char *folder, char serial_out[static 64])
{
    SSL_CTX *context = make_context(folder);
    SSL *ssl = SSL_new(context);
    int fd = test_connect(address);
    bool accepted = false;
    X509 *server;
    char byte;

    SSL_set_fd(ssl, fd);
    /* with TLS 1.3 a client learns that it is not wanted when it reads; HTTP/2 servers speak first */
    if (SSL_connect(ssl) == 1 && SSL_read(ssl, &byte, 1) == 1) {
        accepted = true;
        server = SSL_get1_peer_certificate(ssl);
        assert_non_null(server);
        write_serial(server, serial_out);
        X509_free(server);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    ERR_clear_error();
    return accepted;
}

/* ---- gRPC itself ---- */

static grpc_channel *open_channel(const char *address, const char *folder)
{
    char *authority = test_read_file(test_path(folder, "ca.pem"), &(size_t){0});
    char *certificate = test_read_file(test_path(folder, "cert.pem"), &(size_t){0});
    char *key = test_read_file(test_path(folder, "key.pem"), &(size_t){0});
    grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = certificate};
    grpc_channel_credentials *credentials =
        grpc_ssl_credentials_create_ex(authority, &pair, NULL, NULL);
    char name_key[] = GRPC_SSL_TARGET_NAME_OVERRIDE_ARG;
    char name[] = "tandem";
    grpc_arg arg = {.type = GRPC_ARG_STRING, .key = name_key, .value.string = name};
    grpc_channel_args args = {.num_args = 1, .args = &arg};
    grpc_channel *channel = grpc_channel_create(address, credentials, &args);

    grpc_channel_credentials_release(credentials);
    free(authority);
    free(certificate);
    free(key);
    return channel;
}

/* Sends an empty message and waits for the end. */
static grpc_status_code call_and_wait(grpc_channel *channel, grpc_completion_queue *queue,
                                      const char *path)
{
    const gpr_timespec never = gpr_inf_future(GPR_CLOCK_REALTIME);
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_call *call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
                                               method, NULL, never, NULL);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(NULL, 0);
    grpc_status_code code = GRPC_STATUS_UNKNOWN;
    grpc_slice details = grpc_empty_slice();
    grpc_byte_buffer *answer = NULL; /* has to be read, or the status does not come */
    grpc_metadata_array headers;
    grpc_metadata_array trailers;
    grpc_op ops[6] = {{.op = GRPC_OP_SEND_INITIAL_METADATA},
                      {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA,
                       .data.recv_initial_metadata.recv_initial_metadata = &headers},
                      {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &answer},
                      {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                       .data.recv_status_on_client = {.trailing_metadata = &trailers,
                                                      .status = &code,
                                                      .status_details = &details}}};

    grpc_metadata_array_init(&headers);
    grpc_metadata_array_init(&trailers);
    assert_int_equal(grpc_call_start_batch(call, ops, 6, call, NULL), GRPC_CALL_OK);
    grpc_completion_queue_pluck(queue, call, never, NULL);
    grpc_metadata_array_destroy(&headers);
    grpc_metadata_array_destroy(&trailers);
    if (answer != NULL)
        grpc_byte_buffer_destroy(answer);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(details);
    grpc_slice_unref(method);
    grpc_call_unref(call);
    return code;
}

int test_grpc_call(const char *address, const char *folder, const char *path)
{
    grpc_completion_queue *queue;
    grpc_channel *channel;
    grpc_status_code code;

    grpc_init();
    queue = grpc_completion_queue_create_for_pluck(NULL);
    channel = open_channel(address, folder);
    code = call_and_wait(channel, queue, path);
    grpc_channel_destroy(channel);
    grpc_completion_queue_shutdown(queue);
    grpc_completion_queue_destroy(queue);
    grpc_shutdown();
    return (int)code;
}
