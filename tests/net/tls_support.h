/*
 * tls_support.h: certificates that net_certs_mint would never make, folders to keep them in, and
 * clients that are not ours. The only test file that knows OpenSSL and gRPC is tls_support.c.
 */
#ifndef TANDEM_TESTS_NET_TLS_SUPPORT_H
#define TANDEM_TESTS_NET_TLS_SUPPORT_H

#include <stdbool.h>

/* A new folder for the test; remove it with test_folder_remove. */
char *test_folder_make(void);
void test_folder_remove(char *folder);

/* "<folder>/<name>"; valid until the fourth next call. */
const char *test_path(const char *folder, const char *name);

void test_write_file(const char *folder, const char *name, const char *text);
void test_copy_file(const char *from_folder, const char *to_folder, const char *name);

/* What a strange certificate is like. */
struct strange {
    long from_seconds; /* validity, from now */
    long until_seconds;
    const char *names; /* subject alternative names as OpenSSL's configuration writes them */
};

/* Makes <to>/{ca,cert,key}.pem with a certificate signed by the authority in the folder `cluster`. */
void test_make_strange(const char *cluster, const char *to, const struct strange *strange);

/* The serial number of a folder's cert.pem in hexadecimal (static; valid until the next call). */
const char *test_serial_of(const char *folder);

/*
 * Connects with TLS, with the certificate in a folder or none (NULL), checking nothing, and reads a byte.
 * True if the server accepts the handshake; then serial_out has the serial number of its certificate.
 */
bool test_tls_handshake(const char *address, const char *folder, char serial_out[static 64]);

/*
 * Makes one call with gRPC itself, which does not mind what names a certificate has. Returns gRPC's
 * status code. Blocks, so call it from a thread that does not run the server's loop.
 */
int test_grpc_call(const char *address, const char *folder, const char *path);

#endif
