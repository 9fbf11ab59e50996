/*
 * tls.c: reading, checking and re-reading a folder of certificates, see tls.h.
 *
 * gRPC's own file watcher would take a new certificate before its key is there; here the files are
 * used only when they fit together.
 */
#include "lib/net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/net/loop.h"
#include "lib/net/tls_internal.h"

#define FILE_BYTES_MAX      (1u << 20)
#define LOOK_EVERY_MS       1000
#define EXPIRY_WARNING_DAYS 14
#define FILE_COUNT          3

static const char *const file_names[FILE_COUNT] = {"ca.pem", "cert.pem", "key.pem"};

/* What tells that a file has changed. */
struct file_mark {
    struct timespec changed;
    off_t size;
    ino_t inode;
};

struct net_tls {
    char *folder;
    struct net_timer timer;
    struct file_mark marks[FILE_COUNT];
    bool last_failed; /* said so already; look again although nothing has changed */
    pthread_mutex_t lock;
    struct net_tls_files *files; /* under lock */
};

/* ---- roles ---- */

static const char *const role_names[] = {
#define X(name, text) text,
    NET_ROLE_MAP(X)
#undef X
};

const char *net_role_name(enum net_role role)
{
    return role_names[role];
}

enum net_role net_role_parse(const char *name)
{
    for (int i = NET_ROLE_UNKNOWN + 1; i < NET_ROLE_COUNT; i++)
        if (strcmp(name, role_names[i]) == 0)
            return (enum net_role)i;
    return NET_ROLE_UNKNOWN;
}

enum net_role net_role_of_uri(const char *uri, size_t length)
{
    const size_t prefix = strlen(NET_ROLE_URI_PREFIX);
    char name[32];

    if (length <= prefix || length - prefix >= sizeof name ||
        memcmp(uri, NET_ROLE_URI_PREFIX, prefix) != 0)
        return NET_ROLE_UNKNOWN;
    memcpy(name, uri + prefix, length - prefix);
    name[length - prefix] = '\0';
    return net_role_parse(name);
}

/* Exactly one role: a certificate with two would be checked against the handier one. */
static enum net_role role_of_certificate(X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    enum net_role found = NET_ROLE_UNKNOWN;
    int count = 0;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        enum net_role role = NET_ROLE_UNKNOWN;

        if (name->type == GEN_URI)
            role = net_role_of_uri(
                (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
                (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier));
        if (role != NET_ROLE_UNKNOWN) {
            found = role;
            count++;
        }
    }
    GENERAL_NAMES_free(names);
    return count == 1 ? found : NET_ROLE_UNKNOWN;
}

static X509 *parse_certificate(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    return certificate;
}

enum net_role net_role_of_pem(const char *pem)
{
    X509 *certificate = parse_certificate(pem);
    enum net_role role = certificate != NULL ? role_of_certificate(certificate) : NET_ROLE_UNKNOWN;

    X509_free(certificate);
    ERR_clear_error();
    return role;
}

/* ---- reading ---- */

static td_status_t read_file(const char *folder, const char *name, char **text_out,
                             struct td_error *error)
{
    char path[4096];
    struct stat status;
    char *text = NULL;
    ssize_t got = -1;
    int fd;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return td_fail(error, TD_INVALID, "the path of the certificates is too long");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return td_fail(
            error, errno == ENOENT ? TD_NOT_FOUND : TD_IO,
            "%.120s: %s; --certs wants the folder of one role, as `tandem certs` makes it", path,
            strerror(errno));
    if (fstat(fd, &status) == 0 && status.st_size > 0 && status.st_size <= FILE_BYTES_MAX) {
        text = calloc(1, (size_t)status.st_size + 1);
        if (text != NULL)
            got = read(fd, text, (size_t)status.st_size);
    }
    close(fd);
    if (got <= 0 || got != status.st_size || strlen(text) != (size_t)got) {
        free(text);
        return td_fail(error, TD_INVALID, "%.180s is empty, too large or no text", path);
    }
    *text_out = text;
    return TD_OK;
}

void net_tls_files_release(struct net_tls_files *files)
{
    if (files == NULL || atomic_fetch_sub(&files->references, 1) > 1)
        return;
    if (files->key != NULL)
        OPENSSL_cleanse(files->key, strlen(files->key));
    free(files->ca);
    free(files->cert);
    free(files->key);
    free(files);
}

/* ---- checking ---- */

static bool key_fits(X509 *certificate, const char *key_pem)
{
    BIO *bio = BIO_new_mem_buf(key_pem, -1);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    bool fits = key != NULL && X509_check_private_key(certificate, key) == 1;

    EVP_PKEY_free(key);
    BIO_free(bio);
    return fits;
}

static X509_STORE *trust(const char *ca_pem)
{
    X509_STORE *store = X509_STORE_new();
    BIO *bio = BIO_new_mem_buf(ca_pem, -1);
    X509 *authority;
    int count = 0;

    while (store != NULL && bio != NULL &&
           (authority = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        count += X509_STORE_add_cert(store, authority);
        X509_free(authority);
    }
    BIO_free(bio);
    if (count > 0)
        return store;
    X509_STORE_free(store);
    return NULL;
}

/* The certificates after the first one in a PEM text. */
static STACK_OF(X509) * parse_chain(const char *pem)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *certificate;
    bool first = true;

    while (chain != NULL && bio != NULL &&
           (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (first || sk_X509_push(chain, certificate) == 0)
            X509_free(certificate);
        first = false;
    }
    BIO_free(bio);
    return chain;
}

/* NULL if the authority vouches for the certificate at this time, else why not. */
static const char *verify(X509 *certificate, const struct net_tls_files *files)
{
    X509_STORE *store = trust(files->ca);
    STACK_OF(X509) *chain = parse_chain(files->cert);
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    const char *why = "out of memory";

    if (store == NULL)
        why = "ca.pem has no certificate";
    else if (context != NULL && X509_STORE_CTX_init(context, store, certificate, chain) == 1)
        why = X509_verify_cert(context) == 1
                  ? NULL
                  : X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
    X509_STORE_CTX_free(context);
    sk_X509_pop_free(chain, X509_free);
    X509_STORE_free(store);
    return why;
}

static void warn_of_expiry(const char *folder, X509 *certificate)
{
    int days = 0;
    int seconds = 0;

    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) == 1 &&
        days < EXPIRY_WARNING_DAYS)
        td_log(TD_LOG_WARN, "tls", "%s/cert.pem expires in %d days", folder, days);
}

static td_status_t check_certificate(const char *folder, struct net_tls_files *files,
                                     X509 *certificate, struct td_error *error)
{
    const char *why;

    if (certificate == NULL)
        return td_fail(error, TD_INVALID, "%.180s/cert.pem has no certificate", folder);
    if (!key_fits(certificate, files->key))
        return td_fail(error, TD_INVALID, "%.180s: key.pem does not fit cert.pem", folder);
    why = verify(certificate, files);
    if (why != NULL)
        return td_fail(error, TD_INVALID, "%.150s/cert.pem is not good under ca.pem: %.80s", folder,
                       why);
    files->role = role_of_certificate(certificate);
    if (files->role == NET_ROLE_UNKNOWN)
        return td_fail(error, TD_INVALID,
                       "%.130s/cert.pem does not have exactly one role (URI %s...)", folder,
                       NET_ROLE_URI_PREFIX);
    if (X509_check_host(certificate, NET_TLS_CLUSTER_NAME, 0, 0, NULL) != 1)
        return td_fail(error, TD_INVALID, "%.180s/cert.pem is not for the DNS name '%s'", folder,
                       NET_TLS_CLUSTER_NAME);
    warn_of_expiry(folder, certificate);
    return TD_OK;
}

static td_status_t load(const char *folder, struct net_tls_files **files_out,
                        struct td_error *error)
{
    struct net_tls_files *files = calloc(1, sizeof *files);
    X509 *certificate = NULL;
    td_status_t status;

    if (files == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for certificates");
    atomic_init(&files->references, 1);
    status = read_file(folder, "ca.pem", &files->ca, error);
    if (status == TD_OK)
        status = read_file(folder, "cert.pem", &files->cert, error);
    if (status == TD_OK)
        status = read_file(folder, "key.pem", &files->key, error);
    if (status == TD_OK) {
        certificate = parse_certificate(files->cert);
        status = check_certificate(folder, files, certificate, error);
    }
    X509_free(certificate);
    ERR_clear_error();
    if (status == TD_OK)
        *files_out = files;
    else
        net_tls_files_release(files);
    return status;
}

/* ---- looking ---- */

static int64_t unix_seconds(const ASN1_TIME *time)
{
    struct tm parts;

    return time != NULL && ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

/* The first certificate of a file; NULL: it cannot be read, or has none. */
static X509 *look_at_certificate(const char *folder, const char *name)
{
    X509 *certificate = NULL;
    char *text = NULL;

    if (read_file(folder, name, &text, NULL) == TD_OK)
        certificate = parse_certificate(text);
    free(text);
    return certificate;
}

static bool is_private(const char *folder)
{
    char path[4096];
    struct stat status;

    return snprintf(path, sizeof path, "%s/key.pem", folder) < (int)sizeof path &&
           stat(path, &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) == 0;
}

td_status_t net_tls_look(const char *folder, struct net_tls_facts *facts_out,
                         struct td_error *error)
{
    X509 *certificate = look_at_certificate(folder, "cert.pem");
    X509 *authority = look_at_certificate(folder, "ca.pem");
    struct net_tls_files *files = NULL;
    td_status_t status;

    *facts_out = (struct net_tls_facts){.key_is_private = is_private(folder)};
    if (certificate != NULL) {
        facts_out->role = role_of_certificate(certificate);
        facts_out->begins = unix_seconds(X509_get0_notBefore(certificate));
        facts_out->ends = unix_seconds(X509_get0_notAfter(certificate));
    }
    if (authority != NULL)
        facts_out->authority_ends = unix_seconds(X509_get0_notAfter(authority));
    X509_free(certificate);
    X509_free(authority);
    ERR_clear_error();
    status = load(folder, &files, error);
    if (status == TD_OK)
        net_tls_files_release(files);
    return status;
}

/* ---- noticing changes ---- */

static void mark_files(const char *folder, struct file_mark marks[FILE_COUNT])
{
    char path[4096];
    struct stat status;

    for (int i = 0; i < FILE_COUNT; i++) {
        marks[i] = (struct file_mark){0};
        if (snprintf(path, sizeof path, "%s/%s", folder, file_names[i]) < (int)sizeof path &&
            stat(path, &status) == 0)
            marks[i] = (struct file_mark){
                .changed = status.st_mtim, .size = status.st_size, .inode = status.st_ino};
    }
}

static bool marks_equal(const struct file_mark a[FILE_COUNT], const struct file_mark b[FILE_COUNT])
{
    for (int i = 0; i < FILE_COUNT; i++)
        if (a[i].changed.tv_sec != b[i].changed.tv_sec ||
            a[i].changed.tv_nsec != b[i].changed.tv_nsec || a[i].size != b[i].size ||
            a[i].inode != b[i].inode)
            return false;
    return true;
}

static void use_files(struct net_tls *tls, struct net_tls_files *files)
{
    struct net_tls_files *before;

    pthread_mutex_lock(&tls->lock);
    before = tls->files;
    files->generation = before->generation + 1;
    tls->files = files;
    pthread_mutex_unlock(&tls->lock);
    net_tls_files_release(before);
}

void net_tls_refresh(struct net_tls *tls)
{
    struct file_mark marks[FILE_COUNT];
    struct net_tls_files *files;
    struct td_error error = {0};

    mark_files(tls->folder, marks); /* before reading: a later change is seen the next time */
    if (marks_equal(marks, tls->marks) && !tls->last_failed)
        return;
    memcpy(tls->marks, marks, sizeof marks);
    if (load(tls->folder, &files, &error) == TD_OK) {
        use_files(tls, files);
        tls->last_failed = false;
        td_log(TD_LOG_INFO, "tls", "new certificates in use from %s", tls->folder);
    } else {
        if (!tls->last_failed)
            td_log(TD_LOG_ERROR, "tls", "changed certificates not used: %s", error.text);
        tls->last_failed = true;
    }
}

static void look_again(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    net_tls_refresh(td_container_of(timer, struct net_tls, timer));
    net_timer_set_in(timer, LOOK_EVERY_MS);
}

/* ---- life ---- */

td_status_t net_tls_open(struct net_loop *loop, const char *folder, struct net_tls **tls_out,
                         struct td_error *error)
{
    struct net_tls *tls = calloc(1, sizeof *tls);
    td_status_t status;

    if (tls == NULL || (tls->folder = strdup(folder)) == NULL) {
        free(tls);
        return td_fail(error, TD_NO_MEMORY, "no memory for certificates");
    }
    mark_files(folder, tls->marks);
    status = load(folder, &tls->files, error);
    if (status != TD_OK) {
        free(tls->folder);
        free(tls);
        return status;
    }
    tls->files->generation = 1;
    pthread_mutex_init(&tls->lock, NULL);
    net_timer_init(&tls->timer, loop, look_again);
    net_timer_set_in(&tls->timer, LOOK_EVERY_MS);
    *tls_out = tls;
    return TD_OK;
}

void net_tls_close(struct net_tls *tls)
{
    if (tls == NULL)
        return;
    net_timer_cancel(&tls->timer);
    net_tls_files_release(tls->files);
    pthread_mutex_destroy(&tls->lock);
    free(tls->folder);
    free(tls);
}

struct net_tls_files *net_tls_files_acquire(struct net_tls *tls)
{
    struct net_tls_files *files;

    pthread_mutex_lock(&tls->lock);
    files = tls->files;
    atomic_fetch_add(&files->references, 1);
    pthread_mutex_unlock(&tls->lock);
    return files;
}

/* The loop thread alone replaces `files`, so it may look without the lock. */

enum net_role net_tls_role(const struct net_tls *tls)
{
    return tls->files->role;
}

uint64_t net_tls_generation(const struct net_tls *tls)
{
    return tls->files->generation;
}
