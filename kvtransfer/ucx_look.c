/*
 * ucx_look.c: see ucx_look.h. What a context has is told by its text alone:
 *     #      resource 1  :  md 1  dev 1  flags -- tcp/lo
 */
#include "kvtransfer/ucx_look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/ucx_private.h"

#define LANE_BYTES 48

/* "sysv/memory" is said as "sysv"; what reaches this process alone is nobody's lane. */
static void add_lane(struct kvt_ucx_facts *facts, char *lane)
{
    char *device = strchr(lane, '/');
    size_t used = strlen(facts->lanes);

    if (device == NULL || strncmp(lane, "self/", 5) == 0)
        return;
    if (strncmp(lane, "rc_", 3) == 0 || strncmp(lane, "dc_", 3) == 0)
        facts->has_rdma = true;
    if (strcmp(device, "/memory") == 0)
        *device = '\0';
    if (used + strlen(lane) + 2 <= sizeof facts->lanes)
        snprintf(facts->lanes + used, sizeof facts->lanes - used, "%s%s", used > 0 ? " " : "",
                 lane);
}

void kvt_ucx_read_lanes(const char *text, struct kvt_ucx_facts *facts)
{
    static const char mark[] = "flags ";

    while ((text = strstr(text, mark)) != NULL) {
        char lane[LANE_BYTES];

        text += strlen(mark);
        if (sscanf(text, "%*c- %47[a-zA-Z0-9_/:.-]", lane) == 1)
            add_lane(facts, lane);
    }
}

static td_status_t read_context(ucp_context_h context, struct kvt_ucx_facts *facts)
{
    ucp_context_attr_t attributes = {.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES};
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);

    if (stream == NULL)
        return TD_NO_MEMORY;
    ucp_context_print_info(context, stream);
    fclose(stream);
    kvt_ucx_read_lanes(text, facts);
    free(text);
    facts->knows_cuda = ucp_context_query(context, &attributes) == UCS_OK &&
                        (attributes.memory_types & UCS_BIT(UCS_MEMORY_TYPE_CUDA)) != 0;
    return TD_OK;
}

td_status_t kvt_ucx_look(struct kvt_ucx_facts *facts_out, struct td_error *error)
{
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                           .features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP};
    ucp_context_h context;
    ucs_status_t made;
    td_status_t status;

    *facts_out = (struct kvt_ucx_facts){.is_new_enough = ucx_is_new_enough()};
    snprintf(facts_out->version, sizeof facts_out->version, "%s", ucp_get_version_string());
    if (!ucx_process_is_prepared())
        return td_fail(error, TD_STATE, "kvt_ucx_prepare_process was not called");
    made = ucp_init(&params, NULL, &context);
    if (made != UCS_OK)
        return td_fail(error, TD_UNSUPPORTED, "ucx %s makes no context: %s", facts_out->version,
                       ucs_status_string(made));
    status = read_context(context, facts_out);
    ucp_cleanup(context);
    return status == TD_OK ? TD_OK : td_fail(error, status, "no memory for ucx's words");
}
