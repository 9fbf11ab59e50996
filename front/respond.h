/*
 * respond.h: whole answers and errors over HTTP, as all routes give them. Inside the room only.
 */
#ifndef TANDEM_FRONT_RESPOND_H
#define TANDEM_FRONT_RESPOND_H

#include "lib/api/errors.h"
#include "lib/base/buf.h"
#include "lib/base/u128.h"
#include "lib/net/http_server.h"

#define FRONT_REQUEST_ID_BYTES 129

/*
 * The client's x-request-id if it is 1 to 128 harmless characters (letters, digits, ". _ - : /"),
 * else our own id in hex.
 */
void front_request_id(const struct http_request *request, struct td_u128 own,
                      char out[static FRONT_REQUEST_ID_BYTES]);

/* What all answers to a request have in common. */
struct front_reply {
    struct http_request *request;
    const char *request_id; /* sent as x-request-id; NULL: none */
    bool close;             /* the connection is closed afterwards: the process is draining */
};

/* Ends the request with body, or with 503 if the body has failed. */
void front_respond(const struct front_reply *reply, const char *type, const struct td_buf *body);

/* Ends the request with the error in OpenAI's shape, with retry hints. */
void front_respond_error(const struct front_reply *reply, const struct api_error *error);

/* Begins a stream of server-sent events. */
void front_respond_stream(const struct front_reply *reply);

#endif
