/*
 * models.h: asks a server which models it has. Loop thread.
 */
#ifndef TANDEM_CLI_CHAT_MODELS_H
#define TANDEM_CLI_CHAT_MODELS_H

#include <stddef.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/net/http_client.h"
#include "lib/net/loop.h"

#define CHAT_MODELS_MAX      1000
#define CHAT_MODEL_BYTES_MAX 1024 /* of a name; longer ones are passed over */

struct chat_models {
    struct td_arena arena;
    char **names;
    size_t count;
};

/* Reads the answer to GET /models. TD_INVALID: it is none. fini in any case. */
td_status_t chat_models_read(struct chat_models *models, const char *json, size_t length,
                             struct td_error *error) TD_MUST_USE;
void chat_models_fini(struct chat_models *models);

struct chat_models_config {
    struct net_loop *loop;
    const char *base;
    const char *api_key; /* NULL: none */
    void *ctx;
    /*
     * Once: TD_OK and at least one model; else why not. http_status 0: no answer came. The request may be
     * closed here, which ends the life of all that was given.
     */
    void (*on_end)(void *ctx, const struct chat_models *models, int http_status,
                   const struct td_error *error);
};

/* The caller's storage. */
struct chat_models_request {
    struct chat_models_config config;
    struct http_client *client;
    struct td_buf body;
    int http_status;
    struct chat_models models;
};

/* Asks. After an error nothing is called; closing is harmless. */
td_status_t chat_models_ask(struct chat_models_request *request,
                            const struct chat_models_config *config,
                            struct td_error *error) TD_MUST_USE;

/* Harmless on zeroed storage. */
void chat_models_close(struct chat_models_request *request);

#endif
