/* endpoint.c: see endpoint.h. */
#include "cli/chat/endpoint.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char http[] = "http://";
static const char https[] = "https://";

static bool begins_with(const char *text, const char *beginning)
{
    return strncasecmp(text, beginning, strlen(beginning)) == 0;
}

bool chat_endpoint_is_url(const char *word)
{
    const char *colon = strrchr(word, ':');

    if (strstr(word, "://") != NULL)
        return true;
    return colon != NULL && colon != word && colon[1] != '\0' &&
           colon[1 + strspn(colon + 1, "0123456789")] == '\0' && strchr(word, '/') == NULL;
}

/* The part between the scheme and the path. */
static bool host_is_local(const char *host, size_t length)
{
    static const char *const names[] = {"localhost", "127.", "[::1]"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t name_length = strlen(names[i]);
        char end = name_length < length ? host[name_length] : '\0';

        if (length >= name_length && strncasecmp(host, names[i], name_length) == 0 &&
            (end == '\0' || end == ':' || i == 1))
            /* "127.example.org" is no address: digits and dots only */
            return i != 1 || strspn(host, "0123456789.:") >= length;
    }
    return false;
}

static td_status_t check_characters(const char *url, struct td_error *error)
{
    for (const char *c = url; *c != '\0'; c++)
        if (!isgraph((unsigned char)*c) || strchr("?#@\\\"", *c) != NULL)
            return td_fail(error, TD_INVALID,
                           "a URL like http://127.0.0.1:8000 or https://host/v1 is wanted, without "
                           "'%c'",
                           isprint((unsigned char)*c) ? *c : '?');
    return TD_OK;
}

td_status_t chat_endpoint_set(struct chat_endpoint *endpoint, const char *url,
                              struct td_error *error)
{
    bool is_https = begins_with(url, https);
    const char *host = url;
    size_t host_length;
    size_t length;

    if (!is_https && !begins_with(url, http) && strstr(url, "://") != NULL)
        return td_fail(error, TD_INVALID, "%.100s: only http:// and https:// are known", url);
    if (check_characters(url, error) != TD_OK)
        return error->status;
    if (is_https || begins_with(url, http))
        host = strstr(url, "://") + 3;
    length = strlen(host);
    while (length > 0 && host[length - 1] == '/')
        length--;
    host_length = strcspn(host, "/");
    if (host_length == 0 || length == 0 || length > CHAT_URL_BYTES - 16)
        return td_fail(error, TD_INVALID, "%.100s: no host, or too long", url);
    snprintf(endpoint->base, sizeof endpoint->base, "%s%.*s%s", is_https ? https : http,
             (int)length, host, host_length >= length ? "/v1" : "");
    endpoint->is_encrypted = is_https;
    endpoint->is_local = host_is_local(host, host_length);
    return TD_OK;
}

/* ---- the key ---- */

static td_status_t take_key(struct chat_endpoint *endpoint, const char *key, const char *from,
                            struct td_error *error)
{
    size_t length = strcspn(key, "\r\n");

    if (length == 0 || length >= sizeof endpoint->key || key[length + strspn(key + length, "\r\n")])
        return td_fail(error, TD_INVALID, "%.150s: one line with an API key is wanted", from);
    for (size_t i = 0; i < length; i++)
        if (!isgraph((unsigned char)key[i]))
            return td_fail(error, TD_INVALID,
                           "%.150s: an API key has letters, digits and marks only", from);
    memcpy(endpoint->key, key, length);
    endpoint->key[length] = '\0';
    return TD_OK;
}

static td_status_t read_key(struct chat_endpoint *endpoint, const char *path,
                            struct td_error *error)
{
    char text[CLI_API_KEY_BYTES_MAX + 4];
    FILE *file = fopen(path, "re");
    size_t length;
    bool is_bad;

    if (file == NULL)
        return td_fail(error, TD_NOT_FOUND, "cannot read the API key in %.150s: %s", path,
                       strerror(errno));
    length = fread(text, 1, sizeof text - 1, file);
    is_bad = ferror(file) != 0;
    fclose(file);
    if (is_bad)
        return td_fail(error, TD_IO, "cannot read the API key in %.150s", path);
    text[length] = '\0';
    if (strlen(text) != length)
        return td_fail(error, TD_INVALID, "%.150s: this is no text", path);
    return take_key(endpoint, text, path, error);
}

td_status_t chat_endpoint_set_key(struct chat_endpoint *endpoint, const char *path,
                                  struct td_error *error)
{
    const char *variable = getenv("OPENAI_API_KEY");

    endpoint->key[0] = '\0';
    if (path != NULL)
        return read_key(endpoint, path, error);
    if (variable == NULL || variable[0] == '\0')
        return TD_OK;
    if (!endpoint->is_encrypted && !endpoint->is_local)
        return TD_OK;
    return take_key(endpoint, variable, "OPENAI_API_KEY", error);
}

const char *chat_endpoint_key(const struct chat_endpoint *endpoint)
{
    return endpoint->key[0] != '\0' ? endpoint->key : NULL;
}
