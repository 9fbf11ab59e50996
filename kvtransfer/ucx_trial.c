/*
 * ucx_trial.c: finds out, before any KV travels, whether blocks of a GPU get to a peer without the host.
 *
 * Lanes alone do not say it: a connection over RDMA moves memory of a GPU through the host's where the network card cannot
 * reach it, and UCX falls back to that, as to TCP, without a word. It does tell how it means to carry out a request. So a
 * block is offered to the peer that refuses every such offer: nothing is moved, and UCX's words for the request are
 * read:
 *     am_send(rndv) from cuda memory length 2097152 rendezvous zero-copy read from remote rc_mlx5/mlx5_0:1
 */
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/ucx_private.h"
#include "lib/base/log.h"

#define TEXT_BYTES 512

struct trial {
    struct ucx_transport *transport;
    uint64_t endpoint; /* its number: it may have gone when the trial ends */
    uint8_t header[UCX_GREETING_BYTES];
};

static bool has_any(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strstr(text, words[i]) != NULL)
            return true;
    return false;
}

bool ucx_text_is_direct(const char *text)
{
    static const char wanted[] = "rendezvous zero-copy read from remote ";
    static const char *const good[] = {"rc_", "dc_", "cuda_ipc/"};
    static const char *const bad[] = {"tcp/", "sysv/", "posix/", "cma/", "ud_", "cuda_copy/"};
    const char *lanes = strstr(text, wanted);

    if (lanes == NULL || strstr(text, "from cuda memory") == NULL)
        return false;
    lanes += strlen(wanted);
    return has_any(lanes, good, sizeof good / sizeof good[0]) &&
           !has_any(lanes, bad, sizeof bad / sizeof bad[0]);
}

static struct ucx_endpoint *find_endpoint(struct ucx_transport *transport, uint64_t number)
{
    td_list_for_each(node, &transport->endpoints)
    {
        struct ucx_endpoint *endpoint = td_container_of(node, struct ucx_endpoint, in_transport);

        if (endpoint->number == number)
            return endpoint;
    }
    return NULL;
}

/* The peer refuses; any other end is that of the connection. */
static void on_tried(void *request, ucs_status_t status, void *argument)
{
    struct trial *trial = argument;
    struct ucx_transport *transport = trial->transport;
    struct ucx_endpoint *endpoint = find_endpoint(transport, trial->endpoint);

    ucp_request_free(request);
    free(trial);
    transport->greetings--;
    if (endpoint == NULL || endpoint->is_lost)
        return;
    if (status != UCS_ERR_REJECTED) {
        ucx_note_lost(endpoint, TD_PEER_LOST);
        return;
    }
    endpoint->connected_pending = true;
    transport->has_news = true;
}

/* The peer has seen that a block can be had, and does not want it. */
ucs_status_t ucx_on_trial(void *argument, const void *header, size_t header_bytes, void *data,
                          size_t length, const ucp_am_recv_param_t *param)
{
    (void)argument;
    (void)header;
    (void)header_bytes;
    (void)data;
    (void)length;
    (void)param;
    return UCS_ERR_REJECTED;
}

static void judge(struct ucx_endpoint *endpoint, void *request)
{
    char text[TEXT_BYTES] = "";
    ucp_request_attr_t attributes = {.field_mask = UCP_REQUEST_ATTR_FIELD_INFO_STRING |
                                                   UCP_REQUEST_ATTR_FIELD_INFO_STRING_SIZE,
                                     .debug_string = text,
                                     .debug_string_size = sizeof text};
    ucs_status_t status = ucp_request_query(request, &attributes);

    if (status == UCS_OK && ucx_text_is_direct(text)) {
        td_log(TD_LOG_DEBUG, "kvtransfer", "ucx: %s", text);
        return;
    }
    td_log(TD_LOG_WARN, "kvtransfer",
           "ucx would take KV of GPUs through the host and is left out for this peer: lanes %s: %s",
           endpoint->lanes, status == UCS_OK ? text : ucs_status_string(status));
    ucx_give_up(endpoint, TD_UNSUPPORTED);
}

void ucx_try_lanes(struct ucx_endpoint *endpoint)
{
    struct ucx_transport *transport = endpoint->transport;
    struct ucx_greeting greeting = {
        .from = transport->token, .to = endpoint->remote, .number = endpoint->number};
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                                                 UCP_OP_ATTR_FIELD_USER_DATA |
                                                 UCP_OP_ATTR_FIELD_FLAGS,
                                 .flags = UCP_AM_SEND_FLAG_RNDV,
                                 .cb.send = on_tried};
    struct trial *trial = malloc(sizeof *trial);
    td_status_t status = ucx_lanes_check(endpoint);
    ucs_status_ptr_t request;

    if (trial == NULL || status != TD_OK) {
        free(trial);
        ucx_give_up(endpoint, status != TD_OK ? status : TD_NO_MEMORY);
        return;
    }
    *trial = (struct trial){.transport = transport, .endpoint = endpoint->number};
    ucx_greeting_write(&greeting, trial->header);
    param.user_data = trial;
    ucx_pool_describe(transport, transport->pool.base, &param);
    request = ucp_am_send_nbx(endpoint->ep, UCX_TRIAL, trial->header, sizeof trial->header,
                              transport->pool.base, transport->block_bytes, &param);
    if (!UCS_PTR_IS_PTR(request)) { /* also if it has ended at once: that is no rendezvous */
        free(trial);
        ucx_note_lost(endpoint,
                      request == NULL ? TD_UNSUPPORTED : ucx_status(UCS_PTR_STATUS(request)));
        return;
    }
    transport->greetings++;
    judge(endpoint, request);
}
