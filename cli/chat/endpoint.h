/*
 * endpoint.h: which server a chat talks to, and the key that opens it.
 */
#ifndef TANDEM_CLI_CHAT_ENDPOINT_H
#define TANDEM_CLI_CHAT_ENDPOINT_H

#include <stdbool.h>

#include "cli/question.h"
#include "lib/base/status.h"

#define CHAT_URL_BYTES 1024

struct chat_endpoint {
    char base[CHAT_URL_BYTES]; /* "https://host/v1", without a slash at the end */
    char key[CLI_API_KEY_BYTES_MAX];
    bool is_local;     /* this host */
    bool is_encrypted; /* https */
};

/* Whether a word means a server rather than a file: it has a scheme, or is HOST:PORT. */
bool chat_endpoint_is_url(const char *word);

/*
 * Sets everything but the key. "host:8000" is http, and a URL without a path gets /v1, as all OpenAI
 * servers have it. TD_INVALID says what is wrong with the URL.
 */
td_status_t chat_endpoint_set(struct chat_endpoint *endpoint, const char *url,
                              struct td_error *error) TD_MUST_USE;

/*
 * Takes the key out of a file (path), or out of the environment's OPENAI_API_KEY (path NULL). The latter is
 * not sent unencrypted to another host, where it may not belong: that takes the file.
 */
td_status_t chat_endpoint_set_key(struct chat_endpoint *endpoint, const char *path,
                                  struct td_error *error) TD_MUST_USE;

/* NULL: none. */
const char *chat_endpoint_key(const struct chat_endpoint *endpoint);

#endif
