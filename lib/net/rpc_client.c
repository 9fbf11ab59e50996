/*
 * rpc_client.c: channels and unary calls, see rpc.h.
 *
 * A channel makes its gRPC channel when the first call comes, and a new one when the certificates
 * have changed: calls that are running stay on the old one, which ends with the last of them.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/rpc_internal.h"

#define KEEPALIVE_MS         2000 /* silence after which a peer is asked whether it lives */
#define KEEPALIVE_TIMEOUT_MS 5000 /* and how long it may take to answer */
#define BACKOFF_FIRST_MS     100
#define BACKOFF_MAX_MS       1000
#define CONNECT_TIMEOUT_MS   3000 /* gRPC calls this the minimal back-off */
#define RETIRE_MS            (CONNECT_TIMEOUT_MS + 1000)
#define RESOLVE_EVERY_MS     1000
#define METADATA_BYTES_MAX   8192

struct rpc_unary {
    struct rpc_tag tag;
    struct td_list node; /* of its channel, while the caller waits */
    grpc_call *grpc;
    rpc_unary_fn fn; /* NULL: nobody waits any more */
    void *ctx;
    grpc_byte_buffer *request;
    grpc_byte_buffer *answer;
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;
    grpc_status_code status;
    grpc_slice detail;
};

/* ---- gRPC channels that nobody uses any more ---- */

struct rpc_retired {
    struct rpc_tag tag;
    struct td_list node; /* of rpc->retired */
    grpc_channel *grpc;  /* NULL: destroyed */
};

static void retired_back(struct rpc_tag *tag, bool ok)
{
    struct rpc_retired *retired = td_container_of(tag, struct rpc_retired, tag);

    (void)ok; /* it has connected, failed, or taken too long */
    td_list_remove(&retired->node);
    if (retired->grpc != NULL)
        grpc_channel_destroy(retired->grpc);
    free(retired);
}

/*
 * Destroys a gRPC channel, but not in the middle of connecting: the library (1.51) would lose the
 * connection that is just being made, with its descriptors, until the process ends.
 */
static void retire(struct rpc *rpc, grpc_channel *grpc)
{
    gpr_timespec deadline =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(RETIRE_MS, GPR_TIMESPAN));
    bool connecting = grpc_channel_check_connectivity_state(grpc, 0) == GRPC_CHANNEL_CONNECTING;
    struct rpc_retired *retired = connecting ? calloc(1, sizeof *retired) : NULL;

    if (retired == NULL) {
        grpc_channel_destroy(grpc);
        return;
    }
    retired->tag.fn = retired_back;
    retired->grpc = grpc;
    td_list_push_back(&rpc->retired, &retired->node);
    rpc_expect(rpc, &retired->tag);
    grpc_channel_watch_connectivity_state(grpc, GRPC_CHANNEL_CONNECTING, deadline, rpc->queue,
                                          &retired->tag);
}

void rpc_drop_retired(struct rpc *rpc)
{
    td_list_for_each(node, &rpc->retired)
    {
        struct rpc_retired *retired = td_container_of(node, struct rpc_retired, node);

        grpc_channel_destroy(retired->grpc); /* its tag comes back at once */
        retired->grpc = NULL;
    }
}

/* ---- channels ---- */

static grpc_arg integer(const char *key, int value)
{
    /* gRPC's struct has a pointer to non-const and never writes through it */
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_channel *make_channel(const struct rpc_channel *channel, struct net_tls *tls)
{
    grpc_arg args[] = {
        integer(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        integer(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS),
        integer(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1), /* found dead before the next call */
        integer(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        integer(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, BACKOFF_FIRST_MS),
        integer(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, BACKOFF_MAX_MS),
        integer(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_TIMEOUT_MS),
        integer(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, RESOLVE_EVERY_MS),
        integer(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)channel->message_bytes_max),
        integer(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES_MAX),
        /* identity only: a compressed message could be a bomb */
        integer(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1),
        integer(GRPC_ARG_ENABLE_RETRIES, 0), /* retries are the router's business */
        integer(GRPC_ARG_ENABLE_HTTP_PROXY, 0),
        integer(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1),
        integer(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1), /* one channel, one connection */
        {.type = GRPC_ARG_STRING,
         .key = (char *)(uintptr_t)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
         .value.string = (char *)(uintptr_t)NET_TLS_CLUSTER_NAME},
    };
    grpc_channel_args all = {.num_args = sizeof args / sizeof args[0], .args = args};
    grpc_channel_credentials *credentials = rpc_channel_credentials(tls, channel->expected_roles);
    grpc_channel *made;

    if (tls == NULL)
        all.num_args--; /* the name is for TLS */
    made = grpc_channel_create(channel->target, credentials, &all);
    grpc_channel_credentials_release(credentials);
    return made;
}

/* The gRPC channel for a new call. */
static grpc_channel *current_channel(struct rpc_channel *channel)
{
    struct net_tls *tls = net_address_is_unix(channel->target) ? NULL : channel->rpc->tls;
    uint64_t generation = tls != NULL ? net_tls_generation(tls) : 0;

    if (channel->grpc != NULL && channel->tls_generation == generation)
        return channel->grpc;
    if (channel->grpc != NULL)
        retire(channel->rpc, channel->grpc);
    channel->grpc = make_channel(channel, tls);
    channel->tls_generation = generation;
    return channel->grpc;
}

td_status_t rpc_channel_open(struct rpc *rpc, const struct rpc_channel_config *config,
                             struct rpc_channel **channel_out)
{
    struct rpc_channel *channel = calloc(1, sizeof *channel);

    if (channel == NULL || (channel->target = strdup(config->target)) == NULL) {
        free(channel);
        return TD_NO_MEMORY;
    }
    channel->rpc = rpc;
    channel->expected_roles = config->expected_roles;
    channel->message_bytes_max =
        config->message_bytes_max > 0 ? config->message_bytes_max : RPC_MESSAGE_BYTES_MAX;
    assert(channel->message_bytes_max <= INT32_MAX);
    td_list_init(&channel->calls);
    td_list_init(&channel->unaries);
    td_list_push_back(&rpc->channels, &channel->node);
    *channel_out = channel;
    return TD_OK;
}

static grpc_call *make_call(struct rpc_channel *channel, const char *path, uint32_t deadline_ms)
{
    gpr_timespec deadline = gpr_inf_future(GPR_CLOCK_MONOTONIC);
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_call *call;

    if (deadline_ms > 0)
        deadline = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                gpr_time_from_millis((int64_t)deadline_ms, GPR_TIMESPAN));
    call = grpc_channel_create_call(current_channel(channel), NULL, GRPC_PROPAGATE_DEFAULTS,
                                    channel->rpc->queue, method, NULL, deadline, NULL);
    grpc_slice_unref(method);
    return call;
}

td_status_t rpc_channel_call(struct rpc_channel *channel, const struct rpc_call_options *options,
                             struct rpc_call **call_out)
{
    struct rpc_call *call;
    td_status_t status;

    if (channel->closed)
        return TD_STATE;
    status = rpc_call_create(channel->rpc, make_call(channel, options->path, options->deadline_ms),
                             NULL, &call);
    if (status != TD_OK)
        return status;
    td_list_push_back(&channel->calls, &call->node);
    rpc_call_start_client(call, options->handlers, options->ctx);
    *call_out = call;
    return TD_OK;
}

/* ---- unary calls: all six operations in one batch, one event for the answer ---- */

static void destroy_unary(struct rpc_unary *unary)
{
    grpc_byte_buffer_destroy(unary->request);
    if (unary->answer != NULL)
        grpc_byte_buffer_destroy(unary->answer);
    grpc_metadata_array_destroy(&unary->initial_metadata);
    grpc_metadata_array_destroy(&unary->trailing_metadata);
    grpc_slice_unref(unary->detail);
    grpc_call_unref(unary->grpc);
    free(unary);
}

static void report_answer(struct rpc_unary *unary)
{
    td_status_t status = rpc_status_from_grpc(unary->status);
    char detail[RPC_DETAIL_BYTES];
    struct rpc_bytes answer;

    rpc_copy_detail(unary->detail, detail);
    if (status != TD_OK) {
        unary->fn(unary->ctx, status, detail, NULL, 0);
    } else if (unary->answer == NULL || !rpc_flatten(unary->answer, &answer)) {
        unary->fn(unary->ctx, TD_INVALID, "the answer has no message", NULL, 0);
    } else {
        unary->fn(unary->ctx, TD_OK, detail, answer.bytes, answer.length);
        grpc_slice_unref(answer.slice);
    }
}

static void unary_back(struct rpc_tag *tag, bool ok)
{
    struct rpc_unary *unary = td_container_of(tag, struct rpc_unary, tag);

    (void)ok; /* says nothing in a batch that receives the status */
    td_list_remove(&unary->node);
    if (unary->fn != NULL)
        report_answer(unary);
    destroy_unary(unary);
}

static void start_unary(struct rpc *rpc, struct rpc_unary *unary)
{
    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},  {.op = GRPC_OP_SEND_MESSAGE},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}, {.op = GRPC_OP_RECV_INITIAL_METADATA},
        {.op = GRPC_OP_RECV_MESSAGE},           {.op = GRPC_OP_RECV_STATUS_ON_CLIENT},
    };

    ops[1].data.send_message.send_message = unary->request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &unary->initial_metadata;
    ops[4].data.recv_message.recv_message = &unary->answer;
    ops[5].data.recv_status_on_client.trailing_metadata = &unary->trailing_metadata;
    ops[5].data.recv_status_on_client.status = &unary->status;
    ops[5].data.recv_status_on_client.status_details = &unary->detail;
    rpc_start(rpc, unary->grpc, ops, sizeof ops / sizeof ops[0], &unary->tag);
}

td_status_t rpc_unary_start(struct rpc_channel *channel, const struct rpc_unary_options *options,
                            struct rpc_unary **unary_out)
{
    struct rpc_unary *unary;

    assert(options->deadline_ms > 0 && options->fn != NULL);
    if (channel->closed)
        return TD_STATE;
    unary = calloc(1, sizeof *unary);
    if (unary == NULL)
        return TD_NO_MEMORY;
    unary->tag.fn = unary_back;
    unary->fn = options->fn;
    unary->ctx = options->ctx;
    unary->request = rpc_pack(options->request);
    unary->detail = grpc_empty_slice();
    grpc_metadata_array_init(&unary->initial_metadata);
    grpc_metadata_array_init(&unary->trailing_metadata);
    unary->grpc = make_call(channel, options->path, options->deadline_ms);
    td_list_push_back(&channel->unaries, &unary->node);
    start_unary(channel->rpc, unary);
    if (unary_out != NULL)
        *unary_out = unary;
    return TD_OK;
}

void rpc_unary_cancel(struct rpc_unary *unary)
{
    assert(unary->fn != NULL && "a unary call is used after its end");
    unary->fn = NULL;
    td_list_remove(&unary->node);
    grpc_call_cancel(unary->grpc, NULL);
}

/* ---- the end of a channel ---- */

static void drop_unary(struct rpc_unary *unary)
{
    rpc_unary_fn fn = unary->fn;
    void *ctx = unary->ctx;

    rpc_unary_cancel(unary);
    fn(ctx, TD_CANCELED, "the channel was closed", NULL, 0);
}

void rpc_channel_close(struct rpc_channel *channel)
{
    struct td_list *node;

    if (channel == NULL)
        return;
    channel->closed = true;
    td_list_remove(&channel->node);
    while ((node = td_list_first(&channel->calls)) != NULL)
        rpc_call_drop(td_container_of(node, struct rpc_call, node), "the channel was closed");
    while ((node = td_list_first(&channel->unaries)) != NULL)
        drop_unary(td_container_of(node, struct rpc_unary, node));
    if (channel->grpc != NULL)
        retire(channel->rpc, channel->grpc);
    free(channel->target);
    free(channel);
}
