/*
 * load_transfers.c: the transfer thread, the ways that KV may take, and what peers are told of them.
 *
 * Ordinary memory goes by map (between processes of one host) or ucx. A GPU's pool is opened by peers on GPUs that
 * reach it (map), read by their cards where UCX can (ucx), or sent by NCCL where that was asked for; to all others it
 * goes through the host's memory, which is said and counted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/host.h"
#include "kvtransfer/memory.h"
#include "kvtransfer/staged.h"
#include "worker/runtime_internal.h"

/* As many as the worker core lets in, so that nothing it has accepted is refused below. */
static struct kvt_limits transfer_limits(const struct worker_options *options)
{
    const struct worker_counts *counts = &options->counts;
    struct kvt_limits limits = kvt_limits_default();
    uint32_t joining_ms = options->times.pair_ms - options->times.pair_ms / 4;

    /* Within the time of a pair, which hears then why it did not connect. NCCL takes its time to join. */
    if (options->kv_transport == WORKER_KV_NCCL || limits.connect_ms > joining_ms)
        limits.connect_ms = joining_ms;
    limits.peers_max = 2 * counts->pairs_max; /* one that was dropped is there a little longer */
    limits.incoming_max = counts->requests_max;
    limits.outgoing_max = counts->exports_max;
    return limits;
}

static td_status_t ucx_config(const struct worker_options *options, struct kvt_ucx_config *ucx_out,
                              struct td_error *error)
{
    *ucx_out = kvt_ucx_config_default();
    ucx_out->shm = options->ucx_shm;
    ucx_out->tcp = options->ucx_tcp;
    if (strlen(options->ucx_interface) >= sizeof ucx_out->interface)
        return td_fail(error, TD_INVALID, "ucx-interface: longer than %zu bytes",
                       sizeof ucx_out->interface - 1);
    snprintf(ucx_out->interface, sizeof ucx_out->interface, "%s", options->ucx_interface);
    return TD_OK;
}

/* Which of them there are for this pool, as far as --kv-transport wants them. */
static void choose_transports(const struct worker_options *options,
                              struct kvt_runtime_config *config)
{
    bool nccl = options->kv_transport == WORKER_KV_NCCL;
    bool ucx = !nccl && options->kv_transport != WORKER_KV_MAP;
    bool map = !nccl && options->kv_transport != WORKER_KV_UCX;
    bool on_gpu = config->memory.device != NULL;

    config->use_map = map;
    config->use_ucx = ucx;
    config->use_nccl = nccl;
    config->use_maphost = map && on_gpu;
    config->use_ucxhost = (ucx || (nccl && (options->ucx_shm || options->ucx_tcp))) && on_gpu;
}

/* What there may be instead of all that was chosen, the best first. */
static const struct fallback {
    bool map;
    bool ucx;
    const char *warning;
} fallbacks[] = {
    {.ucx = true, .warning = "GPU pools cannot be shared: KV goes through the host"},
    {.map = true, .warning = "KV travels by map alone, to workers of this host"},
    {.warning = "KV goes through the host, to workers of this host alone"},
};

/* Ordinary memory has no other way within the host than map. */
static bool is_possible(const struct fallback *fallback, const struct kvt_runtime_config *config)
{
    return fallback->map || config->memory.device != NULL;
}

static td_status_t open_chosen(const struct worker_options *options,
                               struct kvt_runtime_config *config, struct kvt_runtime **runtime_out,
                               struct td_error *error)
{
    struct td_error why = {0};
    td_status_t status = kvt_runtime_open(config, runtime_out, &why);

    for (size_t i = 0; i < sizeof fallbacks / sizeof fallbacks[0] && status != TD_OK &&
                       options->kv_transport == WORKER_KV_AUTO;
         i++) {
        const struct fallback *fallback = &fallbacks[i];

        if (!is_possible(fallback, config))
            continue;
        choose_transports(options, config);
        config->use_map = fallback->map;
        config->use_ucx = config->use_ucx && fallback->ucx;
        config->use_ucxhost = config->use_ucxhost && fallback->ucx;
        if (kvt_runtime_open(config, runtime_out, NULL) != TD_OK)
            continue;
        td_log(TD_LOG_WARN, "load", "%s: %s", fallback->warning, why.text);
        return TD_OK;
    }
    if (status == TD_OK)
        return TD_OK;
    return td_fail(error, status, "%s%s", why.text,
                   options->kv_transport != WORKER_KV_AUTO
                       ? " (--kv-transport auto takes another way where there is one)"
                       : "");
}

/* Adds one of our transports to the identity, if it is in use. */
static td_status_t add_transport(const struct worker_engines *engines, const char *name,
                                 const char *host, struct worker_identity *identity)
{
    struct worker_transport *transport = &identity->transports[identity->transport_count];
    const uint8_t *address;
    size_t length;

    if (kvt_runtime_address(engines->transfers, name, &address, &length) != TD_OK)
        return TD_OK;
    transport->address = malloc(length > 0 ? length : 1);
    if (transport->address == NULL)
        return TD_NO_MEMORY;
    memcpy(transport->address, address, length);
    transport->address_bytes = length;
    snprintf(transport->name, sizeof transport->name, "%s", name);
    snprintf(transport->library, sizeof transport->library, "%s",
             kvt_runtime_library(engines->transfers, name));
    snprintf(transport->host, sizeof transport->host, "%s", host);
    identity->transport_count++;
    return TD_OK;
}

static void show_identity(struct td_u128 identity, char text_out[static 33])
{
    snprintf(text_out, 33, "%016llx%016llx", (unsigned long long)identity.hi,
             (unsigned long long)identity.lo);
}

/*
 * In the order of preference: map copies once and needs no connection; NCCL takes memory and processors of the GPU for
 * every pair, so UCX comes first; through the host comes last. For map the host
 * is whatever can open the pool, see kvt_memory_reach.
 */
static td_status_t take_transports(const struct worker_engines *engines,
                                   const struct kvt_memory *memory,
                                   struct worker_identity *identity, struct td_error *error)
{
    static const char *const names[] = {"map", "ucx", KVT_NCCL, KVT_MAPHOST, KVT_UCXHOST};
    struct td_u128 host;
    struct td_u128 reach;
    char host_text[33];
    char reach_text[33];
    td_status_t status = kvt_host_identity(&host, error);

    if (status == TD_OK)
        status = kvt_memory_reach(memory, &reach, error);
    if (status != TD_OK)
        return status;
    show_identity(host, host_text);
    show_identity(reach, reach_text);
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == TD_OK; i++)
        status = add_transport(engines, names[i], i == 0 ? reach_text : host_text, identity);
    return status == TD_OK ? TD_OK : td_fail(error, status, "no memory for transport addresses");
}

td_status_t worker_transfers_open(struct worker_runtime *runtime, uint64_t epoch,
                                  struct worker_identity *identity, struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    const struct engine_kv *kv = &engines->kv;
    struct kvt_runtime_config config = {
        .epoch = epoch,
        .memory = {.base = kv->base,
                   .bytes = (size_t)kv->block_count * kv->block_bytes,
                   .fd = kv->fd,
                   .device = engines->kv_device},
        .block_bytes = kv->block_bytes,
        .limits = transfer_limits(options),
        .nccl = {.interface = options->ucx_interface},
        .ring_capacity = WORKER_RING_CAPACITY,
        .wake = worker_pump_wake,
        .wake_impl = runtime,
    };
    td_status_t status = ucx_config(options, &config.ucx, error);

    choose_transports(options, &config);
    if (status == TD_OK)
        status = open_chosen(options, &config, &engines->transfers, error);
    return status == TD_OK ? take_transports(engines, &config.memory, identity, error) : status;
}
