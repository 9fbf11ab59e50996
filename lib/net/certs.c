/*
 * certs.c: making an authority and role certificates with OpenSSL, see certs.h.
 *
 * New files are written beside their final names and moved there, and nothing existing is replaced
 * but in net_certs_renew. A key is moved into place before its certificate; a process that reads
 * between the two finds that they do not fit and keeps what it has (tls.h).
 */
#include "lib/net/certs.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "lib/net/tls_internal.h"

#define PATH_BYTES         4096
#define SERIAL_BYTES       16
#define CLOCK_SKEW_SECONDS 3600 /* machines whose clock is behind accept it at once */
#define SECONDS_PER_DAY    86400L

struct pair {
    X509 *certificate;
    EVP_PKEY *key;
};

static void pair_fini(struct pair *pair)
{
    X509_free(pair->certificate);
    EVP_PKEY_free(pair->key);
    *pair = (struct pair){0};
}

static td_status_t fail_crypto(struct td_error *error, const char *what)
{
    char reason[120];

    ERR_error_string_n(ERR_get_error(), reason, sizeof reason);
    ERR_clear_error();
    return td_fail(error, TD_INTERNAL, "cannot %s: %s", what, reason);
}

/* ---- files ---- */

static td_status_t make_path(char out[static PATH_BYTES], const char *folder, const char *name,
                             struct td_error *error)
{
    if (snprintf(out, PATH_BYTES, "%s/%s", folder, name) >= PATH_BYTES)
        return td_fail(error, TD_INVALID, "the path of the certificates is too long");
    return TD_OK;
}

static td_status_t make_folder(const char *path, struct td_error *error)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return TD_OK;
    return td_fail(error, TD_IO, "cannot make the folder %.180s: %s", path, strerror(errno));
}

/* Writes one PEM object to a new file that only we can read. */
static td_status_t write_new(const char *path, const struct pair *pair, bool is_key,
                             struct td_error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool written;

    if (file == NULL) {
        td_fail(error, TD_IO, "cannot write %.180s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return TD_IO;
    }
    written = is_key ? PEM_write_PrivateKey(file, pair->key, NULL, NULL, 0, NULL, NULL) == 1
                     : PEM_write_X509(file, pair->certificate) == 1;
    written = fflush(file) == 0 && fsync(fd) == 0 && written;
    written = fclose(file) == 0 && written;
    if (!written)
        return td_fail(error, TD_IO, "cannot write %.180s", path);
    return TD_OK;
}

/* Writes it beside its final name and moves it there; replaces only if asked to. */
static td_status_t write_pem(const char *folder, const char *name, const struct pair *pair,
                             bool replace, struct td_error *error)
{
    bool is_key = strcmp(name, "key.pem") == 0 || strcmp(name, "ca.key") == 0;
    char path[PATH_BYTES];
    char beside[PATH_BYTES];
    td_status_t status = make_path(path, folder, name, error);

    if (status != TD_OK)
        return status;
    if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside)
        return td_fail(error, TD_INVALID, "the path of the certificates is too long");
    unlink(beside); /* left by a run that was interrupted */
    status = write_new(beside, pair, is_key, error);
    /* link fails if the name exists, rename would replace it */
    if (status == TD_OK && (replace ? rename(beside, path) : link(beside, path)) != 0)
        status = td_fail(error, TD_IO, "cannot put %.180s in place: %s", path, strerror(errno));
    unlink(beside);
    return status;
}

static bool file_exists(const char *folder, const char *name)
{
    char path[PATH_BYTES];

    return make_path(path, folder, name, NULL) == TD_OK && access(path, F_OK) == 0;
}

static td_status_t read_authority(const char *folder, struct pair *pair, struct td_error *error)
{
    char path[PATH_BYTES];
    td_status_t status = make_path(path, folder, "ca.pem", error);
    FILE *file;

    if (status != TD_OK)
        return status;
    file = fopen(path, "re");
    if (file != NULL) {
        pair->certificate = PEM_read_X509(file, NULL, NULL, NULL);
        fclose(file);
    }
    status = make_path(path, folder, "ca.key", error);
    if (status != TD_OK)
        return status;
    file = fopen(path, "re");
    if (file != NULL) {
        pair->key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
        fclose(file);
    }
    if (pair->certificate == NULL || pair->key == NULL ||
        X509_check_private_key(pair->certificate, pair->key) != 1) {
        ERR_clear_error();
        return td_fail(error, TD_INVALID,
                       "%.150s: ca.pem and ca.key are not there or do not fit each other", folder);
    }
    return TD_OK;
}

/* ---- certificates ---- */

static bool add_extension(X509 *certificate, X509 *issuer, int kind, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    bool added;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool set_serial(X509 *certificate)
{
    unsigned char bytes[SERIAL_BYTES];
    BIGNUM *number;
    bool set;

    td_random_bytes(bytes, sizeof bytes);
    bytes[0] = (unsigned char)((bytes[0] & 0x3f) | 0x40); /* positive, and never short */
    number = BN_bin2bn(bytes, sizeof bytes, NULL);
    set = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return set;
}

static bool set_name(X509 *certificate, const char *common_name)
{
    X509_NAME *name = X509_get_subject_name(certificate);

    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Tandem", -1,
                                      -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

/* A new key and a certificate without extensions, not signed yet. */
static bool start_pair(struct pair *pair, const char *common_name, long days)
{
    pair->key = EVP_EC_gen("P-256");
    pair->certificate = X509_new();
    return pair->key != NULL && pair->certificate != NULL &&
           X509_set_version(pair->certificate, X509_VERSION_3) == 1 &&
           set_serial(pair->certificate) && set_name(pair->certificate, common_name) &&
           X509_gmtime_adj(X509_getm_notBefore(pair->certificate), -CLOCK_SKEW_SECONDS) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(pair->certificate), days * SECONDS_PER_DAY) != NULL &&
           X509_set_pubkey(pair->certificate, pair->key) == 1;
}

static bool sign(struct pair *pair, const struct pair *issuer)
{
    return X509_set_issuer_name(pair->certificate, X509_get_subject_name(issuer->certificate)) ==
               1 &&
           X509_sign(pair->certificate, issuer->key, EVP_sha256()) > 0;
}

static td_status_t make_authority(struct pair *pair, struct td_error *error)
{
    bool made =
        start_pair(pair, "Tandem cluster authority", NET_CERTS_CA_DAYS) &&
        add_extension(pair->certificate, pair->certificate, NID_basic_constraints,
                      "critical,CA:TRUE,pathlen:0") &&
        add_extension(pair->certificate, pair->certificate, NID_key_usage,
                      "critical,keyCertSign,cRLSign") &&
        add_extension(pair->certificate, pair->certificate, NID_subject_key_identifier, "hash") &&
        sign(pair, pair);

    return made ? TD_OK : fail_crypto(error, "make the authority");
}

static td_status_t make_role(struct pair *pair, const struct pair *authority, enum net_role role,
                             struct td_error *error)
{
    char names[128];
    bool made;

    snprintf(names, sizeof names, "URI:%s%s,DNS:%s", NET_ROLE_URI_PREFIX, net_role_name(role),
             NET_TLS_CLUSTER_NAME);
    made = start_pair(pair, net_role_name(role), NET_CERTS_ROLE_DAYS) &&
           add_extension(pair->certificate, authority->certificate, NID_basic_constraints,
                         "critical,CA:FALSE") &&
           add_extension(pair->certificate, authority->certificate, NID_key_usage,
                         "critical,digitalSignature") &&
           add_extension(pair->certificate, authority->certificate, NID_ext_key_usage,
                         "serverAuth,clientAuth") &&
           add_extension(pair->certificate, authority->certificate, NID_subject_alt_name, names) &&
           add_extension(pair->certificate, authority->certificate, NID_subject_key_identifier,
                         "hash") &&
           add_extension(pair->certificate, authority->certificate, NID_authority_key_identifier,
                         "keyid:always") &&
           sign(pair, authority);
    return made ? TD_OK : fail_crypto(error, "make a certificate");
}

static td_status_t write_role(const char *folder, const struct pair *authority, enum net_role role,
                              bool replace, struct td_error *error)
{
    struct pair pair = {0};
    char path[PATH_BYTES];
    td_status_t status = make_path(path, folder, net_role_name(role), error);

    if (status == TD_OK)
        status = make_folder(path, error);
    if (status == TD_OK)
        status = make_role(&pair, authority, role, error);
    if (status == TD_OK && !file_exists(path, "ca.pem"))
        status = write_pem(path, "ca.pem", authority, false, error);
    if (status == TD_OK)
        status = write_pem(path, "key.pem", &pair, replace, error);
    if (status == TD_OK)
        status = write_pem(path, "cert.pem", &pair, replace, error);
    pair_fini(&pair);
    return status;
}

/* The authority that is there if that is allowed, or a new one. */
static td_status_t get_authority(const char *folder, bool add_missing, struct pair *authority,
                                 struct td_error *error)
{
    td_status_t status;

    if (file_exists(folder, "ca.pem") || file_exists(folder, "ca.key")) {
        if (!add_missing)
            return td_fail(error, TD_STATE,
                           "%.150s has an authority already; nothing was overwritten", folder);
        return read_authority(folder, authority, error);
    }
    status = make_authority(authority, error);
    if (status == TD_OK)
        status = write_pem(folder, "ca.key", authority, false, error);
    if (status == TD_OK)
        status = write_pem(folder, "ca.pem", authority, false, error);
    return status;
}

td_status_t net_certs_mint(const char *folder, uint32_t roles, bool add_missing,
                           struct td_error *error)
{
    struct pair authority = {0};
    td_status_t status = make_folder(folder, error);

    if (status == TD_OK)
        status = get_authority(folder, add_missing, &authority, error);
    for (int i = NET_ROLE_UNKNOWN + 1; status == TD_OK && i < NET_ROLE_COUNT; i++) {
        char cert[64];

        snprintf(cert, sizeof cert, "%s/cert.pem", net_role_name((enum net_role)i));
        if ((roles & NET_ROLE_BIT(i)) && !file_exists(folder, cert))
            status = write_role(folder, &authority, (enum net_role)i, true, error);
    }
    pair_fini(&authority);
    return status;
}

td_status_t net_certs_renew(const char *folder, enum net_role role, struct td_error *error)
{
    struct pair authority = {0};
    td_status_t status = read_authority(folder, &authority, error);

    if (status == TD_OK)
        status = write_role(folder, &authority, role, true, error);
    pair_fini(&authority);
    return status;
}
