/*
 * ucx_lanes.c: finds out how bytes to a peer really travel.
 *
 * UCX falls back to slower transports without a word, which is the commonest fault in production
 * systems that use it. The only place where 1.13 tells the outcome is the text of ucp_ep_print_info:
 *     #                 lane[0]:  1:sysv/memory.0 md[1]           -> md[1]/sysv/sysdev[255] am am_bw#0
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/ucx_private.h"
#include "lib/base/log.h"

#define LANE_NAME_BYTES 32

static bool list_has(const char *list, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = list; (at = strstr(at, name)) != NULL; at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

static void list_add(char *list, size_t capacity, const char *name)
{
    size_t used = strlen(list);

    if (list_has(list, name) || used + strlen(name) + 2 > capacity)
        return;
    snprintf(list + used, capacity - used, "%s%s", used > 0 ? "," : "", name);
}

void ucx_lanes_parse(const char *text, char *out, size_t capacity)
{
    out[0] = '\0';
    while ((text = strstr(text, "lane[")) != NULL) {
        char name[LANE_NAME_BYTES];
        int lane;
        int resource;

        if (sscanf(text, "lane[%d]: %d:%31[a-z0-9_]/", &lane, &resource, name) == 3)
            list_add(out, capacity, name);
        text += 5;
    }
}

static char *print_endpoint(ucp_ep_h ep)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);

    if (stream == NULL)
        return NULL;
    ucp_ep_print_info(ep, stream);
    fclose(stream);
    return text;
}

td_status_t ucx_lanes_check(struct ucx_endpoint *endpoint)
{
    const struct kvt_ucx_config *config = &endpoint->transport->config;
    char lanes[KVT_LANES_TEXT_BYTES / 2];
    char *text = print_endpoint(endpoint->ep);
    bool has_tcp;

    if (text == NULL)
        return TD_NO_MEMORY;
    ucx_lanes_parse(text, lanes, sizeof lanes);
    free(text);
    snprintf(endpoint->lanes, sizeof endpoint->lanes, "ucx (%s)", lanes);
    if (ucx_is_direct(endpoint->transport))
        return TD_OK; /* what they are used for was asked before, see ucx_trial.c */
    has_tcp = list_has(lanes, "tcp");
    if (lanes[0] == '\0' || (has_tcp && !config->tcp) || (!has_tcp && !config->shm)) {
        td_log(TD_LOG_ERROR, "kvtransfer", "ucx chose other lanes than were asked for: %s",
               endpoint->lanes);
        return TD_UNSUPPORTED;
    }
    if (has_tcp && config->shm && endpoint->is_same_host)
        td_log(TD_LOG_WARN, "kvtransfer",
               "ucx does not use shared memory to a peer on this host: %s; check /dev/shm and the "
               "IPC namespace",
               endpoint->lanes);
    return TD_OK;
}
